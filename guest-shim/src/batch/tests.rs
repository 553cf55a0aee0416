//! Batches on a simulated machine, and their layout in memory.

use std::format;
use std::vec::Vec;

use super::*;
use crate::abi::{call, status};
use crate::error::CallError;
use crate::simulation::{By, Simulation};

/// One of each operation, on ports from 0x300 on, and strings of this many elements.
const COUNT: usize = 2000;

struct Buffers {
    bytes: Vec<u8>,
    words: Vec<u16>,
    longs: Vec<u32>,
    bytes_in: Vec<u8>,
    words_in: Vec<u16>,
    longs_in: Vec<u32>,
}

impl Buffers {
    fn new() -> Buffers {
        Buffers {
            bytes: (0..COUNT).map(|value| value as u8).collect(),
            words: (0..COUNT).map(|value| value as u16).collect(),
            longs: (0..COUNT).map(|value| value as u32).collect(),
            bytes_in: std::vec![0; COUNT],
            words_in: std::vec![0; COUNT],
            longs_in: std::vec![0; COUNT],
        }
    }
}

/// Runs one of each operation, and checks that each was done once, in order, with the right values.
fn check(machine: &Simulation) {
    let mut buffers = Buffers::new();
    let mut records = [Record::default(); 12];
    let mut batch = Batch::with_segment_base(&mut records, machine.segment_base);
    batch.outb(0xab, 0x300).unwrap();
    batch.outw(0xabcd, 0x301).unwrap();
    batch.outl(0xabcd_ef01, 0x302).unwrap();
    batch.outs(0x303, &buffers.bytes).unwrap();
    batch.outs(0x304, &buffers.words).unwrap();
    batch.outs(0x305, &buffers.longs).unwrap();
    let byte = batch.inb(0x306).unwrap();
    let word = batch.inw(0x307).unwrap();
    let long = batch.inl(0x308).unwrap();
    batch.ins(0x309, &mut buffers.bytes_in).unwrap();
    batch.ins(0x30a, &mut buffers.words_in).unwrap();
    batch.ins(0x30b, &mut buffers.longs_in).unwrap();
    assert_eq!(batch.len(), 12);
    let results = run_on(machine, batch).unwrap();

    assert_eq!((results.get(byte), results.get(word), results.get(long)), (1, 2, 3));
    let read = 4..4 + 3 * COUNT as u32;
    assert!(buffers.bytes_in.iter().copied().eq(read.clone().map(|value| value as u8).take(COUNT)));
    let from_words = read.clone().skip(COUNT).map(|value| value as u16);
    assert!(buffers.words_in.iter().copied().eq(from_words.take(COUNT)));
    assert!(buffers.longs_in.iter().copied().eq(read.skip(2 * COUNT)));
    let strings = buffers.bytes.iter().map(|value| u32::from(*value));
    let strings = strings.chain(buffers.words.iter().map(|value| u32::from(*value)));
    let strings = strings.chain(buffers.longs.iter().copied());
    assert!(
        machine.written().into_iter().eq([0xab, 0xabcd, 0xabcd_ef01].into_iter().chain(strings))
    );
    let mut ports: Vec<u16> = machine.accesses().iter().map(|access| access.2).collect();
    ports.dedup();
    assert!(ports.into_iter().eq(0x300..0x30c));
}

fn run_on<'r>(machine: &Simulation, batch: Batch<'r, '_>) -> Result<Results<'r>, Error> {
    let records = &mut batch.records[..batch.len];
    let io = Paravirt { machine, segment_base: batch.segment_base };
    // SAFETY: nothing can go wrong in a simulation.
    unsafe { run::run(&io, records.as_mut_ptr(), records.len()) }?;
    assert!(records.iter().all(|record| record.status == status::OK));
    Ok(Results { records })
}

fn calls(machine: &Simulation) -> usize {
    machine.diary.borrow().calls
}

#[test]
fn records_are_as_the_abi_has_them() {
    let text = *b"text";
    let mut longs = [0_u32; 3];
    let (at_text, at_longs) = (text.as_ptr().addr(), longs.as_ptr().addr());
    let mut records = [Record::default(); 5];
    let mut batch = Batch::with_segment_base(&mut records, 0x100);
    assert!(batch.is_empty());
    batch.outb(0xab, 0x3f8).unwrap();
    batch.outl(0x0123_4567, 0xcf8).unwrap();
    let ticket = batch.inw(0xcfc).unwrap();
    batch.outs(0xe9, &text).unwrap();
    batch.ins(0x300, &mut longs).unwrap();
    assert_eq!(batch.outb(1, 0x80), Err(Error::NoRoom));
    assert_eq!(batch.inb(0x80).unwrap_err(), Error::NoRoom);

    let bytes: Vec<Vec<u8>> = batch.records.iter().map(bytes_of).collect();
    let string = |call, port: u16, count: u8, address: usize| {
        let [low, high] = port.to_le_bytes();
        let mut bytes = Vec::from([call, 0x80, low, high, count, 0, 0, 0]);
        bytes.extend((address as u64 + 0x100).to_le_bytes());
        bytes
    };
    assert_eq!(bytes[0], [4, 0x80, 0xf8, 3, 0xab, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[1], [6, 0x80, 0xf8, 0xc, 0x67, 0x45, 0x23, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[2], [2, 0x80, 0xfc, 0xc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[3], string(10, 0xe9, 4, at_text));
    assert_eq!(bytes[4], string(9, 0x300, 3, at_longs));
    let _ = ticket;
}

fn bytes_of(record: &Record) -> Vec<u8> {
    let address = core::ptr::from_ref(record).cast::<u8>();
    // SAFETY: it is 16 bytes of plain data without padding.
    unsafe { core::slice::from_raw_parts(address, size_of::<Record>()) }.into()
}

#[test]
fn one_call_does_all() {
    let machine = Simulation::host();
    check(&machine);
    assert_eq!(calls(&machine), 1);
    assert_eq!(machine.ways(), [By::Batch]);
}

#[test]
fn an_empty_batch_does_nothing() {
    let machine = Simulation::host();
    run_on(&machine, Batch::new(&mut [])).unwrap();
    assert_eq!(calls(&machine), 0);
}

#[test]
fn the_rest_is_asked_for_again() {
    let machine = Simulation { elements_max: 7, ..Simulation::host() };
    check(&machine);
    assert_eq!(calls(&machine), 1 + 6 * (COUNT.div_ceil(7) - 1));
    assert_eq!(machine.ways(), [By::Batch]);
}

#[test]
fn pages_are_touched_where_the_host_says_so() {
    for segment_base in [0, 16] {
        let machine = Simulation { pages: true, segment_base, ..Simulation::host() };
        check(&machine);
        assert_eq!(machine.ways(), [By::Batch]);
    }
}

#[test]
fn where_touching_does_not_help_each_has_its_own_call() {
    let machine = Simulation { pages: true, stubborn: true, ..Simulation::host() };
    check(&machine);
    assert_eq!(machine.ways(), [By::Call]);
}

#[test]
fn where_a_host_does_nothing_each_has_its_own_call() {
    let machine = Simulation { elements_max: 0, ..Simulation::host() };
    check(&machine);
    // Scalars have no elements.
    assert_eq!(machine.ways(), [By::Batch, By::Call, By::Batch, By::Call]);
}

#[test]
fn what_is_declined_is_executed_in_its_place() {
    let declined = [0x301, 0x304, 0x308, 0x30b].into();
    let machine = Simulation { declined, ..Simulation::host() };
    check(&machine);
    use By::{Batch, Instruction};
    let ways = [Batch, Instruction, Batch, Instruction, Batch, Instruction, Batch, Instruction];
    assert_eq!(machine.ways(), ways);
    // The last record needs no further call.
    assert_eq!(calls(&machine), 4);
}

#[test]
fn a_host_that_does_no_batches_is_asked_for_each() {
    // Only in this simulation are the scalars declined with it.
    let machine = Simulation { refusal: Some(status::DECLINED), ..Simulation::host() };
    check(&machine);
    assert_eq!(calls(&machine), 1 + 12);
    assert_eq!(machine.ways(), [By::Instruction]);
}

#[test]
fn without_a_host_the_processor_does_all() {
    let denied = Simulation { refusal: Some(status::DENIED), ..Simulation::host() };
    for machine in [Simulation::default(), denied] {
        check(&machine);
        assert_eq!(calls(&machine), 1);
        assert_eq!(machine.ways(), [By::Instruction]);
    }
}

#[test]
fn a_buffer_that_is_no_memory_is_the_processors() {
    let machine = Simulation { wrong: Some((0x304, status::ADDRESS)), ..Simulation::host() };
    check(&machine);
    assert_eq!(machine.ways(), [By::Batch, By::Instruction, By::Batch]);
}

#[test]
fn an_error_says_which() {
    let machine = Simulation { wrong: Some((0x301, status::UNKNOWN)), ..Simulation::host() };
    let mut records = [Record::default(); 3];
    let mut batch = Batch::new(&mut records);
    (0..3).for_each(|port| batch.outb(7, 0x300 + port).unwrap());
    let error = run_on(&machine, batch).unwrap_err();
    assert_eq!(error, Error::Operation { index: 1, error: CallError::Unknown });
    assert_eq!(format!("{error}"), "operation 1 of the batch: the host knows no such call");
    assert_eq!(machine.accesses(), [(By::Batch, call::OUTB, 0x300, 7)]);
}

#[test]
#[should_panic = "the ticket for a u8 is another batch's"]
fn a_ticket_is_good_for_its_batch_alone() {
    let machine = Simulation::host();
    let (mut records, mut others) = ([Record::default(); 1], [Record::default(); 1]);
    let mut batch = Batch::new(&mut records);
    let mut other = Batch::new(&mut others);
    let _ = batch.inb(0x300).unwrap();
    let ticket = other.inb(0x300).unwrap();
    run_on(&machine, batch).unwrap().get(ticket);
}
