//! Discards all of QEMU's translated code, so that QEMU translates the guest's code again.

use std::ffi::c_void;

use super::c_types::CpuState;
use super::current_cpu::current_cpu;
use super::symbols::{QueueTbFlush, SafeWork, TbFlush};
use crate::symbol::NotExported;

/// The way to request a flush. QEMU must run it later, since it is translating now.
#[derive(Clone, Copy)]
enum Flush {
    /// From QEMU 10.2 on.
    Queue(QueueTbFlush),
    /// Before.
    Work(SafeWork, TbFlush),
}

/// QEMU's function that discards all translated code, if it exports one.
pub(crate) struct Translations(Option<Flush>);

/// Runs while no vCPU does. `tb_flush` is the address of that function.
unsafe extern "C" fn flush_now(cpu: *mut CpuState, tb_flush: *mut c_void) {
    // SAFETY: `Translations::flush` made the pointer of a function with this type.
    let tb_flush: unsafe extern "C" fn(*mut CpuState) = unsafe { std::mem::transmute(tb_flush) };
    // SAFETY: QEMU's own `tb_flush`, for a vCPU of QEMU's; no translation is under way.
    unsafe { tb_flush(cpu) }
}

impl Translations {
    pub fn find() -> Translations {
        let work = || Ok::<_, NotExported>(Flush::Work(SafeWork::find()?, TbFlush::find()?));
        Translations(QueueTbFlush::find().map(Flush::Queue).or_else(|_| work()).ok())
    }

    /// Requests the flush, in a callback for a translation. QEMU performs it soon after.
    pub fn flush(&self) {
        let cpu = current_cpu();
        match self.0.filter(|_| !cpu.is_null()) {
            // SAFETY: the vCPU of this thread, for which QEMU translates.
            Some(Flush::Queue(functions)) => unsafe { (functions.queue_tb_flush)(cpu) },
            // SAFETY: as above; the work is a function of this library, which is never unloaded.
            Some(Flush::Work(work, flush)) => unsafe {
                (work.async_safe_run_on_cpu)(cpu, flush_now, flush.tb_flush as *mut c_void);
            },
            None => {}
        }
    }
}
