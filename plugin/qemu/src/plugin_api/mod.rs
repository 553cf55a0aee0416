//! The official plugin API, versions 4 to 7.

mod api;
mod block_flag;
mod callbacks;
mod entry;
mod insn;
mod insn_counters;
mod install;
mod plugin;
mod register_file;
mod registers;
mod vcpus;

pub use api::MissingFunction;
pub use callbacks::MemoryAccess;
pub use entry::DeclaredVersion;
pub use insn::Insn;
pub use insn_counters::InsnCounters;
pub use install::{HostInfo, install};
pub use plugin::{
    Discontinuity, InsnCount, MAX_WATCHES, MemoryWatch, Next, Plugin, Token, Vcpu, VcpuIndex, Watch,
};
pub use qemu_plugin_sys::{qemu_info_t, qemu_plugin_id_t};
pub use registers::{CallingVcpu, ReadRegisters, Registers};
