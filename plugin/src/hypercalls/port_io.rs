//! The twelve port I/O calls: scalar, with one element in registers, and string, with many in memory.

use pvio_guest::abi::{self, status};

use super::Hypercalls;
use super::caller_pages::CallerPages;
use super::memory::check;
use super::recorder::CallRecorder;
use super::refusal::Refusal;
use crate::bus::PortTarget;
use crate::guest_memory::{LinearMemory, left_in_page};
use crate::qemu::{Register, WritableRegisters};
use crate::stats::Call;
use crate::x86::{Direction, PAGE, Port, Width};

/// One of the twelve calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IoCall {
    pub call: Call,
    pub direction: Direction,
    pub width: Width,
    pub is_string: bool,
}

impl IoCall {
    /// The port I/O that a call does; `None` for other calls.
    #[inline]
    pub fn of(call: Call) -> Option<IoCall> {
        Self::TABLE[call.index()]
    }

    /// Indexed by [`Call::index`]; `None` for other calls.
    const TABLE: [Option<IoCall>; Call::ALL.len()] = {
        let mut table = [None; Call::ALL.len()];
        let mut index = 0;
        while index < table.len() {
            let call = Call::ALL[index];
            if let Some((direction, width)) = call.port_io() {
                let is_string = !matches!(
                    call,
                    Call::Inb | Call::Inw | Call::Inl | Call::Outb | Call::Outw | Call::Outl
                );
                table[index] = Some(IoCall { call, direction, width, is_string });
            }
            index += 1;
        }
        table
    };

    /// The scalar call with this number.
    #[inline]
    pub fn scalar(number: u8) -> Option<IoCall> {
        // The scalar calls have the first numbers, in the table's order.
        const { assert!(abi::call::OUTL as usize == Call::Outl.index()) };
        let number = usize::from(number);
        if number > Call::Outl.index() { None } else { Self::TABLE[number] }
    }

    /// Moves one element. `read` and `write` access the port.
    #[inline]
    pub fn move_one(
        self,
        operand: u8,
        data: &mut impl Data,
        read: impl FnOnce(Width) -> u32,
        write: impl FnOnce(Width, u32),
    ) -> Moved {
        let (value, answer) = match (self.direction, self.width) {
            (Direction::In, Width::Dword) => {
                let value = read(Width::Dword);
                data.set_value(value);
                (value, 0)
            }
            (Direction::In, width) => {
                let value = read(width);
                (value, value)
            }
            (Direction::Out, Width::Byte) => {
                write(Width::Byte, operand.into());
                (operand.into(), 0)
            }
            (Direction::Out, width) => {
                let value = data.value();
                write(width, value);
                (value, 0)
            }
        };
        Moved { value, answer }
    }

    /// Returns true if the call word's operand is the value to write.
    pub fn takes_operand(self) -> bool {
        self.call == Call::Outb
    }
}

/// The value beside the call word of a scalar call: EDX, or the mailbox's value field.
pub(super) trait Data {
    fn value(&mut self) -> u32;
    fn set_value(&mut self, value: u32);
}

impl Data for WritableRegisters<'_> {
    fn value(&mut self) -> u32 {
        self.read(Register::Rdx) as u32
    }

    fn set_value(&mut self, value: u32) {
        self.write(Register::Rdx, value.into());
    }
}

/// An element that a call has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub value: u32,
    /// The data in the status word: the value of `inb` and `inw`, else 0.
    pub answer: u32,
}

/// The progress of a string call or a batch, as a `rep` keeps its own in RSI or RDI, and RCX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    /// The linear address of the next element.
    pub address: u64,
    /// The number of elements left.
    pub left: u64,
}

/// The port accesses of one call.
pub(super) struct PortCalls<'a> {
    pub hypercalls: &'a Hypercalls,
    pub recorder: CallRecorder<'a>,
    /// Elements on their way between memory and a device.
    pub buffer: &'a mut [u8; PAGE as usize],
    /// `None` if QEMU gives no access to RAM in place.
    pub pages: Option<&'a CallerPages>,
    /// The number of elements and records that the call may still move. While it runs, its vCPU does nothing
    /// else, and even the end of QEMU waits.
    pub budget: usize,
}

impl<'a> PortCalls<'a> {
    /// The device that serves a port.
    ///
    /// # Errors
    ///
    /// [`status::DECLINED`] if a call may not reach the port.
    #[inline]
    pub fn target(&self, port: Port) -> Result<PortTarget<'a>, Refusal> {
        self.hypercalls.target(port).ok_or(Refusal(status::DECLINED))
    }

    /// Moves one element, and counts it. Returns the data for the answer.
    #[inline]
    pub fn scalar(
        &self,
        io: IoCall,
        port: Port,
        operand: u8,
        data: &mut impl Data,
    ) -> Result<u32, Refusal> {
        let target = self.target(port)?;
        let Moved { value, answer } = io.move_one(
            operand,
            data,
            |width| target.read(width),
            |width, value| target.write(width, value),
        );
        self.recorder.moved_one(io, port, value);
        Ok(answer)
    }

    /// Moves elements until none is left, the budget is spent, or memory is not accessible.
    pub fn string(
        &mut self,
        io: IoCall,
        port: Port,
        memory: &LinearMemory<'_>,
        transfer: &mut Transfer,
    ) -> Result<(), Refusal> {
        let size = usize::from(io.width.bytes());
        check(memory, transfer.address, transfer.left, size)?;
        let target = self.target(port)?;
        while transfer.left > 0 && self.budget > 0 {
            let in_page = left_in_page(transfer.address) / size;
            // If `in_page` is 0, the next element crosses into another page.
            let max = in_page.max(1).min(self.budget);
            let count = usize::try_from(transfer.left).map_or(max, |left| left.min(max));
            let bytes = &mut self.buffer[..count * size];
            match (io.direction, in_page) {
                (Direction::Out, _) => {
                    memory.read(transfer.address, bytes)?;
                    target.write_string(io.width, bytes);
                }
                // Reading a device may consume its data, so make sure of the memory first.
                (Direction::In, 0) => {
                    memory.with_both_mut(transfer.address, size, |first, second| {
                        target.read_string(io.width, bytes);
                        first.copy_from(bytes);
                        second.copy_from(&bytes[first.len()..]);
                    })?;
                }
                (Direction::In, _) => {
                    memory.with_mut(transfer.address, bytes.len(), |destination| {
                        target.read_string(io.width, bytes);
                        destination.copy_from(bytes);
                    })?;
                }
            }
            transfer.address = transfer.address.wrapping_add((count * size) as u64);
            transfer.left -= count as u64;
            self.budget -= count;
            self.recorder.moved_string(io, port, &self.buffer[..count * size]);
        }
        Ok(())
    }
}
