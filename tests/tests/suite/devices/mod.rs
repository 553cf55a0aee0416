//! pvio's devices: each kind, their life cycle, under Linux, and in a user's plugin.

mod far_end;
mod filter;
mod kinds;
mod latches;
mod library;
mod lifecycle;
mod linux;
mod observers;
mod post;
mod replay;
pub(crate) mod script;
mod socket;
