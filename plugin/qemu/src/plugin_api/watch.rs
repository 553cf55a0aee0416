//! The interface between QEMU and a [`Plugin`](super::Plugin): watches and reports.

/// QEMU's number of a vCPU, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuIndex(pub u32);

/// The physical address of a page of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysicalPage(pub u64);

/// A number that QEMU passes to each callback for an instruction. Only the plugin knows its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub u64);

/// The next event that a [`Vcpu`](super::Vcpu) wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next watched instruction, whenever it comes.
    Watched,
    /// The start of the next block, when the instruction has stored its result.
    Block,
}

/// A way to watch an instruction. Each report comes before the instruction runs.
///
/// An instruction that is restarted, after a fault or between the elements of a `rep`, is reported again.
/// The flags are `enum qemu_plugin_cb_flags` in `qemu/qemu-plugin.h`: what QEMU allows in the callback. A
/// callback with fewer rights costs less.
#[derive(Clone, Copy, Debug)]
pub enum Watch {
    /// [`Vcpu::exec`](super::Vcpu::exec) with `QEMU_PLUGIN_CB_R_REGS`: it reads registers.
    Exec(Token),
    /// [`Vcpu::exec`](super::Vcpu::exec) with `QEMU_PLUGIN_CB_RW_REGS`: it reads registers, and writes
    /// those of [`ReadRegisters::string_cpu`](super::ReadRegisters::string_cpu). The instruction's
    /// accesses to guest memory are reported to
    /// [`Vcpu::memory_accessed`](super::Vcpu::memory_accessed), with `QEMU_PLUGIN_CB_NO_REGS`.
    ExecAndMemory(Token, MemoryWatch),
    /// [`Vcpu::exec_with_writes`](super::Vcpu::exec_with_writes) with `QEMU_PLUGIN_CB_RW_REGS`: it reads
    /// and writes registers. From API 5 on.
    ExecWithWrites(Token),
    /// [`Vcpu::exec_read_only`](super::Vcpu::exec_read_only) with `QEMU_PLUGIN_CB_R_REGS`: it reads
    /// registers.
    ExecReadOnly(Token),
    /// [`Vcpu::exec_no_regs`](super::Vcpu::exec_no_regs) with `QEMU_PLUGIN_CB_NO_REGS`: it reads RIP, and
    /// registers that generated code keeps in memory.
    ExecNoRegs(Token),
    /// [`Vcpu::tracepoint`](super::Vcpu::tracepoint) with `QEMU_PLUGIN_CB_R_REGS`: it reads registers. For
    /// an instruction that may be watched in another way, too.
    Tracepoint(Token),
    /// [`Vcpu::memory_touched`](super::Vcpu::memory_touched) with `QEMU_PLUGIN_CB_NO_REGS`: its accesses to guest
    /// memory alone. For an instruction that may be watched in another way, too.
    Memory(Token, MemoryWatch),
    /// [`Vcpu::watched_block_begins`](super::Vcpu::watched_block_begins) with `QEMU_PLUGIN_CB_NO_REGS`. For the first
    /// instruction of a block, which may be watched in another way, too.
    Block(Token),
}

/// Maximum number of ways to watch one instruction.
pub const MAX_WATCHES: usize = 4;

/// The kinds of an instruction's memory accesses that are reported.
///
/// QEMU also reports its own reads of the guest's tables, such as the TSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryWatch {
    /// Those that read (`QEMU_PLUGIN_MEM_R`).
    Reads,
    /// Those that write (`QEMU_PLUGIN_MEM_W`).
    Writes,
    /// Both (`QEMU_PLUGIN_MEM_RW`).
    All,
}

/// The addition that QEMU's generated code makes to the [`Scoreboard`](super::Scoreboard) before an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InlineAdd {
    /// The entry to which it adds 1.
    pub entry: usize,
    /// The value of [`Scoreboard::last`](super::Scoreboard::last) until another instruction begins. Below
    /// [`MAX_TOKEN`](super::Scoreboard::MAX_TOKEN).
    pub token: u64,
    /// The instruction does not lead to itself: if it begins twice in a row, QEMU has restarted it.
    pub repeats_only_by_restart: bool,
    /// The plugin needs to know at which address the instruction's block runs:
    /// [`Vcpu::scored_block_begins`](super::Vcpu::scored_block_begins).
    pub needs_distance: bool,
    /// The instruction may be counted when one before it in its block begins.
    pub joins: bool,
}

/// A vCPU left the program's control flow (`enum qemu_plugin_discon_type`, from API 6 on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discontinuity {
    /// An exception was raised. QEMU's address of it may be stale; that of the
    /// [`Discontinuity::Delivered`] that follows is right.
    Exception,
    /// An exception (after [`Discontinuity::Exception`]) or an interrupt (without) was delivered to its
    /// handler.
    Delivered {
        /// Linear address of the instruction that was left.
        from: u64,
    },
}
