//! Counts the port I/O of one vCPU, from QEMU's callbacks.
//!
//! It finds the subject of each report: the instruction, its address and port, its privilege. [`Attempts`] decides how the
//! instruction ends.

use std::sync::Arc;

use super::address;
use super::aliases::{Aliases, runs_at_translation};
use super::attempt::Attempts;
use super::callers::VcpuCallers;
use super::interrupted::InterruptedStrings;
use super::nested::{NestedGuests, VmExitReason};
use super::operation::Operation;
use super::other_vcpus::OtherVcpus;
use super::processes::VcpuProcesses;
use super::recorder::{Recorder, ScalarStart, Start, UnobservedAttempt};
use super::rules::Rules;
use super::string_attempt::{StringAttempt, StringReport, ZeroCountRestart};
use super::strings::VcpuStrings;
use super::token::{PortIoToken, VmrunSite, VmrunToken};
use crate::hypercalls::Caller;
use crate::qemu::{Discontinuity, Next, ReadRegisters, Register, Token};
use crate::stats::{CallSiteId, CallerId, ProcessUse, SiteId};
use crate::x86::{
    Cr0, Direction, Port, PortForm, PortSource, Rflags, may_do_port_io_unconditionally,
};

/// Counts what one vCPU does.
pub(super) struct VcpuCounter {
    rules: Rules,
    attempts: Attempts,
    aliases: Aliases,
    guests: NestedGuests,
    others: OtherVcpus,
    /// `None` if QEMU moves all elements.
    strings: Option<VcpuStrings>,
    /// `None` if call chains are not counted.
    callers: Option<VcpuCallers>,
    /// `None` if processes are not counted.
    processes: Option<VcpuProcesses>,
    /// True if a scalar only needs counting: no listener, call chains or processes.
    only_counts: bool,
    /// True if a scalar only needs counting while nobody listens: no call chains or processes.
    only_counts_unheard: bool,
}

impl VcpuCounter {
    pub fn new(
        rules: Rules,
        recorder: Recorder,
        interrupted: Arc<InterruptedStrings>,
        guests: NestedGuests,
        strings: Option<VcpuStrings>,
        callers: Option<VcpuCallers>,
        processes: Option<VcpuProcesses>,
    ) -> VcpuCounter {
        let only_counts_unheard = callers.is_none() && processes.is_none();
        VcpuCounter {
            only_counts: only_counts_unheard && !recorder.has_listeners(),
            only_counts_unheard,
            rules,
            attempts: Attempts::new(recorder, interrupted),
            aliases: Aliases::default(),
            guests,
            others: OtherVcpus::default(),
            strings,
            callers,
            processes,
        }
    }

    /// A port I/O instruction is about to run.
    ///
    /// Fast paths: a scalar that cannot fault, at the address of its translation, while nothing else is pending. It is only
    /// counted, or only counted and traced.
    #[inline]
    pub fn about_to_run(&mut self, token: Token, registers: &mut impl ReadRegisters) -> Next {
        let insn = PortIoToken::from(token);
        match insn.plain_site() {
            Some(site)
                if (self.only_counts || self.only_counts_now())
                    && self.is_undisturbed(insn, site, registers) =>
            {
                let (form, port) = plain_access(insn, registers);
                self.recorder().counters().scalar(form, site, port);
                self.attempts.reported();
                Next::Watched
            }
            Some(site) if self.only_counts_unheard => self.trace_plain(insn, site, registers),
            _ => self.about_to_run_slowly(insn, registers),
        }
    }

    /// Returns true if a scalar only needs counting because no listener listens now.
    fn only_counts_now(&self) -> bool {
        self.only_counts_unheard && !self.recorder().is_anyone_listening()
    }

    /// Returns true if nothing is pending, and an instruction runs at the address of its translation.
    #[inline]
    fn is_undisturbed(
        &self,
        insn: PortIoToken,
        site: SiteId,
        registers: &mut impl ReadRegisters,
    ) -> bool {
        self.attempts.are_settled()
            && runs_at_translation(insn, site, self.recorder().counters(), registers.rip())
    }

    /// Counts and traces a scalar that cannot fault, if that is all.
    #[inline(never)]
    fn trace_plain(
        &mut self,
        insn: PortIoToken,
        site: SiteId,
        registers: &mut impl ReadRegisters,
    ) -> Next {
        let Some(trace) = self.recorder().only_trace() else {
            return self.about_to_run_slowly(insn, registers);
        };
        if !self.is_undisturbed(insn, site, registers) {
            return self.about_to_run_slowly(insn, registers);
        }
        let (form, port) = plain_access(insn, registers);
        let (written, next) = match form.direction() {
            Direction::In => (None, Next::Block),
            Direction::Out => (Some(registers.read(Register::Rax) as u32), Next::Watched),
        };
        self.recorder().counters().scalar(form, site, port);
        trace.scalar(form, site, port, written);
        self.attempts.reported();
        next
    }

    #[inline(never)]
    fn about_to_run_slowly(
        &mut self,
        insn: PortIoToken,
        registers: &mut impl ReadRegisters,
    ) -> Next {
        self.switch_vcpu();
        let counters = self.attempts.recorder().counters();
        let processes = &mut self.processes;
        let place = |pc| processes.as_mut()?.place(pc);
        let operation = self.aliases.operation(insn, counters, registers.rip(), place);
        let operation = operation.by(processes.as_mut().map(VcpuProcesses::find));
        let next = if operation.form().is_string() {
            self.string(insn.into(), operation, registers);
            Next::Watched
        } else {
            self.scalar(operation, registers)
        };
        self.attempts.reported();
        next
    }

    /// An `in` or `out`.
    fn scalar(&mut self, operation: Operation, registers: &mut impl ReadRegisters) -> Next {
        let form = operation.form();
        let port = match form.source() {
            PortSource::Immediate => operation.immediate(),
            _ => Port(registers.read(Register::Rdx) as u16),
        };
        self.attempts.abandon_previous();
        let caller = self.caller(operation, registers);
        let attempt = UnobservedAttempt { operation, port: Some(port), caller };
        let start = self.start_unobserved(attempt, registers);
        // Nothing can contradict it, and its value is known: no block may follow, if it switches the machine off.
        let is_final =
            form.direction() == Direction::Out && operation.is_privileged() && !self.guests.any();

        let written = || match form.direction() {
            Direction::In => None,
            Direction::Out => Some(registers.read(Register::Rax) as u32),
        };
        let started = ScalarStart { operation, port, caller, start, is_final };
        if !self.recorder().scalar_started(&started, written) {
            return Next::Watched;
        }
        if is_final {
            self.recorder().retired();
            return Next::Watched;
        }
        Next::Block
    }

    /// Returns the call chain of an instruction that is about to run, if chains are counted.
    fn caller(&mut self, operation: Operation, registers: &mut impl ReadRegisters) -> CallerId {
        match &mut self.callers {
            None => CallerId::default(),
            Some(callers) => {
                callers.find(operation, self.attempts.recorder().counters(), registers)
            }
        }
    }

    /// Returns the call chain and the process of a hypercall that is about to run, if these are counted.
    pub fn caller_of_call(
        &mut self,
        site: CallSiteId,
        caller: Caller,
        registers: &mut impl ReadRegisters,
    ) -> (CallerId, Option<ProcessUse>) {
        let process = self.processes.as_mut().map(VcpuProcesses::find);
        let chain = self.callers.as_mut().map(|callers| {
            callers.find_of_call(site, caller, self.attempts.recorder().counters(), registers)
        });
        (chain.unwrap_or_default(), process)
    }

    /// Starts or resumes an attempt with no memory accesses.
    #[inline]
    fn start_unobserved(
        &mut self,
        attempt: UnobservedAttempt,
        registers: &mut impl ReadRegisters,
    ) -> Start {
        let is_resumed = self.attempts.take_faulted(attempt)
            && self.is_resumed(attempt.operation, read_rflags(registers));
        let may_fault_unreported =
            !self.rules.exceptions_reported && !cannot_fault(attempt.operation, registers);
        let start = match may_fault_unreported {
            true => {
                self.attempts.start_unverified(attempt, is_resumed);
                if is_resumed { Start::UnverifiedAgain } else { Start::Unverified }
            }
            false => {
                let is_resumed = is_resumed && self.rules.exceptions_reported;
                self.attempts.start_presumed(attempt, is_resumed);
                if is_resumed { Start::PresumedAfterFault } else { Start::Presumed }
            }
        };
        self.guests.clear_resume_pc();
        start
    }

    /// Returns true if a handler or a hypervisor has returned to an instruction.
    ///
    /// The IRET of a fault handler sets RF; VMRUN enters the nested guest at the instruction.
    fn is_resumed(&mut self, operation: Operation, rflags: Rflags) -> bool {
        let is_entered = self.guests.any() && self.guests.resumes_at(operation.pc());
        is_entered || rflags.contains(Rflags::RESUME)
    }

    /// An `ins` or `outs`, with or without a repeat prefix.
    fn string(&mut self, token: Token, operation: Operation, registers: &mut impl ReadRegisters) {
        let port = Port(registers.read(Register::Rdx) as u16);
        let rflags = read_rflags(registers);
        let repeats = operation.form().source() == PortSource::RepString;
        let count = match repeats {
            true => operation.address_size().count(registers.read(Register::Rcx)),
            false => 1,
        };
        if count == 0 && self.attempts.take_zero_count_restart(operation, port, rflags) {
            self.attempts.abandon_current();
            return;
        }
        if count == 0 {
            self.attempts.abandon_previous();
            let caller = CallerId::default();
            let attempt = UnobservedAttempt { operation, port: None, caller };
            let start = self.start_unobserved(attempt, registers);
            if let Some(stage) = start.stage() {
                self.recorder().trace_without_port(attempt, stage);
            }
            return;
        }
        self.attempts.abandon_finished();
        let is_resumed = self.is_resumed(operation, rflags);
        let exceptions_reported = self.rules.exceptions_reported;
        let mut string =
            self.attempts.start_string(operation, port, count, is_resumed, exceptions_reported);

        let checks_permission =
            operation.form().direction() == Direction::Out && !cannot_fault(operation, registers);
        let traps = rflags.contains(Rflags::TRAP);
        let restart = ZeroCountRestart::of(operation, count, traps || self.rules.steps_reps);
        let caller = self.caller(operation, registers);
        if repeats && !traps {
            self.move_ahead(&mut string, caller, registers);
        }
        let report = StringReport::new(token, checks_permission, traps, restart, caller);
        self.attempts.move_elements(string, report);
    }

    /// Moves elements before QEMU moves the rest, where the result is the same.
    fn move_ahead(
        &mut self,
        string: &mut StringAttempt,
        caller: CallerId,
        registers: &mut impl ReadRegisters,
    ) {
        let StringAttempt { operation, port, remaining, .. } = *string;
        let Some(strings) = &mut self.strings else { return };
        let Some(site) = operation.site().filter(|_| operation.is_privileged()) else { return };
        let recorder = self.attempts.recorder();
        if self.guests.any() || recorder.is_heard(port, operation.form().direction()) {
            return;
        }
        let counters = recorder.counters();
        let moved =
            strings.move_ahead(operation, counters.key_of(site), port, remaining, registers);
        if moved > 0 {
            string.move_elements(moved);
            counters.accessed_often(operation.form(), Some(site), port, moved);
            recorder.accessed_by_process(operation, moved as i64);
            recorder.called(operation, caller, moved);
        }
    }

    /// A watched instruction has accessed memory.
    pub fn memory_accessed(&mut self, token: Token, value: impl FnOnce() -> u32) {
        self.attempts.memory_accessed(token, value);
    }

    /// The block after a logged scalar begins.
    pub fn block_begins(&mut self, registers: &mut impl ReadRegisters) {
        let eax = || registers.read(Register::Rax) as u32;
        self.recorder().value_read(eax, self.guests.any());
    }

    /// The vCPU has left its path.
    pub fn discontinuity(&mut self, event: Discontinuity) {
        self.switch_vcpu();
        match event {
            Discontinuity::Exception => self.attempts.exception_raised(),
            Discontinuity::Delivered { from } => self.attempts.delivered(from),
        }
    }

    /// A VMRUN, or an instruction that a #VMEXIT may lead to, is about to run.
    pub fn passes(&mut self, token: Token, registers: &mut impl ReadRegisters) {
        let token = VmrunToken::from(token);
        let address = token.address();
        match token.site() {
            VmrunSite::Entry(size, len) => {
                if !self.guests.any() {
                    self.others.first_guest_enters();
                }
                self.switch_vcpu();
                self.attempts.abandon_previous();
                let exit = address.at(registers.rip()).wrapping_add(len.into());
                let exit = address::cut(exit, address.base);
                self.guests.enter(registers.read(Register::Rax), size, exit);
                self.attempts.set_guests_run(true);
            }
            VmrunSite::Exit if self.guests.any() => {
                self.switch_vcpu();
                let pc = address.at(registers.rip());
                if let Some(reason) = self.guests.leave(registers.read(Register::Rax), pc) {
                    self.guest_exited(reason);
                }
            }
            VmrunSite::Exit => {}
        }
        self.attempts.reported();
    }

    fn guest_exited(&mut self, VmExitReason(reason): VmExitReason) {
        let guests_run = self.guests.any();
        self.attempts.set_guests_run(guests_run);
        self.attempts.guest_exited(reason);
        if !guests_run {
            self.others.last_guest_exited(&self.attempts);
        }
    }

    /// Follows a switch of QEMU between vCPUs that share a thread, while nested guests run.
    fn switch_vcpu(&mut self) {
        if self.guests.any() {
            self.others.switch(&mut self.attempts, &mut self.guests);
        }
    }

    #[inline]
    fn recorder(&self) -> &Recorder {
        self.attempts.recorder()
    }
}

/// Returns the form and the port of a scalar that has a [`PortIoToken::plain_site`].
#[inline]
fn plain_access(insn: PortIoToken, registers: &mut impl ReadRegisters) -> (PortForm, Port) {
    let form = insn.plain_form();
    let port = match form.source() {
        PortSource::Immediate => insn.immediate(),
        _ => Port(registers.read_u16(Register::Rdx)),
    };
    (form, port)
}

fn read_rflags(registers: &mut impl ReadRegisters) -> Rflags {
    Rflags::from_bits_retain(registers.read(Register::Rflags))
}

/// Returns true if the instruction needs no permission from the TSS: then a scalar cannot fault at all.
fn cannot_fault(operation: Operation, registers: &mut impl ReadRegisters) -> bool {
    if operation.is_privileged() {
        return true;
    }
    let rflags = read_rflags(registers);
    let cs = registers.read(Register::Cs);
    let cr0 = || Cr0::from_bits_retain(registers.read(Register::Cr0));
    may_do_port_io_unconditionally(rflags, cs, cr0)
}

#[cfg(test)]
mod tests;
