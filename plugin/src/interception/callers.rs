//! The call chain of an access, from the vCPU's registers and stack when a port instruction is about to run.

use std::cell::RefCell;

use super::operation::Operation;
use crate::guest::{KnownKernel, Start};
use crate::guest_memory::{read_by_page, translate_page};
use crate::hypercalls::Caller;
use crate::qemu::{RamPages, ReadRegisters, Register};
use crate::running_kernel::KernelView;
use crate::stats::{CallSiteId, CallerId, StackOwner, VcpuChains, VcpuCounters};
use crate::x86::{Cr0, Cr4, Efer, KeyRights, Mode, Paging, Rflags, Supervisor};

/// The lowest address at which a 32-bit kernel begins.
const KERNEL_32: u64 = 0x4000_0000;

/// Finds the call chains of one vCPU.
pub(super) struct VcpuCallers {
    kernel: KernelView,
    /// The generation of the kernel for which stacks were unwound.
    generation: u64,
    had_kernel: bool,
    /// True if waiting stacks were not yet unwound with this kernel.
    is_newer: bool,
    pages: RefCell<RamPages>,
}

impl VcpuCallers {
    /// Reads guest memory by `pages`.
    pub fn new(kernel: KernelView, pages: RamPages) -> VcpuCallers {
        let pages = RefCell::new(pages);
        VcpuCallers { kernel, generation: 0, had_kernel: false, is_newer: false, pages }
    }

    /// Returns the call chain of an instruction that is about to run, to count its accesses by.
    pub fn find(
        &mut self,
        operation: Operation,
        counters: &VcpuCounters,
        registers: &mut impl ReadRegisters,
    ) -> CallerId {
        let Some((chains, site)) = counters.chains().zip(operation.site()) else {
            return CallerId::default();
        };
        let code = counters.key_of(site).mode.map(|mode| RunningCode {
            pc: operation.pc(),
            mode,
            base: operation.code_base(),
        });
        self.find_code(code, chains, StackOwner::Site(site), registers)
    }

    /// Returns the call chain of a hypercall that is about to run, to count its accesses by.
    pub fn find_of_call(
        &mut self,
        site: CallSiteId,
        caller: Caller,
        counters: &VcpuCounters,
        registers: &mut impl ReadRegisters,
    ) -> CallerId {
        let Some((chains, site)) = counters.chains().zip(site.row()) else {
            return CallerId::default();
        };
        let code = RunningCode { pc: caller.pc, mode: caller.mode, base: caller.code_base };
        self.find_code(Some(code), chains, StackOwner::Call(site), registers)
    }

    fn find_code(
        &mut self,
        code: Option<RunningCode>,
        chains: &VcpuChains,
        owner: StackOwner,
        registers: &mut impl ReadRegisters,
    ) -> CallerId {
        let stack = code.and_then(|code| VcpuStack::read(code, registers));
        match stack {
            Some(stack) => self.find_on(stack, chains, owner),
            None => chains.find_unknown(owner),
        }
    }

    fn find_on(&mut self, stack: VcpuStack, chains: &VcpuChains, owner: StackOwner) -> CallerId {
        let mut memory = LinearReader::new(&self.pages, stack.paging);
        let mut read = |linear: u64, into: &mut [u8]| memory.read(linear, into);
        if self.kernel.generation() != self.generation {
            self.generation = self.kernel.generation();
            self.is_newer = true;
            let kernel = self.kernel.known().map(|kernel| &**kernel);
            if kernel.is_none() {
                // The machine was reset.
                self.pages.borrow_mut().clear();
            }
            if kernel.is_some() != self.had_kernel {
                self.had_kernel = kernel.is_some();
                chains.stacks().mark_all_unknown();
            }
        }
        let may_change = stack.is_supervisor && !self.kernel.is_final();
        let kernel = self.kernel.known().filter(|_| stack.is_supervisor);
        let known = KnownKernel { kernel: kernel.map(|kernel| &**kernel), may_change };
        // In other code the kernel's tables may not be mapped.
        if self.is_newer && known.kernel.is_some() && stack.start.is_64_bit_kernel() {
            self.is_newer = false;
            chains.resolve_waiting(known, None, &mut read);
        }
        let (caller, found) = chains.find(owner, known, &stack.start, &mut read);
        let is_unknown = known.kernel.is_none() && stack.is_32_bit_kernel();
        // Not at each access: a search in a loop that measures time would disturb that.
        let may_search = found.is_new && (found.waits || is_unknown) && stack.is_paged();
        if may_search && self.kernel.search() && found.waits {
            let may_change = !self.kernel.is_final();
            let kernel = self.kernel.known().map(|kernel| &**kernel);
            chains.resolve_waiting(KnownKernel { kernel, may_change }, found.stack, &mut read);
        }
        caller
    }
}

/// The code that is about to run.
#[derive(Clone, Copy)]
struct RunningCode {
    /// Its linear address.
    pc: u64,
    mode: Mode,
    /// The base of the code segment.
    base: u32,
}

/// The registers of a vCPU that locate its stack.
struct VcpuStack {
    start: Start,
    paging: Paging,
    is_supervisor: bool,
}

impl VcpuStack {
    /// `None` if the stack is not known: in a nested guest, in system management mode, or without the location in QEMU.
    fn read(code: RunningCode, registers: &mut impl ReadRegisters) -> Option<VcpuStack> {
        let RunningCode { pc, mode, base } = code;
        let state = registers.stack_state().filter(|state| state.is_plain)?;
        // The size of return addresses is that of the code; such code has such a stack, nearly always.
        (mode == Mode::Bits64 || state.is_32_bit == (mode == Mode::Bits32)).then_some(())?;
        let is_long = mode == Mode::Bits64;
        let mut general = |register| match registers.read(register) {
            value if is_long => value,
            value => value & 0xffff_ffff,
        };
        let (sp, bp) = (general(Register::Rsp), general(Register::Rbp));
        let cs_base = if is_long { 0 } else { u64::from(base) };
        let ip = pc.wrapping_sub(cs_base);
        let ss_base = if is_long { 0 } else { state.base };
        let layout =
            Cr4::PAGE_SIZE_EXTENSIONS | Cr4::PHYSICAL_ADDRESS_EXTENSION | Cr4::LINEAR_ADDRESS_57;
        let efer = Efer::from_bits_retain(registers.read(Register::Efer));
        let cr0 = Cr0::from_bits_retain(registers.read(Register::Cr0));
        let paging = Paging {
            cr0: cr0 & Cr0::PAGING,
            cr3: registers.read(Register::Cr3),
            cr4: Cr4::from_bits_retain(registers.read(Register::Cr4)) & layout,
            efer: efer & Efer::LONG_MODE_ACTIVE | Efer::NO_EXECUTE_ENABLE,
            rflags: Rflags::empty(),
            supervisor: Supervisor::Yes,
            keys: KeyRights::default(),
        };
        Some(VcpuStack {
            start: Start { mode, ip, sp, bp, cs_base, ss_base },
            paging,
            // In virtual-8086 mode QEMU says 3.
            is_supervisor: state.cpl != 3,
        })
    }

    fn is_paged(&self) -> bool {
        self.paging.cr0.contains(Cr0::PAGING)
    }

    fn is_32_bit_kernel(&self) -> bool {
        self.is_supervisor
            && self.start.mode == Mode::Bits32
            && self.start.linear() >= KERNEL_32
            && !self.paging.efer.contains(Efer::LONG_MODE_ACTIVE)
    }
}

/// Number of pages whose translation is kept: of the stack, and of tables.
const PAGES: usize = 4;

/// Reads linear memory during one callback.
///
/// The page tables are walked once for each page. Another vCPU may change them meanwhile, as it may for a processor that
/// has the translation in its TLB.
struct LinearReader<'a> {
    pages: &'a RefCell<RamPages>,
    paging: Paging,
    /// Linear and physical addresses of pages.
    translated: [Option<(u64, u64)>; PAGES],
    next: usize,
}

impl<'a> LinearReader<'a> {
    fn new(pages: &'a RefCell<RamPages>, paging: Paging) -> LinearReader<'a> {
        LinearReader { pages, paging, translated: [None; PAGES], next: 0 }
    }

    /// Fills `into` from a linear address. Returns false if not all of it can be read.
    fn read(&mut self, linear: u64, into: &mut [u8]) -> bool {
        read_by_page(linear, into, |page, offset, into| {
            let physical = self.translate(page)?;
            self.pages.borrow_mut().read(physical + offset, into).then_some(())
        })
        .is_some()
    }

    #[inline]
    fn translate(&mut self, page: u64) -> Option<u64> {
        let known = self.translated.iter().flatten().find(|(linear, _)| *linear == page);
        if let Some(&(_, physical)) = known {
            return Some(physical);
        }
        let physical = translate_page(&self.paging, page, self.pages)?;
        self.translated[self.next % PAGES] = Some((page, physical));
        self.next += 1;
        Some(physical)
    }
}
