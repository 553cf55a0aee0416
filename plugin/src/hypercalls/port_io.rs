//! The twelve calls of port I/O: one element in registers, or many in memory.

use pvio_guest::abi::status;

use super::memory::{CallerMemory, left_in_page};
use super::{Refusal, VcpuCalls};
use crate::access_log::Access;
use crate::bus::Owner;
use crate::qemu::{CallingVcpu, Register};
use crate::stats::Call;
use crate::x86::{Direction, Port, Width};

/// One of the twelve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IoCall {
    pub call: Call,
    pub direction: Direction,
    pub width: Width,
    pub is_string: bool,
}

impl IoCall {
    pub fn of(call: Call) -> Option<IoCall> {
        let (direction, width) = call.port_io()?;
        let is_string = !matches!(
            call,
            Call::Inb | Call::Inw | Call::Inl | Call::Outb | Call::Outw | Call::Outl
        );
        Some(IoCall { call, direction, width, is_string })
    }

    /// Whether the operand of the call is what it writes.
    pub fn takes_operand(self) -> bool {
        self.call == Call::Outb
    }
}

/// How far a call has come that moves elements: as `rep` has its own in RDI or RSI, and RCX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    /// The address of the next.
    pub address: u64,
    /// How many are left.
    pub left: u64,
}

impl VcpuCalls {
    pub(super) fn scalar(
        &mut self,
        io: IoCall,
        port: Port,
        operand: u8,
        pc: u64,
        vcpu: &mut CallingVcpu<'_>,
    ) -> Result<u32, Refusal> {
        let hypercalls = &*self.hypercalls;
        let owner = owner(hypercalls, port)?;
        let (value, data) = match (io.direction, io.width) {
            (Direction::In, Width::Dword) => {
                let value = owner.read(io.width);
                vcpu.write(Register::Rdx, value.into());
                (value, 0)
            }
            (Direction::In, _) => {
                let value = owner.read(io.width);
                (value, value)
            }
            (Direction::Out, width) => {
                let value = match width {
                    Width::Byte => operand.into(),
                    _ => vcpu.read(Register::Rdx) as u32,
                };
                owner.write(width, value);
                (value, 0)
            }
        };
        self.moved_one(io, port, value, pc);
        Ok(data)
    }

    /// Counts one element, and logs it.
    pub(super) fn moved_one(&self, io: IoCall, port: Port, value: u32, pc: u64) {
        self.count(io, port, 1);
        if let Some(log) = self.access_log.as_ref().filter(|log| log.covers(port)) {
            log.access(pc, access(io), port, value);
        }
    }

    fn count(&self, io: IoCall, port: Port, elements: u64) {
        self.tally.hypercall_moved(io.call, elements * u64::from(io.width.bytes()));
        self.tally.hypercall_accesses(port, io.direction, io.width, elements);
    }

    /// Moves elements until none is left, the budget is spent, or something is in the way.
    pub(super) fn string(
        &mut self,
        io: IoCall,
        port: Port,
        transfer: &mut Transfer,
        memory: &CallerMemory<'_>,
        pc: u64,
        budget: &mut usize,
    ) -> Result<(), Refusal> {
        let size = usize::from(io.width.bytes());
        memory.check(transfer.address, transfer.left, size)?;
        let hypercalls = std::sync::Arc::clone(&self.hypercalls);
        let owner = owner(&hypercalls, port)?;
        while transfer.left > 0 && *budget > 0 {
            let in_page = left_in_page(transfer.address) / size;
            // None: the next one is in two pages.
            let most = in_page.max(1).min(*budget);
            let count = usize::try_from(transfer.left).map_or(most, |left| left.min(most));
            let bytes = &mut self.buffer[..count * size];
            match (io.direction, in_page) {
                (Direction::Out, _) => {
                    memory.read(transfer.address, bytes)?;
                    owner.write_string(io.width, bytes);
                }
                // What a device gives must not be lost: it is asked when there is room for it.
                (Direction::In, 0) => {
                    memory.with_both_mut(transfer.address, size, |first, second| {
                        owner.read_string(io.width, bytes);
                        first.copy_from(bytes);
                        second.copy_from(&bytes[first.len()..]);
                    })?;
                }
                (Direction::In, _) => {
                    memory.with_mut(transfer.address, bytes.len(), |room| {
                        owner.read_string(io.width, bytes);
                        room.copy_from(bytes);
                    })?;
                }
            }
            transfer.address = transfer.address.wrapping_add((count * size) as u64);
            transfer.left -= count as u64;
            *budget -= count;
            self.moved_string(io, port, count * size, pc);
        }
        Ok(())
    }

    /// Counts the elements in the first `len` bytes of the buffer, and logs them.
    pub(super) fn moved_string(&self, io: IoCall, port: Port, len: usize, pc: u64) {
        let size = usize::from(io.width.bytes());
        self.count(io, port, (len / size) as u64);
        let Some(log) = self.access_log.as_ref().filter(|log| log.covers(port)) else { return };
        for element in self.buffer[..len].chunks_exact(size) {
            let mut value = [0; 4];
            value[..size].copy_from_slice(element);
            log.access(pc, access(io), port, u32::from_le_bytes(value));
        }
    }
}

/// Who has a port, if a call may reach it.
pub(super) fn owner(hypercalls: &super::Hypercalls, port: Port) -> Result<Owner<'_>, Refusal> {
    let owner = hypercalls.bus.owner(port);
    owner
        .filter(|owner| !hypercalls.icount || owner.is_independent())
        .ok_or(Refusal(status::DECLINED))
}

fn access(io: IoCall) -> Access {
    Access { direction: io.direction, width: io.width }
}
