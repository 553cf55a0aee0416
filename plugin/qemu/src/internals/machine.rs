//! What QEMU's own exported functions let a plugin do to the machine: put regions on the port bus, use
//! its ports and memory, drive interrupt lines, hear of resets, end QEMU, and keep it from saving what it does not know.
//!
//! None of this is a promised interface. It is used on versions whose declarations were compared with
//! those here, and the port bus is tried out before anything relies on it.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::io_region::{Locking, MemoryRegion, MemoryRegionOps, PortHandler, REGION_OPS, Region};
use super::lookup::lookup_export;
use super::ports::PortFunctions;
use super::ram::GuestRam;
use crate::report::say;
use crate::version::QemuVersion;

/// The I/O space's size.
const PORTS: u32 = 0x1_0000;

/// Above QEMU's own devices, whatever priority they have: those of the PC use 0 and 1.
const PRIORITY: c_int = 1000;

/// A QEMU on whose port bus pvio cannot work.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Built without loadable modules, which need the same functions.
    #[error(
        "this QEMU does not export {0:?}, which serving ports needs; \
         use one built with modules, as distributions' are"
    )]
    NotExported(&'static CStr),
    /// One whose structures may have changed.
    #[error("this QEMU ({0}) is not one on which serving ports was tried: use 9.2 to 11.1")]
    UnknownVersion(QemuVersion),
    /// What was tried did not work.
    #[error(
        "this QEMU does not pass port accesses on as expected ({0}); \
         use 10.0 or 11.1 as distributions build them"
    )]
    SelfTest(String),
    /// QEMU was told to accept only what can be migrated.
    #[error("a device with state cannot be migrated, and this QEMU runs with -only-migratable")]
    OnlyMigratable,
}

/// QEMU's functions for the port bus.
#[derive(Clone, Copy)]
struct IoFunctions {
    get_system_io: unsafe extern "C" fn() -> *mut MemoryRegion,
    init_io: unsafe extern "C" fn(
        *mut MemoryRegion,
        *mut c_void,
        *const MemoryRegionOps,
        *mut c_void,
        *const c_char,
        u64,
    ),
    add: unsafe extern "C" fn(*mut MemoryRegion, u64, *mut MemoryRegion, c_int),
    remove: unsafe extern "C" fn(*mut MemoryRegion, *mut MemoryRegion),
    /// From QEMU 11.1.
    enable_lockless: Option<unsafe extern "C" fn(*mut MemoryRegion)>,
}

macro_rules! export {
    ($symbol:literal) => {{
        let address = lookup_export($symbol).ok_or(MachineError::NotExported($symbol))?;
        #[expect(clippy::missing_transmute_annotations, reason = "the field's type stands once")]
        // SAFETY: a non-null address of the QEMU function of this name; the type that it is given is
        // that of QEMU's headers in the versions that `Machine::open` lets through.
        unsafe {
            std::mem::transmute(address)
        }
    }};
}

/// The machine, as far as QEMU's exported functions reach.
pub struct Machine {
    io: IoFunctions,
    ports: PortFunctions,
    ram: Option<GuestRam>,
    /// The ISA interrupt lines that have been asked for: to find the bus takes long.
    irqs: [AtomicPtr<c_void>; 16],
    bql_locked: unsafe extern "C" fn() -> bool,
    bql_lock: unsafe extern "C" fn(*const c_char, c_int),
    bql_unlock: unsafe extern "C" fn(),
    register_reset: unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void),
    shutdown_with_code: unsafe extern "C" fn(c_int, c_int),
    resolve_type: unsafe extern "C" fn(*const c_char, *const c_char, *mut bool) -> *mut c_void,
    isa_get_irq: unsafe extern "C" fn(*mut c_void, c_uint) -> *mut c_void,
    set_irq: unsafe extern "C" fn(*mut c_void, c_int),
    error_setg: unsafe extern "C" fn(
        *mut *mut c_void,
        *const c_char,
        c_int,
        *const c_char,
        *const c_char,
        ...
    ),
    add_blocker: unsafe extern "C" fn(*mut *mut c_void, *mut *mut c_void) -> c_int,
}

impl Machine {
    /// Looks everything up, makes sure that this is a known QEMU, and tries the port bus out.
    ///
    /// To be called on QEMU's main thread while the machine is built, as `qemu_plugin_install` is.
    pub fn open(version: Option<QemuVersion>) -> Result<Machine, MachineError> {
        let version = version.ok_or(MachineError::NotExported(c"qmp_query_version"))?;
        if !version.is_known() {
            return Err(MachineError::UnknownVersion(version));
        }
        let machine = Machine {
            io: IoFunctions {
                get_system_io: export!(c"get_system_io"),
                init_io: export!(c"memory_region_init_io"),
                add: export!(c"memory_region_add_subregion_overlap"),
                remove: export!(c"memory_region_del_subregion"),
                enable_lockless: match lookup_export(c"memory_region_enable_lockless_io") {
                    Some(_) => Some(export!(c"memory_region_enable_lockless_io")),
                    None => None,
                },
            },
            ports: PortFunctions {
                inb: export!(c"cpu_inb"),
                inw: export!(c"cpu_inw"),
                inl: export!(c"cpu_inl"),
                outb: export!(c"cpu_outb"),
                outw: export!(c"cpu_outw"),
                outl: export!(c"cpu_outl"),
            },
            ram: GuestRam::open(Some(version)),
            irqs: Default::default(),
            bql_locked: export!(c"bql_locked"),
            bql_lock: export!(c"bql_lock_impl"),
            bql_unlock: export!(c"bql_unlock"),
            register_reset: export!(c"qemu_register_reset"),
            shutdown_with_code: export!(c"qemu_system_shutdown_request_with_code"),
            resolve_type: export!(c"object_resolve_path_type"),
            isa_get_irq: export!(c"isa_get_irq"),
            set_irq: export!(c"qemu_set_irq"),
            error_setg: export!(c"error_setg_internal"),
            add_blocker: export!(c"migrate_add_blocker"),
        };
        machine.try_port_bus()?;
        Ok(machine)
    }

    /// Claims a scratch range for a moment, and sees whether accesses arrive as they were made.
    fn try_port_bus(&self) -> Result<(), MachineError> {
        type Log = Mutex<Vec<(char, u16, u8, u32)>>;
        struct Scratch(&'static Log);
        impl PortHandler for Scratch {
            fn read(&self, offset: u16, size: u8) -> u32 {
                self.0.lock().expect("no panic").push(('r', offset, size, 0));
                0xa55a_1234
            }
            fn write(&self, offset: u16, size: u8, value: u32) {
                self.0.lock().expect("no panic").push(('w', offset, size, value));
            }
        }
        // Ports that no PC has anything at; the region is gone again before the guest runs.
        const SCRATCH: u16 = 0xfe10;
        static LOG: Log = Mutex::new(Vec::new());
        let region = self.device(SCRATCH, 8, "self-test", Locking::Own, Box::new(Scratch(&LOG)));
        self.write_port(SCRATCH + 4, 4, 0x1234_5678);
        let read = self.read_port(SCRATCH + 1, 2);
        // SAFETY: on QEMU's main thread, which has the lock of the port bus while the machine is built;
        // the region is the one that was just put there.
        unsafe { (self.io.remove)((self.io.get_system_io)(), region) };
        let log = LOG.lock().expect("no panic").split_off(0);
        let expected = [('w', 4, 4, 0x1234_5678), ('r', 1, 2, 0)];
        match (read, log == expected) {
            (0x1234, true) => Ok(()),
            _ => Err(MachineError::SelfTest(format!("read {read:#x}, saw {log:x?}"))),
        }
    }

    /// Puts a region on the port bus, above whatever QEMU has there, until QEMU ends.
    ///
    /// A guest's access comes whole to the region that has its first port, whatever its alignment, and
    /// **also where it goes beyond the region's end**.
    pub fn serve(
        &self,
        first: u16,
        count: u32,
        name: &str,
        locking: Locking,
        handler: Box<dyn PortHandler>,
    ) {
        self.device(first, count, name, locking, handler);
    }

    fn device(
        &self,
        first: u16,
        count: u32,
        name: &str,
        locking: Locking,
        handler: Box<dyn PortHandler>,
    ) -> *mut MemoryRegion {
        assert!(count > 0 && u32::from(first) + count <= PORTS, "a range within the I/O space");
        self.assert_global_lock();
        let opaque: *mut Region = Box::leak(Box::new(Region::new(handler)));
        let label = CString::new(format!("pvio: {name}").replace('\0', "")).expect("no NUL");
        let region: *mut MemoryRegion = Box::leak(Box::new(MemoryRegion::zeroed()));
        // SAFETY: on QEMU's main thread, while the machine is built. The region has room for QEMU's, is
        // zeroed as QEMU's allocations are, and is never freed; nor are what its callbacks get and the
        // operations; QEMU copies the label. The range is within the I/O space.
        unsafe {
            (self.io.init_io)(
                region,
                std::ptr::null_mut(),
                &REGION_OPS,
                opaque.cast(),
                label.as_ptr(),
                u64::from(count),
            );
            if let (Locking::Own, Some(enable)) = (locking, self.io.enable_lockless) {
                enable(region);
            }
            (self.io.add)((self.io.get_system_io)(), u64::from(first), region, PRIORITY);
        }
        region
    }

    /// Reads `size` (1, 2 or 4) bytes from whoever is at a port. A device may do so in its own access,
    /// but not to itself.
    pub fn read_port(&self, port: u16, size: u8) -> u32 {
        self.ports.read(port, size)
    }

    /// Writes the low `size` bytes of a value to whoever is at a port.
    pub fn write_port(&self, port: u16, size: u8, value: u32) {
        self.ports.write(port, size, value);
    }

    /// The guest's memory; `None` where QEMU does not export what reaches it.
    pub fn ram(&self) -> Option<&GuestRam> {
        self.ram.as_ref()
    }

    /// Calls `reset` whenever the machine is reset, and once before it starts.
    pub fn on_reset(&self, reset: impl Fn() + Send + Sync + 'static) {
        type Reset = Box<dyn Fn() + Send + Sync>;
        extern "C" fn machine_reset(opaque: *mut c_void) {
            // SAFETY: the leaked closure that was registered with this function.
            let reset = unsafe { &*opaque.cast::<Reset>() };
            if catch_unwind(AssertUnwindSafe(reset)).is_err() {
                say("a device panicked when the machine was reset (above)");
            }
        }
        self.assert_global_lock();
        let reset: Reset = Box::new(reset);
        let opaque: *mut Reset = Box::leak(Box::new(reset));
        // SAFETY: on QEMU's main thread; the closure lives for ever, and the function takes it for
        // what it is.
        unsafe { (self.register_reset)(machine_reset, opaque.cast()) };
    }

    /// Asks QEMU to end as if the guest had switched the machine off, with this exit status.
    pub fn exit(&self, status: u8) {
        /// `SHUTDOWN_CAUSE_GUEST_SHUTDOWN` of `ShutdownCause` in QEMU's `qapi/run-state.json`.
        const GUEST_SHUTDOWN: c_int = 6;
        // SAFETY: takes a cause that there is, may be called on any thread, and only leaves a request.
        unsafe { (self.shutdown_with_code)(GUEST_SHUTDOWN, c_int::from(status)) };
    }

    /// Keeps QEMU from saving or migrating the machine; `why` is what it tells the user.
    pub fn block_migration(&self, why: &str) -> Result<(), MachineError> {
        self.assert_global_lock();
        let why = CString::new(why.replace('\0', "")).expect("no NUL");
        // QEMU keeps the address for ever, to take the error out again.
        let reason: &'static AtomicPtr<c_void> = Box::leak(Box::default());
        let mut refused = std::ptr::null_mut();
        // SAFETY: `error_setg` stores a new error at the address, which is null there as it demands;
        // the format takes the one string that is given.
        let blocked = unsafe {
            let place = reason.as_ptr();
            (self.error_setg)(
                place,
                c"pvio".as_ptr(),
                0,
                c"pvio".as_ptr(),
                c"%s".as_ptr(),
                why.as_ptr(),
            );
            (self.add_blocker)(place, &mut refused)
        };
        if blocked == 0 { Ok(()) } else { Err(MachineError::OnlyMigratable) }
    }

    /// Sets an ISA interrupt line of the machine, which has to have an ISA bus.
    ///
    /// Takes QEMU's global lock where it is not held: the caller must hold no lock that a holder of
    /// QEMU's may wait for.
    pub fn set_isa_irq(&self, line: IsaIrq, level: bool) {
        self.with_global_lock(|| {
            if let Some(irq) = self.isa_irq(line) {
                // SAFETY: the machine's own line, with the global lock held.
                unsafe { (self.set_irq)(irq, c_int::from(level)) };
            }
        });
    }

    fn isa_irq(&self, line: IsaIrq) -> Option<*mut c_void> {
        let known = &self.irqs[usize::from(line.0)];
        let irq = known.load(Ordering::Relaxed);
        if !irq.is_null() {
            return Some(irq);
        }
        // SAFETY: QEMU looks for an object of that type, with the global lock held. Without a device
        // `isa_get_irq` takes the one ISA bus, and does not ask whether there is one: there is.
        unsafe {
            let bus = (self.resolve_type)(c"".as_ptr(), c"ISA".as_ptr(), std::ptr::null_mut());
            if bus.is_null() {
                return None;
            }
            let irq = (self.isa_get_irq)(std::ptr::null_mut(), c_uint::from(line.0));
            known.store(irq, Ordering::Relaxed);
            Some(irq)
        }
    }

    /// What changes the machine is for threads that hold QEMU's global lock, as the main thread does
    /// while it loads plugins.
    fn assert_global_lock(&self) {
        // SAFETY: only says whether this thread holds it.
        assert!(unsafe { (self.bql_locked)() }, "the machine is changed under QEMU's global lock");
    }

    /// Does something with QEMU's global lock held, which is taken where it is not.
    pub fn with_global_lock<R>(&self, work: impl FnOnce() -> R) -> R {
        // SAFETY: only says whether this thread holds it.
        if unsafe { (self.bql_locked)() } {
            return work();
        }
        /// Given back also where `work` panics.
        struct Held<'a>(&'a Machine);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                // SAFETY: this thread has taken it.
                unsafe { (self.0.bql_unlock)() };
            }
        }
        // SAFETY: this thread does not hold it.
        unsafe { (self.bql_lock)(c"pvio".as_ptr(), 0) };
        let _held = Held(self);
        work()
    }
}

/// One of the 16 interrupt lines of the ISA bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsaIrq(u8);

impl IsaIrq {
    /// Line 0 to 15; `None` for others.
    pub fn new(line: u8) -> Option<IsaIrq> {
        (line < 16).then_some(IsaIrq(line))
    }
}
