//! Makes what the plugin consists of, as far as this QEMU and the options allow it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use pvio_stats::trace::Head;

use super::BuildError;
use crate::access_log::CodeNames;
use crate::breakpoints::{BreakContext, Breakpoint, Breakpoints};
use crate::devices::{Clock, DeviceRequest, Interrupt, ObserverKind, Services};
use crate::dumps::Dumps;
use crate::interception::{Callers, Instructions};
use crate::observers::Observers;
use crate::options::{AccessesOption, Options};
use crate::processes::ProcessFinder;
use crate::qemu::report::say;
use crate::qemu::{
    AfterInstruction, GuestClock, GuestRam, HostInfo, Machine, MachineError, MissingFunction,
    PagingRegisterReader, ProvenRam, Scoreboard, TaskStateReader,
};
use crate::running_kernel::RunningKernel;
use crate::sections::Sections;
use crate::stats::{ValueClock, qemu_row};
use crate::symbols::{GuestKernels, LiveNames};

/// Describes the machine for the start of a trace, except its devices.
pub(super) fn trace_head(host: &HostInfo, options: &Options, trace: &AccessesOption) -> Head {
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Head {
        pvio: env!("CARGO_PKG_VERSION").into(),
        qemu: qemu_row(host),
        began: began.map_or(0, |began| began.as_nanos() as u64),
        reports_exceptions: host.reports_exceptions(),
        reads_memory: host.memory_is_readable,
        callers: options.callers.is_some(),
        processes: options.processes,
        filter: trace.filter_text.clone(),
        irqs: false,
        devices: Vec::new(),
    }
}

/// Makes the finder of guest kernels; `None` if pvio cannot read guest memory.
pub(super) fn guest_kernels(host: &HostInfo) -> Option<GuestKernels> {
    let registers = PagingRegisterReader::open(host.max_vcpus)?;
    Some(GuestKernels::new(GuestRam::open(host.version)?, registers))
}

/// The memory that calls reach on a QEMU that does not give it in place.
pub(super) fn proven_ram(host: &HostInfo) -> Option<Arc<ProvenRam>> {
    // With all vCPUs on one thread, QEMU does not report that one stops.
    match host.memory_is_readable || host.command_line.one_thread {
        true => None,
        false => ProvenRam::open().map(Arc::new),
    }
}

/// Opens QEMU's machine if anything needs it.
pub(super) fn open_machine(
    host: &HostInfo,
    devices: &[DeviceRequest],
    is_useful: bool,
) -> Result<Option<Arc<Machine>>, MachineError> {
    Ok(match (devices.is_empty(), is_useful) {
        // Counting needs none of QEMU's exported functions.
        (true, false) => None,
        // Hypercalls and names work with what this QEMU exports.
        (true, true) => Machine::open(host.version).ok().map(Arc::new),
        (false, _) => Some(Arc::new(Machine::open(host.version)?)),
    })
}

/// Opens what call chains need.
pub(super) fn callers(
    host: &HostInfo,
    running: Option<&Arc<RunningKernel>>,
) -> Result<Callers, BuildError> {
    let ram = GuestRam::open(host.version).map(Arc::new);
    let (running, ram) = running.cloned().zip(ram).ok_or(BuildError::Callers)?;
    Ok(Callers { running, ram })
}

/// Opens what tells processes.
pub(super) fn processes(
    host: &HostInfo,
    kernel: Option<&Arc<RunningKernel>>,
) -> Option<Arc<ProcessFinder>> {
    let ram = GuestRam::open(host.version).map(Arc::new)?;
    let (kernel, states) = (Arc::clone(kernel?), TaskStateReader::open()?);
    Some(Arc::new(ProcessFinder { kernel, ram, states }))
}

/// The names of code for breakpoints.
pub(super) struct BreakNames<'a> {
    pub dumps: &'a Dumps,
    pub kernel: Option<Arc<RunningKernel>>,
    pub has_symbols: bool,
    pub processes: Option<Arc<ProcessFinder>>,
}

/// Sets the breakpoints of the options. `None` if there are none, and can be none later.
pub(super) fn breakpoints(
    host: &HostInfo,
    wanted: Vec<Breakpoint>,
    is_controlled: bool,
    names: BreakNames<'_>,
) -> Result<Option<Arc<Breakpoints>>, BuildError> {
    if wanted.is_empty() && !is_controlled {
        return Ok(None);
    }
    let Some(after) = AfterInstruction::find() else {
        return if wanted.is_empty() { Ok(None) } else { Err(BuildError::Break) };
    };
    let BreakNames { dumps, kernel, has_symbols, processes } = names;
    let sites = Arc::clone(&dumps.statistics.sites);
    let files = LiveNames::new(Arc::clone(&dumps.symbols));
    let breakpoints = Breakpoints::new(BreakContext {
        after,
        names: CodeNames::new(Arc::clone(&sites), files, kernel),
        sites,
        has_symbols,
        processes,
        ram: GuestRam::open(host.version).map(Arc::new),
        reports_exceptions: host.reports_exceptions(),
    });
    for breakpoint in wanted {
        breakpoints.set(breakpoint)?;
    }
    Ok(Some(Arc::new(breakpoints)))
}

/// The guest's clock, or the host's where that cannot be read.
pub(super) fn value_clock(host: &HostInfo) -> ValueClock {
    match GuestClock::find(host.icount) {
        Some(clock) => ValueClock { name: "guest", now: Box::new(move || clock.now()) },
        None => {
            let start = Instant::now();
            ValueClock { name: "host", now: Box::new(move || start.elapsed().as_nanos() as u64) }
        }
    }
}

/// Builds the observers. `None` if there are none.
pub(super) fn observers(
    host: &HostInfo,
    requests: Vec<DeviceRequest<ObserverKind>>,
    machine: Option<&Arc<Machine>>,
) -> Result<Option<Arc<Observers>>, BuildError> {
    if requests.is_empty() {
        return Ok(None);
    }
    let services = ObserverServices { host, machine };
    let observers = Arc::new(Observers::build(requests, &services, value_clock(host))?);
    match machine {
        Some(machine) => {
            let observers = Arc::clone(&observers);
            machine.on_reset(move || observers.reset());
        }
        None => observers.reset(),
    }
    Ok(Some(observers))
}

/// The machine's services to observers, on any QEMU.
struct ObserverServices<'a> {
    host: &'a HostInfo,
    /// `None` if QEMU does not export its functions.
    machine: Option<&'a Arc<Machine>>,
}

impl Services for ObserverServices<'_> {
    fn interrupt(&self, _line: u8) -> Option<Box<dyn Interrupt>> {
        None
    }

    fn exit(&self) -> Box<dyn Fn(u8) + Send> {
        match self.machine.cloned() {
            Some(machine) => Box::new(move |status| machine.exit(status)),
            None => Box::new(|_| {
                say("an observer cannot end this QEMU, which does not export its functions")
            }),
        }
    }

    fn clock(&self) -> Option<Clock> {
        let clock = GuestClock::find(self.host.icount)?;
        Some(Box::new(move || clock.now()))
    }

    fn is_recorded(&self) -> bool {
        self.host.recorded
    }
}

pub(super) fn instructions(
    host: &HostInfo,
    sections: Sections,
) -> Result<Arc<Instructions>, MissingFunction> {
    let counters = Scoreboard::new(host.api, sections.places())?;
    Ok(Arc::new(Instructions::new(counters, sections)))
}
