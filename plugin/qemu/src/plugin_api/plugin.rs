//! What a plugin is to QEMU: a [`Plugin`], a [`Vcpu`] for each processor, and the words between them.

use arrayvec::ArrayVec;

use super::callbacks::MemoryAccess;
use super::insn::Insn;
use super::insn_counters::InsnCounters;
use super::registers::{CallingVcpu, Registers};
use crate::internals::Ended;

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

    /// An instruction is about to run that is watched as one that calls without registers. `rip` is as in
    /// [`Register::Rip`].
    fn doorbell(&mut self, token: Token, rip: u64);

    /// An instruction is about to run that is watched as one that registers a mailbox.
    fn register_mailbox(&mut self, token: Token, vcpu: &mut CallingVcpu<'_>);

    /// An instruction that is watched as a place is about to run, perhaps again.
    fn passes(&mut self, token: Token, registers: &mut Registers<'_>);

    /// A watched instruction has read or written guest memory once.
    fn memory_accessed(&mut self, token: Token, access: &MemoryAccess<'_>);

    /// What was asked for: the block after a watched instruction (of the program, or of a handler)
    /// begins.
    fn block_begins(&mut self, _registers: &mut Registers<'_>) {}

    /// A block begins whose instructions are counted, at this distance from the address of its translation.
    fn counted_block(&mut self, distance: u64);

    /// The instruction that began last begins again, and was counted already.
    fn counted_again(&mut self);

    /// In a block that runs at a distance from the address of its translation, and where counters tell addresses
    /// apart, an instruction was counted: its [`InsnCount::token`].
    fn counted_elsewhere(&mut self, token: Token);

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
    /// It is one without effect, by which the guest calls without a register: [`Vcpu::doorbell`].
    Doorbell(Token),
    /// It is one without effect, of whose operand registers are read: [`Vcpu::register_mailbox`].
    RegisterMailbox(Token),
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
