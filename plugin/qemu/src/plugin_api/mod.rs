//! The official plugin API, versions 4 to 7 (`qemu/qemu-plugin.h`).
//!
//! It uses `internals` for what the API does not provide; `internals` does not know this module.

mod api;
mod block_flag;
mod entry;
mod exec_callbacks;
mod host;
mod insn;
mod install;
mod installed;
mod log;
mod memory_access;
mod plugin;
mod proven_ram;
mod register_file;
mod registers;
mod registration;
mod scoreboard;
mod symbols;
mod translation;
mod vcpus;
mod watch;

pub use api::MissingFunction;
pub use entry::DeclaredVersion;
pub use insn::Insn;
pub use install::{HostInfo, install};
pub use log::PluginLog;
pub use memory_access::MemoryAccess;
pub use plugin::{Plugin, Vcpu};
pub use proven_ram::{ProofEpoch, ProvenRam};
pub use qemu_plugin_sys::{qemu_info_t, qemu_plugin_id_t};
pub use registers::{ReadRegisters, Registers, WritableRegisters};
pub use scoreboard::Scoreboard;
pub(crate) use symbols::TABLE;
pub use watch::{
    Discontinuity, InlineAdd, MAX_WATCHES, MemoryWatch, Next, PhysicalPage, Token, VcpuIndex, Watch,
};
