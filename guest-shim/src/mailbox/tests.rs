//! Mailboxes on a simulated host, which uses the same memory.

use core::cell::Cell;

use super::*;
use crate::abi;
use crate::paravirt::tests::{COUNT, check_strings};
use crate::simulation::{By, Simulation};

const KEY: NonZeroU64 = NonZeroU64::new(0x1234_5678_9abc_def0).unwrap();

/// An unused mailbox. Every call restores all but the key.
const IDLE: LargeMailbox = LargeMailbox {
    word: 0x0012_3456,
    value: 0x6543_2100,
    key: 0,
    address: 0x1122_3344_5566_7788,
    count: 0x99aa_bbcc_ddee_ff00,
    site: 0x1234_5678_0000_0007,
    reserved: [0; 3],
};

fn mailbox() -> Mailbox {
    let mailbox = Mailbox::new();
    // SAFETY: there is no other reference.
    unsafe { *mailbox.memory.get() = IDLE };
    mailbox
}

/// The contents of a mailbox, without the key.
fn contents(mailbox: &Mailbox) -> LargeMailbox {
    // SAFETY: there is no other reference.
    LargeMailbox { key: 0, ..unsafe { mailbox.memory.get().read_volatile() } }
}

fn register<M: MailboxMachine>(mailbox: &Mailbox, machine: &M) -> Result<Host, CallError> {
    // SAFETY: nothing can go wrong in a simulation.
    unsafe { mailbox.through(machine).register(KEY) }
}

/// Makes all six scalar accesses. Returns the values read.
fn scalars<M: MailboxMachine>(mailbox: &Mailbox, machine: &M) -> (u8, u16, u32) {
    let io = Paravirt { machine: &mailbox.through(machine), segment_base: 0 };
    // SAFETY: nothing can go wrong in a simulation.
    unsafe {
        io.outb(0xab, 0x300);
        io.outw(0xabcd, 0x301);
        io.outl(0xabcd_ef01, 0x302);
        (io.inb(0x303), io.inw(0x304), io.inl(0xffff))
    }
}

/// The accesses of [`scalars`], each once and in order.
fn assert_accesses(machine: &Simulation, by: By) {
    let expected = [
        (by, call::OUTB, 0x300, 0xab),
        (by, call::OUTW, 0x301, 0xabcd),
        (by, call::OUTL, 0x302, 0xabcd_ef01),
        (by, call::INB, 0x303, 1),
        (by, call::INW, 0x304, 2),
        (by, call::INL, 0xffff, 3),
    ];
    assert_eq!(machine.accesses(), expected);
}

#[test]
fn calls_go_through_it_once_it_is_registered() {
    let (machine, mailbox) = (Simulation::host(), mailbox());
    let host = register(&mailbox, &machine).unwrap();
    assert_eq!((host.version, host.features.mailbox()), (abi::VERSION, true));
    assert_eq!(contents(&mailbox), IDLE);
    assert_eq!(scalars(&mailbox, &machine), (1, 2, 3));
    assert_accesses(&machine, By::Mailbox);
    assert_eq!(machine.diary.borrow().calls, 0);
    assert_eq!(contents(&mailbox), IDLE);
}

#[test]
fn unanswered_mailbox_calls_go_by_registers() {
    let gone = mailbox();
    let (unregistered, released, reset, other) = (mailbox(), mailbox(), mailbox(), mailbox());
    for (mailbox, prepare) in [
        (&unregistered, &(|_: &Simulation| {}) as &dyn Fn(&Simulation)),
        (&released, &|machine| {
            register(&released, machine).unwrap();
            // SAFETY: nothing can go wrong in a simulation.
            unsafe { released.through(machine).release() }.unwrap();
        }),
        (&reset, &|machine| {
            register(&reset, machine).unwrap();
            machine.mailbox.set(None);
        }),
        // The processor has another.
        (&other, &|machine| {
            register(&other, machine).unwrap();
            register(&gone, machine).unwrap();
        }),
    ] {
        let machine = Simulation::host();
        prepare(&machine);
        assert_eq!(scalars(mailbox, &machine), (1, 2, 3));
        assert_accesses(&machine, By::Call);
        assert_eq!(contents(mailbox), IDLE);
    }
}

#[test]
fn without_a_host_accesses_are_instructions() {
    let (machine, mailbox) = (Simulation::default(), mailbox());
    assert_eq!(register(&mailbox, &machine), Err(CallError::Unanswered));
    assert_eq!(scalars(&mailbox, &machine), (1, 2, 3));
    assert_accesses(&machine, By::Instruction);
    assert_eq!(machine.diary.borrow().calls, 6);
    // SAFETY: nothing can go wrong in a simulation.
    let released = unsafe { mailbox.through(&machine).release() };
    assert_eq!(released, Err(CallError::Unanswered));
    assert_eq!(contents(&mailbox), IDLE);
}

#[test]
fn a_host_without_mailboxes_declines() {
    let (machine, mailbox) = (Simulation { has_mailboxes: false, ..Simulation::host() }, mailbox());
    assert_eq!(register(&mailbox, &machine), Err(CallError::Declined));
    scalars(&mailbox, &machine);
    assert_accesses(&machine, By::Call);
    assert_eq!(contents(&mailbox), IDLE);
}

/// Registers would be answered the same: they are not asked.
#[test]
fn what_is_answered_and_not_done_is_executed() {
    let mailbox = mailbox();
    let machine = Simulation { declined: [0x301, 0xffff].into(), ..Simulation::host() };
    register(&mailbox, &machine).unwrap();
    assert_eq!(scalars(&mailbox, &machine), (1, 2, 3));
    assert_eq!(machine.ways(), [By::Mailbox, By::Instruction, By::Mailbox, By::Instruction]);
    let unknown = Simulation { refusal: Some(status::UNKNOWN), ..Simulation::host() };
    register(&mailbox, &unknown).unwrap();
    scalars(&mailbox, &unknown);
    assert_accesses(&unknown, By::Instruction);
    for machine in [machine, unknown] {
        assert_eq!(machine.diary.borrow().calls, 0);
    }
    assert_eq!(contents(&mailbox), IDLE);
}

/// Moves strings through a registered mailbox, and returns the number of calls by registers.
fn strings(machine: &Simulation) -> usize {
    let mailbox = Mailbox { segment_base: machine.segment_base, ..mailbox() };
    register(&mailbox, machine).unwrap();
    let through = mailbox.through(machine);
    let io = Paravirt { machine: &through, segment_base: machine.segment_base };
    check_strings(&io, machine);
    assert_eq!(contents(&mailbox), IDLE);
    machine.diary.borrow().calls
}

#[test]
fn strings_go_through_a_large_mailbox() {
    for segment_base in [0, 1, 0x1000_0002] {
        let machine = Simulation { segment_base, ..Simulation::host() };
        assert_eq!(strings(&machine), 0);
        assert!(machine.is_large.get());
        assert_eq!(machine.ways(), [By::Mailbox]);
        for machine in [
            Simulation { pages: true, segment_base, ..Simulation::host() },
            Simulation { pages: true, stubborn: true, segment_base, ..Simulation::host() },
            Simulation { elements_max: 7, segment_base, ..Simulation::host() },
            Simulation { elements_max: 0, segment_base, ..Simulation::host() },
        ] {
            assert_eq!(strings(&machine), 0);
            assert_eq!(machine.ways(), [By::Mailbox]);
        }
    }
}

#[test]
fn strings_that_a_large_mailbox_declines_are_executed() {
    let ports = (0x300..=0x305).collect();
    let machine = Simulation { declined: ports, ..Simulation::host() };
    assert_eq!(strings(&machine), 0);
    assert_eq!(machine.ways(), [By::Instruction]);
}

#[test]
fn without_large_mailboxes_strings_go_by_registers() {
    let machine = Simulation { has_large_mailboxes: false, ..Simulation::host() };
    assert_eq!(strings(&machine), 6);
    assert!(!machine.is_large.get());
    assert_eq!(machine.ways(), [By::Call]);
    // Single elements still go through the mailbox.
    let machine = Simulation { has_large_mailboxes: false, elements_max: 0, ..Simulation::host() };
    assert_eq!(strings(&machine), 6 * COUNT);
    assert_eq!(machine.ways(), [By::Mailbox]);
}

#[test]
fn strings_of_a_mailbox_that_the_host_has_forgotten_go_by_registers() {
    let (machine, mailbox) = (Simulation::host(), mailbox());
    register(&mailbox, &machine).unwrap();
    machine.mailbox.set(None);
    check_strings(&Paravirt { machine: &mailbox.through(&machine), segment_base: 0 }, &machine);
    assert_eq!(machine.ways(), [By::Call]);
    assert_eq!(contents(&mailbox), IDLE);
}

#[test]
fn a_segment_has_its_base_added() {
    let mut mailbox = Mailbox::with_segment_base(0x10_0000);
    let machine = Simulation { segment_base: 0x10_0000, ..Simulation::host() };
    register(&mailbox, &machine).unwrap();
    let expected = mailbox.memory.get_mut() as *mut _ as usize + 0x10_0000;
    assert_eq!(machine.mailbox.get(), Some((expected, KEY.get())));
    scalars(&mailbox, &machine);
    assert_accesses(&machine, By::Mailbox);
}

/// A machine whose interrupt handler makes calls before or after each doorbell.
struct Interrupted<'m> {
    machine: Simulation,
    mailbox: &'m Mailbox,
    before: bool,
    after: bool,
    interrupts: Cell<u32>,
}

impl Interrupted<'_> {
    fn interrupt(&self, comes: bool) {
        if !comes {
            return;
        }
        let io = Paravirt { machine: &self.mailbox.through(&self.machine), segment_base: 0 };
        // SAFETY: nothing can go wrong in a simulation.
        unsafe {
            io.outl(!0, 0x20);
            io.inl(0x20);
            io.inb(0x20);
            io.outsw(0x20, &[1, 2, 3]);
            io.insl(0x20, &mut [0; 2]);
        }
        self.interrupts.set(self.interrupts.get() + 1);
    }
}

impl Machine for Interrupted<'_> {
    type Instructions = Simulation;

    unsafe fn call(&self, word: CallWord, edx: &mut usize, ecx: &mut usize) -> Status {
        // SAFETY: the caller answers for the call.
        unsafe { self.machine.call(word, edx, ecx) }
    }

    fn instructions(&self) -> &Simulation {
        &self.machine
    }
}

impl MailboxMachine for Interrupted<'_> {
    unsafe fn register_mailbox(&self, mailbox: usize) {
        self.interrupt(self.before);
        // SAFETY: the caller answers for the call.
        unsafe { self.machine.register_mailbox(mailbox) };
        self.interrupt(self.after);
    }

    unsafe fn ring_doorbell(&self) {
        self.interrupt(self.before);
        // SAFETY: the caller answers for the call.
        unsafe { self.machine.ring_doorbell() };
        self.interrupt(self.after);
    }
}

#[test]
fn calls_of_interrupt_handlers_nest() {
    for (before, after) in [(true, false), (false, true), (true, true)] {
        let mailbox = mailbox();
        let machine = Simulation::host();
        let machine =
            Interrupted { machine, mailbox: &mailbox, before, after, interrupts: Cell::new(0) };
        register(&mailbox, &machine).unwrap();
        let (b, w, l) = scalars(&mailbox, &machine);
        let io = Paravirt { machine: &mailbox.through(&machine), segment_base: 0 };
        let mut read = [0; 2];
        // SAFETY: nothing can go wrong in a simulation.
        unsafe {
            io.outsb(0x310, &[0x11, 0x22, 0x33]);
            io.insw(0x311, &mut read);
        }
        assert_eq!(contents(&mailbox), IDLE);
        // Register and eight calls.
        assert_eq!(machine.interrupts.get(), 9 * (u32::from(before) + u32::from(after)));

        let accesses = machine.machine.accesses();
        let own: std::vec::Vec<_> = accesses.iter().filter(|access| access.2 != 0x20).collect();
        assert!(own.iter().all(|access| access.0 == By::Mailbox), "{own:?}");
        let values: std::vec::Vec<u32> = own.iter().map(|access| access.3).collect();
        let scalars = [0xab, 0xabcd, 0xabcd_ef01, b.into(), w.into(), l];
        let strings = [0x11, 0x22, 0x33, read[0].into(), read[1].into()];
        assert_eq!(values, [&scalars[..], &strings].concat());
        assert_eq!(accesses.len() - own.len(), 8 * machine.interrupts.get() as usize);
        // Before the registration, the handler's calls go by registers.
        let by_registers = accesses.iter().filter(|access| access.0 == By::Call).count();
        assert_eq!(by_registers, if before { 8 } else { 0 });
    }
}

#[test]
fn keys_differ_by_address_and_time() {
    let mailboxes = [const { Mailbox::new() }; 2];
    let keys: std::collections::HashSet<_> =
        mailboxes.iter().flat_map(|mailbox| [mailbox.any_key(), mailbox.any_key()]).collect();
    assert_eq!(keys.len(), 4);
}

/// The real machine: a process has no host.
#[test]
fn calls_of_a_process_are_unanswered() {
    static MAILBOX: Mailbox = Mailbox::new();
    // SAFETY: only this test uses it.
    unsafe {
        assert_eq!(MAILBOX.register(KEY), Err(CallError::Unanswered));
        assert_eq!(MAILBOX.release(), Err(CallError::Unanswered));
    }
}
