//! Connects the modules: the plugin that QEMU loads.
//!
//! This is the only module that knows the options, and the only one that connects modules which do not
//! know each other.

mod build_error;
mod parts;
mod warnings;

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrayvec::ArrayVec;
use pvio_stats::trace::Head;

pub use self::build_error::BuildError;
use self::parts::{
    BreakNames, breakpoints, callers, guest_kernels, instructions, observers, open_machine,
    processes, proven_ram, trace_head, value_clock,
};
use crate::access_filter::{FilterLimits, LiveFilter};
use crate::access_log::{AccessLog, CodeNames};
use crate::breakpoints::{Breakpoint, Breakpoints};
use crate::bus::PortBus;
use crate::control::{Commands, Control};
use crate::devices::{Kind, built_in_kinds};
use crate::dumps::{self, Dumps, TextOutput};
use crate::hypercalls::{DumpError, GuestLog, Hypercalls, MachineControl, MailboxEpoch, Policy};
use crate::interception::{Instructions, Interceptor};
use crate::kernel_boots::KernelBoots;
use crate::observers::Observers;
use crate::options::{self, HypercallAccess, InsnsOption, Options, Summary};
use crate::qemu::report::say;
use crate::qemu::{
    self, Ended, GuestClock, HostInfo, InlineAdd, Insn, MAX_WATCHES, Machine, PluginLog,
    PortPresence, Scoreboard, VcpuIndex, Watch, exit_process,
};
use crate::running_kernel::RunningKernel;
use crate::sections::Sections;
use crate::stats::{InstructionCounts, Statistics, ValuePorts};
use crate::symbols::{LiveNames, Symbols};
use crate::trace::{Trace, TraceOutput};

/// Makes the plugin for a QEMU. [`plugin!`](crate::plugin) calls it.
///
/// `more` lists device kinds beside the built-in ones. A kind in `more` replaces a built-in kind of
/// the same name.
///
/// # Errors
///
/// An option is wrong, a file cannot be used, or this QEMU lacks what an option needs.
pub fn build(
    host: &HostInfo,
    options: Vec<String>,
    more: &[Kind],
) -> Result<Box<dyn qemu::Plugin>, BuildError> {
    let kinds: Vec<Kind> = more.iter().copied().chain(built_in_kinds()).collect();
    if let Some(text) = options::help(&options, &kinds) {
        // Not `print!`, which panics if the reader is gone.
        let _ = std::io::stdout().write_all(text.as_bytes());
        exit_process(0);
    }
    let options = Options::parse(&options, &kinds, host.api, &host.command_line)?;
    warnings::warn(host, &options);
    let mut symbols =
        Symbols::load(&options.symbols, &options.debug_directories, options.processes)?;
    if options.guest_symbols {
        symbols.name_by_guest();
    }
    let needs_kernels = symbols.need_kernels();
    if needs_kernels && let Some(kernels) = guest_kernels(host) {
        symbols.set_kernels(kernels);
    }
    let filters = [("access-log", &options.access_log), ("trace", &options.trace)];
    let by_process = filters
        .into_iter()
        .find(|(_, option)| option.as_ref().is_some_and(|option| option.filter.needs_processes()));
    let by_process = by_process.map(|(option, _)| option);
    let breaks_need_processes = options.breakpoints.iter().any(Breakpoint::needs_processes);
    let by_process = by_process.or(breaks_need_processes.then_some("break"));
    let needs_processes = options.processes || by_process.is_some();
    let needs_kernel = options.guest_symbols || options.callers.is_some() || needs_processes;
    let running_kernel = match needs_kernel {
        true => guest_kernels(host).map(|kernels| Arc::new(RunningKernel::new(kernels))),
        false => None,
    };
    let sections = match &options.insns {
        InsnsOption::Off => None,
        InsnsOption::On => Some(Sections::default()),
        InsnsOption::BySection(file) => Some(Sections::load(file)?),
    };
    let policy = match options.hypercall {
        HypercallAccess::Kernel => Some(Policy::Kernel),
        HypercallAccess::Any => Some(Policy::Any),
        HypercallAccess::Off => None,
    };
    let callers = options.callers.map(|_| callers(host, running_kernel.as_ref())).transpose()?;
    let head = options.trace.as_ref().map(|option| trace_head(host, &options, option));
    let processes = needs_processes.then(|| {
        let option = by_process.filter(|_| !options.processes).unwrap_or("processes");
        processes(host, running_kernel.as_ref()).ok_or(BuildError::Processes(option))
    });
    let processes = processes.transpose()?;
    let has_observers = !options.observers.is_empty();
    let uses_machine =
        policy.is_some() || needs_kernels || needs_kernel || has_observers || head.is_some();
    let machine = open_machine(host, &options.devices, uses_machine)?;
    if options.is_check {
        match end_check(host, machine.as_ref(), options)? {}
    }
    let bus = match &machine {
        None => Arc::default(),
        Some(machine) => Arc::new(PortBus::build(machine, options.devices, host)?),
    };
    let observers = observers(host, options.observers, machine.as_ref())?;
    let instructions = sections.map(|sections| instructions(host, sections)).transpose()?;
    let counts = instructions.clone().map(|counts| counts as Arc<dyn InstructionCounts>);
    let mut statistics = Statistics::with_instructions(counts);
    if let Some(depth) = options.callers {
        statistics.count_callers(depth);
    }
    if options.processes {
        statistics.count_processes();
    }
    if !options.values.is_empty() {
        let ranges = options.values;
        statistics.follow_values(ValuePorts { ranges, clock: value_clock(host) });
    }
    let statistics = Arc::new(statistics);
    let symbols = Arc::new(symbols);
    let kernels = (needs_kernels || needs_kernel).then(|| {
        let (statistics, symbols) = (Arc::clone(&statistics), Arc::clone(&symbols));
        Arc::new(KernelBoots::new(statistics, symbols, running_kernel.clone()))
    });
    let dumps = Arc::new(Dumps {
        host: host.clone(),
        statistics: Arc::clone(&statistics),
        bus: Arc::clone(&bus),
        observers: observers.clone(),
        presence: PortPresence::load(),
        symbols,
        kernels: kernels.clone(),
        running_kernel: running_kernel.clone(),
        has_trace: head.is_some(),
        json: options.stats,
        text: match options.summary {
            Summary::Stderr => Some(TextOutput::Stderr),
            Summary::QemuLog => {
                Some(PluginLog::find().map_or(TextOutput::Stderr, TextOutput::QemuLog))
            }
            Summary::File(destination) => Some(TextOutput::File(destination)),
            Summary::Off => None,
        },
        count: Mutex::default(),
    });
    if let (Some(kernels), Some(machine)) = (&kernels, &machine) {
        let kernels = Arc::clone(kernels);
        machine.on_reset(move || kernels.before_reset());
    }
    if let (Some(instructions), Some(machine)) = (&instructions, &machine) {
        let instructions = Arc::clone(instructions);
        machine.on_reset(move || instructions.machine_is_reset());
    }
    let is_controlled = options.control.is_some();
    let has_symbols = options.guest_symbols || !options.symbols.is_empty();
    let limits = options
        .control
        .as_ref()
        .map(|_| FilterLimits { has_symbols, has_processes: processes.is_some() });
    let access_log = options.access_log.map(|option| {
        let sites = Arc::clone(&statistics.sites);
        let files = LiveNames::new(Arc::clone(&dumps.symbols));
        let kernel = running_kernel.clone().filter(|_| options.guest_symbols);
        let names = CodeNames::new(sites, files, kernel);
        let filter = LiveFilter::new(option.filter, limits);
        Arc::new(AccessLog::new(option.path, option.file, filter, names, processes.clone()))
    });
    let breakpoints = breakpoints(
        host,
        options.breakpoints,
        is_controlled,
        BreakNames {
            dumps: &dumps,
            kernel: running_kernel.clone().filter(|_| options.guest_symbols),
            has_symbols,
            processes: processes.clone(),
        },
    )?;
    let trace = options.trace.zip(head).map(|(option, head)| {
        let irqs = machine.as_ref().is_some_and(|machine| machine.can_observe_isa_irqs());
        let head = Head { devices: bus.own_devices(), irqs, ..head };
        let files = LiveNames::new(Arc::clone(&dumps.symbols));
        let needs_names = is_controlled || option.filter.needs_symbols();
        let kernel = running_kernel.filter(|_| options.guest_symbols && needs_names);
        let output = TraceOutput {
            path: option.path,
            file: option.file,
            filter: LiveFilter::new(option.filter, limits),
            names: CodeNames::new(Arc::clone(&statistics.sites), files, kernel),
            processes: processes.clone(),
        };
        let clock = GuestClock::find(host.icount);
        Arc::new(Trace::new(output, &head, Arc::clone(&statistics), clock))
    });
    if let (Some(trace), Some(machine)) = (&trace, &machine) {
        observe_irqs(machine, trace);
    }
    let guest_log = options.log.map_or_else(GuestLog::to_stderr, GuestLog::to_file);
    let share = options.share.map(Arc::new);
    let hypercalls = policy.map(|policy| {
        let epoch = MailboxEpoch::default();
        if let Some(machine) = &machine {
            let epoch = epoch.clone();
            // QEMU also resets the machine before it loads a snapshot.
            machine.on_reset(move || epoch.next());
            if let Some(share) = share.clone() {
                machine.on_reset(move || share.abandon());
            }
        }
        let control = GuestControl { dumps: Arc::clone(&dumps), machine: machine.clone() };
        Arc::new(Hypercalls {
            policy,
            bus: Arc::clone(&bus),
            machine,
            proven_ram: proven_ram(host),
            icount: host.icount,
            statistics: Arc::clone(&statistics),
            kernels: kernels.clone(),
            control: Box::new(control),
            log: guest_log,
            share,
            nested_guests: AtomicBool::new(false),
            epoch,
        })
    });
    let mut interceptor = Interceptor::new(
        host,
        Arc::clone(&statistics),
        Arc::clone(&bus),
        access_log.clone(),
        hypercalls.clone(),
        instructions.clone(),
        callers,
    );
    if let Some(processes) = processes {
        interceptor.count_processes(processes);
    }
    if let Some(observers) = &observers {
        interceptor.observe(Arc::clone(observers));
    }
    if let Some(trace) = &trace {
        interceptor.trace(Arc::clone(trace));
    }
    if let Some(kernels) = kernels {
        interceptor.notify(kernels);
    }
    if let Some(breakpoints) = &breakpoints {
        interceptor.break_at(Arc::clone(breakpoints));
    }
    let control = options.control.map(|socket| {
        let commands = Commands::new(
            Arc::clone(&dumps),
            Arc::clone(&bus),
            access_log.clone(),
            trace.clone(),
            breakpoints.clone(),
        );
        Control::start(socket, commands).map_err(BuildError::Control)
    });
    Ok(Box::new(Pvio {
        breakpoints,
        control: control.transpose()?,
        bus,
        observers,
        statistics,
        dumps,
        access_log,
        trace,
        hypercalls,
        interceptor,
        instructions,
        warned_of_mixed_counts: AtomicBool::new(false),
    }))
}

/// Builds the devices, and ends QEMU, as `check=on` asks. No file is left behind.
fn end_check(
    host: &HostInfo,
    machine: Option<&Arc<Machine>>,
    mut options: Options,
) -> Result<Infallible, BuildError> {
    let devices = std::mem::take(&mut options.devices);
    if let Some(machine) = machine {
        PortBus::try_out(machine, devices, host)?;
    }
    if let Some(socket) = &options.control {
        socket.remove();
    }
    drop(options);
    exit_process(0)
}

/// Records the machine's interrupt lines, which exist from its first reset on.
fn observe_irqs(machine: &Arc<Machine>, trace: &Arc<Trace>) {
    let (in_reset, trace, is_done) =
        (Arc::clone(machine), Arc::clone(trace), AtomicBool::new(false));
    machine.on_reset(move || {
        // Relaxed: resets are under QEMU's global lock.
        if !is_done.swap(true, Ordering::Relaxed) {
            let trace = Arc::clone(&trace);
            in_reset.observe_isa_irqs(move |line, level| trace.irq_set(line, level));
        }
    });
}

/// Connects hypercalls with dumps and the machine.
struct GuestControl {
    dumps: Arc<Dumps>,
    machine: Option<Arc<Machine>>,
}

impl MachineControl for GuestControl {
    fn dump(&self) -> Result<(), DumpError> {
        self.dumps.now().map_err(|error| match error {
            dumps::DumpError::TooMany => DumpError::Full,
            dumps::DumpError::Failed => DumpError::Failed,
        })
    }

    fn exit(&self, status: u8) {
        match &self.machine {
            Some(machine) => machine.exit(status),
            // QEMU dumps on the way out.
            None => exit_process(status),
        }
    }
}

struct Pvio {
    /// `None` if nobody can set one.
    breakpoints: Option<Arc<Breakpoints>>,
    /// `None` without a socket.
    control: Option<Control>,
    bus: Arc<PortBus>,
    observers: Option<Arc<Observers>>,
    statistics: Arc<Statistics>,
    dumps: Arc<Dumps>,
    access_log: Option<Arc<AccessLog>>,
    trace: Option<Arc<Trace>>,
    hypercalls: Option<Arc<Hypercalls>>,
    interceptor: Interceptor,
    instructions: Option<Arc<Instructions>>,
    /// True if the warning that instructions are not counted was given.
    warned_of_mixed_counts: AtomicBool,
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
        self.interceptor.vcpus_are_mixed();
        // Relaxed: one thread gets `false`, and no other data depends on it.
        if self.instructions.is_some() && !self.warned_of_mixed_counts.swap(true, Ordering::Relaxed)
        {
            say(
                "option \"insns\": instructions are not counted, because this QEMU runs several vCPUs on one thread (thread=single or icount) and adds their counts to the wrong vCPU; use one vCPU, or thread=multi without icount",
            );
        }
        if let Some(log) = &self.access_log {
            log.vcpus_are_mixed();
        }
        if let Some(observers) = &self.observers {
            observers.vcpus_are_mixed();
        }
        if let Some(breakpoints) = &self.breakpoints {
            breakpoints.vcpus_are_mixed();
        }
    }

    fn follows_idle(&self) -> bool {
        self.interceptor.follows_idle()
    }

    fn vcpu_idles(&self, vcpu: VcpuIndex) {
        self.interceptor.vcpu_idles(vcpu);
    }

    fn vcpu_resumes(&self, vcpu: VcpuIndex) {
        self.interceptor.vcpu_resumes(vcpu);
    }

    fn translate(&self, insn: &Insn<'_>) -> ArrayVec<Watch, MAX_WATCHES> {
        self.interceptor.translate(insn)
    }

    fn scoreboard(&self) -> Option<&Scoreboard> {
        self.instructions.as_ref().map(|instructions| &instructions.counters)
    }

    fn inline_add(&self, insn: &Insn<'_>) -> InlineAdd {
        let instructions = self.instructions.as_ref();
        instructions.expect("QEMU counts only if there are counters").count(insn)
    }

    fn follows_blocks(&self) -> bool {
        self.access_log.is_some()
            || self.trace.is_some()
            || self.observers.is_some()
            || self.statistics.has_values()
    }

    fn machine_ended(&self, how: Ended) {
        if let Some(control) = &self.control {
            control.finish();
        }
        if let Some(log) = &self.access_log
            && let Err(error) = log.finish()
        {
            say(format_args!("the access log is incomplete: {error}"));
        }
        if let Some(share) = self.hypercalls.as_ref().and_then(|calls| calls.share.as_ref()) {
            share.abandon();
        }
        if let Some(hypercalls) = &self.hypercalls
            && let Err(error) = hypercalls.log.finish()
        {
            say(format_args!("the guest's log is incomplete: {error}"));
        }
        let observed = self.observers.as_ref().map_or_else(Vec::new, |all| all.finish());
        for failure in self.bus.finish().into_iter().chain(observed) {
            say(failure);
        }
        let end = self.dumps.at_end(how);
        if let Some((trace, end)) = self.trace.as_ref().zip(end)
            && let Err(error) = trace.finish(end)
        {
            say(format_args!("the trace is incomplete: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::ApiLevel;

    #[test]
    fn files_that_cannot_be_used_are_rejected_with_a_remedy() {
        let host = HostInfo {
            api: ApiLevel::NEWEST,
            version: None,
            target: "x86_64".into(),
            max_vcpus: 1,
            icount: false,
            recorded: false,
            command_line: Default::default(),
            memory_is_readable: true,
        };
        let error =
            |option: &str| build(&host, vec![option.into()], &[]).err().unwrap().to_string();
        insta::assert_snapshot!(
            [
                "symbols=/nonexistent/vmlinux",
                "symbols=/etc/passwd",
                "insns=yes",
                "insns=/etc/passwd",
            ]
            .map(error)
            .join("\n"),
            @r#"
        option "symbols": /nonexistent/vmlinux cannot be read: No such file or directory (os error 2); name an ELF file or a System.map
        option "symbols": /etc/passwd is neither an ELF file nor a System.map (lines of address, type and name); for a Linux kernel, name vmlinux or its System.map, not vmlinuz
        option "insns": yes cannot be read: No such file or directory (os error 2); name an ELF file, or write insns=on to count without sections
        option "insns": /etc/passwd is not an ELF file; name the guest's linked ELF file, or write insns=on to count without sections
        "#
        );
    }
}
