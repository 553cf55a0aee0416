//! Work that a vCPU does after the instruction that it runs, before any interrupt, and how it then stops the
//! machine.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use super::c_types::CpuState;
use super::cpu_layout::CpuLayout;
use super::current_cpu::current_cpu;
use super::direct::{Direct, hflags};
use super::paging_registers::PagingRegisters;
use super::stack_state::StackState;
use super::symbols::{DebugRequest, GdbStub, VcpuPause, VcpuWorkQueue};
use crate::register::Register;

/// The processor's number for CS.
const CS: usize = 1;

/// QEMU's way to run work after an instruction.
#[derive(Clone, Copy)]
pub struct AfterInstruction {
    queue: VcpuWorkQueue,
    stop: Stop,
    layout: CpuLayout,
}

/// QEMU's functions that stop the machine.
#[derive(Clone, Copy)]
struct Stop {
    pause: VcpuPause,
    request: DebugRequest,
    gdb: GdbStub,
}

/// Work for a vCPU that is between two blocks.
type Work = Box<dyn FnOnce(&BetweenBlocks) + Send>;

struct Asked {
    how: AfterInstruction,
    /// The shadow against interrupts is pvio's, and to be removed.
    is_shadowed: bool,
    work: Work,
}

/// A vCPU between two blocks of guest code.
pub struct BetweenBlocks {
    direct: Direct,
    stop: Stop,
}

/// The registers that unwind a stack.
#[derive(Clone, Copy, Debug)]
pub struct FrameState {
    /// True in 64-bit code.
    pub is_64_bit: bool,
    /// True in 32-bit code.
    pub is_32_bit: bool,
    /// RIP, EIP or IP.
    pub ip: u64,
    /// RSP. Outside 64-bit code its upper part may be anything.
    pub sp: u64,
    /// RBP, as RSP.
    pub bp: u64,
    /// The base of CS.
    pub cs_base: u64,
    /// The stack's.
    pub stack: StackState,
    /// The control registers.
    pub paging: PagingRegisters,
}

/// QEMU calls it on the vCPU's thread with the global lock held. `asked` is a `Box<Asked>`.
unsafe extern "C" fn run(cpu: *mut CpuState, asked: *mut c_void) {
    // SAFETY: `AfterInstruction::ask` made the pointer of a `Box`, and QEMU calls this once.
    let Asked { how, is_shadowed, work } = *unsafe { Box::from_raw(asked.cast::<Asked>()) };
    // SAFETY: QEMU's vCPU, on the thread that runs it, for as long as this function.
    let direct = unsafe { Direct::new(cpu, how.layout) };
    if is_shadowed && let Some(place) = how.layout.hflags() {
        direct.store(place, direct.load(place) & !hflags::INHIBIT_IRQ);
    }
    let vcpu = BetweenBlocks { direct, stop: how.stop };
    // A panic must not unwind into QEMU. The guest goes on.
    let _ = catch_unwind(AssertUnwindSafe(|| work(&vcpu)));
}

impl AfterInstruction {
    /// `None` if this QEMU does not export what is needed.
    pub fn find() -> Option<AfterInstruction> {
        let layout = CpuLayout::of_this_process()?;
        let is_known = layout.strings().is_some() && layout.hflags().is_some();
        Some(AfterInstruction {
            queue: VcpuWorkQueue::find().ok()?,
            stop: Stop {
                pause: VcpuPause::find().ok()?,
                request: DebugRequest::find().ok()?,
                gdb: GdbStub::find().ok()?,
            },
            layout: is_known.then_some(layout)?,
        })
    }

    /// Has `work` run after the instruction of this callback, if that ends its block, as port I/O does. Else after
    /// its block, or at the next exit from a long `rep`.
    ///
    /// No interrupt is taken before it, except in a nested guest, and where the instruction itself ends the shadow
    /// of an `sti`. Does nothing on a thread that runs no vCPU.
    pub fn ask(&self, work: impl FnOnce(&BetweenBlocks) + Send + 'static) {
        let cpu = current_cpu();
        let Some(direct) = Direct::of_this_thread(self.layout) else { return };
        let Some(place) = self.layout.hflags() else { return };
        let state = direct.load(place);
        // A #VMEXIT would show the shadow to the hypervisor.
        let is_shadowed = state & (hflags::INHIBIT_IRQ | hflags::GUEST) == 0;
        if is_shadowed {
            direct.store(place, state | hflags::INHIBIT_IRQ);
        }
        let asked = Box::new(Asked { how: *self, is_shadowed, work: Box::new(work) });
        // SAFETY: the vCPU of this thread; `run` is a function of this library, which is never unloaded while QEMU
        // runs, and takes this pointer.
        unsafe { (self.queue.async_run_on_cpu)(cpu, run, Box::into_raw(asked).cast()) };
    }
}

impl BetweenBlocks {
    /// The linear address of the next instruction.
    pub fn pc(&self) -> u64 {
        let layout = self.direct.layout();
        let base = layout.strings().map_or(0, |layout| self.direct.load(layout.bases[CS]));
        let rip = self.direct.read(Register::Rip).unwrap_or(0);
        // In 64-bit code the base is 0. Elsewhere linear addresses have 32 bits.
        match base {
            0 => rip,
            _ => rip.wrapping_add(base) & 0xffff_ffff,
        }
    }

    /// EAX.
    pub fn eax(&self) -> u32 {
        self.direct.read(Register::Rax).unwrap_or(0) as u32
    }

    /// The registers for unwinding the stack; `None` if QEMU does not report them.
    pub fn frame(&self) -> Option<FrameState> {
        let layout = self.direct.layout().strings()?;
        let state = self.direct.load(self.direct.layout().hflags()?);
        let read = |register| self.direct.read(register);
        Some(FrameState {
            is_64_bit: state & hflags::CS64 != 0,
            is_32_bit: state & hflags::CS32 != 0,
            ip: read(Register::Rip)?,
            sp: read(Register::Rsp)?,
            bp: read(Register::Rbp)?,
            cs_base: self.direct.load(layout.bases[CS]),
            stack: StackState::of(&self.direct)?,
            paging: PagingRegisters {
                cr0: read(Register::Cr0)?,
                cr3: read(Register::Cr3)?,
                cr4: read(Register::Cr4)?,
                efer: read(Register::Efer).unwrap_or(0),
            },
        })
    }

    /// Returns true if a nested guest runs.
    pub fn is_in_nested_guest(&self) -> bool {
        self.direct.is_in_nested_guest() == Some(true)
    }

    /// Stops the machine before the next instruction, as a debugger's breakpoint does.
    pub fn stop(&self) {
        let Stop { pause, request, gdb } = self.stop;
        let cpu = self.direct.cpu_state();
        // This is what QEMU does at a breakpoint, in `cpu_handle_guest_debug`.
        // SAFETY: QEMU holds the global lock while it runs the work of which this is a part, on the vCPU's thread.
        // The stub's state begins with the flag, and QEMU changes that under the lock.
        unsafe {
            if (*gdb.gdbserver_state.as_ptr()).load(Ordering::Relaxed) {
                (gdb.gdb_set_stop_cpu)(cpu);
            }
            (request.qemu_system_debug_request)();
            (pause.cpu_pause)(cpu);
        }
    }
}
