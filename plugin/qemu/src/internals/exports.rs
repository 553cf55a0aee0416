//! QEMU's own functions, which distributions' builds export for their loadable modules. A QEMU may
//! lack each of them: then what it gives is not known, and everything else works.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};

use super::lookup::lookup_export;

/// Why the machine ended, in QEMU's terms (`ShutdownCause` in QEMU's `qapi/run-state.json`), as far
/// as a user tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The guest powered off (or asked a debug-exit device to end QEMU).
    Shutdown,
    /// The guest reset itself under `-no-reboot`.
    Reset,
    /// The guest said that it panicked.
    Panic,
    /// `quit` in the monitor or over QMP.
    Quit,
    /// SIGTERM, SIGINT or SIGHUP.
    Signal,
    /// The window was closed.
    Ui,
    /// QEMU gave up on the guest.
    HostError,
    /// QEMU called `exit` without a shutdown.
    Exit,
    /// This QEMU does not export what would tell.
    Unknown,
}

impl Ended {
    /// From QEMU's name of a `ShutdownCause`.
    fn from_cause(name: &str) -> Ended {
        match name {
            "guest-shutdown" => Ended::Shutdown,
            "guest-reset" | "host-qmp-system-reset" | "subsystem-reset" => Ended::Reset,
            "guest-panic" => Ended::Panic,
            "host-qmp-quit" => Ended::Quit,
            "host-signal" => Ended::Signal,
            "host-ui" => Ended::Ui,
            "host-error" => Ended::HostError,
            _ => Ended::Unknown,
        }
    }
}

/// `struct Notifier` in QEMU's `include/qemu/notify.h`: a function and a list node.
#[repr(C)]
struct Notifier {
    notify: extern "C" fn(*mut Notifier, *mut c_void),
    node: [*mut c_void; 2],
}

/// The last `ShutdownCause` that QEMU announced; -1 before any. C gives a notifier no place of its
/// own to write to, and it runs once, at the end.
static SHUTDOWN_CAUSE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn shutdown_announced(_notifier: *mut Notifier, cause: *mut c_void) {
    // SAFETY: QEMU's `qemu_system_shutdown` passes the address of a `ShutdownCause`, a C enum.
    let cause = unsafe { *cause.cast::<c_int>() };
    SHUTDOWN_CAUSE.store(cause, Ordering::Relaxed);
}

type DumpState = unsafe extern "C" fn(*mut c_void, *mut libc::FILE, c_int);
type EnumLookup = unsafe extern "C" fn(*const c_void, c_int) -> *const c_char;

/// Whether QEMU runs with `-icount`; not, where it does not export what would tell.
pub(crate) fn icount_is_on() -> bool {
    // SAFETY: `ICountMode use_icount` (before: `int`) in QEMU's `system/cpu-timers.h`, set when the
    // command line is read.
    lookup_export(c"use_icount").is_some_and(|mode| unsafe { *mode.cast::<c_int>() } != 0)
}

/// Ends QEMU as a device does that calls `exit`: with what QEMU and this plugin do at an exit, but not
/// what they do when a machine is shut down. For a QEMU that does not export how to ask for that.
pub fn exit_process(status: u8) -> ! {
    // SAFETY: no thread is in an exit already, or this one waits for it; what is registered for the exit
    // is QEMU's own.
    unsafe { libc::exit(status.into()) }
}

type SystemIo = unsafe extern "C" fn() -> *mut c_void;
type FindRegion = unsafe extern "C" fn(*mut c_void, u64, u64) -> RegionSection;
type RegionName = unsafe extern "C" fn(*mut c_void) -> *const c_char;
type ReleaseRegion = unsafe extern "C" fn(*mut c_void);

/// `MemoryRegionSection` in QEMU's `system/memory.h`, as far as it is read: a size of 128 bits, a
/// `MemoryRegion *`, and less than the room that is left for it. C returns it in memory that the caller
/// has.
#[repr(C, align(16))]
struct RegionSection {
    size: [u64; 2],
    region: *mut c_void,
    rest: [u64; 29],
}

/// What is at a port, as the machine stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtPort {
    /// QEMU does not tell.
    Unknown,
    /// Nothing.
    Nothing,
    /// Something, QEMU's or the plugin's: the name that its region of ports has.
    Region(String),
}

/// What tells what is at a port.
pub struct PortPresence(Option<PortLookup>);

struct PortLookup {
    system_io: SystemIo,
    find: FindRegion,
    name: RegionName,
    release: ReleaseRegion,
}

impl PortPresence {
    /// Looks the functions up.
    pub fn load() -> PortPresence {
        PortPresence(PortLookup::load())
    }

    /// What is at a port.
    pub fn at(&self, port: u16) -> AtPort {
        self.0.as_ref().map_or(AtPort::Unknown, |lookup| lookup.at(port))
    }
}

impl PortLookup {
    fn load() -> Option<PortLookup> {
        let system_io = lookup_export(c"get_system_io")?;
        let find = lookup_export(c"memory_region_find")?;
        let name = lookup_export(c"memory_region_name")?;
        let release = lookup_export(c"memory_region_unref")?;
        // SAFETY: `MemoryRegion *get_system_io(void)`, `MemoryRegionSection memory_region_find(
        // MemoryRegion *, hwaddr, uint64_t)`, `const char *memory_region_name(const MemoryRegion *)` and
        // `void memory_region_unref(MemoryRegion *)`, in QEMU's `system/memory.h`.
        unsafe {
            Some(PortLookup {
                system_io: std::mem::transmute::<*mut c_void, SystemIo>(system_io),
                find: std::mem::transmute::<*mut c_void, FindRegion>(find),
                name: std::mem::transmute::<*mut c_void, RegionName>(name),
                release: std::mem::transmute::<*mut c_void, ReleaseRegion>(release),
            })
        }
    }

    fn at(&self, port: u16) -> AtPort {
        // SAFETY: a look at the port bus, which QEMU protects by RCU, on one of QEMU's threads. The region
        // that is found is referenced until it is released; its name, a C string, is its own.
        unsafe {
            let bus = (self.system_io)();
            let region = (self.find)(bus, u64::from(port), 1).region;
            if region.is_null() {
                return AtPort::Nothing;
            }
            // The bus itself is what is found where nothing else is.
            let at_port = match region == bus {
                true => AtPort::Nothing,
                false => {
                    let name = (self.name)(region);
                    let name = (!name.is_null()).then(|| std::ffi::CStr::from_ptr(name));
                    AtPort::Region(
                        name.map_or_else(String::new, |name| name.to_string_lossy().into()),
                    )
                }
            };
            (self.release)(region);
            at_port
        }
    }
}

type QueueFlush = unsafe extern "C" fn(*mut c_void);
type RunLater = unsafe extern "C" fn(*mut c_void, FlushWork, *mut c_void);
type FlushWork = unsafe extern "C" fn(*mut c_void, *mut c_void);

/// How to have QEMU translate everything anew.
#[derive(Clone, Copy)]
enum Flush {
    /// `queue_tb_flush`, which QEMU 11.1 has and 10.0 has not.
    Queue(QueueFlush),
    /// `async_safe_run_on_cpu`, and the address of `tb_flush`, which may not run within a translation.
    Later(RunLater, *mut c_void),
}

// SAFETY: functions of QEMU's, which may be called from any thread.
unsafe impl Send for Flush {}
// SAFETY: as above.
unsafe impl Sync for Flush {}

impl Flush {
    fn load() -> Option<Flush> {
        if let Some(queue) = lookup_export(c"queue_tb_flush") {
            // SAFETY: `void queue_tb_flush(CPUState *cs)` in QEMU's `exec/tb-flush.h`.
            return Some(Flush::Queue(unsafe {
                std::mem::transmute::<*mut c_void, QueueFlush>(queue)
            }));
        }
        let (later, flush) =
            lookup_export(c"async_safe_run_on_cpu").zip(lookup_export(c"tb_flush"))?;
        // SAFETY: `void async_safe_run_on_cpu(CPUState *cpu, run_on_cpu_func func, run_on_cpu_data data)` in
        // QEMU's `hw/core/cpu.h`, since 2.9: `data` is a union of the size of a pointer.
        Some(Flush::Later(unsafe { std::mem::transmute::<*mut c_void, RunLater>(later) }, flush))
    }
}

/// Runs while no vCPU does.
unsafe extern "C" fn flush_now(cpu: *mut c_void, tb_flush: *mut c_void) {
    // SAFETY: `void tb_flush(CPUState *cpu)`, by its address; no translation is under way.
    unsafe { std::mem::transmute::<*mut c_void, QueueFlush>(tb_flush)(cpu) }
}

/// What this QEMU exports of what pvio can use.
pub(crate) struct Exports {
    flush: Option<Flush>,
    /// `cpu_dump_state`.
    dump_state: Option<DumpState>,
    /// `qapi_enum_lookup` and the table `ShutdownCause_lookup`, where shutdowns are announced.
    cause_names: Option<(EnumLookup, usize)>,
}

impl Exports {
    /// Looks the functions up, and asks to be told of the shutdown: this library can no longer be
    /// unloaded.
    pub fn load() -> Exports {
        let dump_state =
            lookup_export(c"cpu_dump_state").filter(|_| lookup_export(c"current_cpu").is_some());
        // SAFETY: `void cpu_dump_state(CPUState *cpu, FILE *f, int flags)` in QEMU's
        // `include/hw/core/cpu.h`, since 2012.
        let dump_state = dump_state
            .map(|address| unsafe { std::mem::transmute::<*mut c_void, DumpState>(address) });
        Exports { flush: Flush::load(), dump_state, cause_names: announce_shutdowns() }
    }

    /// Has QEMU translate everything anew, soon after this callback for a translation.
    pub fn translate_anew(&self) {
        let cpu = current_cpu();
        match self.flush.filter(|_| !cpu.is_null()) {
            // SAFETY: the vCPU of this thread, for which it translates.
            Some(Flush::Queue(queue)) => unsafe { queue(cpu) },
            // SAFETY: as above; the work is a function of this library, which is never unloaded.
            Some(Flush::Later(later, tb_flush)) => unsafe { later(cpu, flush_now, tb_flush) },
            None => {}
        }
    }

    /// The registers of the vCPU that this thread runs, as `info registers` prints them.
    pub fn register_dump(&self) -> Option<String> {
        let dump_state = self.dump_state?;
        let cpu = current_cpu();
        if cpu.is_null() {
            return None;
        }
        let (mut text, mut len) = (std::ptr::null_mut::<c_char>(), 0usize);
        // SAFETY: `text` and `len` outlive the stream, which is closed before they are read; the
        // buffer is then ours to free. QEMU only reads the vCPU's state, on the vCPU's own thread.
        unsafe {
            let stream = libc::open_memstream(&mut text, &mut len);
            if stream.is_null() {
                return None;
            }
            dump_state(cpu, stream, 0);
            libc::fclose(stream);
            let dump = std::slice::from_raw_parts(text.cast::<u8>(), len).to_vec();
            libc::free(text.cast());
            Some(String::from_utf8_lossy(&dump).into_owned())
        }
    }

    /// How the machine ended, once it has.
    pub fn ended(&self) -> Ended {
        let Some((enum_lookup, table)) = self.cause_names else {
            return Ended::Unknown;
        };
        let cause = SHUTDOWN_CAUSE.load(Ordering::Relaxed);
        if cause < 0 {
            return Ended::Exit;
        }
        // SAFETY: QEMU's own table; its names are C strings for ever, and it aborts on a value out of
        // range, which its own cause is not.
        let name = unsafe {
            let name = enum_lookup(std::ptr::with_exposed_provenance(table), cause);
            std::ffi::CStr::from_ptr(name)
        };
        Ended::from_cause(&name.to_string_lossy())
    }
}

/// A number of the vCPU that this thread runs, which no other has while the machine runs: also where
/// QEMU's callbacks name the wrong one. 0 where QEMU does not tell.
pub fn running_vcpu() -> usize {
    current_cpu().addr()
}

/// QEMU's `CPUState` of the vCPU that this thread runs; null where there is none, or QEMU does not tell.
pub(crate) fn current_cpu() -> *mut c_void {
    thread_local! {
        /// Where QEMU has it: `__thread CPUState *current_cpu`.
        static PLACE: Option<*mut c_void> = lookup_export(c"current_cpu");
    }
    // SAFETY: this thread's own variable, which `dlsym` gives the address of; it lives as long as
    // the thread.
    PLACE.with(|place| place.map_or(std::ptr::null_mut(), |place| unsafe { *place.cast() }))
}

/// Registers a notifier for shutdowns, and gives what is needed to name a cause.
fn announce_shutdowns() -> Option<(EnumLookup, usize)> {
    let register = lookup_export(c"qemu_register_shutdown_notifier")?;
    let enum_lookup = lookup_export(c"qapi_enum_lookup")?;
    let table = lookup_export(c"ShutdownCause_lookup")?;
    let notifier =
        Box::new(Notifier { notify: shutdown_announced, node: [std::ptr::null_mut(); 2] });
    // SAFETY: `void qemu_register_shutdown_notifier(Notifier *)` and
    // `const char *qapi_enum_lookup(const QEnumLookup *, int)`, in QEMU's `system/runstate.h` and
    // `qapi/util.h`. The notifier is in QEMU's list from now on, so it is never freed.
    unsafe {
        let register: extern "C" fn(*mut Notifier) = std::mem::transmute(register);
        register(Box::leak(notifier));
        Some((
            std::mem::transmute::<*mut c_void, EnumLookup>(enum_lookup),
            table.expose_provenance(),
        ))
    }
}
