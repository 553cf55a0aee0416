//! What QEMU exports for its own loadable modules, without a promise to anybody else. A QEMU may lack each of these:
//! then what it gives is not known, and everything else works.

mod accelerator;
mod command_line;
mod cpu_layout;
mod direct;
mod exports;
mod io_region;
mod lookup;
mod machine;
mod mapped_ram;
mod ports;
mod ram;
mod string_cpu;
mod trace;

pub(crate) use accelerator::{is_recorded, other_than_tcg};
pub use command_line::CommandLine;
pub(crate) use cpu_layout::CpuLayout;
pub(crate) use direct::Direct;
pub use exports::{AtPort, Ended, PortPresence, exit_process, running_vcpu};
pub(crate) use exports::{Exports, current_cpu, icount_is_on};
pub use io_region::{Locking, PortHandler};
pub(crate) use lookup::{lookup, lookup_export};
pub use machine::{IsaIrq, Machine, MachineError};
pub use mapped_ram::MappedRam;
pub use ram::GuestRam;
pub use string_cpu::{StringCpu, Watchpoints};
pub use trace::PortTrace;
