//! From what QEMU reports to what the guest did: which instructions are watched, how each attempt at one
//! ended, and who calls by the magic instruction.
//!
//! It knows the 24 forms and the order of QEMU's callbacks, and tells [`crate::stats`] and
//! [`crate::hypercalls`]. It does not know of files or tables, nor what a call does.

mod address;
mod aliases;
mod attempt;
mod calls;
mod instructions;
mod interrupted;
mod nested;
mod operation;
mod strings;
mod vcpu;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;

use crate::access_log::{AccessLog, VcpuLog};
use crate::bus::PortBus;
use crate::guest_memory::Physical;
use crate::hypercalls::{Hypercalls, VcpuCalls};
use crate::qemu::report::say;
use crate::qemu::{
    self, ApiLevel, Discontinuity, GuestRam, HostInfo, Insn, MAX_WATCHES, MemoryAccess,
    MemoryWatch, Next, QemuVersion, Registers, Token, VcpuIndex, Watch, WritableRegisters,
};
use crate::stats::{SiteKey, Statistics};
use crate::x86::{
    Decoded, Direction, Mode, Opcode, Supervisor, decode, decode_by_text, is_privileged_in_dump,
    is_vmrun, mode_in_dump, supervisor_in_dump,
};

use address::CodeAddress;
use calls::{Magic, TranslatedCall};
pub use instructions::Instructions;
use instructions::VcpuInstructions;
use interrupted::Interrupted;
use nested::{Exits, NestedGuests, SharedMemory, VmrunSite, VmrunSiteKind};
use operation::Translated;
use strings::{Strings, VcpuStrings};
use vcpu::VcpuCounter;

/// What this QEMU's callbacks mean, where versions and options differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// QEMU reports exceptions (API 6): an instruction is taken as retired until one says otherwise.
    /// Without, an instruction that may fault for want of privilege is never known to retire.
    pub exceptions_reported: bool,
    /// QEMU leaves the loop of every `rep` after each element: under `-icount`, and always before
    /// QEMU 10.0.
    pub steps_reps: bool,
}

impl Rules {
    fn of(host: &HostInfo) -> Rules {
        let ten = QemuVersion { major: 10, minor: 0, micro: 0 };
        Rules {
            exceptions_reported: host.reports_exceptions(),
            steps_reps: host.icount || host.version.is_some_and(|version| version < ten),
        }
    }
}

/// Watches all port I/O of a machine, and counts it.
pub struct Interceptor {
    statistics: Arc<Statistics>,
    rules: Rules,
    interrupted: Arc<Interrupted>,
    log: Option<Arc<AccessLog>>,
    /// Where calls go; `None` where nobody is heard.
    hypercalls: Option<Arc<Hypercalls>>,
    /// Where guests of the guest's may be left.
    exits: Exits,
    /// `None` where QEMU does not let it be read.
    memory: Option<SharedMemory>,
    /// A call by registers can be answered (API 5).
    answers_in_registers: bool,
    /// Where strings can be moved in one go; `None` where all are left to QEMU.
    strings: Option<Arc<Strings>>,
    /// Where every instruction is counted; `None` where none is but those above.
    instructions: Option<Arc<Instructions>>,
    /// Whether it was said already that modes cannot be told.
    warned: AtomicBool,
}

impl Interceptor {
    /// An interceptor for this QEMU, which counts into `statistics` and, if there is one, writes to
    /// an access log, passes calls on, and moves strings to and from the devices on `bus`.
    pub fn new(
        host: &HostInfo,
        statistics: Arc<Statistics>,
        bus: Arc<PortBus>,
        log: Option<Arc<AccessLog>>,
        hypercalls: Option<Arc<Hypercalls>>,
        instructions: Option<Arc<Instructions>>,
    ) -> Interceptor {
        let rules = Rules::of(host);
        let ram = GuestRam::open(host.version).map(Arc::new);
        let strings = ram
            .clone()
            .filter(|_| bus.has_devices() && !rules.steps_reps)
            .and_then(|ram| Strings::new(bus, ram))
            .map(Arc::new);
        Interceptor {
            statistics,
            rules,
            interrupted: Arc::default(),
            log,
            hypercalls,
            exits: Exits::default(),
            answers_in_registers: host.api >= ApiLevel::WRITES,
            memory: ram.map(|ram| Arc::new(Physical(ram)) as SharedMemory),
            strings,
            instructions,
            warned: AtomicBool::new(false),
        }
    }

    /// What happens on a vCPU that begins to run.
    pub fn vcpu_begins(&self, index: VcpuIndex) -> Box<dyn qemu::Vcpu> {
        let log = || self.log.as_ref().map(|log| VcpuLog::new(Arc::clone(log), index.0));
        let counters = self.statistics.counters(index);
        let calls = self.hypercalls.as_ref();
        let calls =
            calls.map(|calls| VcpuCalls::new(Arc::clone(calls), Arc::clone(&counters), log()));
        let nested = NestedGuests::new(self.memory.clone());
        let interrupted = Arc::clone(&self.interrupted);
        let strings = self.strings.clone().map(VcpuStrings::new);
        let counter = VcpuCounter::new(self.rules, counters, interrupted, log(), nested, strings);
        let instructions = self.instructions.as_ref();
        let instructions = instructions.map(|all| VcpuInstructions::new(Arc::clone(all), index));
        Box::new(WatchedVcpu { counter, calls, instructions })
    }

    /// How to watch an instruction, if it is port I/O or a call, or where guests of the guest's are
    /// entered and left.
    pub fn translate(&self, insn: &Insn<'_>) -> ArrayVec<Watch, MAX_WATCHES> {
        let mut watches = ArrayVec::new();
        if self.exits.may_be_at(|| insn.pc()) {
            let door = VmrunSite { kind: VmrunSiteKind::Exit, address: CodeAddress::of(insn) };
            watches.push(Watch::Tracepoint(door.to_token()));
        }
        watches.extend(match Opcode::of(insn.bytes()) {
            Opcode::PortIo => self.port_io(insn),
            Opcode::Long => self.call(insn).or_else(|| self.entry(insn)),
            Opcode::Other => None,
        });
        watches
    }

    fn entry(&self, insn: &Insn<'_>) -> Option<Watch> {
        if !is_vmrun(insn.bytes()) {
            return None;
        }
        if let Some(hypercalls) = &self.hypercalls {
            hypercalls.expect_nested_guests();
        }
        let mode = insn.register_dump().as_deref().and_then(mode_in_dump).unwrap_or(Mode::Bits64);
        if self.exits.add(insn.pc().wrapping_add(insn.bytes().len() as u64)) {
            insn.translate_all_anew();
        }
        let door = VmrunSite::entry(mode, insn.bytes(), CodeAddress::of(insn));
        Some(Watch::Tracepoint(door.to_token()))
    }

    fn call(&self, insn: &Insn<'_>) -> Option<Watch> {
        let (magic, mode) = calls::magic(insn.bytes()).filter(|_| self.hypercalls.is_some())?;
        let dump = insn.register_dump();
        let supervisor = dump.as_deref().and_then(supervisor_in_dump);
        let address = CodeAddress::of(insn);
        let token = TranslatedCall { mode, supervisor, address }.to_token();
        // Whose code it is cannot be asked when it rings. QEMU translates the code of each ring, and of
        // guests of the guest's, apart from that of others.
        let may_use_mailbox =
            || supervisor == Some(Supervisor::Yes) && insn.is_in_nested_guest() == Some(false);
        match magic {
            Magic::Call => self.answers_in_registers.then_some(Watch::ExecWithWrites(token)),
            Magic::Doorbell => may_use_mailbox().then_some(Watch::ExecNoRegs(token)),
            Magic::RegisterMailbox => may_use_mailbox().then_some(Watch::ExecReadOnly(token)),
        }
    }

    fn port_io(&self, insn: &Insn<'_>) -> Option<Watch> {
        let bytes = insn.bytes();
        if Mode::ALL.iter().all(|&mode| decode(bytes, mode).is_none()) {
            return None;
        }
        let dump = insn.register_dump();
        let (decoded, mode) = self.decode_in_its_mode(insn, dump.as_deref())?;
        let privileged = dump.as_deref().and_then(is_privileged_in_dump).unwrap_or(false);
        let pc = address::at_translation(insn);
        let key = SiteKey { pc, mode, bytes: bytes.try_into().expect("at most 15 bytes") };
        let site = self.statistics.sites.enter(key, decoded.form);
        let translated = Translated::new(decoded, site, CodeAddress::of(insn), privileged);
        let token = translated.to_token();
        Some(match decoded.form.is_string().then(|| decoded.form.direction()) {
            Some(Direction::In) => Watch::ExecAndMemory(token, MemoryWatch::Writes),
            Some(Direction::Out) => Watch::ExecAndMemory(token, MemoryWatch::Reads),
            None => Watch::Exec(token),
        })
    }

    /// Decodes bytes that are port I/O in some mode, in the mode that the code is in.
    fn decode_in_its_mode(
        &self,
        insn: &Insn<'_>,
        dump: Option<&str>,
    ) -> Option<(Decoded, Option<Mode>)> {
        if let Some(mode) = dump.and_then(mode_in_dump) {
            return Some((decode(insn.bytes(), mode)?, Some(mode)));
        }
        let text = insn.disassembly().unwrap_or_default();
        decode_by_text(insn.bytes(), &text).or_else(|| {
            if !self.warned.swap(true, Ordering::Relaxed) {
                say(format_args!(
                    "warning: this QEMU tells neither the mode nor the disassembly of code (at \
                     {:#x}, {text:?}); instructions of 16-bit code may be miscounted as 32-bit. A \
                     QEMU built with capstone does better",
                    insn.pc()
                ));
            }
            decode(insn.bytes(), Mode::Bits32).map(|decoded| (decoded, None))
        })
    }
}

/// All that is watched on one vCPU: its port I/O, and its calls.
struct WatchedVcpu {
    counter: VcpuCounter,
    calls: Option<VcpuCalls>,
    instructions: Option<VcpuInstructions>,
}

impl qemu::Vcpu for WatchedVcpu {
    fn exec(&mut self, token: Token, registers: &mut Registers<'_>) -> Next {
        self.counter.about_to_run(token, registers)
    }

    fn exec_with_writes(&mut self, token: Token, registers: &mut WritableRegisters<'_>) {
        if let Some(calls) = &mut self.calls {
            let caller = TranslatedCall::from_token(token).caller(registers.rip());
            calls.call(caller, registers);
        }
    }

    #[inline]
    fn exec_no_regs(&mut self, token: Token, rip: u64) {
        if let Some(calls) = &mut self.calls {
            calls.doorbell(TranslatedCall::from_token(token).address.at(rip));
        }
    }

    fn exec_read_only(&mut self, token: Token, registers: &mut Registers<'_>) {
        if let Some(calls) = &mut self.calls {
            let caller = TranslatedCall::from_token(token).caller(registers.rip());
            calls.register(caller, registers);
        }
    }

    fn tracepoint(&mut self, token: Token, registers: &mut Registers<'_>) {
        self.counter.passes(token, registers);
    }

    fn memory_accessed(&mut self, token: Token, access: &MemoryAccess<'_>) {
        self.counter.memory_accessed(token, || access.value());
    }

    fn block_begins(&mut self, registers: &mut Registers<'_>) {
        self.counter.block_begins(registers);
    }

    #[inline]
    fn scored_block_begins(&mut self, distance: u64) {
        if let Some(instructions) = &mut self.instructions {
            instructions.block_begins(distance);
        }
    }

    fn restarted(&mut self) {
        if let Some(instructions) = &mut self.instructions {
            instructions.counted_again();
        }
    }

    fn added_elsewhere(&mut self, token: Token) {
        if let Some(instructions) = &mut self.instructions {
            instructions.counted_elsewhere(token);
        }
    }

    fn discontinuity(&mut self, event: Discontinuity) {
        self.counter.discontinuity(event);
        if let Some(instructions) = &mut self.instructions {
            instructions.discontinuity(event);
        }
    }
}
