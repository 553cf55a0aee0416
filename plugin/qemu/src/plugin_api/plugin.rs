//! The traits that a plugin implements: [`Plugin`], and [`Vcpu`] for each processor.

use arrayvec::ArrayVec;

use super::insn::Insn;
use super::memory_access::MemoryAccess;
use super::registers::{Registers, WritableRegisters};
use super::scoreboard::Scoreboard;
use super::watch::{Discontinuity, InlineAdd, MAX_WATCHES, Next, Token, VcpuIndex, Watch};
use crate::internals::Ended;

/// A plugin. QEMU calls it on any thread.
///
/// A panic in a method does not reach QEMU: the guest continues, and one line on stderr reports it.
pub trait Plugin: Send + Sync {
    /// A vCPU begins to run. The result receives its callbacks.
    fn vcpu_begins(&self, vcpu: VcpuIndex) -> Box<dyn Vcpu>;

    /// QEMU runs several vCPUs on one thread (single-threaded TCG), where its callbacks name the wrong
    /// vCPU: from now on the first one's [`Vcpu`] gets all reports.
    fn vcpus_share_a_thread(&self);

    /// Returns true if [`Plugin::vcpu_idles`] and [`Plugin::vcpu_resumes`] are to be called. Asked once, when the plugin is
    /// loaded.
    fn follows_idle(&self) -> bool {
        false
    }

    /// A vCPU stops running: it is halted, or the machine is stopped. It runs no code until [`Plugin::vcpu_resumes`].
    fn vcpu_idles(&self, _vcpu: VcpuIndex) {}

    /// A vCPU is about to run after [`Plugin::vcpu_idles`].
    fn vcpu_resumes(&self, _vcpu: VcpuIndex) {}

    /// QEMU translates an instruction. Returns how to watch it, in the order in which reports are to come.
    fn translate(&self, insn: &Insn<'_>) -> ArrayVec<Watch, MAX_WATCHES>;

    /// Returns the scoreboard to which every instruction adds, if there is one. Asked for each block.
    fn scoreboard(&self) -> Option<&Scoreboard> {
        None
    }

    /// Returns what an instruction that QEMU translates adds. Asked only if there is a scoreboard.
    fn inline_add(&self, insn: &Insn<'_>) -> InlineAdd;

    /// Returns true if a [`Vcpu`] may answer [`Next::Block`]. Asked once, when the plugin is loaded.
    fn follows_blocks(&self) -> bool {
        false
    }

    /// The machine has ended, and the process is about to exit. Nothing is reported after this.
    fn machine_ended(&self, how: Ended);
}

/// Handles the callbacks of one vCPU, in order. QEMU runs a vCPU on one thread at a time.
///
/// The types of its arguments say what a method may do. They last as long as the callback: see [`Watch`].
pub trait Vcpu: Send {
    /// An instruction with [`Watch::Exec`] or [`Watch::ExecAndMemory`] is about to run.
    ///
    /// Returns whether [`Vcpu::block_begins`] is to be called next.
    fn exec(&mut self, token: Token, registers: &mut Registers<'_>) -> Next;

    /// An instruction with [`Watch::ExecWithWrites`] is about to run.
    fn exec_with_writes(&mut self, token: Token, registers: &mut WritableRegisters<'_>);

    /// An instruction with [`Watch::ExecReadOnly`] is about to run.
    fn exec_read_only(&mut self, token: Token, registers: &mut Registers<'_>);

    /// An instruction with [`Watch::ExecNoRegs`] is about to run.
    ///
    /// It may read RIP, and the registers of [`Registers::can_read_system`] if they can be read.
    fn exec_no_regs(&mut self, token: Token, registers: &mut Registers<'_>);

    /// An instruction with [`Watch::Tracepoint`] is about to run.
    fn tracepoint(&mut self, token: Token, registers: &mut Registers<'_>);

    /// An instruction with [`Watch::ExecAndMemory`] has read or written guest memory once.
    fn memory_accessed(&mut self, token: Token, access: &MemoryAccess<'_>);

    /// An instruction with [`Watch::Memory`] has read or written guest memory once.
    fn memory_touched(&mut self, _token: Token, _access: &MemoryAccess<'_>) {}

    /// The first instruction of a block, with [`Watch::Block`], is about to run.
    fn watched_block_begins(&mut self, _token: Token) {}

    /// The block begins that [`Next::Block`] asked for: of the program, or of a handler.
    fn block_begins(&mut self, _registers: &mut Registers<'_>) {}

    /// A block begins that has an instruction with [`InlineAdd::needs_distance`].
    ///
    /// It runs `distance` bytes above the address of its translation, modulo 2⁶⁴.
    fn scored_block_begins(&mut self, distance: u64);

    /// A block begins, and the one before was left in the middle. The instructions of
    /// [`Scoreboard::ahead`] have not begun.
    fn block_was_left(&mut self);

    /// The instruction that began last is restarted. It has added to the scoreboard, and adds again.
    fn restarted(&mut self);

    /// An instruction has added to the scoreboard in a block for which [`Scoreboard::set_elsewhere`] was
    /// set. `token` is its [`InlineAdd::token`]. Only if the scoreboard has several entries.
    fn added_elsewhere(&mut self, token: Token);

    /// The vCPU has left its path for an exception or interrupt handler. From API 6 on.
    fn discontinuity(&mut self, event: Discontinuity);
}
