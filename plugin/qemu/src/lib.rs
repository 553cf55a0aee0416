//! The QEMU face: the plugin API of versions 4 to 7 and the few of QEMU's own exported functions
//! that pvio uses, behind types that are safe to use. All `unsafe` of the host side is here.
//!
//! It knows nothing of x86 instructions, of hypercalls or of counting. A [`Plugin`] is told what happens, and answers;
//! what C demands (symbols that are looked up, two shapes of callbacks, one global) stays inside.
//!
//! | room | |
//! | --- | --- |
//! | `plugin_api` | the official plugin API, which QEMU promises |
//! | `internals` | what QEMU exports without a promise: port bus, interrupt lines, RAM, processor state, trace, shutdown |

mod internals;
pub mod output;
mod plugin_api;
mod register;
pub mod report;
mod version;

pub use internals::{
    AtPort, CommandLine, Ended, GuestRam, IsaIrq, Locking, Machine, MachineError, MappedRam,
    PortHandler, PortPresence, PortTrace, StringCpu, Watchpoints, exit_process, running_vcpu,
};
pub use plugin_api::*;
pub use register::Register;
pub use version::{ApiLevel, QemuVersion, declared_api_level};
