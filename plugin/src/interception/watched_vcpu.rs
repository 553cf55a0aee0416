//! Passes QEMU's callbacks of one vCPU on to its counter, its hypercalls, and its instruction counts.

use super::calls;
use super::instructions::VcpuInstructions;
use super::proof::{AccessBy, VcpuProof};
use super::token::PortIoToken;
use super::vcpu::VcpuCounter;
use crate::hypercalls::{Magic, VcpuCalls};
use crate::qemu::{
    self, Discontinuity, MemoryAccess, Next, PhysicalPage, Registers, Token, WritableRegisters,
};
use crate::x86::Direction;

/// Handles the callbacks of one vCPU.
pub(super) struct WatchedVcpu {
    pub counter: VcpuCounter,
    /// `None` if the guest may make no hypercalls.
    pub calls: Option<VcpuCalls>,
    /// `None` if instructions of other kinds are not counted.
    pub instructions: Option<VcpuInstructions>,
    /// `None` if accesses prove nothing.
    pub proof: Option<VcpuProof>,
}

impl qemu::Vcpu for WatchedVcpu {
    fn exec(&mut self, token: Token, registers: &mut Registers<'_>) -> Next {
        if let Some(proof) = &mut self.proof
            && PortIoToken::from(token).form().direction() == Direction::Out
        {
            proof.writes_to_device();
        }
        self.counter.about_to_run(token, registers)
    }

    fn exec_with_writes(&mut self, token: Token, registers: &mut WritableRegisters<'_>) {
        if let Some(calls) = &mut self.calls {
            let caller = calls::caller(token.into(), registers.rip());
            let counter = &mut self.counter;
            calls.call(caller, registers, &mut |site, caller, registers| {
                counter.caller_of_call(site, caller, registers)
            });
        }
    }

    #[inline]
    fn exec_no_regs(&mut self, token: Token, registers: &mut Registers<'_>) {
        if let Some(calls) = &mut self.calls {
            let caller = calls::caller(token.into(), registers.rip());
            calls.doorbell(caller, registers, &mut |_, _, _| Default::default());
        }
    }

    fn exec_read_only(&mut self, token: Token, registers: &mut Registers<'_>) {
        let Some(calls) = &mut self.calls else { return };
        let caller = calls::caller(token.into(), registers.rip());
        if caller.magic == Magic::RegisterMailbox {
            calls.register(caller, registers);
            return;
        }
        let counter = &mut self.counter;
        calls.doorbell(caller, registers, &mut |site, caller, registers| {
            counter.caller_of_call(site, caller, registers)
        });
    }

    fn tracepoint(&mut self, token: Token, registers: &mut Registers<'_>) {
        self.counter.passes(token, registers);
    }

    fn memory_accessed(&mut self, token: Token, access: &MemoryAccess<'_>) {
        self.counter.memory_accessed(token, || access.value());
    }

    fn memory_touched(&mut self, token: Token, access: &MemoryAccess<'_>) {
        if let Some(proof) = &mut self.proof {
            proof.accessed(AccessBy::from(token), access);
        }
    }

    fn watched_block_begins(&mut self, token: Token) {
        if let Some(proof) = &mut self.proof {
            proof.block_begins(PhysicalPage(token.0));
        }
    }

    fn block_begins(&mut self, registers: &mut Registers<'_>) {
        self.counter.block_begins(registers);
    }

    #[inline]
    fn scored_block_begins(&mut self, distance: u64) {
        if let Some(instructions) = &mut self.instructions {
            instructions.block_begins(distance);
        }
    }

    fn block_was_left(&mut self) {
        if let Some(instructions) = &mut self.instructions {
            instructions.block_was_left();
        }
    }

    fn restarted(&mut self) {
        if let Some(instructions) = &mut self.instructions {
            instructions.counted_again();
        }
    }

    fn added_elsewhere(&mut self, token: Token) {
        if let Some(instructions) = &mut self.instructions {
            instructions.counted_elsewhere(token);
        }
    }

    fn discontinuity(&mut self, event: Discontinuity) {
        self.counter.discontinuity(event);
        if let Some(instructions) = &mut self.instructions {
            instructions.discontinuity(event);
        }
    }
}
