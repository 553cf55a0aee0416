//! QEMU's C types, as the functions in [`super::symbols`] take them.
//!
//! Most are opaque: pvio uses only their addresses. The rest have the layout in the named header.

use std::ffi::{c_int, c_uint, c_void};

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        $( $(#[$doc])* #[repr(C)] pub(crate) struct $name([u8; 0]); )+
    };
}

opaque! {
    /// `AddressSpace` in `system/memory.h`.
    AddressSpace,
    /// `QEMUBH` in `qemu/aio.h`.
    Bh,
    /// `CPUState` in `hw/core/cpu.h`, with which an `X86CPU` begins.
    CpuState,
    /// `Error` in `qapi/error.h`.
    Error,
    /// `struct IRQState` in `hw/core/irq.h`; a `qemu_irq` is a pointer to one.
    IrqState,
    /// `ISADevice` in `hw/isa/isa.h`.
    IsaDevice,
    /// `Object` in `qom/object.h`.
    Object,
    /// `QEnumLookup` in `qapi/util.h`.
    EnumLookup,
    /// `VMStateDescription` in `migration/vmstate.h`. Versions differ in its layout: see
    /// [`super::vmstate`].
    VmStateDescription,
}

/// `qemu_irq_handler` in `hw/core/irq.h`: user data, the number of the line, its level.
pub(crate) type IrqHandler = extern "C" fn(opaque: *mut c_void, n: c_int, level: c_int);

/// `MemTxAttrs` in `exec/memattrs.h`: at most 8 bytes, all of which may be 0.
pub(crate) type MemTxAttrs = u64;

/// `MemoryRegion` in `system/memory.h`, whose size no header promises (272 bytes in 10.0). This is much
/// larger.
#[repr(C, align(64))]
pub(crate) struct MemoryRegion([u8; 4096]);

impl MemoryRegion {
    /// Zeroed, as QEMU's own allocations are.
    pub const fn zeroed() -> MemoryRegion {
        MemoryRegion([0; 4096])
    }
}

/// `QEMUTimer` in `qemu/timer.h`, 48 bytes in all known versions. This is larger.
#[repr(C)]
pub(crate) struct QemuTimer([u64; 32]);

impl QemuTimer {
    /// Zeroed, as QEMU's own allocations are.
    pub const fn zeroed() -> QemuTimer {
        QemuTimer([0; 32])
    }
}

/// `MemoryRegionOps` in `system/memory.h`.
#[repr(C)]
pub(crate) struct MemoryRegionOps {
    pub read: Option<extern "C" fn(*mut c_void, u64, c_uint) -> u64>,
    pub write: Option<extern "C" fn(*mut c_void, u64, u64, c_uint)>,
    pub read_with_attrs: *const c_void,
    pub write_with_attrs: *const c_void,
    pub endianness: c_int,
    pub valid: ValidAccesses,
    pub implementation: ImplementedAccesses,
}

/// `DEVICE_LITTLE_ENDIAN` of `enum device_endian` in `exec/cpu-common.h`.
pub(crate) const DEVICE_LITTLE_ENDIAN: c_int = 2;

/// `MemoryRegionOps.valid`: which accesses the guest may make.
#[repr(C)]
pub(crate) struct ValidAccesses {
    pub min_access_size: c_uint,
    pub max_access_size: c_uint,
    pub unaligned: bool,
    pub accepts: *const c_void,
}

/// `MemoryRegionOps.impl`: which accesses the callbacks take.
#[repr(C)]
pub(crate) struct ImplementedAccesses {
    pub min_access_size: c_uint,
    pub max_access_size: c_uint,
    pub unaligned: bool,
}

/// `MemoryRegionSection` in `system/memory.h`, as far as pvio reads it: a size of 128 bits, the region, a view,
/// two offsets, and more room than the rest takes. C returns it in the caller's memory.
#[repr(C, align(16))]
pub(crate) struct MemoryRegionSection {
    size: [u64; 2],
    pub region: *mut MemoryRegion,
    view: *mut c_void,
    pub offset_within_region: u64,
    pub offset_within_address_space: u64,
    rest: [u64; 26],
}

/// `MemoryListener` in `system/memory.h`: two of its callbacks, which come first, and more room than the others take.
/// A callback may be null.
#[repr(C)]
pub(crate) struct MemoryListener {
    pub begin: Option<unsafe extern "C" fn(*mut MemoryListener)>,
    pub commit: Option<unsafe extern "C" fn(*mut MemoryListener)>,
    pub others: [u64; 62],
}

/// `struct Notifier` in `qemu/notify.h`: a function and a list node.
#[repr(C)]
pub(crate) struct Notifier {
    pub notify: extern "C" fn(*mut Notifier, *mut c_void),
    pub node: [*mut c_void; 2],
}

/// `SHUTDOWN_CAUSE_GUEST_SHUTDOWN` of `ShutdownCause` in `qapi/run-state.json`.
pub(crate) const SHUTDOWN_CAUSE_GUEST_SHUTDOWN: c_int = 6;

/// `VersionTriple` in `qapi/control.json`.
#[repr(C)]
pub(crate) struct VersionTriple {
    pub major: i64,
    pub minor: i64,
    pub micro: i64,
}

/// `VersionInfo` in `qapi/control.json`.
#[repr(C)]
pub(crate) struct VersionInfo {
    pub qemu: *const VersionTriple,
    pub package: *const std::ffi::c_char,
}
