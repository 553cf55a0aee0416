//! Functions and tables that QEMU exports for its own loadable modules, without a promise to others.
//!
//! A QEMU may lack any of them: then pvio lacks one feature, and everything else works. Each file has one
//! subject; [`symbols`] lists all symbols that are looked up. This module does not use `plugin_api`.

mod accelerator;
mod c_types;
mod command_line;
mod cpu_layout;
mod current_cpu;
mod direct;
mod error;
mod global_lock;
mod guest_clock;
mod io_region;
mod irq;
mod machine;
mod mapped_ram;
mod mapping;
mod migration_blocker;
mod paging_registers;
mod port_bus;
mod port_presence;
mod ports;
mod ram;
mod ram_pages;
mod register_dump;
mod reset;
mod shutdown;
mod stack_state;
mod string_cpu;
mod symbols;
mod task_state;
mod tb_flush;
mod touched;
mod trace;
mod version;
mod vmstate;
mod watchpoints;

pub(crate) use accelerator::{icount_is_on, is_recorded, other_than_tcg};
pub(crate) use c_types::CpuState;
pub use command_line::CommandLine;
pub(crate) use cpu_layout::CpuLayout;
pub(crate) use current_cpu::current_cpu;
pub use current_cpu::running_vcpu;
pub(crate) use direct::Direct;
pub use error::MachineError;
pub use guest_clock::GuestClock;
pub use io_region::{Locking, PortHandler};
pub use irq::IsaIrq;
pub use machine::Machine;
pub use mapped_ram::MappedRam;
pub use paging_registers::{PagingRegisterReader, PagingRegisters};
pub use port_presence::{AtPort, PortPresence};
pub use ram::GuestRam;
pub use ram_pages::RamPages;
pub(crate) use register_dump::RegisterDump;
pub(crate) use shutdown::ShutdownCause;
pub use shutdown::{Ended, exit_process};
pub use stack_state::StackState;
pub use string_cpu::StringCpu;
pub(crate) use symbols::{TABLE, exports_functions};
pub use task_state::{TaskState, TaskStateReader};
pub(crate) use tb_flush::Translations;
pub use trace::PortTrace;
pub use watchpoints::Watchpoints;
