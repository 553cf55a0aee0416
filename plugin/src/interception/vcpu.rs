//! One vCPU's attempts at port I/O, and how each ends.
//!
//! QEMU reports an instruction *before* it runs, and reports it again when it is restarted. What it
//! does not report is that the instruction is done. So:
//!
//! - `in` and `out` touch no memory: with the privilege for it they cannot fault, and one report is
//!   one execution. Where privilege is in question, they are taken back when an exception from their
//!   address follows (or counted as unverified where QEMU reports no exceptions).
//! - `ins` and `outs` show each element by a memory access, after it can no longer fault. An attempt
//!   is done when all its elements are.
//! - A `rep` that is left in the middle, by an interrupt, a fault or because QEMU pauses after
//!   65,536 elements, waits in a short list until it goes on.
//! - A hypervisor in the guest may have each of them intercepted. That ends an attempt before anything
//!   has been done, and shows where its guest is left (see [`super::nested`]); until then all are taken
//!   as executed.

use std::sync::Arc;

use self::exits::OtherVcpus;
use super::Rules;
use super::address::{linear, same_page, with_page};
use super::aliases::Aliases;
use super::attempt::{Current, Finished, StringReport, ZeroCountRestart};
use super::interrupted::{Interrupted, InterruptedString};
use super::nested::NestedGuests;
use super::operation::{Operation, Translated};
use super::strings::VcpuStrings;
use crate::access_log::VcpuLog;
use crate::qemu::{Next, ReadRegisters, Register, Token};
use crate::stats::{SiteId, VcpuCounters};
use crate::x86::{Cr0, Direction, Port, PortSource, Rflags, may_do_port_io_unconditionally};

/// What QEMU loads to look a port up in the TSS, with the string instruction's own accesses: the
/// offset of the I/O permission bitmap, and a word of it (`helper_check_io`).
const LOADS_OF_PERMISSION_CHECK: u8 = 2;

/// Counts what one vCPU does.
pub(super) struct VcpuCounter {
    rules: Rules,
    counters: Arc<VcpuCounters>,
    log: Option<VcpuLog>,
    interrupted: Arc<Interrupted>,
    /// Sites that run elsewhere than they were translated.
    aliases: Aliases,
    current: Current,
    finished: Option<Finished>,
    /// What was refused last without an element to tell it by (or, where faults are not reported, may
    /// have been): its handler may let it have its way, and return to it.
    refused: Option<(Operation, Option<Port>)>,
    /// An exception was raised and is not delivered yet.
    exception: bool,
    nested: NestedGuests,
    /// `None` where all strings are left to QEMU.
    strings: Option<VcpuStrings>,
    /// What vCPUs that share this one's thread were in, while guests of the guest's run.
    others: OtherVcpus,
}

impl VcpuCounter {
    pub fn new(
        rules: Rules,
        counters: Arc<VcpuCounters>,
        interrupted: Arc<Interrupted>,
        log: Option<VcpuLog>,
        nested: NestedGuests,
        strings: Option<VcpuStrings>,
    ) -> VcpuCounter {
        VcpuCounter {
            rules,
            counters,
            log,
            interrupted,
            aliases: Aliases::default(),
            current: Current::Nothing,
            finished: None,
            refused: None,
            exception: false,
            nested,
            strings,
            others: OtherVcpus::default(),
        }
    }

    /// An `in` or `out`.
    fn scalar(&mut self, operation: Operation, registers: &mut impl ReadRegisters) -> Next {
        let port = match operation.form().source() {
            PortSource::Immediate => operation.immediate(),
            _ => Port(registers.read(Register::Rdx) as u16),
        };
        self.abandon_previous();
        let in_question = self.attempt_without_elements(operation, Some(port), registers);

        let Some(log) = self.log.as_ref().filter(|log| log.covers(port)) else {
            return Next::Watched;
        };
        let value = match operation.form().direction() {
            Direction::In => None,
            Direction::Out => Some(registers.read(Register::Rax) as u32),
        };
        log.starts(operation.pc(), operation.form(), port, value, in_question);
        Next::Block
    }

    /// An attempt of which no memory access will tell, a scalar or a `rep` of count 0: counted as far
    /// as can be known. Whether it may be refused without anybody telling.
    #[inline]
    fn attempt_without_elements(
        &mut self,
        operation: Operation,
        port: Option<Port>,
        registers: &mut impl ReadRegisters,
    ) -> bool {
        let (form, site) = (operation.form(), operation.site());
        let is_resumed_attempt =
            self.refused.is_some() && self.resumes_at(operation, port, registers);
        if !self.rules.exceptions_reported && !cannot_fault(operation, registers) {
            if !is_resumed_attempt {
                self.counters.attempt(form);
                self.counters.unverified(form, site, port);
            }
            self.refused = Some((operation, port));
            if self.nested.any() {
                self.current = Current::Unverified(operation, port);
                self.nested.has_gone_on();
            }
            return true;
        }
        match is_resumed_attempt && self.rules.exceptions_reported {
            true => self.counters.fault_resumed(form),
            false => self.counters.attempt(form),
        }
        self.counters.executed(form, site);
        if let Some(port) = port {
            self.counters.accessed(form, site, port);
        }
        // A privileged one has retired, where nobody can intercept it. If an exception comes from its
        // address all the same, it is an instruction breakpoint, to which a jump has led straight back.
        if !operation.is_privileged() || self.nested.any() {
            self.current = Current::Presumed(operation, port);
            self.nested.has_gone_on();
        }
        false
    }

    /// Whether this is what was refused last, and goes on now that its handler has seen to the cause.
    #[cold]
    fn resumes_at(
        &mut self,
        operation: Operation,
        port: Option<Port>,
        registers: &mut impl ReadRegisters,
    ) -> bool {
        self.refused.take_if(|refused| *refused == (operation, port)).is_some()
            && self.is_resumed(operation, registers.read(Register::Rflags))
    }

    /// Whether something has come back to this instruction: a fault handler's IRET, which sets RF, or a
    /// hypervisor that has entered its guest there.
    fn is_resumed(&mut self, operation: Operation, rflags: u64) -> bool {
        let is_entered = self.nested.any() && self.nested.resumes_at(operation.pc());
        is_entered || rflags & Rflags::RESUME.bits() != 0
    }

    /// An `ins` or `outs`, with or without a repeat prefix.
    fn string(&mut self, token: Token, operation: Operation, registers: &mut impl ReadRegisters) {
        let port = Port(registers.read(Register::Rdx) as u16);
        let rflags = registers.read(Register::Rflags);
        let repeats = operation.form().source() == PortSource::RepString;
        let count = match repeats {
            true => operation.address_size().count(registers.read(Register::Rcx)),
            false => 1,
        };
        if count == 0 && self.is_zero_count_restart(operation, port, rflags) {
            self.abandon_current();
            return;
        }
        self.abandon_finished();
        if count == 0 {
            self.abandon_current();
            self.attempt_without_elements(operation, None, registers);
            return;
        }
        let mut left = match self.take_restarted(operation, port, count, rflags) {
            Some(left) => left,
            None => {
                self.abandon_current();
                self.counters.attempt(operation.form());
                InterruptedString {
                    operation,
                    port,
                    remaining: count,
                    begun: false,
                    faulted: false,
                }
            }
        };
        let checks_permission =
            operation.form().direction() == Direction::Out && !cannot_fault(operation, registers);
        let traps = rflags & Rflags::TRAP.bits() != 0;
        let look = match repeats {
            true if traps || self.rules.steps_reps => ZeroCountRestart::Always,
            true if count == 1 => ZeroCountRestart::Perhaps,
            _ => ZeroCountRestart::Never,
        };
        if repeats && !traps {
            self.move_ahead(&mut left, registers);
        }
        let report = StringReport {
            token,
            loads_to_ignore: if checks_permission { LOADS_OF_PERMISSION_CHECK } else { 0 },
            probed: false,
            traps,
            moved: false,
            look,
        };
        self.current = Current::InString(left, report);
    }

    /// Moves elements before QEMU moves the rest, where that comes to the same.
    fn move_ahead(&mut self, left: &mut InterruptedString, registers: &mut impl ReadRegisters) {
        let InterruptedString { operation, port, remaining, .. } = *left;
        let Some(strings) = &mut self.strings else { return };
        let Some(site) = operation.site().filter(|_| operation.is_privileged()) else { return };
        if self.nested.any() || self.log.as_ref().is_some_and(|log| log.covers(port)) {
            return;
        }
        let key = self.counters.key_of(site);
        let moved = strings.move_ahead(operation, key, port, remaining, registers);
        if moved > 0 {
            left.begun = true;
            left.remaining -= moved;
            self.counters.accessed_often(operation.form(), Some(site), port, moved);
        }
    }

    /// Whether a report with count 0 is the end of a `rep` that is already counted as done.
    fn is_zero_count_restart(&mut self, operation: Operation, port: Port, rflags: u64) -> bool {
        let same = |finished: &mut Finished| {
            // QEMU sets RF when it leaves a `rep`, and nothing but an IRET sets it otherwise.
            let due = match finished.look {
                ZeroCountRestart::Always => true,
                ZeroCountRestart::Perhaps => rflags & Rflags::RESUME.bits() != 0,
                ZeroCountRestart::Never => false,
            };
            finished.operation == operation && due
        };
        self.finished.take_if(same).is_some()
            || self
                .interrupted
                .take(|left| left.remaining == 0 && goes_on(left, operation, port, 0))
                .is_some()
    }

    /// The attempt that goes on with this report, if one does: same instruction, and just the
    /// elements left that the count says.
    fn take_restarted(
        &mut self,
        operation: Operation,
        port: Port,
        count: u64,
        rflags: u64,
    ) -> Option<InterruptedString> {
        let is_resumed = self.is_resumed(operation, rflags);
        // Nothing was reported in between: QEMU itself started over, because it pauses a long `rep`
        // or because an `ins` has overwritten its own block. Or it is an `outs` whose first element
        // faulted without a report.
        if let Current::InString(left, _) = self.current
            && goes_on(&left, operation, port, count)
            && (self.rules.exceptions_reported
                || operation.form().direction() == Direction::In
                || !left.must_show_rf()
                || is_resumed)
        {
            self.current = Current::Nothing;
            return Some(left);
        }
        let left = self.interrupted.take(|left| {
            goes_on(left, operation, port, count) && (is_resumed || !left.must_show_rf())
        })?;
        self.abandon_current();
        if left.faulted {
            // The fault was handled and the instruction goes on: the same attempt.
            self.counters.fault_resumed(operation.form());
        }
        Some(InterruptedString { faulted: false, ..left })
    }

    /// A translated instruction, at the address at which it is about to run.
    fn at_run_time(
        &mut self,
        translated: Translated,
        registers: &mut impl ReadRegisters,
    ) -> Operation {
        let rip = registers.rip();
        let Some(site) = translated.site() else {
            return translated.runs(None, translated.pc_without_row(rip));
        };
        let (pc, page) = (self.counters.address_of(site), linear(translated.base(), rip));
        if same_page(pc, page) {
            return translated.runs(Some(site), pc);
        }
        let pc = with_page(pc, page);
        let alias = self.aliases.site(site, pc, || self.counters.alias_of(site, pc));
        translated.runs(alias, pc)
    }
}

impl VcpuCounter {
    #[inline]
    pub fn about_to_run(&mut self, token: Token, registers: &mut impl ReadRegisters) -> Next {
        let translated = Translated::from_token(token);
        match translated.plain_site() {
            Some(site)
                if self.is_undisturbed() && self.is_at_home(translated.base(), site, registers) =>
            {
                let port = match translated.form().source() {
                    PortSource::Immediate => translated.immediate(),
                    _ => Port(registers.read_u16(Register::Rdx)),
                };
                self.counters.scalar(translated.form(), site, port);
                self.exception = false;
                Next::Watched
            }
            _ => self.about_to_run_another(token, registers),
        }
    }

    /// Whether an instruction runs at the address of its translation, whose site this is.
    #[inline]
    fn is_at_home(&self, base: u32, site: SiteId, registers: &mut impl ReadRegisters) -> bool {
        same_page(self.counters.address_of(site), linear(base, registers.rip()))
    }

    /// Whether nothing is to be seen to, or to be told to others, when an instruction is counted that
    /// surely retires.
    #[inline]
    fn is_undisturbed(&self) -> bool {
        matches!(self.current, Current::Nothing)
            && self.finished.is_none()
            && self.refused.is_none()
            && self.log.is_none()
            && !self.nested.any()
    }

    #[inline(never)]
    fn about_to_run_another(&mut self, token: Token, registers: &mut impl ReadRegisters) -> Next {
        if self.nested.any() {
            self.switch_vcpu();
        }
        let operation = self.at_run_time(Translated::from_token(token), registers);
        let next = if operation.form().is_string() {
            self.string(token, operation, registers);
            Next::Watched
        } else {
            self.scalar(operation, registers)
        };
        self.exception = false;
        next
    }

    pub fn memory_accessed(&mut self, token: Token, value: impl FnOnce() -> u32) {
        let Current::InString(left, report) = &mut self.current else { return };
        if report.token != token {
            return;
        }
        let operation = left.operation;
        let (form, site) = (operation.form(), operation.site());
        if report.loads_to_ignore > 0 {
            report.loads_to_ignore -= 1;
            return;
        }
        if form.direction() == Direction::In && !report.probed {
            report.probed = true;
            return;
        }
        report.probed = false;
        report.moved = true;
        left.begun = true;
        left.remaining -= 1;
        self.counters.accessed(form, site, left.port);
        let (port, remaining, look) = (left.port, left.remaining, report.look);
        if remaining == 0 {
            self.counters.executed(form, site);
            self.current = Current::Nothing;
            self.finished = Some(Finished { operation, port, look });
        }
        if let Some(log) = self.log.as_ref().filter(|log| log.covers(port)) {
            log.access(operation.pc(), form.into(), port, value());
        }
    }

    pub fn block_begins(&mut self, registers: &mut impl ReadRegisters) {
        let Some(log) = &self.log else { return };
        let eax = || registers.read(Register::Rax) as u32;
        // The block may be a hypervisor's, which is known when its first instruction is reported.
        match self.nested.any() {
            true => log.left(eax),
            false => log.retired(eax),
        }
    }
}

fn goes_on(left: &InterruptedString, operation: Operation, port: Port, count: u64) -> bool {
    left.operation == operation && left.port == port && left.remaining == count
}

/// Whether the instruction needs no permission from the TSS: then a scalar cannot fault at all.
fn cannot_fault(operation: Operation, registers: &mut impl ReadRegisters) -> bool {
    if operation.is_privileged() {
        return true;
    }
    let rflags = Rflags::from_bits_retain(registers.read(Register::Rflags));
    let cs = registers.read(Register::Cs);
    let cr0 = || Cr0::from_bits_retain(registers.read(Register::Cr0));
    may_do_port_io_unconditionally(rflags, cs, cr0)
}

mod exits;
mod leaving;
#[cfg(test)]
mod tests;
