//! The rooms put together: what `libpvio.so` is to QEMU.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrayvec::ArrayVec;

use crate::bus::{BusError, PortBus};
use crate::devices::{BUILT_IN, DeviceKind};
use crate::dumps::Dumps;
use crate::hypercalls::{GuestLog, Hypercalls, MailboxEpoch};
use crate::interception::{Instructions, Interceptor};
use crate::options::{OptionError, Options, Summary};
use crate::qemu::report::say;
use crate::qemu::{
    self, Ended, GuestRam, HostInfo, InlineAdd, Insn, MAX_WATCHES, Machine, MachineError,
    MissingFunction, PortPresence, Scoreboard, VcpuIndex, Watch,
};
use crate::stats::{InstructionCounts, Statistics};

/// What keeps the plugin from being what the user asked for: one line.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An option is wrong.
    #[error("{0}")]
    Option(#[from] OptionError),
    /// A device cannot be where it was asked for.
    #[error("option \"device\": {0}")]
    Bus(#[from] BusError),
    /// This QEMU lets no plugin serve ports.
    #[error("option \"device\": {0}")]
    Machine(#[from] MachineError),
    /// This QEMU lacks what counts instructions.
    #[error("option \"insns\": {0}")]
    Instructions(#[from] MissingFunction),
}

/// Makes the plugin for a QEMU, as its options say, with `more` kinds of devices and the built-in
/// ones; of several with the same name, the first is made.
///
/// [`plugin!`](crate::plugin) calls it.
pub fn build(
    host: &HostInfo,
    options: Vec<String>,
    more: &[DeviceKind],
) -> Result<Box<dyn qemu::Plugin>, BuildError> {
    let kinds: Vec<DeviceKind> = more.iter().chain(&BUILT_IN).copied().collect();
    let mut options = Options::parse(&options, &kinds, host.api, &host.command_line)?;
    if host.command_line.daemonize && matches!(options.summary, Summary::Stderr) {
        say(
            "warning: -daemonize closes stderr, where the tables would go at the end; name a file by \
             summary=FILE, or write summary=off",
        );
    }
    let requests = std::mem::take(&mut options.devices);
    let machine = match (requests.is_empty(), options.hypercall) {
        // Counting asks nothing of QEMU that it might not export.
        (true, None) => None,
        // Hypercalls do without what this QEMU does not let them reach, and a probe says so.
        (true, Some(_)) => Machine::open(host.version).ok().map(Arc::new),
        (false, _) => Some(Arc::new(Machine::open(host.version)?)),
    };
    let bus = match &machine {
        None => Arc::default(),
        Some(machine) => Arc::new(PortBus::build(machine, requests, host.recorded)?),
    };
    let instructions = options.insns.take().map(|sections| {
        let counters = Scoreboard::new(host.api, sections.places())?;
        Ok::<_, MissingFunction>(Arc::new(Instructions { counters, sections }))
    });
    let instructions = instructions.transpose()?;
    let counts = instructions.clone().map(|counts| counts as Arc<dyn InstructionCounts>);
    let statistics = Arc::new(Statistics::with_instructions(counts));
    options.symbols.set_memory(GuestRam::open(host.version));
    let dumps = Arc::new(Dumps {
        host: host.clone(),
        statistics: Arc::clone(&statistics),
        bus: Arc::clone(&bus),
        presence: PortPresence::load(),
        symbols: std::mem::take(&mut options.symbols),
        stats: options.stats.take(),
        summary: std::mem::take(&mut options.summary),
        asked: Mutex::default(),
    });
    let log = options.access_log.clone();
    let epoch = MailboxEpoch::default();
    if let Some(machine) = &machine {
        let epoch = epoch.clone();
        // QEMU does so before it loads a snapshot, too.
        machine.on_reset(move || epoch.next());
    }
    let hypercalls = options.hypercall.map(|policy| {
        Arc::new(Hypercalls {
            policy,
            bus: Arc::clone(&bus),
            machine,
            icount: host.icount,
            statistics: Arc::clone(&statistics),
            dumps: Arc::clone(&dumps),
            log: std::mem::replace(&mut options.log, GuestLog::to_stderr()),
            nested_guests: AtomicBool::new(false),
            epoch,
        })
    });
    let interceptor = Interceptor::new(
        host,
        Arc::clone(&statistics),
        Arc::clone(&bus),
        log,
        hypercalls.clone(),
        instructions.clone(),
    );
    Ok(Box::new(Pvio {
        options,
        bus,
        statistics,
        dumps,
        hypercalls,
        interceptor,
        instructions,
        mixed: AtomicBool::new(false),
    }))
}

struct Pvio {
    options: Options,
    bus: Arc<PortBus>,
    statistics: Arc<Statistics>,
    dumps: Arc<Dumps>,
    hypercalls: Option<Arc<Hypercalls>>,
    interceptor: Interceptor,
    instructions: Option<Arc<Instructions>>,
    /// It was said already that instructions are not counted.
    mixed: AtomicBool,
}

impl qemu::Plugin for Pvio {
    fn vcpu_begins(&self, vcpu: VcpuIndex) -> Box<dyn qemu::Vcpu> {
        self.interceptor.vcpu_begins(vcpu)
    }

    fn vcpus_share_a_thread(&self) {
        self.statistics.vcpus_are_mixed();
        if let Some(hypercalls) = &self.hypercalls {
            hypercalls.vcpus_are_mixed();
        }
        if self.instructions.is_some() && !self.mixed.swap(true, Ordering::Relaxed) {
            say(
                "option \"insns\": instructions are not counted: this QEMU runs several vCPUs on one thread (thread=single or icount), where its counters name the wrong one; use one vCPU, or thread=multi without icount",
            );
        }
        if let Some(log) = &self.options.access_log {
            log.vcpus_are_mixed();
        }
    }

    fn translate(&self, insn: &Insn<'_>) -> ArrayVec<Watch, MAX_WATCHES> {
        self.interceptor.translate(insn)
    }

    fn scoreboard(&self) -> Option<&Scoreboard> {
        self.instructions.as_ref().map(|instructions| &instructions.counters)
    }

    fn inline_add(&self, insn: &Insn<'_>) -> InlineAdd {
        let instructions = self.instructions.as_ref().expect("asked where there are counters");
        instructions.count(insn)
    }

    fn follows_blocks(&self) -> bool {
        self.options.access_log.is_some()
    }

    fn machine_ended(&self, how: Ended) {
        if let Some(log) = &self.options.access_log
            && let Err(error) = log.finish()
        {
            say(format_args!("the access log is incomplete: {error}"));
        }
        if let Some(hypercalls) = &self.hypercalls
            && let Err(error) = hypercalls.log.finish()
        {
            say(format_args!("the guest's log is incomplete: {error}"));
        }
        for failure in self.bus.finish() {
            say(failure);
        }
        self.dumps.at_end(how);
    }
}
