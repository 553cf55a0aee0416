//! The caller's memory: linear addresses, through its page tables, with its privilege.

use arrayvec::ArrayVec;
use pvio_guest::abi::status;

use super::caller_pages::CallerPages;
use super::{Caller, Hypercalls, Refusal};
use crate::guest_memory::{LinearMemory, Unusable};
use crate::qemu::{Register, Registers};
use crate::x86::{Cr0, Cr4, Efer, KeyRights, Paging, Rflags, Supervisor};

impl From<Unusable> for Refusal {
    fn from(unusable: Unusable) -> Refusal {
        Refusal(match unusable {
            Unusable::Page => status::PAGE,
            Unusable::Address => status::ADDRESS,
            Unusable::Unproven => status::DECLINED,
        })
    }
}

/// The caller's memory, valid while its registers stay the same.
///
/// # Errors
///
/// [`status::DECLINED`] if this QEMU gives no access to guest memory.
pub(super) fn caller_memory<'a>(
    caller: Caller,
    vcpu: &mut Registers<'_>,
    hypercalls: &'a Hypercalls,
    pages: Option<&'a CallerPages>,
) -> Result<LinearMemory<'a>, Refusal> {
    let ram = hypercalls.ram().ok_or(Refusal(status::DECLINED))?;
    let mut paging = Paging {
        cr0: Cr0::from_bits_retain(vcpu.read(Register::Cr0)),
        cr3: 0,
        cr4: Cr4::empty(),
        efer: Efer::empty(),
        rflags: Rflags::empty(),
        supervisor: Supervisor::Yes,
        keys: KeyRights::default(),
    };
    if paging.cr0.contains(Cr0::PAGING) {
        paging.supervisor = caller.supervisor(vcpu);
        paging.cr3 = vcpu.read(Register::Cr3);
        paging.cr4 = Cr4::from_bits_retain(vcpu.read(Register::Cr4));
        if paging.cr4.contains(Cr4::PHYSICAL_ADDRESS_EXTENSION) {
            paging.efer = Efer::from_bits_retain(vcpu.read(Register::Efer));
        }
        if paging.cr4.contains(Cr4::SMAP) {
            paging.rflags = Rflags::from_bits_retain(vcpu.read(Register::Rflags));
        }
        if paging.has_keys() {
            paging.keys = KeyRights { user: vcpu.pkru(), supervisor: vcpu.pkrs() };
        }
    }
    let pages = pages.map(|pages| &pages.tables);
    Ok(LinearMemory { ram, pages, paging, mode: caller.mode })
}

/// As [`check`], and rejects an address that is not a multiple of `size`.
pub(super) fn check_aligned(
    memory: &LinearMemory<'_>,
    address: u64,
    count: u64,
    size: usize,
) -> Result<(), Refusal> {
    check(memory, address, count, size)?;
    match address.is_multiple_of(size as u64) {
        true => Ok(()),
        false => Err(Refusal(status::ADDRESS)),
    }
}

/// Rejects a range of `count` elements of `size` bytes that wraps or is not canonical.
pub(super) fn check(
    memory: &LinearMemory<'_>,
    address: u64,
    count: u64,
    size: usize,
) -> Result<(), Refusal> {
    let is_valid =
        || count.checked_mul(size as u64).is_some_and(|len| memory.is_canonical(address, len));
    match count == 0 || is_valid() {
        true => Ok(()),
        false => Err(Refusal(status::ADDRESS)),
    }
}

/// Reads a text of at most `MAX` bytes.
///
/// # Errors
///
/// It is longer, or its memory cannot be read.
pub(super) fn read_text<const MAX: usize>(
    memory: &LinearMemory<'_>,
    address: u64,
    len: u64,
) -> Result<ArrayVec<u8, MAX>, Refusal> {
    if len > MAX as u64 {
        return Err(Refusal(status::LENGTH));
    }
    check(memory, address, len, 1)?;
    let mut text = ArrayVec::from([0; MAX]);
    text.truncate(len as usize);
    memory.read(address, &mut text)?;
    Ok(text)
}
