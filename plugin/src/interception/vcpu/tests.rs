//! QEMU's reports in the orders that it makes them, and what is to be counted.

mod aliases;
mod exits;
mod faults;

use super::*;
use crate::interception::address::CodeAddress;
use crate::qemu::{Discontinuity, Ended, HostInfo, VcpuIndex};
use crate::stats::{FormRow, SiteKey, SiteRow, Snapshot, SnapshotContext, Statistics};
use crate::x86::{Mode, PortForm, decode};

/// Registers with values from a function.
struct Fixed<F>(F);

impl<F: Fn(Register) -> u64> ReadRegisters for Fixed<F> {
    fn read(&mut self, register: Register) -> u64 {
        (self.0)(register)
    }
}

/// A vCPU with registers, and the instructions that it runs.
struct Guest {
    statistics: Statistics,
    counter: VcpuCounter,
    exceptions_reported: bool,
    rcx: u64,
    rdx: u64,
    rflags: u64,
    cs: u64,
    /// Whether the translation is known to be for privileged code.
    privileged: bool,
    /// How far the code runs from the address of its translation.
    distance: u64,
}

const RING_0: u64 = 0x08;
const RING_3: u64 = 0x1b;
const PC: u64 = 0x10_0000;

impl Guest {
    fn new(rules: Rules) -> Guest {
        let statistics = Statistics::default();
        let counter = VcpuCounter::new(
            rules,
            statistics.counters(VcpuIndex(0)),
            Arc::default(),
            None,
            NestedGuests::default(),
            None,
        );
        let exceptions_reported = rules.exceptions_reported;
        Guest {
            statistics,
            counter,
            exceptions_reported,
            rcx: 0,
            rdx: 0x5000,
            rflags: 2,
            cs: RING_0,
            privileged: false,
            distance: 0,
        }
    }

    /// On QEMU 11, which reports exceptions.
    fn on_api_7() -> Guest {
        Guest::new(Rules { exceptions_reported: true, steps_reps: false })
    }

    /// On QEMU 10.0, which does not.
    fn on_api_4() -> Guest {
        Guest::new(Rules { exceptions_reported: false, steps_reps: false })
    }

    /// On QEMU 9.2, which also leaves every `rep` after each element, and does not set RF.
    fn on_9_2() -> Guest {
        Guest::new(Rules { exceptions_reported: false, steps_reps: true })
    }

    fn operation(&self, code: &[u8], pc: u64) -> Token {
        let decoded = decode(code, Mode::Bits32).unwrap();
        let key = SiteKey { pc, mode: Some(Mode::Bits32), bytes: code.try_into().unwrap() };
        let site = self.statistics.sites.enter(key, decoded.form);
        let address = CodeAddress { base: 0, offset: (pc & 0xfff) as u16 };
        Translated::new(decoded, site, address, self.privileged).to_token()
    }

    /// QEMU is about to run this instruction.
    fn start(&mut self, code: &[u8], pc: u64) -> Token {
        let token = self.operation(code, pc.wrapping_sub(self.distance));
        // As at the beginning of the instruction's block.
        let rip = pc & !0x3f;
        let (rcx, rdx, rflags, cs) = (self.rcx, self.rdx, self.rflags, self.cs);
        self.counter.about_to_run(
            token,
            &mut Fixed(|register| match register {
                Register::Rax => 0,
                Register::Rcx => rcx,
                Register::Rdx => rdx,
                Register::Rflags => rflags,
                Register::Rip => rip,
                Register::Cs => cs,
                Register::Cr0 => 1,
                Register::Cr3 | Register::Cr4 | Register::Efer => {
                    unreachable!("port I/O does not depend on it")
                }
            }),
        );
        token
    }

    /// Elements are moved: `ins` stores each twice, `outs` loads it once.
    fn elements(&mut self, token: Token, count: u64) {
        let stores = match Translated::from_token(token).form().direction() {
            Direction::In => 2,
            Direction::Out => 1,
        };
        if stores == 1 && self.cs == RING_3 && self.rflags & (3 << 12) == 0 {
            self.permission_check(token);
        }
        for _ in 0..count * stores {
            self.counter.memory_accessed(token, || 0);
        }
        self.rcx = self.rcx.wrapping_sub(count);
    }

    /// QEMU looks the port up in the TSS, in the name of the instruction. Of `ins`, only writes are
    /// watched.
    fn permission_check(&mut self, token: Token) {
        if Translated::from_token(token).form().direction() == Direction::Out {
            for _ in 0..2 {
                self.counter.memory_accessed(token, || 0);
            }
        }
    }

    fn exception_at(&mut self, pc: u64) {
        self.counter.discontinuity(Discontinuity::Exception);
        self.counter.discontinuity(Discontinuity::Delivered { from: pc });
    }

    fn interrupt_at(&mut self, pc: u64) {
        self.counter.discontinuity(Discontinuity::Delivered { from: pc });
    }

    fn snapshot(&self) -> Snapshot {
        let host = HostInfo {
            api: crate::qemu::ApiLevel(if self.exceptions_reported { 7 } else { 4 }),
            version: None,
            target: "x86_64".into(),
            max_vcpus: 1,
            icount: false,
            recorded: false,
            command_line: Default::default(),
            memory_is_readable: true,
        };
        self.statistics.snapshot(&SnapshotContext {
            host: &host,
            ended: Some(Ended::Quit),
            symbols: &Default::default(),
            own_kind: &|_| None,
            at_port: &|_| crate::qemu::AtPort::Unknown,
        })
    }

    /// Attempts, executions, accesses, faults, unverified of one form. Whatever happened, the
    /// tables agree with each other.
    fn row(&self, form: PortForm) -> [u64; 5] {
        let snapshot = self.snapshot();
        let of_forms = |column: fn(&FormRow) -> u64| snapshot.forms.iter().map(column).sum::<u64>();
        assert_eq!(
            of_forms(|row| row.accesses),
            snapshot.ports.iter().map(|row| row.qemu).sum::<u64>()
        );
        assert_eq!(
            of_forms(|row| row.executions),
            snapshot.sites.iter().map(|row| row.counts.executions).sum::<u64>()
        );
        let row = &snapshot.forms[form.index()];
        [row.attempts, row.executions, row.accesses, row.faults.unwrap_or(0), row.unverified]
    }
}

const OUT: &[u8] = &[0xee];
const INSB: &[u8] = &[0x6c];
const REP_INSB: &[u8] = &[0xf3, 0x6c];
const REP_OUTSB: &[u8] = &[0xf3, 0x6e];

#[test]
fn one_report_of_a_scalar_is_one_execution() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4(), Guest::on_9_2()] {
        for _ in 0..3 {
            guest.start(OUT, PC);
        }
        assert_eq!(guest.row(PortForm::OutDxAl), [3, 3, 3, 0, 0]);
    }
}

#[test]
fn a_string_instruction_is_done_when_its_elements_are() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4(), Guest::on_9_2()] {
        guest.cs = RING_3;
        let token = guest.start(INSB, PC);
        guest.elements(token, 1);
        guest.rcx = 5;
        let token = guest.start(REP_OUTSB, PC + 8);
        guest.elements(token, 5);
        assert_eq!(guest.row(PortForm::Insb), [1, 1, 1, 0, 0]);
        assert_eq!(guest.row(PortForm::RepOutsb), [1, 1, 5, 0, 0]);
    }
}

#[test]
fn a_rep_of_count_zero_is_one_execution_and_no_access() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4(), Guest::on_9_2()] {
        guest.start(REP_INSB, PC);
        guest.start(REP_INSB, PC);
        assert_eq!(guest.row(PortForm::RepInsb)[..3], [2, 2, 0]);
    }
}

#[test]
fn a_count_has_the_bits_of_the_address_size() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 0xffff_ffff_0001_0003;
    let token = guest.start(&[0x67, 0xf3, 0x6e], PC);
    guest.elements(token, 3);
    assert_eq!(guest.row(PortForm::RepOutsb), [1, 1, 3, 0, 0]);
}

#[test]
fn a_long_rep_that_qemu_pauses_is_one_attempt() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 200_000;
    for part in [65_536, 65_536, 65_536, 3_392] {
        let token = guest.start(REP_OUTSB, PC);
        guest.elements(token, part);
        guest.rflags |= Rflags::RESUME.bits();
    }
    assert_eq!(guest.row(PortForm::RepOutsb), [1, 1, 200_000, 0, 0]);
}

#[test]
fn a_rep_goes_on_after_an_interrupt_whose_handler_does_io() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4()] {
        guest.rcx = 10;
        let token = guest.start(REP_INSB, PC);
        guest.elements(token, 4);
        if guest.exceptions_reported {
            guest.interrupt_at(PC);
        }
        guest.start(OUT, PC + 0x100);
        guest.rflags |= Rflags::RESUME.bits();
        let token = guest.start(REP_INSB, PC);
        guest.elements(token, 6);
        assert_eq!(guest.row(PortForm::RepInsb), [1, 1, 10, 0, 0]);
        assert_eq!(guest.row(PortForm::OutDxAl), [1, 1, 1, 0, 0]);
    }
}

/// Moves three elements, one in each report, and the look at the count.
fn step_through_a_rep(guest: &mut Guest, between: impl Fn(&mut Guest)) {
    guest.rcx = 3;
    for _ in 0..3 {
        let token = guest.start(REP_OUTSB, PC);
        guest.elements(token, 1);
        between(guest);
    }
    guest.start(REP_OUTSB, PC);
}

#[test]
fn stepping_through_a_rep_ends_with_a_look_at_the_count() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4()] {
        guest.rflags |= Rflags::TRAP.bits();
        // The handler of the trap does I/O, and returns by a 16-bit IRET, which drops RF.
        step_through_a_rep(&mut guest, |guest| {
            if guest.exceptions_reported {
                guest.exception_at(PC);
            }
            guest.start(OUT, PC + 0x100);
        });
        assert_eq!(guest.row(PortForm::RepOutsb), [1, 1, 3, 0, 0]);
        assert_eq!(guest.row(PortForm::OutDxAl)[..3], [3, 3, 3]);
    }
}

#[test]
fn under_icount_every_rep_ends_with_a_look_at_the_count() {
    for exceptions_reported in [true, false] {
        let mut guest = Guest::new(Rules { exceptions_reported, steps_reps: true });
        for _ in 0..2 {
            step_through_a_rep(&mut guest, |_| ());
        }
        guest.rcx = 0;
        guest.start(REP_OUTSB, PC);
        assert_eq!(guest.row(PortForm::RepOutsb)[..3], [3, 3, 6]);
    }
}

#[test]
fn one_element_right_after_sti_ends_with_a_look_at_the_count() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 1;
    let token = guest.start(REP_OUTSB, PC);
    guest.elements(token, 1);
    guest.rflags |= Rflags::RESUME.bits();
    guest.start(REP_OUTSB, PC);
    assert_eq!(guest.row(PortForm::RepOutsb), [1, 1, 1, 0, 0]);
}

/// A hardware interrupt just before the instruction sets RF too.
#[test]
fn count_zero_with_rf_set_is_an_execution() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4()] {
        guest.rflags |= Rflags::RESUME.bits();
        for _ in 0..2 {
            guest.interrupt_at(PC);
            guest.start(REP_INSB, PC);
        }
        assert_eq!(guest.row(PortForm::RepInsb)[..3], [2, 2, 0]);
    }
}

#[test]
fn ins_that_overwrites_its_own_block_is_reported_twice_and_runs_once() {
    let mut guest = Guest::on_api_7();
    // The dummy store throws the block away before it is reported, and the instruction starts over.
    guest.start(INSB, PC);
    let token = guest.start(INSB, PC);
    guest.elements(token, 1);
    assert_eq!(guest.row(PortForm::Insb), [1, 1, 1, 0, 0]);
}

#[test]
fn nested_handlers_each_come_back_to_their_own() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 10;
    let outer = guest.start(REP_OUTSB, PC);
    guest.elements(outer, 1);
    guest.interrupt_at(PC);
    let outer_left = std::mem::replace(&mut guest.rcx, 20);
    let inner = guest.start(REP_OUTSB, PC + 0x100);
    guest.elements(inner, 2);
    guest.interrupt_at(PC + 0x100);
    guest.rflags |= Rflags::RESUME.bits();
    let inner = guest.start(REP_OUTSB, PC + 0x100);
    guest.elements(inner, 18);
    guest.rcx = outer_left;
    let outer = guest.start(REP_OUTSB, PC);
    guest.elements(outer, 9);
    assert_eq!(guest.row(PortForm::RepOutsb), [2, 2, 30, 0, 0]);
}

#[test]
fn more_interrupted_reps_than_there_is_room_for_still_count_their_elements() {
    let mut guest = Guest::on_api_7();
    for n in 0..100 {
        guest.rcx = 5;
        let token = guest.start(REP_OUTSB, PC + n);
        guest.elements(token, 1);
        guest.interrupt_at(PC + n);
    }
    assert_eq!(guest.row(PortForm::RepOutsb), [100, 0, 100, 0, 0]);
}

#[test]
fn another_port_is_another_attempt() {
    let mut guest = Guest::on_api_4();
    guest.rcx = 10;
    let token = guest.start(REP_OUTSB, PC);
    guest.elements(token, 3);
    guest.rcx = 7;
    guest.rdx = 0x5001;
    let token = guest.start(REP_OUTSB, PC);
    guest.elements(token, 7);
    assert_eq!(guest.row(PortForm::RepOutsb), [2, 1, 10, 0, 0]);
    let ports: Vec<_> = guest.snapshot().ports.iter().map(|row| (row.port.0, row.qemu)).collect();
    assert_eq!(ports, [(0x5000, 3), (0x5001, 7)]);
}

#[test]
fn a_rep_may_go_on_on_another_vcpu() {
    let interrupted = Arc::new(Interrupted::default());
    let mut guests = [Guest::on_api_7(), Guest::on_api_7()];
    for guest in &mut guests {
        let counters = guest.statistics.counters(VcpuIndex(0));
        let rules = guest.counter.rules;
        guest.counter = VcpuCounter::new(
            rules,
            counters,
            Arc::clone(&interrupted),
            None,
            NestedGuests::default(),
            None,
        );
        // So that both number their sites alike.
        guest.operation(REP_OUTSB, PC);
    }
    let [first, second] = &mut guests;
    first.rcx = 10;
    let token = first.start(REP_OUTSB, PC);
    first.elements(token, 4);
    first.interrupt_at(PC);
    second.rcx = 6;
    let token = second.start(REP_OUTSB, PC);
    second.elements(token, 6);
    assert_eq!(first.row(PortForm::RepOutsb), [1, 0, 4, 0, 0]);
    assert_eq!(second.row(PortForm::RepOutsb), [0, 1, 6, 0, 0]);
}
