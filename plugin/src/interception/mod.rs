//! Derives from QEMU's callbacks what the guest did: port I/O that was executed, and hypercalls.
//!
//! It knows the 24 forms and the order of QEMU's callbacks. It passes the results to [`crate::stats`], the access log and
//! [`crate::hypercalls`]. It does not know files or tables, nor what a hypercall does.
//!
//! | at translation | |
//! | --- | --- |
//! | [`Interceptor`] | decides how QEMU watches an instruction |
//! | `code_mode` | finds the mode and privilege of code, from the text that QEMU prints |
//! | `token` | packs the facts known at translation into 64 bits |
//!
//! | at run time | |
//! | --- | --- |
//! | `address`, `aliases` | the address and site at which a translated instruction runs |
//! | `watched_vcpu` | dispatches the callbacks of one vCPU |
//! | `vcpu` | one vCPU's port I/O, by callback |
//! | `attempt`, `string_attempt`, `interrupted` | how attempts start, resume and end |
//! | `nested`, `other_vcpus` | nested guests, and the vCPUs that run them |
//! | `recorder` | counts and logs an attempt |
//! | `strings` | elements that pvio moves itself |
//! | `callers` | the call chain of an access |
//! | `processes` | the process of an access |
//! | `calls` | hypercalls |
//! | `instructions` | instructions of every kind |
//! | `proof` | which memory is RAM, if only accesses show it |

mod address;
mod aliases;
mod attempt;
mod callers;
mod calls;
mod code_mode;
mod instructions;
mod interrupted;
mod nested;
mod operation;
mod other_vcpus;
mod processes;
mod proof;
mod recorder;
mod rules;
mod string_attempt;
mod strings;
mod token;
mod vcpu;
mod watched_vcpu;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::ArrayVec;

use crate::access_listeners::AccessListeners;
use crate::access_log::{AccessLog, VcpuLog};
use crate::breakpoints::{Breakpoints, VcpuBreaks};
use crate::bus::PortBus;
use crate::guest_memory::Physical;
use crate::hypercalls::{Hypercalls, Magic, VcpuCalls};
use crate::kernel_boots::KernelBoots;
use crate::observers::{Observers, VcpuObservers};
use crate::processes::ProcessFinder;
use crate::qemu::report::say;
use crate::qemu::{
    self, ApiLevel, GuestRam, HostInfo, Insn, MAX_WATCHES, MemoryWatch, PhysicalPage, ProvenRam,
    RamPages, Token, VcpuIndex, Watch,
};
use crate::running_kernel::{KernelView, RunningKernel};
use crate::stats::{MAX_SITES, SiteKey, Statistics};
use crate::trace::Trace;
use crate::x86::{
    Direction, MAX_INSN_LEN, Mode, Opcode, PAGE, Supervisor, decode, is_vmrun,
    is_whole_instruction, loads_control_register, pushes_return_address, vmrun_address_size,
};

use address::CodeAddress;
use callers::VcpuCallers;
use code_mode::{CodeRegisters, CodeSegment, PortInsn, RegisterDump};
pub use instructions::Instructions;
use instructions::VcpuInstructions;
use interrupted::InterruptedStrings;
use nested::{ExitOffsets, NestedGuests, SharedMemory};
use processes::VcpuProcesses;
use proof::{AccessBy, VcpuProof};
use recorder::Recorder;
use rules::Rules;
use strings::{Strings, VcpuStrings};
use token::{CallToken, PortIoToken, VmrunSite, VmrunToken};
use vcpu::VcpuCounter;
use watched_vcpu::WatchedVcpu;

/// The resources for call chains.
pub struct Callers {
    /// The kernel whose tables unwind stacks.
    pub running: Arc<RunningKernel>,
    /// The guest's memory.
    pub ram: Arc<GuestRam>,
}

/// An instruction of unknown mode: its address, bytes and segment.
type UndumpedInsn = (u64, ArrayVec<u8, MAX_INSN_LEN>, Option<CodeSegment>);

/// Watches all port I/O and hypercalls of a machine.
pub struct Interceptor {
    statistics: Arc<Statistics>,
    rules: Rules,
    interrupted: Arc<InterruptedStrings>,
    log: Option<Arc<AccessLog>>,
    observers: Option<Arc<Observers>>,
    trace: Option<Arc<Trace>>,
    /// `None` if the guest may make no hypercalls.
    hypercalls: Option<Arc<Hypercalls>>,
    /// The instructions that nested guests may exit to.
    exits: ExitOffsets,
    /// `None` if QEMU does not let pvio read it.
    memory: Option<SharedMemory>,
    /// True if QEMU lets plugins write registers (API 5), so that a call by registers can be answered.
    answers_in_registers: bool,
    /// The memory that must be proven to be RAM for hypercalls; `None` if they need no proof, or use no memory.
    proven_ram: Option<Arc<ProvenRam>>,
    /// True if the machine never has a second vCPU.
    has_one_vcpu: bool,
    /// The pages of code, by linear address, that have magic instructions. Only if there is something to prove.
    magic_pages: Mutex<HashSet<u64>>,
    /// `None` if QEMU moves the elements of all strings.
    strings: Option<Arc<Strings>>,
    /// `None` if instructions of other kinds are not counted.
    instructions: Option<Arc<Instructions>>,
    /// `None` if call chains are not counted.
    callers: Option<Callers>,
    /// `None` if processes are not counted.
    processes: Option<Arc<ProcessFinder>>,
    /// Finds places in files for translations; `None` if processes are not counted.
    places: Option<Mutex<VcpuProcesses>>,
    /// Tracks which kernel runs; `None` if names need no kernel.
    kernels: Option<Arc<KernelBoots>>,
    /// The first decoding of each instruction of unknown mode. A restart is translated in another block, whose other
    /// instructions may exclude more or fewer modes, but it must be the same instruction.
    undumped: Mutex<HashMap<UndumpedInsn, PortInsn>>,
    /// `None` if nobody can set one.
    breakpoints: Option<Arc<Breakpoints>>,
    /// True if the warning that modes are unknown was given.
    warned: AtomicBool,
}

impl Interceptor {
    /// Creates an interceptor for this QEMU.
    ///
    /// It counts into `statistics`. If they are given, it writes to the access log, passes hypercalls on, and counts
    /// instructions of every kind. It moves strings to and from the devices on `bus`.
    pub fn new(
        host: &HostInfo,
        statistics: Arc<Statistics>,
        bus: Arc<PortBus>,
        log: Option<Arc<AccessLog>>,
        hypercalls: Option<Arc<Hypercalls>>,
        instructions: Option<Arc<Instructions>>,
        callers: Option<Callers>,
    ) -> Interceptor {
        let rules = Rules::of(host);
        let ram = GuestRam::open(host.version).map(Arc::new);
        let strings = ram
            .clone()
            .filter(|_| bus.has_devices() && !rules.steps_reps)
            .and_then(|ram| Strings::new(bus, ram, rules))
            .map(Arc::new);
        Interceptor {
            processes: None,
            places: None,
            statistics,
            rules,
            interrupted: Arc::default(),
            log,
            observers: None,
            trace: None,
            has_one_vcpu: host.max_vcpus == 1,
            proven_ram: hypercalls.as_ref().and_then(|calls| calls.proven_ram.clone()),
            magic_pages: Mutex::default(),
            hypercalls,
            exits: ExitOffsets::default(),
            answers_in_registers: host.api >= ApiLevel::WRITES,
            memory: ram.map(|ram| Arc::new(Physical(ram)) as SharedMemory),
            strings,
            instructions,
            callers,
            kernels: None,
            undumped: Mutex::default(),
            breakpoints: None,
            warned: AtomicBool::new(false),
        }
    }

    /// Counts accesses by process. Call it before any vCPU begins.
    pub fn count_processes(&mut self, finder: Arc<ProcessFinder>) {
        self.places = vcpu_processes(&finder, &self.statistics).map(Mutex::new);
        self.processes = Some(finder);
    }

    /// Tells `breakpoints` of accesses from now on, before any vCPU begins.
    pub fn break_at(&mut self, breakpoints: Arc<Breakpoints>) {
        self.breakpoints = Some(breakpoints);
    }

    /// Passes accesses to observers. Call it before any vCPU begins.
    pub fn observe(&mut self, observers: Arc<Observers>) {
        self.observers = Some(observers);
    }

    /// Records what vCPUs do in a trace. Call it before any vCPU begins.
    pub fn trace(&mut self, trace: Arc<Trace>) {
        self.trace = Some(trace);
    }

    /// Notifies `kernels` of code that may change which kernel runs.
    pub fn notify(&mut self, kernels: Arc<KernelBoots>) {
        self.kernels = Some(kernels);
    }

    /// Returns the handler of the callbacks of a vCPU that begins to run.
    pub fn vcpu_begins(&self, index: VcpuIndex) -> Box<dyn qemu::Vcpu> {
        let counters = self.statistics.counters(index);
        let trace = self.trace.as_ref().map(|trace| trace.vcpu(&counters));
        let listeners = || {
            let log = self.log.as_ref().map(|log| VcpuLog::new(Arc::clone(log), index.0));
            let breaks = self.breakpoints.as_ref();
            let breaks = breaks.map(|all| VcpuBreaks::new(Arc::clone(all), index.0));
            let observers = self.observers.as_ref();
            let observers = observers.map(|all| VcpuObservers::new(Arc::clone(all), index.0));
            let values = self.statistics.vcpu_values();
            AccessListeners::new(log, values, observers, breaks, trace.clone())
        };
        let calls = self.hypercalls.as_ref();
        let calls = calls
            .map(|calls| VcpuCalls::new(Arc::clone(calls), Arc::clone(&counters), listeners()));
        let nested = NestedGuests::new(self.memory.clone());
        let interrupted = Arc::clone(&self.interrupted);
        let strings = self.strings.clone().map(VcpuStrings::new);
        let recorder = Recorder::new(counters, listeners());
        let callers = self.callers.as_ref().map(|Callers { running, ram }| {
            VcpuCallers::new(KernelView::new(Arc::clone(running)), RamPages::new(Arc::clone(ram)))
        });
        let processes = self.processes.as_ref();
        let processes = processes.and_then(|finder| vcpu_processes(finder, &self.statistics));
        let counter = VcpuCounter::new(
            self.rules,
            recorder,
            interrupted,
            nested,
            strings,
            callers,
            processes,
        );
        let instructions = self.instructions.as_ref();
        let instructions = instructions.map(|all| VcpuInstructions::new(Arc::clone(all), index));
        let proof = self.proven_ram.clone().map(|ram| {
            ram.vcpu_runs(index);
            VcpuProof::new(ram, self.has_one_vcpu)
        });
        Box::new(WatchedVcpu { counter, calls, instructions, proof })
    }

    /// Returns how to watch an instruction: port I/O, a hypercall, or where nested guests are entered or exit to.
    pub fn translate(&self, insn: &Insn<'_>) -> ArrayVec<Watch, MAX_WATCHES> {
        let mut watches = ArrayVec::new();
        if self.exits.may_be_at(|| insn.pc()) {
            let token = VmrunToken::new(VmrunSite::Exit, CodeAddress::of(insn));
            watches.push(Watch::Tracepoint(token.into()));
        }
        if self.proven_ram.is_some() {
            self.prove(insn, &mut watches);
        }
        watches.extend(match Opcode::of(insn.bytes()) {
            Opcode::PortIo => self.port_io(insn),
            Opcode::Long => {
                self.control_register(insn);
                self.call(insn).or_else(|| self.vmrun(insn))
            }
            Opcode::Other => None,
        });
        watches
    }

    /// Watches what proves memory to be RAM, and what withdraws the proofs.
    ///
    /// Blocks near magic instructions prove their own page and those that they access: they prepare the memory of calls.
    /// Any block may write to a device, by its last instruction: see [`AccessBy`].
    fn prove(&self, insn: &Insn<'_>, watches: &mut ArrayVec<Watch, MAX_WATCHES>) {
        let page = insn.block_start() / PAGE;
        let mut pages = self.magic_pages.lock().unwrap_or_else(PoisonError::into_inner);
        if insn.is_first() && insn.block().any(|insn| calls::magic(insn.bytes()).is_some()) {
            pages.insert(page);
        }
        let is_near = pages.contains(&page);
        drop(pages);
        if is_near
            && insn.is_first()
            && let Some(PhysicalPage(code)) = insn.ram_page()
        {
            watches.push(Watch::Block(Token(code)));
        }
        // The elements of `outs` are read before they are written to the device.
        let is_port_io = Opcode::of(insn.bytes()) == Opcode::PortIo;
        if is_port_io {
            return;
        }
        if insn.is_last() {
            // No stack is in a device's memory. Nearly each block ends so.
            if pushes_return_address(insn.bytes()) {
                return;
            }
            watches.push(Watch::Memory(AccessBy::LastOfBlock.into(), MemoryWatch::Writes));
        } else if is_near {
            watches.push(Watch::Memory(AccessBy::NotLast.into(), MemoryWatch::All));
        }
    }

    /// A vCPU stops running, or goes on: proofs of memory end.
    pub fn vcpu_idles(&self, vcpu: VcpuIndex) {
        if let Some(ram) = &self.proven_ram {
            ram.vcpu_stops(vcpu);
        }
    }

    /// A vCPU goes on after [`Interceptor::vcpu_idles`].
    pub fn vcpu_resumes(&self, vcpu: VcpuIndex) {
        if let Some(ram) = &self.proven_ram {
            ram.vcpu_runs(vcpu);
        }
    }

    /// Returns true if [`Interceptor::vcpu_idles`] matters.
    pub fn follows_idle(&self) -> bool {
        self.proven_ram.is_some()
    }

    /// Callbacks name the wrong vCPU.
    pub fn vcpus_are_mixed(&self) {
        if let Some(ram) = &self.proven_ram {
            ram.close();
        }
    }

    /// Code that loads a control register may be about to replace the kernel that runs.
    fn control_register(&self, insn: &Insn<'_>) {
        let Some(kernels) = &self.kernels else { return };
        if !loads_control_register(insn.bytes()) || !kernels.may_be_replaced_at(insn.pc()) {
            return;
        }
        let dump = insn.register_dump();
        let dump = dump.as_deref().map(RegisterDump);
        let is_supervisor = dump.and_then(RegisterDump::supervisor) == Some(Supervisor::Yes);
        if let Some(mode) = dump.and_then(RegisterDump::mode)
            && is_supervisor
            && insn.is_in_nested_guest() != Some(true)
        {
            kernels.before_replacement(insn.pc(), mode);
        }
    }

    fn vmrun(&self, insn: &Insn<'_>) -> Option<Watch> {
        if !is_vmrun(insn.bytes()) {
            return None;
        }
        if let Some(hypercalls) = &self.hypercalls {
            hypercalls.expect_nested_guests();
        }
        let dump = insn.register_dump();
        let mode = dump.as_deref().and_then(|dump| RegisterDump(dump).mode());
        let size = vmrun_address_size(insn.bytes(), mode.unwrap_or(Mode::Bits64));
        let len = insn.bytes().len() as u8;
        if self.exits.add(insn.pc().wrapping_add(len.into())) {
            insn.retranslate_all();
        }
        let token = VmrunToken::new(VmrunSite::Entry(size, len), CodeAddress::of(insn));
        Some(Watch::Tracepoint(token.into()))
    }

    fn call(&self, insn: &Insn<'_>) -> Option<Watch> {
        let (magic, mode) = calls::magic(insn.bytes()).filter(|_| self.hypercalls.is_some())?;
        let dump = insn.register_dump();
        if let Some(kernels) = &self.kernels {
            let cr3 = dump.as_deref().and_then(|dump| RegisterDump(dump).cr3());
            kernels.before_site(insn.pc(), Some(mode), insn.bytes(), cr3);
        }
        let supervisor = dump.as_deref().and_then(|dump| RegisterDump(dump).supervisor());
        let by_registers = || CodeRegisters::of(insn).map(CodeRegisters::supervisor);
        let supervisor = supervisor.or_else(by_registers);
        let token = CallToken::new(magic, mode, supervisor, CodeAddress::of(insn)).into();
        // The privilege is not checked again when the doorbell rings. It need not be: QEMU keeps separate translations
        // for each ring, and for nested guests.
        let may_use_mailbox =
            || supervisor == Some(Supervisor::Yes) && insn.is_in_nested_guest() == Some(false);
        match magic {
            Magic::Call => self.answers_in_registers.then_some(Watch::ExecWithWrites(token)),
            // Its call chain is found by registers.
            Magic::Doorbell if self.callers.is_none() && self.processes.is_none() => {
                may_use_mailbox().then_some(Watch::ExecNoRegs(token))
            }
            Magic::Doorbell | Magic::RegisterMailbox => {
                may_use_mailbox().then_some(Watch::ExecReadOnly(token))
            }
        }
    }

    fn port_io(&self, insn: &Insn<'_>) -> Option<Watch> {
        let bytes = insn.bytes();
        if Mode::ALL.iter().all(|&mode| decode(bytes, mode).is_none()) {
            return None;
        }
        let dump = insn.register_dump();
        let dump = dump.as_deref().map(RegisterDump);
        let registers = if dump.is_some() { None } else { CodeRegisters::of(insn) };
        let PortInsn { decoded, form, mode } = self.decode_in_its_mode(insn, dump, registers)?;
        let privileged = dump.and_then(RegisterDump::is_privileged);
        let by_registers = || registers.map(CodeRegisters::is_privileged);
        let privileged = privileged.or_else(by_registers).unwrap_or(false);
        let pc = address::at_translation(insn);
        if let Some(kernels) = &self.kernels {
            kernels.before_site(pc, mode, bytes, dump.and_then(RegisterDump::cr3));
        }
        let place = self
            .places
            .as_ref()
            .and_then(|places| places.lock().unwrap_or_else(PoisonError::into_inner).place(pc));
        let key = SiteKey {
            pc,
            mode,
            bytes: bytes.try_into().expect("QEMU decodes no longer instruction"),
        };
        let site = self.statistics.sites.enter(key, place, form);
        let supervisor = dump.and_then(RegisterDump::supervisor);
        let supervisor = supervisor.or_else(|| registers.map(CodeRegisters::supervisor));
        if let (Some(site), Some(supervisor)) = (site, supervisor) {
            self.statistics.sites.translated_for(site, supervisor);
        }
        let token = PortIoToken::new(decoded, form, site, CodeAddress::of(insn), privileged);
        let token = token.into();
        Some(match decoded.form.is_string().then(|| decoded.form.direction()) {
            Some(Direction::In) => Watch::ExecAndMemory(token, MemoryWatch::Writes),
            Some(Direction::Out) => Watch::ExecAndMemory(token, MemoryWatch::Reads),
            None => Watch::Exec(token),
        })
    }

    /// Decodes bytes that are port I/O in some mode.
    fn decode_in_its_mode(
        &self,
        insn: &Insn<'_>,
        dump: Option<RegisterDump<'_>>,
        registers: Option<CodeRegisters>,
    ) -> Option<PortInsn> {
        let known = dump.and_then(RegisterDump::mode);
        if let Some(mode) = known.or_else(|| registers?.certain_mode()) {
            return PortInsn::in_mode(insn.bytes(), mode);
        }
        let is_possible = |mode| {
            let is_valid = |insn: Insn<'_>| is_whole_instruction(insn.bytes(), mode) != Some(false);
            registers.is_none_or(|registers| registers.allow(mode)) && insn.block().all(is_valid)
        };
        let bytes = insn.bytes().try_into().expect("QEMU decodes no longer instruction");
        let key = (insn.pc(), bytes, registers.map(CodeRegisters::segment));
        let mut earlier = self.undumped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&known) = earlier.get(&key)
            && known.mode.is_none_or(&is_possible)
        {
            return Some(known);
        }
        let text = || insn.disassembly().unwrap_or_default();
        let decoded = PortInsn::in_some_mode(insn.bytes(), text, is_possible)?;
        if earlier.len() < MAX_SITES {
            earlier.insert(key, decoded);
        }
        drop(earlier);
        // Relaxed: one thread gets `false`, and no other data depends on it.
        if decoded.form.decided().is_none() && !self.warned.swap(true, Ordering::Relaxed) {
            say(format_args!(
                "warning: on this QEMU pvio cannot determine the mode of all code (first at {:#x}); instructions whose \
                 form depends on the mode are counted separately, as undecided; use a QEMU configured with \
                 --enable-modules or --enable-capstone",
                insn.pc()
            ));
        }
        Some(decoded)
    }
}

/// Makes the finder of a vCPU's processes; `None` if processes are not counted.
fn vcpu_processes(finder: &ProcessFinder, statistics: &Statistics) -> Option<VcpuProcesses> {
    let table = statistics.processes()?;
    Some(VcpuProcesses::new(finder.reader(), Arc::clone(table), Arc::clone(&statistics.sites)))
}
