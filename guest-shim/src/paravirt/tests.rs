//! Scalars and strings on a simulated machine.

use std::vec::Vec;

use super::*;
use crate::abi::status;
use crate::simulation::{By, Simulation};

/// Makes all six scalar accesses. Returns the values read.
fn scalars(machine: &Simulation) -> (u8, u16, u32) {
    let io = Paravirt { machine, segment_base: 0 };
    // SAFETY: nothing can go wrong in a simulation.
    unsafe {
        io.outb(0xab, 0x300);
        io.outw(0xabcd, 0x301);
        io.outl(0xabcd_ef01, 0x302);
        (io.inb(0x303), io.inw(0x304), io.inl(0xffff))
    }
}

#[test]
fn each_access_happens_once_and_by_call_if_answered() {
    let refused = Simulation { refusal: Some(status::DENIED), ..Simulation::host() };
    for (machine, by) in [
        (Simulation::host(), By::Call),
        (Simulation::default(), By::Instruction),
        (refused, By::Instruction),
    ] {
        assert_eq!(scalars(&machine), (1, 2, 3));
        let expected = [
            (by, call::OUTB, 0x300, 0xab),
            (by, call::OUTW, 0x301, 0xabcd),
            (by, call::OUTL, 0x302, 0xabcd_ef01),
            (by, call::INB, 0x303, 1),
            (by, call::INW, 0x304, 2),
            (by, call::INL, 0xffff, 3),
        ];
        assert_eq!(machine.accesses(), expected);
        assert_eq!(machine.diary.borrow().calls, 6);
    }
}

#[test]
fn declined_accesses_are_executed() {
    let machine = Simulation { declined: [0x301, 0xffff].into(), ..Simulation::host() };
    assert_eq!(scalars(&machine), (1, 2, 3));
    assert_eq!(machine.ways(), [By::Call, By::Instruction, By::Call, By::Instruction]);
}

// ---- Strings ----

/// A few pages of memory, and not a whole number of them.
pub(crate) const COUNT: usize = 3000;

fn check(machine: &Simulation) {
    check_strings(&Paravirt { machine, segment_base: machine.segment_base }, machine);
}

/// Writes and reads strings of all three sizes, and checks the values and the number of accesses.
pub(crate) fn check_strings(io: &impl PortIo, machine: &Simulation) {
    let values: Vec<u32> = (0..COUNT as u32).collect();
    let mut longs: Vec<u32> = values.clone();
    let mut words: Vec<u16> = values.iter().map(|value| *value as u16).collect();
    let mut bytes: Vec<u8> = values.iter().map(|value| *value as u8).collect();
    // SAFETY: nothing can go wrong in a simulation.
    unsafe {
        io.outsl(0x300, &longs);
        io.outsw(0x301, &words);
        io.outsb(0x302, &bytes);
        io.insl(0x303, &mut longs);
        io.insw(0x304, &mut words);
        io.insb(0x305, &mut bytes);
        io.insb(0x305, &mut []);
        io.outsl(0x305, &[]);
    }
    let cut = values.iter().map(|value| value & 0xff);
    assert!(machine.written().into_iter().eq(values.iter().chain(&values).copied().chain(cut)));
    let read = 1..=3 * COUNT as u32;
    let all = longs.into_iter().chain(words.into_iter().map(u32::from));
    let all = all.chain(bytes.into_iter().map(u32::from));
    assert!(all.eq(read.map(|value| match value as usize {
        value if value <= 2 * COUNT => value as u32,
        value => value as u32 & 0xff,
    })));
    assert_eq!(machine.accesses().len(), 6 * COUNT);
}

#[test]
fn one_call_moves_all() {
    let machine = Simulation::host();
    check(&machine);
    assert_eq!(machine.diary.borrow().calls, 6);
    assert_eq!(machine.ways(), [By::Call]);
}

#[test]
fn a_partial_answer_is_followed_by_another_call() {
    let machine = Simulation { elements_max: 7, ..Simulation::host() };
    check(&machine);
    assert_eq!(machine.diary.borrow().calls, 6 * COUNT.div_ceil(7));
    assert_eq!(machine.ways(), [By::Call]);
}

#[test]
fn a_page_answer_touches_the_page() {
    // Some bases make elements span two pages.
    for segment_base in [0, 1, 0x1000_0002] {
        let machine = Simulation { pages: true, segment_base, ..Simulation::host() };
        check(&machine);
        assert_eq!(machine.ways(), [By::Call]);
        // About three pages of 32-bit elements, two of 16, one of 8, and one for each element that spans.
        let calls = machine.diary.borrow().calls;
        assert!((6 + 5..6 + 11).contains(&calls), "{calls}");
    }
}

#[test]
fn pages_that_stay_unjudged_are_moved_element_by_element() {
    let machine = Simulation { pages: true, stubborn: true, ..Simulation::host() };
    check(&machine);
    assert_eq!(machine.ways(), [By::Call]);
    // Three calls for each element: PAGE, PAGE after the touch, the scalar.
    assert_eq!(machine.diary.borrow().calls, 6 * COUNT * 3);
}

#[test]
fn a_host_that_moves_nothing_gets_scalar_calls() {
    let machine = Simulation { elements_max: 0, ..Simulation::host() };
    check(&machine);
    assert_eq!(machine.diary.borrow().calls, 6 * COUNT * 2);
}

#[test]
fn other_statuses_leave_the_string_to_the_cpu() {
    let refusals = status::DECLINED..=status::FAILED + 1;
    let refused = refusals.filter(|code| *code != status::PAGE);
    let refused = refused.map(|code| Simulation { refusal: Some(code), ..Simulation::host() });
    for machine in refused.chain([Simulation::default()]) {
        check(&machine);
        assert_eq!(machine.diary.borrow().calls, 6);
        assert_eq!(machine.ways(), [By::Instruction]);
    }
}

#[test]
fn each_string_operation_makes_its_own_call() {
    let machine = Simulation { declined: [0x301, 0x305].into(), ..Simulation::host() };
    check(&machine);
    let mut kinds: Vec<(By, u8)> = Vec::new();
    machine.accesses().iter().for_each(|access| kinds.push((access.0, access.1)));
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            (By::Call, call::OUTL),
            (By::Instruction, call::OUTW),
            (By::Call, call::OUTB),
            (By::Call, call::INL),
            (By::Call, call::INW),
            (By::Instruction, call::INB),
        ]
    );
}
