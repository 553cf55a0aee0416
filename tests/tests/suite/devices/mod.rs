//! pvio's devices: each kind, their life cycle, under Linux, and in a user's plugin.

mod far_end;
mod kinds;
mod library;
mod lifecycle;
mod linux;
mod replay;
pub(crate) mod script;
mod socket;
