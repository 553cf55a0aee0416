//! Interrupt lines of the ISA bus.

use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::c_types::IrqState;
use super::global_lock::GlobalLock;
use super::irq_observer::{IrqTap, LineObserver};
use super::symbols::{IrqFunctions, IsaLines, ObjectQuery};

/// One of the 16 interrupt lines of the ISA bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsaIrq(u8);

impl IsaIrq {
    /// Returns line 0 to 15; `None` for other numbers.
    pub fn new(line: u8) -> Option<IsaIrq> {
        (line < 16).then_some(IsaIrq(line))
    }
}

/// The interrupt lines of the machine's ISA bus.
pub(super) struct IsaIrqs {
    objects: ObjectQuery,
    isa: IsaLines,
    functions: IrqFunctions,
    /// The lines that were asked for: QEMU takes long to find the bus.
    ///
    /// Relaxed: all loads and stores are under QEMU's global lock, which orders them.
    known: [AtomicPtr<IrqState>; 16],
}

impl IsaIrqs {
    pub fn new(objects: ObjectQuery, isa: IsaLines, functions: IrqFunctions) -> IsaIrqs {
        IsaIrqs { objects, isa, functions, known: Default::default() }
    }

    /// Sets a line of the machine, if that has an ISA bus.
    pub fn set(&self, lock: &GlobalLock, line: IsaIrq, level: bool) {
        lock.with(|| {
            if let Some(irq) = self.find(line) {
                // SAFETY: the machine's own line, with the global lock held.
                unsafe { (self.functions.qemu_set_irq)(irq, c_int::from(level)) };
            }
        });
    }

    /// Returns true if QEMU exports what [`IsaIrqs::observe`] needs.
    pub fn can_be_observed(&self) -> bool {
        IrqTap::find().is_ok()
    }

    /// Passes each level that is set on a line to `observer`, from now on. Returns false if that is impossible: QEMU
    /// exports no function for it, or the machine has no ISA bus.
    ///
    /// # Panics
    ///
    /// If this thread does not hold QEMU's global lock.
    pub fn observe(&self, lock: &GlobalLock, observer: LineObserver) -> bool {
        lock.assert_held();
        let Ok(tap) = IrqTap::find() else { return false };
        let mut lines: Vec<_> = (0..16).filter_map(|line| self.find(IsaIrq(line))).collect();
        if lines.is_empty() {
            return false;
        }
        // SAFETY: the machine's own lines, which live as long as it does, with the global lock held.
        unsafe { tap.observe(self.functions, &mut lines, observer) };
        true
    }

    /// Only with the global lock held.
    fn find(&self, line: IsaIrq) -> Option<*mut IrqState> {
        let known = &self.known[usize::from(line.0)];
        // Relaxed: the global lock is held here and where it is stored.
        let irq = known.load(Ordering::Relaxed);
        if !irq.is_null() {
            return Some(irq);
        }
        let (path, isa_bus) = (c"".as_ptr(), c"ISA".as_ptr());
        // SAFETY: QEMU looks for an object of that type, with the global lock held; it may tell nobody
        // whether there are several.
        let bus =
            unsafe { (self.objects.object_resolve_path_type)(path, isa_bus, std::ptr::null_mut()) };
        if bus.is_null() {
            return None;
        }
        // SAFETY: without a device the function takes the one ISA bus, and there is one.
        let irq = unsafe { (self.isa.isa_get_irq)(std::ptr::null_mut(), c_uint::from(line.0)) };
        known.store(irq, Ordering::Relaxed);
        Some(irq)
    }
}
