//! Arbitrary operations on arbitrary hosts: each access is made once, in order, with the right value.

use std::vec::Vec;

use core::cell::RefCell;
use core::num::NonZeroU64;

use super::{
    AnyRecord, Batch, CompactBatch, CompactRecord, Error, Record, Results, Ticket, compact, run,
};
use crate::abi::{self, CallWord, Status, call, status};
use crate::machine::Machine;
use crate::mailbox::Mailbox;
use crate::paravirt::Paravirt;
use crate::port_io::PortIo;
use crate::simulation::Simulation;
use crate::value::Value;

/// Bytes, taken one by one. After the last one, all are zero.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([(); 4].map(|()| self.byte()))
    }
}

/// An access: the number of the scalar call, the port, the value.
type Access = (u8, u16, u32);

/// What the devices must see.
#[derive(Default)]
struct Expected {
    accesses: Vec<Access>,
    reads: u32,
}

impl Expected {
    /// Expects a write of `size` bytes.
    fn write(&mut self, size: usize, port: u16, value: u32) {
        let scalar = [call::OUTB, call::OUTW, call::OUTL][size / 2];
        self.accesses.push((scalar, port, cut(size, value)));
    }

    /// Expects a read. Returns its value.
    fn read(&mut self, size: usize, port: u16) -> u32 {
        self.reads += 1;
        let value = cut(size, self.reads);
        self.accesses.push(([call::INB, call::INW, call::INL][size / 2], port, value));
        value
    }
}

/// The low `size` bytes of a value.
fn cut(size: usize, value: u32) -> u32 {
    value & u32::MAX >> (32 - 8 * size)
}

/// A status that is not OK.
fn failure(byte: u8) -> u8 {
    (byte & 0x7f).max(1)
}

fn machine(bytes: &mut Bytes<'_>) -> Simulation {
    let flags = [bytes.byte(), bytes.byte()];
    let has = |bit: usize| flags[bit / 8] & 1 << (bit % 8) != 0;
    let mut wrong = None;
    let mut simulation = Simulation {
        heard: !has(0),
        refusal: has(1).then(|| failure(bytes.byte())),
        declined: Vec::from([0, 1, 2].map(|_| u16::from(bytes.byte() & 0x1f))),
        elements_max: match has(2) {
            true => usize::from(bytes.byte()),
            false => 65_536,
        },
        pages: has(3),
        stubborn: has(4),
        segment_base: if has(5) { usize::from(bytes.byte()) } else { 0 },
        has_compact_batches: !has(6),
        has_mailboxes: !has(7),
        has_large_mailboxes: !has(8),
        ..Simulation::default()
    };
    if has(9) {
        wrong = Some((u16::from(bytes.byte() & 0x1f), failure(bytes.byte())));
    }
    simulation.wrong = wrong;
    simulation
}

/// Does port I/O of all kinds through a simulated host.
///
/// The first bytes choose what the host can do and how it fails, the next ones the operations.
pub fn shim(data: &[u8]) {
    let mut bytes = Bytes(data);
    words(bytes.word());
    let machine = machine(&mut bytes);
    let mailbox = Mailbox::with_segment_base(machine.segment_base);
    let has_mailbox = bytes.byte() & 1 != 0;
    if has_mailbox {
        // SAFETY: nothing can go wrong in a simulation.
        let _ = unsafe { mailbox.through(&machine).register(NonZeroU64::MIN) };
    }
    let mut expected = Expected::default();
    for _ in 0..32 {
        if bytes.0.is_empty() {
            break;
        }
        let kind = bytes.byte();
        match kind & 3 {
            0 | 1 if has_mailbox => {
                let through = &mailbox.through(&machine);
                let io = Paravirt { machine: through, segment_base: machine.segment_base };
                single(&io, kind, &mut bytes, &mut expected);
            }
            0 | 1 => {
                let io = Paravirt { machine: &machine, segment_base: machine.segment_base };
                single(&io, kind, &mut bytes, &mut expected);
            }
            2 => batch(&machine, &mut bytes, &mut expected),
            _ => compact_batch(&machine, &mut bytes, &mut expected),
        }
    }
    let made = machine.accesses().into_iter().map(|(_, scalar, port, value)| (scalar, port, value));
    assert!(made.eq(expected.accesses), "each access is made once, in order");
}

/// A word is either a call or an answer, and its parts make the same word again.
fn words(word: u32) {
    let call = CallWord(word);
    match call.call() {
        Some(number) => assert_eq!(CallWord::new(number, call.operand(), call.port()), call),
        None => {
            let answer = Status(word);
            let code = answer.code().expect("what is not a call is an answer");
            assert_eq!(Status::new(code, answer.data()), answer);
            assert_eq!(answer.is_ok(), code == status::OK);
        }
    }
}

/// An access, or a string.
fn single(io: &impl PortIo, kind: u8, bytes: &mut Bytes<'_>, expected: &mut Expected) {
    let port = u16::from(bytes.byte() & 0x1f);
    let value = bytes.word();
    let count = usize::from(bytes.byte());
    macro_rules! size {
        ($type:ty, $in:ident, $out:ident, $ins:ident, $outs:ident) => {{
            let size = size_of::<$type>();
            let element = |at: usize| value.wrapping_mul(at as u32 + 1);
            // SAFETY: nothing can go wrong in a simulation.
            unsafe {
                match kind & 1 != 0 {
                    false if kind & 4 != 0 => {
                        io.$out(value as $type, port);
                        expected.write(size, port, value);
                    }
                    false => {
                        let value = expected.read(size, port);
                        assert_eq!(u32::from(io.$in(port)), value);
                    }
                    true if kind & 4 != 0 => {
                        let buffer: Vec<$type> = (0..count).map(|at| element(at) as $type).collect();
                        io.$outs(port, &buffer);
                        (0..count).for_each(|at| expected.write(size, port, element(at)));
                    }
                    true => {
                        let mut buffer: Vec<$type> = std::vec![0; count];
                        io.$ins(port, &mut buffer);
                        for read in buffer {
                            assert_eq!(u32::from(read), expected.read(size, port));
                        }
                    }
                }
            }
        }};
    }
    match kind >> 3 & 3 {
        0 => size!(u8, inb, outb, insb, outsb),
        1 => size!(u16, inw, outw, insw, outsw),
        _ => size!(u32, inl, outl, insl, outsl),
    }
}

/// The value that a ticket has, if the batch ran so far.
enum Read {
    Byte(Ticket<u8>, u32),
    Word(Ticket<u16>, u32),
    Long(Ticket<u32>, u32),
}

/// Both kinds of batch.
trait Scalars {
    fn output<T: Value>(&mut self, value: T, port: u16) -> Result<(), Error>;
    fn input<T: Value>(&mut self, port: u16) -> Result<Ticket<T>, Error>;
}

impl Scalars for Batch<'_, '_> {
    fn output<T: Value>(&mut self, value: T, port: u16) -> Result<(), Error> {
        self.push_out(value, port)
    }

    fn input<T: Value>(&mut self, port: u16) -> Result<Ticket<T>, Error> {
        self.push_in(port)
    }
}

impl Scalars for CompactBatch<'_> {
    fn output<T: Value>(&mut self, value: T, port: u16) -> Result<(), Error> {
        self.push_out(value, port)
    }

    fn input<T: Value>(&mut self, port: u16) -> Result<Ticket<T>, Error> {
        self.push_in(port)
    }
}

/// Adds one of six operations to a batch, and to what the devices must see.
fn add_scalar(
    batch: &mut impl Scalars,
    operation: u8,
    (port, value): (u16, u32),
    expected: &mut Expected,
    tickets: &mut Vec<Read>,
) {
    const SIZES: [usize; 3] = [1, 2, 4];
    let size = SIZES[usize::from(operation % 3)];
    let result = match operation {
        0 => batch.output(value as u8, port),
        1 => batch.output(value as u16, port),
        2 => batch.output(value, port),
        _ => {
            let value = expected.read(size, port);
            let read = match size {
                1 => batch.input(port).map(|ticket| Read::Byte(ticket, value)),
                2 => batch.input(port).map(|ticket| Read::Word(ticket, value)),
                _ => batch.input(port).map(|ticket| Read::Long(ticket, value)),
            };
            return tickets.push(read.expect("there is room"));
        }
    };
    result.expect("there is room");
    expected.write(size, port, value);
}

/// Where a batch stops, if an operation at the wrong port has this status.
fn stop(machine: &Simulation, ports: &[u16], executed: &[u8]) -> Option<usize> {
    // A host that cannot judge the records, or declines their call, reads none of them.
    let reads_records = !(machine.pages && machine.stubborn) && !machine.declined.contains(&0);
    let answers = machine.heard && machine.refusal.is_none() && reads_records;
    let (wrong, code) = machine.wrong.filter(|_| answers)?;
    let at = ports.iter().position(|&port| port == wrong && !machine.declined.contains(&port))?;
    (!executed.contains(&code)).then_some(at)
}

fn batch(machine: &Simulation, bytes: &mut Bytes<'_>, expected: &mut Expected) {
    let mut kinds = Vec::new();
    for _ in 0..bytes.byte() & 0xf {
        let kind = bytes.byte();
        kinds.push((kind, u16::from(kind & 0x1f), bytes.word(), usize::from(bytes.byte())));
    }
    let ports: Vec<u16> = kinds.iter().map(|kind| kind.1).collect();
    let executed = [status::PAGE, status::DECLINED, status::ADDRESS];
    let stops_at = stop(machine, &ports, &executed);
    let mut read: Vec<(usize, Vec<u32>)> = Vec::new();
    let mut written: Vec<Vec<u32>> = Vec::new();
    for &(_, _, value, count) in &kinds {
        written.push((0..count as u32).map(|at| value.wrapping_mul(at + 1)).collect());
    }
    for (index, &(_, _, _, count)) in kinds.iter().enumerate() {
        read.push((index, std::vec![0; count]));
    }
    let mut records = [Record::default(); 16];
    let mut batch = Batch::with_segment_base(&mut records, machine.segment_base);
    let mut tickets = Vec::new();
    for (index, (&(kind, port, value, _), (_, buffer))) in kinds.iter().zip(&mut read).enumerate() {
        let runs = stops_at.is_none_or(|stop| index < stop);
        let mut none = Expected::default();
        let expected = if runs { &mut *expected } else { &mut none };
        match kind >> 5 {
            6 => {
                batch.outs(port, &written[index]).expect("there is room");
                written[index].iter().for_each(|&value| expected.write(4, port, value));
            }
            7 => {
                for _ in 0..buffer.len() {
                    expected.read(4, port);
                }
                batch.ins(port, buffer).expect("there is room");
            }
            scalar => add_scalar(&mut batch, scalar, (port, value), expected, &mut tickets),
        }
    }
    let len = batch.len;
    let records = &mut batch.records[..len];
    let io = Paravirt { machine, segment_base: machine.segment_base };
    // SAFETY: nothing can go wrong in a simulation.
    let result = unsafe { run::run(&io, records.as_mut_ptr(), len) };
    match (result, stops_at) {
        (Ok(()), None) => {
            assert!(records.iter().all(|record| record.status == status::OK));
            let results = Results { records };
            check(tickets, &results);
        }
        (Err(Error::Operation { index, .. }), Some(stop)) => assert_eq!(index, stop),
        (result, stop) => panic!("{result:?}, and the batch should stop at {stop:?}"),
    }
}

/// Compares the values that tickets have.
fn check<R: AnyRecord>(tickets: Vec<Read>, results: &Results<'_, R>) {
    for read in tickets {
        let (read, expected) = match read {
            Read::Byte(ticket, value) => (results.get(ticket).into(), value),
            Read::Word(ticket, value) => (results.get(ticket).into(), value),
            Read::Long(ticket, value) => (results.get(ticket), value),
        };
        assert_eq!(read, expected);
    }
}

fn compact_batch(machine: &Simulation, bytes: &mut Bytes<'_>, expected: &mut Expected) {
    let mut kinds = Vec::new();
    for _ in 0..bytes.byte() & 0xf {
        let kind = bytes.byte();
        kinds.push((kind, u16::from(kind & 0x1f), bytes.word()));
    }
    let ports: Vec<u16> = kinds.iter().map(|kind| kind.1).collect();
    let executed =
        [status::PAGE, status::DECLINED, status::ADDRESS, status::DENIED, status::UNKNOWN];
    let stops_at = stop(machine, &ports, &executed)
        .filter(|_| machine.has_compact_batches && machine.elements_max > 0);
    let refused = machine.refusal.is_some_and(|code| !executed.contains(&code)) && machine.heard;
    let stops_at = if refused && !kinds.is_empty() { Some(0) } else { stops_at };
    let mut records = [CompactRecord::default(); 16];
    let mut batch = CompactBatch::with_segment_base(&mut records, machine.segment_base);
    let mut tickets = Vec::new();
    for (index, &(kind, port, value)) in kinds.iter().enumerate() {
        let runs = stops_at.is_none_or(|stop| index < stop);
        let mut none = Expected::default();
        let expected = if runs { &mut *expected } else { &mut none };
        add_scalar(&mut batch, (kind >> 5) % 6, (port, value), expected, &mut tickets);
    }
    let len = batch.len;
    let records = &mut batch.records[..len];
    let io = Paravirt { machine, segment_base: machine.segment_base };
    // SAFETY: nothing can go wrong in a simulation.
    match (unsafe { compact::run(&io, records) }, stops_at) {
        (Ok(()), None) => {
            let results = Results { records };
            check(tickets, &results);
        }
        (Err(Error::Operation { index, .. }), Some(stop)) => assert_eq!(index, stop),
        (result, stop) => panic!("{result:?}, and the batch should stop at {stop:?}"),
    }
}

/// A host that answers anything, as long as it has bytes, and touches no memory.
struct Liar<'a> {
    bytes: RefCell<Bytes<'a>>,
    devices: Simulation,
}

impl Machine for Liar<'_> {
    type Instructions = Simulation;

    unsafe fn call(&self, word: CallWord, edx: &mut usize, ecx: &mut usize) -> Status {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.0.is_empty() {
            return Status(word.0);
        }
        let answer = Status::new(bytes.byte() & 0xf, bytes.byte().into());
        match bytes.byte() & 3 {
            0 => {}
            1 => *ecx = ecx.saturating_sub(usize::from(bytes.byte())),
            2 => (*edx, *ecx) = (bytes.word() as usize, bytes.word() as usize),
            _ => *ecx = usize::MAX,
        }
        answer
    }

    fn instructions(&self) -> &Simulation {
        &self.devices
    }
}

/// Does port I/O through a host whose answers make no sense. It must come to an end, and stay within its buffers.
pub fn shim_and_liar(data: &[u8]) {
    let liar = Liar { bytes: RefCell::new(Bytes(data)), devices: Simulation::default() };
    let io = Paravirt { machine: &liar, segment_base: 0 };
    let mut longs = [0x1234_5678; 40];
    // SAFETY: nothing can go wrong in a simulation.
    unsafe {
        io.outb(1, 0x300);
        io.inl(0x300);
        io.outsl(0x300, &longs);
        io.insl(0x300, &mut longs);
        io.insb(0x300, &mut [0; 7]);
        io.outsw(0x300, &[0; 9]);
    }
    let record =
        |call, value| Record { call, status: abi::RECORD_PENDING, port: 0x300, value, address: 0 };
    let string = longs.as_mut_ptr().expose_provenance() as u64;
    let mut records = [
        record(call::OUTB, 7),
        Record { address: string, ..record(call::INSL, 40) },
        record(call::INW, 0),
        Record { address: string, ..record(call::OUTSW, 80) },
    ];
    // SAFETY: the records are valid, and nothing else can go wrong in a simulation.
    let _ = unsafe { run::run(&io, records.as_mut_ptr(), records.len()) };
    let mut records = [CompactRecord { call: call::INB, reserved: 0, port: 0x300, value: 0 }; 5];
    // SAFETY: as above.
    let _ = unsafe { compact::run(&io, &mut records) };
}
