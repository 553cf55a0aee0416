//! Memory as the caller has it: linear addresses, through its own page tables, with its privilege.

use pvio_guest::abi::status;
use vm_memory::VolatileSlice;

use super::{Caller, Hypercalls, Refusal};
use crate::qemu::{CallingVcpu, GuestRam, HeldRam, Register};
use crate::x86::{Access, Entries, KeyRights, Mode, PAGE, Paging, Supervisor};

/// Page tables are in RAM; where a device is instead, the processor may find out what comes of it.
impl Entries for GuestRam {
    fn read_u32(&self, physical: u64) -> Option<u32> {
        GuestRam::read_u32(self, physical)
    }

    fn read_u64(&self, physical: u64) -> Option<u64> {
        GuestRam::read_u64(self, physical)
    }
}

/// The caller's memory, for as long as its registers stay as they are.
pub(super) struct CallerMemory<'a> {
    ram: &'a GuestRam,
    paging: Paging,
    mode: Mode,
}

const CR4_PAE: u64 = 1 << 5;
const CR4_SMAP: u64 = 1 << 21;

impl<'a> CallerMemory<'a> {
    /// Reads of the vCPU's registers those that matter. Where memory cannot be reached, the call is left
    /// to the guest.
    pub fn of(
        caller: Caller,
        vcpu: &mut CallingVcpu<'_>,
        hypercalls: &'a Hypercalls,
    ) -> Result<CallerMemory<'a>, Refusal> {
        let ram = hypercalls.ram().ok_or(Refusal(status::DECLINED))?;
        let mut paging = Paging {
            cr0: vcpu.read(Register::Cr0),
            cr3: 0,
            cr4: 0,
            efer: 0,
            rflags: 0,
            supervisor: Supervisor::Yes,
            keys: KeyRights::default(),
        };
        if Paging::is_on(paging.cr0) {
            paging.supervisor = caller.supervisor(vcpu);
            paging.cr3 = vcpu.read(Register::Cr3);
            paging.cr4 = vcpu.read(Register::Cr4);
            if paging.cr4 & CR4_PAE != 0 {
                paging.efer = vcpu.read(Register::Efer);
            }
            if paging.cr4 & CR4_SMAP != 0 {
                paging.rflags = vcpu.read(Register::Rflags);
            }
            if paging.has_keys() {
                paging.keys = KeyRights { user: vcpu.pkru(), supervisor: vcpu.pkrs() };
            }
        }
        Ok(CallerMemory { ram, paging, mode: caller.mode })
    }

    /// Whether there can be `count` elements of `size` bytes at an address.
    pub fn check(&self, address: u64, count: u64, size: usize) -> Result<(), Refusal> {
        let is_right = || {
            let len = count.checked_mul(size as u64)?;
            let last = address.checked_add(len.checked_sub(1)?)?;
            let canonical =
                [address, last].iter().all(|&end| self.paging.is_canonical(end, self.mode));
            // Between the two halves of canonical addresses there is nothing.
            (canonical && address >> 63 == last >> 63).then_some(())
        };
        match count == 0 || is_right().is_some() {
            true => Ok(()),
            false => Err(Refusal(status::ADDRESS)),
        }
    }

    fn translate(&self, linear: u64, access: Access) -> Result<u64, Refusal> {
        self.paging.translate(linear, access, self.ram).map_err(|_| Refusal(status::PAGE))
    }

    /// Gives `work` what is at an address, to read: `len` bytes of one page.
    pub fn with<R>(
        &self,
        linear: u64,
        len: usize,
        work: impl FnOnce(VolatileSlice<'_>) -> R,
    ) -> Result<R, Refusal> {
        let physical = self.translate(linear, Access::Read)?;
        self.ram.with(physical, len, work).ok_or(Refusal(status::ADDRESS))
    }

    /// Gives `work` what is at an address, to read and write: `len` bytes of one page.
    pub fn with_mut<R>(
        &self,
        linear: u64,
        len: usize,
        work: impl FnOnce(VolatileSlice<'_>) -> R,
    ) -> Result<R, Refusal> {
        let physical = self.translate(linear, Access::Write)?;
        self.ram.with_mut(physical, len, work).ok_or(Refusal(status::ADDRESS))
    }

    /// Holds what is at an address, to read and write: `len` bytes of one page.
    pub fn hold(&self, linear: u64, len: usize) -> Result<HeldRam, Refusal> {
        let physical = self.translate(linear, Access::Write)?;
        self.ram.hold(physical, len).ok_or(Refusal(status::ADDRESS))
    }

    /// Reads what may be in several pages.
    pub fn read(&self, linear: u64, bytes: &mut [u8]) -> Result<(), Refusal> {
        let (mut linear, mut rest) = (linear, bytes);
        while !rest.is_empty() {
            let here = left_in_page(linear).min(rest.len());
            let (part, behind) = rest.split_at_mut(here);
            self.with(linear, here, |memory| memory.copy_to(part))?;
            (linear, rest) = (linear.wrapping_add(here as u64), behind);
        }
        Ok(())
    }

    /// Gives `work` the two pieces of what crosses from a page into the next, to write.
    pub fn with_both_mut<R>(
        &self,
        linear: u64,
        len: usize,
        work: impl FnOnce(VolatileSlice<'_>, VolatileSlice<'_>) -> R,
    ) -> Result<R, Refusal> {
        let here = left_in_page(linear);
        let next = linear.wrapping_add(here as u64);
        self.with_mut(linear, here, |first| {
            self.with_mut(next, len - here, |second| work(first, second))
        })?
    }
}

/// How many bytes there are from an address to the end of its page.
pub(super) fn left_in_page(linear: u64) -> usize {
    (PAGE - linear % PAGE) as usize
}
