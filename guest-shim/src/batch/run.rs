//! The loop around the call that executes a batch.
//!
//! The host stops at the first record that is not OK and says so in the answer, of which EDX and ECX
//! are about that record, and in the record's own status. Where the record says nothing, the answer is
//! about the call as a whole, or about the page that the record is in.

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
/// Each record must be a valid one of the twelve calls, and the buffers of strings fit for them, their
/// pointers exposed. What the devices do is the caller's.
pub(super) unsafe fn run<M: Machine>(
    io: &Paravirt<'_, M>,
    records: *mut Record,
    count: usize,
) -> Result<(), Error> {
    let word = CallWord::new(call::BATCH, 0, 0);
    let mut index = 0;
    // Whether the next record, and the next element of its string, have been touched already.
    let (mut touched_record, mut touched_element) = (false, false);
    while index != count {
        // SAFETY: it is one of the records.
        let next = unsafe { records.add(index) };
        // SAFETY: as above.
        let before = unsafe { *next };
        let mut edx = next.expose_provenance().wrapping_add(io.segment_base);
        let mut ecx = count - index;
        // SAFETY: asked of the caller.
        let answer = unsafe { io.machine.call(word, &mut edx, &mut ecx) };
        let Some(code) = answer.code() else {
            // SAFETY: asked of the caller.
            unsafe { perform_all(io.machine.instructions(), io, records, index..count) };
            return Ok(());
        };
        // How far it came is in EDX, too, and in the same words; once is enough.
        let done = (count - index) - ecx.min(count - index);
        index += done;
        if index == count {
            break;
        }
        // SAFETY: it is one of the records.
        let next = unsafe { records.add(index) };
        // SAFETY: as above; the host may have written to it.
        let after = unsafe { next.read_volatile() };
        // SAFETY: as above. A record that is given to the host again is as if it were new; and where
        // the host could not write to it, this is the touch.
        unsafe { (&raw mut (*next).status).write_volatile(RECORD_PENDING) };

        let moved = done != 0 || after.value != before.value;
        if moved {
            (touched_record, touched_element) = (false, false);
        }
        let of_record = after.status == code;
        match code {
            status::OK if moved => continue,
            status::PAGE if of_record && !touched_element => {
                // SAFETY: asked of the caller; a record with such a status is a string's, and has
                // elements left.
                unsafe { touch_element(io, &after) };
                touched_element = true;
                continue;
            }
            status::PAGE if !of_record && !touched_record => {
                touched_record = true;
                continue;
            }
            // It leads nowhere, but this operation has a call of its own.
            status::OK | status::PAGE => {
                // SAFETY: asked of the caller.
                unsafe { perform_all(io, io, records, index..index + 1) };
            }
            // Where a buffer is in a device or a ROM, a host can do nothing and the processor can.
            // (There are no wild ones.)
            status::DECLINED | status::ADDRESS if of_record => {
                // SAFETY: asked of the caller.
                unsafe { perform_all(io.machine.instructions(), io, records, index..index + 1) };
            }
            code if of_record => {
                return Err(Error::Operation { index, error: CallError::of_code(code) });
            }
            // The host does no batches, but may well do what is in them.
            status::DECLINED => {
                // SAFETY: asked of the caller.
                unsafe { perform_all(io, io, records, index..count) };
                return Ok(());
            }
            _ => {
                // SAFETY: asked of the caller.
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
/// As for [`run`]; the string must have an element left.
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
    // SAFETY: asked of the caller.
    unsafe {
        for byte in [first, first.add(size - 1)] {
            match is_input {
                true => touch::for_writing(byte),
                false => touch::for_reading(byte),
            }
        }
    }
}

/// Executes some of the records in another way, what is left of each, and marks them as done.
///
/// # Safety
///
/// As for [`run`].
unsafe fn perform_all<P: PortIo, M>(
    way: &P,
    io: &Paravirt<'_, M>,
    records: *mut Record,
    which: core::ops::Range<usize>,
) {
    for index in which {
        // SAFETY: asked of the caller.
        let record = unsafe { &mut *records.add(index) };
        // SAFETY: asked of the caller.
        unsafe { perform(way, io, record) };
        record.status = status::OK;
    }
}

/// Executes one record.
///
/// # Safety
///
/// As for [`run`].
unsafe fn perform<P: PortIo, M>(way: &P, io: &Paravirt<'_, M>, record: &mut Record) {
    let Record { call, port, value, .. } = *record;
    // SAFETY: asked of the caller.
    unsafe {
        match call {
            call::INB => record.value = way.inb(port).into(),
            call::INW => record.value = way.inw(port).into(),
            call::INL => record.value = way.inl(port),
            call::OUTB => way.outb(value as u8, port),
            call::OUTW => way.outw(value as u16, port),
            call::OUTL => way.outl(value, port),
            call::INSB => way.insb(port, buffer_mut(io, record)),
            call::INSW => way.insw(port, buffer_mut(io, record)),
            call::INSL => way.insl(port, buffer_mut(io, record)),
            call::OUTSB => way.outsb(port, buffer(io, record)),
            call::OUTSW => way.outsw(port, buffer(io, record)),
            call::OUTSL => way.outsl(port, buffer(io, record)),
            _ => {}
        }
    }
    if is_string(call) {
        record.value = 0;
    }
}

/// Where the next element of a string is.
fn pointer<T, M>(io: &Paravirt<'_, M>, record: &Record) -> *mut T {
    let address = (record.address as usize).wrapping_sub(io.segment_base);
    core::ptr::with_exposed_provenance_mut(address)
}

/// What is left of the buffer of an `outs`.
///
/// # Safety
///
/// As for [`run`]; the record must be one of T's.
unsafe fn buffer<'b, T: Value, M>(io: &Paravirt<'_, M>, record: &Record) -> &'b [T] {
    // SAFETY: asked of the caller.
    unsafe { core::slice::from_raw_parts(pointer(io, record), record.value as usize) }
}

/// What is left of the buffer of an `ins`.
///
/// # Safety
///
/// As for [`run`]; the record must be one of T's.
unsafe fn buffer_mut<'b, T: Value, M>(io: &Paravirt<'_, M>, record: &Record) -> &'b mut [T] {
    // SAFETY: asked of the caller.
    unsafe { core::slice::from_raw_parts_mut(pointer(io, record), record.value as usize) }
}

/// Whether a record's `value` is a count, and its `address` a buffer.
fn is_string(call: u8) -> bool {
    (call::INSB..=call::OUTSL).contains(&call)
}
