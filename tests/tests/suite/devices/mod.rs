//! pvio's devices: each kind, their life cycle, under Linux, and in a plugin of one's own.

mod kinds;
mod library;
mod lifecycle;
mod linux;
