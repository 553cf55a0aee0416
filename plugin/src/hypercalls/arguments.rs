//! The arguments and results of a call beside its word: in registers, or in a mailbox.

use super::caller_pages::CallerPages;
use super::memory::caller_memory;
use super::port_io::{Data, Transfer};
use super::refusal::Refusal;
use super::{Caller, Hypercalls};
use crate::guest_memory::LinearMemory;
use crate::qemu::{Register, WritableRegisters};

/// The arguments and results of a call beside its word.
pub(super) trait Arguments: Data {
    /// The caller's memory, as [`caller_memory`].
    ///
    /// # Errors
    ///
    /// As for [`caller_memory`].
    fn memory<'h>(
        &mut self,
        hypercalls: &'h Hypercalls,
        pages: Option<&'h CallerPages>,
    ) -> Result<LinearMemory<'h>, Refusal>;

    /// Reads address and count, each once.
    fn transfer(&mut self) -> Transfer;

    /// Returns address and count to the caller.
    fn set_transfer(&mut self, transfer: Transfer);
}

/// A call by registers: value and address in RDX, count in RCX.
pub(super) struct CallRegisters<'a, 'v> {
    pub caller: Caller,
    pub vcpu: &'a mut WritableRegisters<'v>,
}

impl Data for CallRegisters<'_, '_> {
    #[inline]
    fn value(&mut self) -> u32 {
        self.vcpu.value()
    }

    #[inline]
    fn set_value(&mut self, value: u32) {
        self.vcpu.set_value(value);
    }
}

impl Arguments for CallRegisters<'_, '_> {
    fn memory<'h>(
        &mut self,
        hypercalls: &'h Hypercalls,
        pages: Option<&'h CallerPages>,
    ) -> Result<LinearMemory<'h>, Refusal> {
        caller_memory(self.caller, self.vcpu, hypercalls, pages)
    }

    fn transfer(&mut self) -> Transfer {
        Transfer {
            address: self.caller.argument(self.vcpu, Register::Rdx),
            left: self.caller.argument(self.vcpu, Register::Rcx),
        }
    }

    fn set_transfer(&mut self, transfer: Transfer) {
        self.vcpu.write(Register::Rdx, transfer.address);
        self.vcpu.write(Register::Rcx, transfer.left);
    }
}
