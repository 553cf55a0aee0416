//! The QEMU face: the plugin API of versions 4 to 7 and the few of QEMU's own exported functions
//! that pvio uses, behind types that are safe to use. All `unsafe` of the crate is here.
//!
//! It knows nothing of x86, of ports or of counting. A [`Plugin`] is told what happens, and answers;
//! what C demands (symbols that are looked up, two shapes of callbacks, one global) stays inside.

mod api;
mod block_flag;
mod callbacks;
mod cpu_layout;
pub mod entry;
mod exports;
mod held_ram;
mod insn;
mod insn_counters;
mod install;
mod io_region;
mod lookup;
mod machine;
mod ports;
mod ram;
mod registers;
mod string_cpu;
mod trace;
mod vcpus;
mod version;

use arrayvec::ArrayVec;

pub use api::MissingFunction;
pub use callbacks::MemoryAccess;
pub use exports::{AtPort, Ended, PortPresence, exit_process, running_vcpu};
pub use held_ram::HeldRam;
pub use insn::Insn;
pub use insn_counters::InsnCounters;
pub use install::{HostInfo, install};
pub use io_region::{Locking, PortHandler};
pub use machine::{IsaIrq, Machine, MachineError};
pub use qemu_plugin_sys::{qemu_info_t, qemu_plugin_id_t};
pub use ram::GuestRam;
pub use registers::{CallingVcpu, Register, Registers};
pub use string_cpu::{StringCpu, Watchpoints};
pub use trace::PortTrace;
pub use version::{ApiLevel, QemuVersion, declared_api_level};

/// A plugin as QEMU sees it: one object, called from any thread.
pub trait Plugin: Send + Sync {
    /// A vCPU begins to run; what comes back is told everything that happens on it.
    fn vcpu_begins(&self, vcpu: VcpuIndex) -> Box<dyn Vcpu>;

    /// QEMU turned out to run several vCPUs on one thread (single-threaded TCG), where its callbacks
    /// name the wrong vCPU: from now on all are reported to the first one's [`Vcpu`].
    fn vcpus_share_a_thread(&self);

    /// QEMU translates an instruction; what comes back says how to watch it, if at all, in the order in
    /// which reports are to come.
    fn translate(&self, insn: &Insn<'_>) -> ArrayVec<Watch, MAX_WATCHES>;

    /// The counters of instructions, where they are counted. Asked once for each block.
    fn insn_counters(&self) -> Option<&InsnCounters> {
        None
    }

    /// How to count an instruction that QEMU translates; asked where there are counters.
    fn count(&self, insn: &Insn<'_>) -> InsnCount;

    /// Whether a [`Vcpu`] may ask for [`Vcpu::block_begins`]. Asked once, when the plugin is loaded.
    fn follows_blocks(&self) -> bool {
        false
    }

    /// The machine has ended. The process is about to exit; nothing is reported after this.
    fn machine_ended(&self, how: Ended);
}

/// What happens on one vCPU, in order. QEMU runs a vCPU on one thread at a time.
pub trait Vcpu: Send {
    /// A watched instruction is about to run (again, if it was interrupted). What comes back says
    /// whether [`Vcpu::block_begins`] is to be called next.
    fn about_to_run(&mut self, token: Token, registers: &mut Registers<'_>) -> Next;

    /// An instruction that is watched as a call is about to run, once for each time that it does.
    fn called(&mut self, token: Token, vcpu: &mut CallingVcpu<'_>);

    /// An instruction is about to run that is watched as one that calls without registers.
    fn rings(&mut self, token: Token);

    /// An instruction is about to run that is watched as one that registers a mailbox.
    fn registers(&mut self, token: Token, vcpu: &mut CallingVcpu<'_>);

    /// An instruction that is watched as a place is about to run, perhaps again.
    fn passes(&mut self, token: Token, registers: &mut Registers<'_>);

    /// A watched instruction has read or written guest memory once.
    fn memory_accessed(&mut self, token: Token, access: &MemoryAccess<'_>);

    /// What was asked for: the block after a watched instruction (of the program, or of a handler)
    /// begins.
    fn block_begins(&mut self, _registers: &mut Registers<'_>) {}

    /// The vCPU has left its path for an exception or interrupt handler.
    fn discontinuity(&mut self, event: Discontinuity);
}

/// QEMU's number of a vCPU, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuIndex(pub u32);

/// What a [`Plugin`] wants back with each report on an instruction: a number that means something
/// to it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub u64);

/// What a [`Vcpu`] wants to be told next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next watched instruction, whenever it comes.
    Watched,
    /// First the begin of the next block, when the instruction has left its result.
    Block,
}

/// How an instruction is to be watched, with what is handed back with each report.
#[derive(Clone, Copy, Debug)]
pub enum Watch {
    /// It is reported before it runs, and which of its accesses to guest memory are, if any; if some
    /// are, [`Registers::string_cpu`] may change what it goes by.
    Runs(Token, Option<MemoryWatch>),
    /// It is an instruction without effect, by which the guest calls: [`Vcpu::called`]. From API 5 on.
    Calls(Token),
    /// It is one without effect, by which the guest calls without a register: [`Vcpu::rings`].
    Rings(Token),
    /// It is one without effect, of whose operand registers are read: [`Vcpu::registers`].
    Registers(Token),
    /// It is reported before it runs: [`Vcpu::passes`].
    Passes(Token),
}

/// How many ways there may be to watch one instruction.
pub const MAX_WATCHES: usize = 2;
/// How an instruction is to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsnCount {
    /// The counter that it is added to.
    pub counter: usize,
    /// What [`InsnCounters::last`] gives from when it begins until another does.
    pub token: u64,
    /// It is not followed by itself: where it is begun twice in a row, that is the same one, started
    /// anew.
    pub repeats_only_by_restart: bool,
}

/// Which of an instruction's accesses to guest memory to report. (To those of the instruction itself
/// QEMU adds what it reads from the guest's tables on the way, such as the TSS.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryWatch {
    /// Those that read.
    Reads,
    /// Those that write.
    Writes,
}

/// The vCPU went on elsewhere than the program said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discontinuity {
    /// An exception was raised. QEMU does not say truly where; the [`Discontinuity::Delivered`] that
    /// follows does.
    Exception,
    /// An exception (after [`Discontinuity::Exception`]) or an interrupt (without) has been
    /// delivered to its handler.
    Delivered {
        /// Linear address of the instruction that was left.
        from: u64,
    },
}
