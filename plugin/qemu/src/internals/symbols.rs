//! The symbols that pvio uses among those that QEMU exports for its own loadable modules. Each is listed
//! once, with its type, its header and the versions that have it.
//!
//! The headers are those of QEMU 11.1. Before 10.1 `system/memory.h` and `system/address-spaces.h` were in
//! `exec/`; before 10.0 the rest of `system/` was in `sysemu/`.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32};

use super::c_types::{
    AddressSpace, Bh, CpuState, EnumLookup, Error, IrqHandler, IrqState, IsaDevice, MemTxAttrs,
    MemoryListener, MemoryRegion, MemoryRegionOps, MemoryRegionSection, Notifier, Object,
    QemuTimer, VersionInfo, VmStateDescription,
};
use crate::symbol::{Global, lookup_internal, symbol_table};

/// Returns true if QEMU exports its functions at all, as it does if it was configured with `--enable-modules`.
///
/// A QEMU that lacks some of them exports others.
pub(crate) fn exports_functions() -> bool {
    TABLE.iter().any(|symbol| lookup_internal(symbol.name).is_some())
}

symbol_table! {
    lookup lookup_internal;

    /// QEMU's version. The caller never frees the result.
    VersionQuery: "qapi/qapi-commands-control.h", since V9_2 {
        qmp_query_version: unsafe extern "C" fn(errp: *mut *mut Error) -> *const VersionInfo,
    }

    /// True if TCG runs the guest; settled before plugins are loaded.
    TcgAllowed: "system/tcg.h", since V9_2 {
        tcg_allowed: Global<bool>,
    }

    /// The accelerator's name.
    AcceleratorName: "qemu/accel.h", since V9_2 {
        current_accel_name: unsafe extern "C" fn() -> *const c_char,
    }

    /// `ReplayMode`, an enum whose 0 is neither record nor replay; set before the accelerator is.
    ReplayMode: "system/replay.h", since V9_2 {
        replay_mode: Global<c_int>,
    }

    /// `ICountMode`, an enum whose 0 is off; set when QEMU reads its command line.
    IcountMode: "exec/icount.h", since V9_2 {
        use_icount: Global<c_int>,
    }

    /// The vCPU that a thread runs, in a variable of each thread's own.
    CurrentCpu: "hw/core/cpu.h", since V9_2 {
        current_cpu: *mut *mut CpuState,
    }

    /// A vCPU by its index; null if there is none.
    VcpuLookup: "hw/core/cpu.h", since V9_2 {
        qemu_get_cpu: unsafe extern "C" fn(index: c_int) -> *mut CpuState,
    }

    /// Prints a vCPU as `info registers` does.
    RegisterPrinter: "hw/core/cpu.h", since V9_2 {
        cpu_dump_state: unsafe extern "C" fn(cpu: *mut CpuState, f: *mut libc::FILE, flags: c_int),
    }

    /// The table with which QEMU saves an `X86CPU`.
    CpuDescription: "target/i386/cpu.h", since V9_2 {
        vmstate_x86_cpu: Global<VmStateDescription>,
    }

    /// Watchpoints of the host's debugger. Returns the flags of those in the range.
    WatchpointQuery: "accel/tcg/cpu-ops.h", since V9_2 {
        cpu_watchpoint_address_matches: unsafe extern "C" fn(
            cpu: *mut CpuState, addr: u64, len: u64,
        ) -> c_int,
    }

    /// A clock's time in nanoseconds. `type` is a `QEMUClockType`.
    ClockQuery: "qemu/timer.h", since V9_2 {
        qemu_clock_get_ns: unsafe extern "C" fn(r#type: c_int) -> i64,
    }

    /// Timers. `timer_list_group` may be null, for the main loop's; `type` is a `QEMUClockType`.
    TimerFunctions: "qemu/timer.h", since V9_2 {
        timer_init_full: unsafe extern "C" fn(
            ts: *mut QemuTimer, timer_list_group: *mut c_void, r#type: c_int, scale: c_int, attributes: c_int,
            cb: unsafe extern "C" fn(opaque: *mut c_void), opaque: *mut c_void,
        ),
        timer_mod_ns: unsafe extern "C" fn(ts: *mut QemuTimer, expire_time: i64),
        timer_del: unsafe extern "C" fn(ts: *mut QemuTimer),
    }

    /// Discards all translated code soon.
    QueueTbFlush: "exec/tb-flush.h", since V10_2 {
        queue_tb_flush: unsafe extern "C" fn(cs: *mut CpuState),
    }

    /// The same at once, which must not be within a translation. Before 10.2.
    TbFlush: "exec/tb-flush.h", since V9_2, until V10_2 {
        tb_flush: unsafe extern "C" fn(cpu: *mut CpuState),
    }

    /// Work for a vCPU, which QEMU runs while no vCPU does. `run_on_cpu_data` is a union of a pointer's
    /// size.
    SafeWork: "hw/core/cpu.h", since V9_2 {
        async_safe_run_on_cpu: unsafe extern "C" fn(
            cpu: *mut CpuState,
            func: unsafe extern "C" fn(cpu: *mut CpuState, data: *mut c_void),
            data: *mut c_void,
        ),
    }

    /// Work for a vCPU, which its thread runs under the global lock when it leaves the guest's code.
    VcpuWorkQueue: "hw/core/cpu.h", since V9_2 {
        async_run_on_cpu: unsafe extern "C" fn(
            cpu: *mut CpuState,
            func: unsafe extern "C" fn(cpu: *mut CpuState, data: *mut c_void),
            data: *mut c_void,
        ),
    }

    /// Stops a vCPU, under the global lock. On the vCPU's own thread it takes effect at once.
    VcpuPause: "hw/core/cpu.h", since V9_2 {
        cpu_pause: unsafe extern "C" fn(cpu: *mut CpuState),
    }

    /// A request to stop the machine as a debugger's breakpoint does.
    DebugRequest: "system/runstate.h", since V9_2 {
        qemu_system_debug_request: unsafe extern "C" fn(),
    }

    /// QEMU's gdbstub: its state begins with a `bool` that says whether it runs, in
    /// `gdbstub/internals.h`. It must run when it is told which vCPU stops.
    GdbStub: "exec/gdbstub.h", since V9_2 {
        gdbserver_state: Global<AtomicBool>,
        gdb_set_stop_cpu: unsafe extern "C" fn(cpu: *mut CpuState),
    }

    /// QEMU's global lock, the BQL.
    LockFunctions: "qemu/main-loop.h", since V9_2 {
        bql_locked: unsafe extern "C" fn() -> bool,
        bql_lock_impl: unsafe extern "C" fn(file: *const c_char, line: c_int),
        bql_unlock: unsafe extern "C" fn(),
    }

    /// Work for the main loop, which runs it under the global lock. The guard may be null.
    BottomHalfCreation: "qemu/main-loop.h", since V9_2 {
        qemu_bh_new_full: unsafe extern "C" fn(
            cb: unsafe extern "C" fn(opaque: *mut c_void),
            opaque: *mut c_void,
            name: *const c_char,
            reentrancy_guard: *mut c_void,
        ) -> *mut Bh,
    }

    /// A request to run it, from any thread. Before 11.0 the header was `block/aio.h`.
    BottomHalfRequest: "qemu/aio.h", since V9_2 {
        qemu_bh_schedule: unsafe extern "C" fn(bh: *mut Bh),
    }

    /// Whether the machine runs, and the `ShutdownCause` that the main loop is yet to see (0 for none).
    RunStateQuery: "system/runstate.h", since V9_2 {
        runstate_is_running: unsafe extern "C" fn() -> bool,
        qemu_shutdown_requested_get: unsafe extern "C" fn() -> c_int,
    }

    /// The root of the port bus.
    IoRoot: "system/address-spaces.h", since V9_2 {
        get_system_io: unsafe extern "C" fn() -> *mut MemoryRegion,
    }

    /// Regions that are put on a bus.
    RegionFunctions: "system/memory.h", since V9_2 {
        memory_region_init_io: unsafe extern "C" fn(
            mr: *mut MemoryRegion,
            owner: *mut Object,
            ops: *const MemoryRegionOps,
            opaque: *mut c_void,
            name: *const c_char,
            size: u64,
        ),
        memory_region_add_subregion_overlap: unsafe extern "C" fn(
            mr: *mut MemoryRegion, offset: u64, subregion: *mut MemoryRegion, priority: c_int,
        ),
        memory_region_del_subregion: unsafe extern "C" fn(
            mr: *mut MemoryRegion, subregion: *mut MemoryRegion,
        ),
    }

    /// Accesses to a region without the global lock.
    LocklessIo: "system/memory.h", since V10_2 {
        memory_region_enable_lockless_io: unsafe extern "C" fn(mr: *mut MemoryRegion),
    }

    /// The region at an address. The caller gives the reference back.
    RegionQuery: "system/memory.h", since V9_2 {
        memory_region_find: unsafe extern "C" fn(
            mr: *mut MemoryRegion, addr: u64, size: u64,
        ) -> MemoryRegionSection,
        memory_region_name: unsafe extern "C" fn(mr: *const MemoryRegion) -> *const c_char,
        memory_region_unref: unsafe extern "C" fn(mr: *mut MemoryRegion),
    }

    /// An access to a region, under the global lock. `op` is a `MemOp`: the logarithm of the size, for a region of a
    /// little-endian target on a little-endian host. Returns 0 if the device took it.
    RegionDispatch: "system/memory.h", since V9_2 {
        memory_region_dispatch_read: unsafe extern "C" fn(
            mr: *mut MemoryRegion, addr: u64, pval: *mut u64, op: c_int, attrs: MemTxAttrs,
        ) -> u32,
        memory_region_dispatch_write: unsafe extern "C" fn(
            mr: *mut MemoryRegion, addr: u64, data: u64, op: c_int, attrs: MemTxAttrs,
        ) -> u32,
    }

    /// Listeners to changes of an address space.
    ListenerFunctions: "system/memory.h", since V9_2 {
        memory_listener_register: unsafe extern "C" fn(
            listener: *mut MemoryListener, filter: *mut AddressSpace,
        ),
    }

    /// The address space of the ports.
    PortSpace: "system/address-spaces.h", since V9_2 {
        address_space_io: Global<AddressSpace>,
    }

    /// Accesses to the port bus. Each takes the global lock where the device at the port wants it.
    PortFunctions: "system/ioport.h", since V9_2 {
        cpu_inb: unsafe extern "C" fn(addr: u32) -> u8,
        cpu_inw: unsafe extern "C" fn(addr: u32) -> u16,
        cpu_inl: unsafe extern "C" fn(addr: u32) -> u32,
        cpu_outb: unsafe extern "C" fn(addr: u32, val: u8),
        cpu_outw: unsafe extern "C" fn(addr: u32, val: u16),
        cpu_outl: unsafe extern "C" fn(addr: u32, val: u32),
    }

    /// The guest's physical address space.
    MemorySpace: "system/address-spaces.h", since V9_2 {
        address_space_memory: Global<AddressSpace>,
    }

    /// Access to an address space. `address_space_map` holds the memory until it is unmapped.
    MemoryFunctions: "system/memory.h", since V9_2 {
        address_space_map: unsafe extern "C" fn(
            space: *mut AddressSpace, addr: u64, plen: *mut u64, is_write: bool, attrs: MemTxAttrs,
        ) -> *mut c_void,
        address_space_unmap: unsafe extern "C" fn(
            space: *mut AddressSpace, buffer: *mut c_void, len: u64, is_write: bool, access_len: u64,
        ),
        address_space_ldl_le: unsafe extern "C" fn(
            space: *mut AddressSpace, addr: u64, attrs: MemTxAttrs, result: *mut u32,
        ) -> u32,
        address_space_ldq_le: unsafe extern "C" fn(
            space: *mut AddressSpace, addr: u64, attrs: MemTxAttrs, result: *mut u32,
        ) -> u64,
        /// The RAM or ROM that contains a host address, and the offset in it.
        memory_region_from_host: unsafe extern "C" fn(
            ptr: *mut c_void, offset: *mut u64,
        ) -> *mut MemoryRegion,
    }

    /// True if a device is at an address.
    SpaceIsIo: "system/memory.h", since V10_2 {
        address_space_is_io: unsafe extern "C" fn(space: *mut AddressSpace, addr: u64) -> bool,
    }

    /// The same before 10.2.
    MemoryIsIo: "exec/cpu-common.h", since V9_2, until V10_2 {
        cpu_physical_memory_is_io: unsafe extern "C" fn(phys_addr: u64) -> bool,
    }

    /// The users of dirty tracking (a mask, 0 for none), and how to mark memory as dirty.
    DirtyTracking: "system/memory.h", since V9_2 {
        global_dirty_tracking: Global<AtomicU32>,
        memory_region_set_dirty: unsafe extern "C" fn(mr: *mut MemoryRegion, addr: u64, size: u64),
    }

    /// An object of the machine by its type.
    ObjectQuery: "qom/object.h", since V9_2 {
        object_resolve_path_type: unsafe extern "C" fn(
            path: *const c_char, typename: *const c_char, ambiguous: *mut bool,
        ) -> *mut Object,
    }

    /// The ISA bus's interrupt lines; without a device, those of the one bus.
    IsaLines: "hw/isa/isa.h", since V9_2 {
        isa_get_irq: unsafe extern "C" fn(dev: *mut IsaDevice, isairq: c_uint) -> *mut IrqState,
    }

    /// Any interrupt line.
    IrqFunctions: "hw/core/irq.h", since V9_2 {
        qemu_set_irq: unsafe extern "C" fn(irq: *mut IrqState, level: c_int),
    }

    /// A callback that runs after the own handlers of `n` lines, with their user data and numbers.
    IrqObservation: "hw/core/irq.h", since V11_0 {
        qemu_irq_set_observer: unsafe extern "C" fn(
            gpio_in: *mut *mut IrqState, observer: IrqHandler, n: c_int,
        ),
    }

    /// A handler in the place of those of `n` lines. Its user data is the address of a pointer to a copy of the line.
    IrqInterception: "hw/irq.h", since V9_2, until V11_0 {
        qemu_irq_intercept_in: unsafe extern "C" fn(
            gpio_in: *mut *mut IrqState, handler: IrqHandler, n: c_int,
        ),
    }

    /// Handlers that run when the machine is reset.
    ResetFunctions: "system/reset.h", since V9_2 {
        qemu_register_reset: unsafe extern "C" fn(
            func: unsafe extern "C" fn(opaque: *mut c_void), opaque: *mut c_void,
        ),
    }

    /// Errors of QEMU's own, made with `printf`'s format.
    ErrorFunctions: "qapi/error.h", since V9_2 {
        error_setg_internal: unsafe extern "C" fn(
            errp: *mut *mut Error,
            src: *const c_char,
            line: c_int,
            func: *const c_char,
            fmt: *const c_char,
            ...
        ),
    }

    /// Reasons not to migrate. Returns 0 if the reason was added.
    MigrationBlockers: "migration/blocker.h", since V9_2 {
        migrate_add_blocker: unsafe extern "C" fn(
            reasonp: *mut *mut Error, errp: *mut *mut Error,
        ) -> c_int,
    }

    /// A request to end QEMU, with an exit status.
    ShutdownRequest: "system/runstate.h", since V9_2 {
        qemu_system_shutdown_request_with_code: unsafe extern "C" fn(reason: c_int, exit_code: c_int),
    }

    /// Notifiers that run at a shutdown, with a pointer to its `ShutdownCause`.
    ShutdownNotifiers: "system/runstate.h", since V9_2 {
        qemu_register_shutdown_notifier: unsafe extern "C" fn(notifier: *mut Notifier),
    }

    /// The names of an enum's values. QEMU aborts on a value out of range.
    EnumNames: "qapi/util.h", since V9_2 {
        qapi_enum_lookup: unsafe extern "C" fn(
            lookup: *const EnumLookup, val: c_int,
        ) -> *const c_char,
    }

    /// The names of the shutdown causes.
    ShutdownCauses: "qapi/qapi-types-run-state.h", since V9_2 {
        ShutdownCause_lookup: Global<EnumLookup>,
    }

    /// Numbers of enabled traces of region accesses: `uint16_t`s, which the monitor may change.
    TraceStates: "trace/trace-system.h", since V9_2 {
        _TRACE_MEMORY_REGION_OPS_READ_DSTATE: Global<AtomicU16>,
        _TRACE_MEMORY_REGION_OPS_WRITE_DSTATE: Global<AtomicU16>,
    }
}
