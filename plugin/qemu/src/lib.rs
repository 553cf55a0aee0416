//! A safe interface to QEMU for TCG plugins: the plugin API of versions 4 to 7, and a few other functions
//! that QEMU exports. All `unsafe` code of the host side is here.
//!
//! It does not know what a plugin does. QEMU's events go to a [`Plugin`] and its [`Vcpu`]s.
//! The details of C are hidden: symbols that are looked up, two shapes of callbacks, one global variable.
//!
//! | module | contents |
//! | --- | --- |
//! | `plugin_api` | the official plugin API, which QEMU keeps stable; it uses `internals`, never the reverse |
//! | `internals` | QEMU's other exports, which may change: port bus, interrupt lines, RAM, registers, trace, shutdown |
//!
//! Every QEMU symbol that pvio uses is listed once, in the table of one of these modules: see [`symbols`].

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!(
    "pvio builds for 64-bit little-endian Linux hosts only (x86-64, arm64): it needs /proc/self/mem, \
     constructors in .init_array, and the guest's byte order"
);

// On a host that is refused nothing else is compiled, so that the line above is the only error.
#[cfg(target_os = "linux")]
mod internals;
#[cfg(target_os = "linux")]
pub mod output;
#[cfg(target_os = "linux")]
mod plugin_api;
#[cfg(target_os = "linux")]
mod register;
#[cfg(target_os = "linux")]
pub mod report;
#[cfg(target_os = "linux")]
mod symbol;
#[cfg(target_os = "linux")]
mod version;

#[cfg(target_os = "linux")]
pub use {
    internals::{
        AccessRegisters, AfterInstruction, AtPort, BetweenBlocks, BottomHalf, CommandLine, Ended,
        ExclusiveWork, FrameState, GuestClock, GuestRam, GuestTimer, HeldPage, HiddenRegion,
        IsaIrq, Locking, Machine, MachineError, MappedRam, PagingRegisterReader, PagingRegisters,
        PortHandler, PortPresence, PortTrace, PortsBelow, RamPages, RunState, StackState,
        StringCpu, TaskState, TaskStateReader, Watchpoints, exit_process, running_vcpu,
    },
    plugin_api::{
        DeclaredVersion, Discontinuity, HostInfo, InlineAdd, Insn, MAX_WATCHES, MemoryAccess,
        MemoryWatch, MissingFunction, Next, PhysicalPage, Plugin, PluginLog, ProofEpoch, ProvenRam,
        ReadRegisters, Registers, Scoreboard, Token, Vcpu, VcpuIndex, Watch, WritableRegisters,
        install, qemu_info_t, qemu_plugin_id_t,
    },
    register::Register,
    symbol::{Symbol, symbols},
    version::{ApiLevel, QemuVersion},
};
