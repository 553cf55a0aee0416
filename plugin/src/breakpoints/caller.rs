//! The function that called the one in which a vCPU stands.

use std::cell::RefCell;
use std::sync::Arc;

use crate::access_log::CodeNames;
use crate::guest::{Frame, Start, unwind};
use crate::guest_memory::translate_page;
use crate::qemu::{BetweenBlocks, FrameState, GuestRam, RamPages};
use crate::running_kernel::KernelView;
use crate::x86::{Cr0, Cr4, Efer, KeyRights, Mode, PAGE, Paging, Rflags, Supervisor};

/// Bytes of code that are compared with a file's, to tell whether that is the guest's.
const COMPARED: usize = 4;

/// Maximum number of frames between a hypercall and the site that it states.
const MOST_INNER: usize = 4;

/// Names the caller of the function in which a vCPU stands, or of the function of `site` if it is among the callers; its
/// address if it has no name. `None` if it cannot be known.
pub(super) fn find(
    vcpu: &BetweenBlocks,
    ram: &Arc<GuestRam>,
    names: &CodeNames,
    site: Option<u64>,
) -> Option<String> {
    let frame = vcpu.frame().filter(|frame| frame.stack.is_plain)?;
    let mut reader =
        Reader { pages: RefCell::new(RamPages::new(Arc::clone(ram))), paging: paging(&frame) };
    let mut kernel = names.kernel().map(KernelView::new);
    let known = kernel.as_mut().and_then(|view| view.known()).cloned();
    let is_supervisor = frame.stack.cpl != 3;
    let known = known.filter(|_| is_supervisor);
    let depth = if site.is_some() { MOST_INNER + 1 } else { 1 };
    let mut read = |linear: u64, into: &mut [u8]| reader.read(linear, into);
    let frames = unwind(known.as_deref(), &start(&frame), depth, &mut read).chain.frames;
    let is_site = |frame: &Frame| site.is_some_and(|site| *frame == Frame::Return(site));
    let inner = frames.iter().position(is_site).map_or(0, |index| index + 1);
    let address = frames.get(inner)?.address();
    let mut bytes = [0; COMPARED];
    let name = reader
        .read(address, &mut bytes)
        .then(|| names.name_at(address, &bytes, kernel.as_mut()))
        .flatten();
    Some(name.unwrap_or_else(|| format!("{address:#x}")))
}

fn start(frame: &FrameState) -> Start {
    let mode = match (frame.is_64_bit, frame.is_32_bit) {
        (true, _) => Mode::Bits64,
        (false, true) => Mode::Bits32,
        (false, false) => Mode::Bits16,
    };
    let is_long = mode == Mode::Bits64;
    let general = |value: u64| if is_long { value } else { value & 0xffff_ffff };
    Start {
        mode,
        ip: frame.ip,
        sp: general(frame.sp),
        bp: general(frame.bp),
        cs_base: if is_long { 0 } else { frame.cs_base },
        ss_base: if is_long { 0 } else { frame.stack.base },
    }
}

fn paging(frame: &FrameState) -> Paging {
    let layout =
        Cr4::PAGE_SIZE_EXTENSIONS | Cr4::PHYSICAL_ADDRESS_EXTENSION | Cr4::LINEAR_ADDRESS_57;
    let efer = Efer::from_bits_retain(frame.paging.efer);
    Paging {
        cr0: Cr0::from_bits_retain(frame.paging.cr0) & Cr0::PAGING,
        cr3: frame.paging.cr3,
        cr4: Cr4::from_bits_retain(frame.paging.cr4) & layout,
        efer: efer & Efer::LONG_MODE_ACTIVE | Efer::NO_EXECUTE_ENABLE,
        rflags: Rflags::empty(),
        supervisor: Supervisor::Yes,
        keys: KeyRights::default(),
    }
}

/// Reads linear memory.
struct Reader {
    pages: RefCell<RamPages>,
    paging: Paging,
}

impl Reader {
    /// Fills `into` from a linear address. Returns false if not all of it can be read.
    fn read(&mut self, mut linear: u64, mut into: &mut [u8]) -> bool {
        while !into.is_empty() {
            let left = (PAGE - linear % PAGE) as usize;
            let (now, later) = into.split_at_mut(left.min(into.len()));
            let page = translate_page(&self.paging, linear & !(PAGE - 1), &self.pages);
            if !page.is_some_and(|page| self.pages.borrow_mut().read(page + linear % PAGE, now)) {
                return false;
            }
            linear = linear.wrapping_add(now.len() as u64);
            into = later;
        }
        true
    }
}
