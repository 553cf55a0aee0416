//! A 64-bit kernel is unwound by its own tables, from live and from captured stacks.

use super::{OPTIONS, find};
use crate::guest::synthetic_kernel::{
    FUNCTIONS, Guest, MODULE, Options, STACK, STACK_SIZE, STRIDE, TEXT, unwound,
};
use crate::guest::{
    CaptureTable, Chain, End, Frame, Kernel, KnownKernel, MOST_FRAMES, MOST_OF_SITE, StackId,
    Start, unwind,
};

/// The stack pointer in the tests.
const SP: u64 = TEXT + STACK + STACK_SIZE - 0x400;
/// A function of the many that push nothing.
const LEAF: u64 = 20;

const SITE: u32 = 7;

/// A known kernel is final; without one, more may be known later.
fn known_as(kernel: Option<&Kernel>) -> KnownKernel<'_> {
    KnownKernel { kernel, may_change: kernel.is_none() }
}

fn chain_of(table: &CaptureTable, id: StackId) -> Option<Chain> {
    let (callers, end) = table.chain(id)?;
    Some(Chain { frames: callers.iter().map(|caller| caller.frame).collect(), end })
}

/// Code in a function, after a call.
fn code(function: u64) -> u64 {
    TEXT + function * STRIDE + 5
}

/// Kernels before and since 6.4, with these words on the stack.
fn guests(words: &[u64]) -> impl Iterator<Item = (Guest, Kernel)> {
    [false, true].into_iter().map(|has_mem| {
        let mut guest = Guest::new(Options { has_mem, ..OPTIONS });
        guest.put_words(SP, words);
        let kernel = find(&guest).unwrap();
        (guest, kernel)
    })
}

fn chain(guest: &Guest, kernel: &Kernel, start: &Start) -> Chain {
    let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(guest, at, into);
    let unwound = unwind(Some(kernel), start, MOST_FRAMES, &mut read);
    assert!(unwound.recipe.matches(start, &mut read));
    unwound.chain
}

fn assert_chain(words: &[u64], start: Start, frames: &[Frame], end: End) {
    for (guest, kernel) in guests(words) {
        let expected = Chain { frames: frames.to_vec(), end };
        assert_eq!(chain(&guest, &kernel, &start), expected);
    }
}

/// A stack from a leaf to the first function of a thread.
const CALLS: [u64; 8] = [
    TEXT + unwound::SAVES_BP * STRIDE + 5,
    0x1234,
    SP + 0x28,
    TEXT + unwound::BY_BP * STRIDE + 5,
    0x5678,
    0,
    TEXT + unwound::END * STRIDE + 5,
    0,
];

fn frames_of_calls() -> [Frame; 3] {
    [unwound::SAVES_BP, unwound::BY_BP, unwound::END].map(|function| Frame::Return(code(function)))
}

#[test]
fn calls_are_unwound_to_the_beginning_of_a_thread() {
    let start = Start::flat(code(LEAF), SP, 0x99);
    assert_chain(&CALLS, start, &frames_of_calls(), End::Bottom);
}

#[test]
fn an_interrupt_is_unwound_to_user_mode() {
    let mut words = vec![code(unwound::REGS)];
    let mut regs = [0; 21];
    // RBP, RIP, CS, RSP: the first instruction of a function was not run yet.
    (regs[4], regs[16]) = (SP + 0x100, TEXT + unwound::BY_BP * STRIDE);
    (regs[17], regs[19]) = (0x10, SP + 0xe0);
    words.extend(regs);
    words.resize(0x100 / 8, 0);
    words.extend([0x77, code(unwound::REGS_PARTIAL)]);
    // The frame that the processor pushed when it left user mode.
    words.extend([0x40_1000, 0x33, 0x246, 0x7ff0_0000, 0x2b]);
    let frames = [
        Frame::Return(code(unwound::REGS)),
        Frame::Interrupted(TEXT + unwound::BY_BP * STRIDE),
        Frame::Return(code(unwound::REGS_PARTIAL)),
    ];
    assert_chain(&words, Start::flat(code(LEAF), SP, 0), &frames, End::UserMode);
}

#[test]
fn a_switch_of_stacks_is_followed() {
    let mut words = vec![code(unwound::SWITCHES_STACK), SP + 0x80];
    words.resize(0x80 / 8 + 1, 0);
    words.push(code(unwound::END));
    let frames = [unwound::SWITCHES_STACK, unwound::END].map(|it| Frame::Return(code(it)));
    assert_chain(&words, Start::flat(code(LEAF), SP, 0), &frames, End::Bottom);
}

#[test]
fn a_module_is_unwound_by_its_own_table() {
    let words = [MODULE + 0x10, 1, 2, code(unwound::END)];
    // The module's second function saves RBP.
    let start = Start::flat(MODULE + 0x900, SP + 8, 0);
    assert_chain(&words, start, &[Frame::Return(code(unwound::END))], End::Bottom);
    let start = Start::flat(MODULE + 0x1000, SP, 0);
    assert_chain(&words, start, &[], End::Unknown);
}

#[test]
fn a_module_that_was_replaced_has_no_chains_of_its_successor() {
    let words = [MODULE + 0x10, 1, 2, code(unwound::END)];
    for (mut guest, kernel) in guests(&words) {
        let mut table = CaptureTable::new(MOST_FRAMES);
        let start = Start::flat(MODULE + 0x900, SP + 8, 0);
        let mut find = |guest: &Guest, may_change| {
            let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(guest, at, into);
            table.find(SITE, KnownKernel { kernel: Some(&kernel), may_change }, &start, &mut read)
        };
        let first = find(&guest, true);
        assert_eq!(find(&guest, true).stack, first.stack);
        // The same code at the same address, by another name.
        guest.put_linear(MODULE + 0x2000 + 24, b"drives\0");
        let second = find(&guest, true);
        assert!(second.waits && second.stack != first.stack, "{second:?}");
        let third = find(&guest, false);
        let unknown = Chain { frames: Vec::new(), end: End::Unknown };
        assert_eq!(chain_of(&table, third.stack.unwrap()), Some(unknown));
    }
}

/// Another build may have the same name, address and size.
#[test]
fn another_build_of_a_module_has_other_chains() {
    let words = [MODULE + 0x50, code(unwound::END)];
    for (mut guest, kernel) in guests(&words) {
        let mut table = CaptureTable::new(MOST_FRAMES);
        let mut find = |guest: &Guest| {
            let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(guest, at, into);
            let start = Start::flat(code(LEAF), SP, 0);
            table.find(SITE, known_as(Some(&kernel)), &start, &mut read).stack
        };
        let first = find(&guest);
        assert_eq!(find(&guest), first);
        guest.put_linear(MODULE + 0x50 - 8, &[0x90; 8]);
        assert_ne!(find(&guest), first);
    }
}

/// Another module may have been there when the stack was copied.
#[test]
fn a_captured_stack_knows_no_modules_but_those_of_its_own_access() {
    let words = [MODULE + 0x50, code(unwound::END)];
    let end = Frame::Return(code(unwound::END));
    for (guest, kernel) in guests(&words) {
        for is_current in [false, true] {
            let mut table = CaptureTable::new(MOST_FRAMES);
            let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&guest, at, into);
            let starts = [Start::flat(code(LEAF), SP, 0), Start::flat(MODULE + 0x50, SP + 8, 0)];
            for (start, in_module) in starts.iter().zip([false, true]) {
                let stack = table.find(SITE, known_as(None), start, &mut read).stack;
                // More may be known later, but not of this stack.
                let known = KnownKernel { kernel: Some(&kernel), may_change: true };
                table.resolve(known, stack.filter(|_| is_current), &mut read);
                assert_eq!(table.waiting(), 0);
                let called = if in_module { None } else { Some(Frame::Return(MODULE + 0x50)) };
                let above = if is_current { Some(end) } else { None };
                let frames = called.into_iter().chain(above).collect();
                let why = if is_current { End::Bottom } else { End::Unknown };
                let stack = stack.unwrap();
                assert_eq!(chain_of(&table, stack), Some(Chain { frames, end: why }));
                let (callers, _) = table.chain(stack).unwrap();
                let name = callers.first().and_then(|caller| caller.in_module.as_deref());
                let is_named = is_current && !in_module;
                assert_eq!(name, is_named.then_some("probe+0x10 [driver]"));
            }
        }
    }
}

#[test]
fn code_that_no_table_has_is_unknown() {
    let nowhere = [TEXT - 1, TEXT + FUNCTIONS * STRIDE + 1, 0x40_0000, code(unwound::UNDEFINED)];
    for ip in nowhere {
        assert_chain(&CALLS, Start::flat(ip, SP, 0), &[], End::Unknown);
        let mut words = CALLS;
        words[0] = ip;
        let frames = [Frame::Return(ip)];
        assert_chain(&words, Start::flat(code(LEAF), SP, 0), &frames, End::Unknown);
    }
}

#[test]
fn a_stack_that_is_not_there_is_unknown() {
    for sp in [0, 8, SP - (1 << 40), u64::MAX - 3] {
        assert_chain(&CALLS, Start::flat(code(LEAF), sp, 0), &[], End::Unknown);
    }
}

#[test]
fn a_captured_stack_is_unwound_when_the_kernel_is_known() {
    for (mut guest, kernel) in guests(&CALLS) {
        let mut table = CaptureTable::new(MOST_FRAMES);
        let start = Start::flat(code(LEAF), SP, 0x99);
        let mut find = |guest: &Guest, start: &Start, known: Option<&Kernel>| {
            let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(guest, at, into);
            table.find(SITE, known_as(known), start, &mut read).stack.unwrap()
        };
        let first = find(&guest, &start, None);
        // A word that cannot be code makes no other stack; a return address does.
        guest.put_words(SP + 8, &[0x4321]);
        assert_eq!(find(&guest, &start, None), first);
        guest.put_words(SP, &[code(unwound::END)]);
        let second = find(&guest, &start, None);
        assert_ne!(second, first);
        assert_eq!(table.waiting(), 2);
        assert_eq!(chain_of(&table, first), None);

        // The stack is another by now.
        guest.put_words(SP, &[0; 8]);
        table.resolve(known_as(Some(&kernel)), None, &mut |at, into| {
            kernel.read_linear(&guest, at, into)
        });
        assert_eq!(table.waiting(), 0);
        let expected = Chain { frames: frames_of_calls().to_vec(), end: End::Bottom };
        assert_eq!(chain_of(&table, first), Some(expected));
        let frames = vec![Frame::Return(code(unwound::END))];
        assert_eq!(chain_of(&table, second), Some(Chain { frames, end: End::Bottom }));
    }
}

/// An interrupt has a stack of its own, apart from the interrupted one.
#[test]
fn stacks_of_interrupts_differ_by_what_was_interrupted() {
    let (mut guest, kernel) = guests(&[]).next().unwrap();
    let mut table = CaptureTable::new(MOST_FRAMES);
    let top = TEXT + STACK + STACK_SIZE - 8;
    let task = TEXT + STACK - STACK_SIZE + 0x100;
    guest.put_words(top - 8, &[code(unwound::SWITCHES_STACK), task]);
    let start = Start::flat(code(LEAF), top - 8, 0);
    let callers = [LEAF + 1, LEAF + 2];
    let ids = callers.map(|caller| {
        guest.put_words(task, &[0, code(caller), code(unwound::END)]);
        let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&guest, at, into);
        table.find(SITE, known_as(None), &start, &mut read).stack.unwrap()
    });
    guest.put_words(task, &[0; 3]);
    table.resolve(known_as(Some(&kernel)), None, &mut |at, into| {
        kernel.read_linear(&guest, at, into)
    });
    for (id, caller) in ids.into_iter().zip(callers) {
        let frames = [unwound::SWITCHES_STACK, caller, unwound::END];
        let frames = frames.map(|function| Frame::Return(code(function))).to_vec();
        assert_eq!(chain_of(&table, id), Some(Chain { frames, end: End::Bottom }));
    }
}

#[test]
fn a_stack_is_unwound_once() {
    for (guest, kernel) in guests(&CALLS) {
        let mut table = CaptureTable::new(MOST_FRAMES);
        let start = Start::flat(code(LEAF), SP, 0x99);
        let mut reads = [0; 2];
        let ids = reads.each_mut().map(|reads| {
            let mut read = |at: u64, into: &mut [u8]| {
                *reads += 1;
                kernel.read_linear(&guest, at, into)
            };
            table.find(SITE, known_as(Some(&kernel)), &start, &mut read).stack.unwrap()
        });
        assert_eq!(ids[0], ids[1]);
        // Three return addresses, and the saved RBP that one of them is found by.
        assert_eq!(reads[1], 4);
        assert!(reads[0] > 30, "{reads:?}");
    }
}

#[test]
fn stacks_for_which_there_is_no_room_are_counted() {
    let (mut guest, kernel) = guests(&CALLS).next().unwrap();
    let mut table = CaptureTable::new(MOST_FRAMES);
    let start = Start::flat(code(LEAF), SP, 0x99);
    for number in 0..MOST_OF_SITE as u64 + 10 {
        guest.put_words(SP, &[code(LEAF + 1 + number), code(unwound::END)]);
        let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&guest, at, into);
        let id = table.find(SITE, known_as(Some(&kernel)), &start, &mut read).stack;
        assert_eq!(id.is_some(), number < MOST_OF_SITE as u64, "{number}");
    }
}

/// Waiting stacks of many sites come to an end, too.
#[test]
fn waiting_stacks_take_bounded_memory() {
    let (mut guest, kernel) = guests(&[]).next().unwrap();
    let mut table = CaptureTable::new(MOST_FRAMES);
    let (mut kept, mut dropped) = (0, 0);
    let bottom = TEXT + STACK;
    for number in 0..4000 {
        guest.put_words(bottom, &[code(LEAF) + number]);
        let start = Start::flat(code(LEAF), bottom, 0);
        let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&guest, at, into);
        match table.find(SITE, known_as(None), &start, &mut read).stack {
            Some(_) => kept += 1,
            None => dropped += 1,
        }
    }
    assert!((1900..2048).contains(&kept), "{kept} pieces of 4 KiB in 8 MiB");
    assert_eq!(kept + dropped, 4000);
}

#[test]
fn broken_tables_and_stacks_do_no_harm() {
    let mut random = fastrand::Rng::with_seed(31);
    for round in 0..200 {
        let mut guest = Guest::new(Options { has_mem: round % 2 == 0, ..OPTIONS });
        let words: Vec<u64> = (0..0x80)
            .map(|_| match random.u8(..4) {
                0 => code(random.u64(..FUNCTIONS)),
                1 => SP + random.u64(..0x80) * 8,
                2 => code(random.u64(..10)),
                _ => random.u64(..0x100),
            })
            .collect();
        guest.put_words(SP, &words);
        for _ in 0..random.usize(..200) {
            let part = &guest.parts[random.usize(..guest.parts.len())];
            let at = random.usize(part.clone());
            guest.ram[at] = random.u8(..);
        }
        let Some(kernel) = find(&guest) else { continue };
        for _ in 0..200 {
            let ip = code(random.u64(..FUNCTIONS)) - random.u64(..6);
            let start = Start::flat(ip, SP + random.u64(..0x400), SP + random.u64(..0x400));
            let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&guest, at, into);
            let unwound = unwind(Some(&kernel), &start, MOST_FRAMES, &mut read);
            assert!(unwound.chain.frames.len() <= MOST_FRAMES);
            assert!(unwound.recipe.matches(&start, &mut read));
        }
    }
}
