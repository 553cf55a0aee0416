//! A batch without strings, whose records have half the size.

use super::results::{Error, Results, Ticket};
use super::run::perform_scalar;
use crate::abi::{CallWord, CompactRecord, call, status};
use crate::error::CallError;
use crate::machine::{Machine, Real};
use crate::paravirt::Paravirt;
use crate::port_io::PortIo;
use crate::touch;
use crate::value::Value;

/// Reads and writes of single elements, executed together and in order.
///
/// A host that has only batches of [`Record`](super::Record)s gets one call for each operation.
///
/// ```no_run
/// use pvio_guest::batch::{CompactBatch, CompactRecord, Error};
///
/// /// Reads two bytes of the CMOS memory.
/// fn minutes_and_hours() -> Result<(u8, u8), Error> {
///     let mut records = [CompactRecord::default(); 4];
///     let mut batch = CompactBatch::new(&mut records);
///     batch.outb(2, 0x70)?;
///     let minutes = batch.inb(0x71)?;
///     batch.outb(4, 0x70)?;
///     let hours = batch.inb(0x71)?;
///     // SAFETY: only the CMOS index changes.
///     let results = unsafe { batch.run() }?;
///     Ok((results.get(minutes), results.get(hours)))
/// }
/// ```
#[derive(Debug)]
#[must_use = "the operations are done by `run`"]
pub struct CompactBatch<'r> {
    pub(super) records: &'r mut [CompactRecord],
    pub(super) len: usize,
    pub(super) segment_base: usize,
}

impl<'r> CompactBatch<'r> {
    /// An empty batch with room for one operation per record. The old contents of the records do not
    /// matter.
    pub fn new(records: &'r mut [CompactRecord]) -> CompactBatch<'r> {
        CompactBatch::with_segment_base(records, 0)
    }

    /// The same, for code whose data segment has a base: see [`Hypercall`](crate::Hypercall).
    pub fn with_segment_base(
        records: &'r mut [CompactRecord],
        segment_base: usize,
    ) -> CompactBatch<'r> {
        CompactBatch { records, len: 0, segment_base }
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no operations.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    scalar_operations!();

    /// Executes all operations in order. Returns the values read.
    ///
    /// The CPU's instructions execute what the host declines, in its place in the order, and everything
    /// if there is no host.
    ///
    /// # Errors
    ///
    /// [`Error::Operation`] names the operation that the host rejects. Those before it have been executed,
    /// it and those after it have not.
    ///
    /// # Safety
    ///
    /// Accesses to ports may do anything that their devices do.
    pub unsafe fn run(self) -> Result<Results<'r, CompactRecord>, Error> {
        let records = &mut self.records[..self.len];
        let io = Paravirt { machine: &Real, segment_base: self.segment_base };
        // SAFETY: the caller answers for the devices.
        unsafe { run(&io, records) }?;
        Ok(Results { records })
    }

    pub(super) fn push_in<T: Value>(&mut self, port: u16) -> Result<Ticket<T>, Error> {
        self.push(T::IN, port, 0).map(|record| Ticket::to(record))
    }

    pub(super) fn push_out<T: Value>(&mut self, value: T, port: u16) -> Result<(), Error> {
        self.push(T::OUT, port, value.to_bits()).map(drop)
    }

    fn push(&mut self, call: u8, port: u16, value: u32) -> Result<&CompactRecord, Error> {
        let record = self.records.get_mut(self.len).ok_or(Error::NoRoom)?;
        *record = CompactRecord { call, reserved: 0, port, value };
        self.len += 1;
        Ok(record)
    }
}

/// Executes records in order: the loop around the call.
///
/// # Safety
///
/// The caller answers for the devices.
pub(super) unsafe fn run<M: Machine>(
    io: &Paravirt<'_, M>,
    records: &mut [CompactRecord],
) -> Result<(), Error> {
    let word = CallWord::new(call::BATCH_COMPACT, 0, 0);
    let base = records.as_mut_ptr();
    let count = records.len();
    let mut index = 0;
    let mut is_touched = false;
    while index != count {
        // SAFETY: it is one of the records.
        let next = unsafe { base.add(index) };
        let mut edx = next.expose_provenance().wrapping_add(io.segment_base);
        let mut ecx = count - index;
        // SAFETY: the host reads and writes these records only.
        let answer = unsafe { io.machine.call(word, &mut edx, &mut ecx) };
        // EDX shows the same progress as ECX.
        let done = (count - index) - ecx.min(count - index);
        index += done;
        if done != 0 {
            is_touched = false;
            continue;
        }
        match answer.code() {
            Some(status::PAGE) if !is_touched => {
                // SAFETY: it is one of the records.
                unsafe { touch::for_writing(next.cast()) };
                is_touched = true;
            }
            Some(status::OK | status::PAGE | status::DECLINED) => {
                // SAFETY: it is one of the records, and the caller answers for the devices.
                unsafe { perform(io, &mut *next) };
                index += 1;
                is_touched = false;
            }
            // The host has no compact batches, but may do the operations.
            Some(status::UNKNOWN) => {
                // SAFETY: as above.
                unsafe { perform_all(io, base, index..count) };
                return Ok(());
            }
            None | Some(status::DENIED | status::ADDRESS) => {
                // SAFETY: as above.
                unsafe { perform_all(io.machine.instructions(), base, index..count) };
                return Ok(());
            }
            Some(code) => {
                return Err(Error::Operation { index, error: CallError::of_code(code) });
            }
        }
    }
    Ok(())
}

/// Executes some records by `way`.
///
/// # Safety
///
/// The records must be valid. The caller answers for the devices.
unsafe fn perform_all<P: PortIo>(
    way: &P,
    base: *mut CompactRecord,
    which: core::ops::Range<usize>,
) {
    for index in which {
        // SAFETY: the caller's records are valid, and the caller answers for the devices.
        unsafe { perform(way, &mut *base.add(index)) };
    }
}

/// Executes one record.
///
/// # Safety
///
/// The caller answers for the devices.
unsafe fn perform<P: PortIo>(way: &P, record: &mut CompactRecord) {
    let CompactRecord { call, port, value, .. } = *record;
    // SAFETY: the caller answers for the devices.
    record.value = unsafe { perform_scalar(way, call, port, value) };
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::simulation::{By, Simulation};

    /// Runs one of each operation, and checks that each was done once, in order, with the right values.
    fn check(machine: &Simulation) {
        let mut records = [CompactRecord::default(); 6];
        let mut batch = CompactBatch::with_segment_base(&mut records, machine.segment_base);
        assert!(batch.is_empty());
        batch.outb(0xab, 0x300).unwrap();
        let byte = batch.inb(0x301).unwrap();
        batch.outw(0xabcd, 0x302).unwrap();
        let word = batch.inw(0x303).unwrap();
        batch.outl(0xabcd_ef01, 0x304).unwrap();
        let long = batch.inl(0x305).unwrap();
        assert_eq!(batch.len(), 6);
        assert_eq!(batch.outb(1, 0x80), Err(Error::NoRoom));
        let results = run_on(machine, batch).unwrap();
        assert_eq!((results.get(byte), results.get(word), results.get(long)), (1, 2, 3));
        assert_eq!(machine.written(), [0xab, 0xabcd, 0xabcd_ef01]);
        let ports: Vec<u16> = machine.accesses().iter().map(|access| access.2).collect();
        assert!(ports.into_iter().eq(0x300..0x306));
    }

    fn run_on<'r>(
        machine: &Simulation,
        batch: CompactBatch<'r>,
    ) -> Result<Results<'r, CompactRecord>, Error> {
        let records = &mut batch.records[..batch.len];
        let io = Paravirt { machine, segment_base: batch.segment_base };
        // SAFETY: nothing can go wrong in a simulation.
        unsafe { run(&io, records) }?;
        Ok(Results { records })
    }

    fn calls(machine: &Simulation) -> usize {
        machine.diary.borrow().calls
    }

    #[test]
    fn records_are_as_the_abi_has_them() {
        let mut records = [CompactRecord::default(); 2];
        let mut batch = CompactBatch::new(&mut records);
        batch.outl(0x0123_4567, 0xcf8).unwrap();
        let _ = batch.inw(0xcfc).unwrap();
        let words = batch.records.iter().map(|record| {
            let address = core::ptr::from_ref(record).cast::<[u8; 8]>();
            // SAFETY: it is 8 bytes of plain data without padding.
            unsafe { *address }
        });
        let expected = [[6, 0, 0xf8, 0xc, 0x67, 0x45, 0x23, 1], [2, 0, 0xfc, 0xc, 0, 0, 0, 0]];
        assert!(words.eq(expected));
    }

    #[test]
    fn one_call_does_all() {
        let machine = Simulation::host();
        check(&machine);
        assert_eq!((calls(&machine), machine.ways()), (1, Vec::from([By::CompactBatch])));
    }

    #[test]
    fn what_is_left_needs_another_call() {
        let machine = Simulation { elements_max: 4, ..Simulation::host() };
        check(&machine);
        assert_eq!((calls(&machine), machine.ways()), (2, Vec::from([By::CompactBatch])));
    }

    #[test]
    fn pages_are_touched_if_the_host_asks() {
        for segment_base in [0, 16] {
            let machine = Simulation { pages: true, segment_base, ..Simulation::host() };
            check(&machine);
            assert_eq!(machine.ways(), [By::CompactBatch]);
        }
    }

    #[test]
    fn each_has_its_own_call_if_touching_does_not_help() {
        let machine = Simulation { pages: true, stubborn: true, ..Simulation::host() };
        check(&machine);
        assert_eq!(machine.ways(), [By::Call]);
    }

    #[test]
    fn each_has_its_own_call_if_the_host_knows_no_compact_batch() {
        let machine = Simulation { has_compact_batches: false, ..Simulation::host() };
        check(&machine);
        assert_eq!((calls(&machine), machine.ways()), (1 + 6, Vec::from([By::Call])));
    }

    #[test]
    fn a_declined_operation_is_executed_in_its_place() {
        use By::{CompactBatch, Instruction};
        let declined = [0x301, 0x305].into();
        let machine = Simulation { declined, ..Simulation::host() };
        check(&machine);
        assert_eq!(machine.ways(), [CompactBatch, Instruction, CompactBatch, Instruction]);
    }

    #[test]
    fn the_processor_does_all_without_a_host() {
        let denied = Simulation { refusal: Some(status::DENIED), ..Simulation::host() };
        for machine in [Simulation::default(), denied] {
            check(&machine);
            assert_eq!((calls(&machine), machine.ways()), (1, Vec::from([By::Instruction])));
        }
    }

    #[test]
    fn an_error_names_its_operation() {
        let machine = Simulation { wrong: Some((0x301, status::ARGUMENT)), ..Simulation::host() };
        let mut records = [CompactRecord::default(); 3];
        let mut batch = CompactBatch::new(&mut records);
        (0..3).for_each(|port| batch.outb(7, 0x300 + port).unwrap());
        let error = run_on(&machine, batch).unwrap_err();
        assert_eq!(error, Error::Operation { index: 1, error: CallError::Argument });
        assert_eq!(machine.accesses(), [(By::CompactBatch, call::OUTB, 0x300, 7)]);
    }

    #[test]
    #[should_panic = "the ticket for a u8 is another batch's"]
    fn a_ticket_of_another_batch_is_refused() {
        let machine = Simulation::host();
        let mut records = [CompactRecord::default(); 1];
        let mut others = [CompactRecord::default(); 1];
        let mut batch = CompactBatch::new(&mut records);
        let mut other = CompactBatch::new(&mut others);
        let _ = batch.inb(0x300).unwrap();
        let ticket = other.inb(0x300).unwrap();
        run_on(&machine, batch).unwrap().get(ticket);
    }
}
