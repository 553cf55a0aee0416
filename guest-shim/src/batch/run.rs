//! The loop around the call that executes a batch.
//!
//! The host stops at the first record that is not OK. EDX and ECX then refer to that record, and its own
//! status repeats the answer. If the record's status differs, the answer is about the whole call, or
//! about the page of the record.

use super::results::Error;
use crate::abi::{CallWord, RECORD_PENDING, Record, call, status};
use crate::error::CallError;
use crate::machine::Machine;
use crate::paravirt::Paravirt;
use crate::port_io::PortIo;
use crate::touch;
use crate::value::Value;

/// Executes records in order.
///
/// # Safety
///
/// Each record must be valid and one of the twelve calls of port I/O. Buffers must fit, and their
/// pointers must have been exposed. The caller answers for the devices.
pub(super) unsafe fn run<M: Machine>(
    io: &Paravirt<'_, M>,
    records: *mut Record,
    count: usize,
) -> Result<(), Error> {
    let word = CallWord::new(call::BATCH, 0, 0);
    let mut index = 0;
    // True if the next record, or the next element of its string, has been touched.
    let (mut touched_record, mut touched_element) = (false, false);
    while index != count {
        // SAFETY: it is one of the records.
        let next = unsafe { records.add(index) };
        // SAFETY: as above.
        let before = unsafe { *next };
        let mut edx = next.expose_provenance().wrapping_add(io.segment_base);
        let mut ecx = count - index;
        // SAFETY: the caller's records are valid.
        let answer = unsafe { io.machine.call(word, &mut edx, &mut ecx) };
        let Some(code) = answer.code() else {
            // SAFETY: the caller's records are valid.
            unsafe { perform_all(io.machine.instructions(), io, records, index..count) };
            return Ok(());
        };
        // EDX shows the same progress as ECX.
        let done = (count - index) - ecx.min(count - index);
        index += done;
        if index == count {
            break;
        }
        // SAFETY: it is one of the records.
        let next = unsafe { records.add(index) };
        // SAFETY: as above; the host may have written to it.
        let after = unsafe { next.read_volatile() };
        // SAFETY: as above. The host gets a record again as if it were new. If the host could not write
        // to it, this write is the touch.
        unsafe { (&raw mut (*next).status).write_volatile(RECORD_PENDING) };

        let moved = done != 0 || after.value != before.value;
        if moved {
            (touched_record, touched_element) = (false, false);
        }
        let of_record = after.status == code;
        match code {
            status::OK if moved => continue,
            status::PAGE if of_record && !touched_element => {
                // SAFETY: the caller's records are valid; one with this status is a string with elements
                // left.
                unsafe { touch_element(io, &after) };
                touched_element = true;
                continue;
            }
            status::PAGE if !of_record && !touched_record => {
                touched_record = true;
                continue;
            }
            // No progress: the operation has a call of its own.
            status::OK | status::PAGE => {
                // SAFETY: the caller's records are valid.
                unsafe { perform_all(io, io, records, index..index + 1) };
            }
            // A host cannot use a buffer in a device or in ROM; the CPU can. (Buffers are valid.)
            status::DECLINED | status::ADDRESS if of_record => {
                // SAFETY: the caller's records are valid.
                unsafe { perform_all(io.machine.instructions(), io, records, index..index + 1) };
            }
            code if of_record => {
                return Err(Error::Operation { index, error: CallError::of_code(code) });
            }
            // The host has no batches, but may do the operations.
            status::DECLINED => {
                // SAFETY: the caller's records are valid.
                unsafe { perform_all(io, io, records, index..count) };
                return Ok(());
            }
            _ => {
                // SAFETY: the caller's records are valid.
                unsafe { perform_all(io.machine.instructions(), io, records, index..count) };
                return Ok(());
            }
        }
        index += 1;
        (touched_record, touched_element) = (false, false);
    }
    Ok(())
}

/// Touches the next element of a string.
///
/// # Safety
///
/// The same as for [`run`]; the string must have an element left.
unsafe fn touch_element<M>(io: &Paravirt<'_, M>, record: &Record) {
    let (size, is_input) = match record.call {
        call::INSB => (1, true),
        call::INSW => (2, true),
        call::INSL => (4, true),
        call::OUTSB => (1, false),
        call::OUTSW => (2, false),
        call::OUTSL => (4, false),
        _ => return,
    };
    let first = pointer::<u8, M>(io, record);
    // SAFETY: the caller's records are valid.
    unsafe {
        for byte in [first, first.add(size - 1)] {
            match is_input {
                true => touch::for_writing(byte),
                false => touch::for_reading(byte),
            }
        }
    }
}

/// Executes what is left of some records by `way`, and marks them as done.
///
/// # Safety
///
/// The same as for [`run`].
unsafe fn perform_all<P: PortIo, M>(
    way: &P,
    io: &Paravirt<'_, M>,
    records: *mut Record,
    which: core::ops::Range<usize>,
) {
    for index in which {
        // SAFETY: the caller's records are valid.
        let record = unsafe { &mut *records.add(index) };
        // SAFETY: the caller's records are valid.
        unsafe { perform(way, io, record) };
        record.status = status::OK;
    }
}

/// Executes one record.
///
/// # Safety
///
/// The same as for [`run`].
unsafe fn perform<P: PortIo, M>(way: &P, io: &Paravirt<'_, M>, record: &mut Record) {
    let Record { call, port, value, .. } = *record;
    // SAFETY: the caller's records are valid.
    unsafe {
        match call {
            call::INSB => way.insb(port, buffer_mut(io, record)),
            call::INSW => way.insw(port, buffer_mut(io, record)),
            call::INSL => way.insl(port, buffer_mut(io, record)),
            call::OUTSB => way.outsb(port, buffer(io, record)),
            call::OUTSW => way.outsw(port, buffer(io, record)),
            call::OUTSL => way.outsl(port, buffer(io, record)),
            _ => record.value = perform_scalar(way, call, port, value),
        }
    }
    if is_string(call) {
        record.value = 0;
    }
}

/// Moves one element. Returns the value read, or `value`.
///
/// # Safety
///
/// The caller answers for the device.
pub(super) unsafe fn perform_scalar<P: PortIo>(way: &P, call: u8, port: u16, value: u32) -> u32 {
    // SAFETY: the caller answers for the device.
    unsafe {
        match call {
            call::INB => return way.inb(port).into(),
            call::INW => return way.inw(port).into(),
            call::INL => return way.inl(port),
            call::OUTB => way.outb(value as u8, port),
            call::OUTW => way.outw(value as u16, port),
            call::OUTL => way.outl(value, port),
            _ => {}
        }
    }
    value
}

/// A pointer to the next element of a string.
fn pointer<T, M>(io: &Paravirt<'_, M>, record: &Record) -> *mut T {
    let address = (record.address as usize).wrapping_sub(io.segment_base);
    core::ptr::with_exposed_provenance_mut(address)
}

/// The rest of the buffer of an `outs`.
///
/// # Safety
///
/// The same as for [`run`]; the record's elements must be of type `T`.
unsafe fn buffer<'b, T: Value, M>(io: &Paravirt<'_, M>, record: &Record) -> &'b [T] {
    // SAFETY: the caller's records are valid.
    unsafe { core::slice::from_raw_parts(pointer(io, record), record.value as usize) }
}

/// The rest of the buffer of an `ins`.
///
/// # Safety
///
/// The same as for [`run`]; the record's elements must be of type `T`.
unsafe fn buffer_mut<'b, T: Value, M>(io: &Paravirt<'_, M>, record: &Record) -> &'b mut [T] {
    // SAFETY: the caller's records are valid.
    unsafe { core::slice::from_raw_parts_mut(pointer(io, record), record.value as usize) }
}

/// Returns true if the call moves a string: `value` is a count, `address` a buffer.
fn is_string(call: u8) -> bool {
    (call::INSB..=call::OUTSL).contains(&call)
}
