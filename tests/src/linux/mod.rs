//! Linux guests that a test stops, and compares with what they say about themselves.

mod booted;
mod debugger;
mod kallsyms;
mod memory;

pub use booted::{BootedLinux, Cpu, LOAD_DISK_DRIVERS, SEND_KALLSYMS};
pub use debugger::Debugger;
pub use kallsyms::{Kallsyms, KernelSymbol};
pub use memory::{LiveRam, RamCopy};
