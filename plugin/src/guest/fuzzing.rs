//! Arbitrary guest memory: a small kernel with some of its bytes replaced, stacks, and tables that are arbitrary as a whole.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use super::address_space::AddressSpace;
use super::btf::{self, Wanted};
use super::kallsyms::Kallsyms;
use super::modules::ModuleList;
use super::names::Budget;
use super::synthetic_kernel::{Guest, OPTIONS, ORC_ENTRIES, Options, SHAPES, STACK, STRIDE};
use super::unwind::orc;
use super::vmcoreinfo::VmCoreInfo;
use super::{Chain, End, Kernel, MOST_FRAMES, PhysicalMemory, Processes, Registers, Start, unwind};
use crate::fuzzing::Bytes;
use crate::x86::{Mode, PAGE};

thread_local! {
    /// Kernels that were made, each intact, by the number of their options. Making one takes milliseconds.
    static GUESTS: RefCell<HashMap<u8, Sparse>> = RefCell::default();
}

/// A guest whose pages of zeros are left out of the ranges. A search of all memory would take most of the time.
struct Sparse {
    guest: Guest,
    ranges: Vec<Range<u64>>,
}

impl Sparse {
    fn new(guest: Guest) -> Sparse {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (page, start) in guest.ram.chunks(PAGE as usize).zip((0..).step_by(PAGE as usize)) {
            // Comparing byte by byte would take seconds, with the fuzzer's instrumentation.
            if *page == [0; PAGE as usize] {
                continue;
            }
            match ranges.last_mut().filter(|last| last.end == start) {
                Some(last) => last.end += PAGE,
                None => ranges.push(start..start + PAGE),
            }
        }
        Sparse { guest, ranges }
    }
}

impl PhysicalMemory for Sparse {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        self.guest.read(physical, into)
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        self.ranges.clone()
    }
}

/// Searches a kernel whose memory was changed, and names, unwinds and reads all that it leads to.
///
/// The first byte chooses the kernel's layout. 16 bytes are registers for unwinding. Then come changes: a byte for the part
/// of memory, three for the place in it, one for the length, and the bytes.
pub fn kernel(data: &[u8]) {
    let mut bytes = Bytes(data);
    let bits = bytes.byte() & 0x3f;
    let start = Start {
        mode: Mode::ALL[usize::from(bytes.byte() % 3)],
        ..Start::flat(bytes.number::<8>(), bytes.number::<8>(), 0)
    };
    GUESTS.with_borrow_mut(|guests| {
        let memory = guests.entry(bits).or_insert_with(|| Sparse::new(Guest::new(options(bits))));
        let guest = &mut memory.guest;
        let mut before = Vec::new();
        while !bytes.is_empty() {
            let part = &guest.parts[usize::from(bytes.byte()) % guest.parts.len()];
            let at = part.start + bytes.number::<3>() as usize % part.len();
            let len = usize::from(bytes.byte()).min(part.end - at);
            let new = bytes.take(len);
            let old = &mut guest.ram[at..at + new.len()];
            before.push((at, old.to_vec()));
            old.copy_from_slice(new);
        }
        explore(memory, &start);
        for (at, old) in before.into_iter().rev() {
            memory.guest.ram[at..at + old.len()].copy_from_slice(&old);
        }
    });
}

fn options(bits: u8) -> Options {
    Options {
        wide: bits & 1 != 0,
        has_info: bits & 2 != 0,
        has_mem: bits & 4 != 0,
        has_data: bits & 8 != 0,
        shape: SHAPES[usize::from(bits >> 4)],
        loads_modules: true,
    }
}

fn explore(memory: &Sparse, start: &Start) {
    let guest = &memory.guest;
    Kernel::left(memory, &[guest.registers], &[0x20_0000]);
    let Some(kernel) = Kernel::find(memory, &[guest.registers]) else { return };
    let (text, module) = (guest.text(), guest.module_text());
    for address in [text, text + 0x25, text + 0x8_0010, module + 0x40, module + 0x85, start.ip] {
        if let Some(name) = kernel.name(address) {
            assert!(name.symbol.bytes().all(|byte| byte.is_ascii_graphic()), "names are printable");
        }
        kernel.is_initialization(address);
    }
    if let Some(namer) = kernel.module_namer() {
        namer.name(guest, module + 0x41);
    }
    let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(guest, at, into);
    for start in [*start, Start::flat(text + 0x285, start.sp, start.bp)] {
        let unwound = unwind(Some(&kernel), &start, MOST_FRAMES, &mut read);
        assert!(unwound.chain.frames.len() <= MOST_FRAMES, "a chain is bounded");
        assert!(unwound.recipe.matches(&start, &mut read), "a stack matches its own recipe");
    }
    if let Some(processes) = Processes::find(&kernel, guest) {
        let bases = [start.ip, start.sp];
        processes.base_of(start.ip, &mut read);
        for base in bases {
            let process =
                processes.task(base, &mut read).and_then(|it| processes.at(it, &mut read));
            if let Some(process) = process.or_else(|| processes.current(&bases, &mut read)) {
                processes.executable(&process, &mut read);
                processes.mapping(&process, start.ip, &mut read);
            }
        }
    }
}

thread_local! {
    /// Kernels whose stacks are unwound, by the bits that choose their options.
    static UNWOUND: RefCell<HashMap<u8, (Guest, Kernel)>> = RefCell::default();
}

/// The physical addresses of the code and of the stack that [`stack`] unwinds.
const CODE_AT: u64 = 8 << 20;
const STACK_AT: u64 = CODE_AT + STACK;

/// Unwinds an arbitrary stack. A 64-bit kernel is unwound by ORC tables, the first entries of which are arbitrary. All other
/// code is unwound by frame pointers.
///
/// The first byte chooses the kernel, or code without one, and its mode. Then come the registers, entries of the table, code,
/// a word that is changed later, and the words of the stack: addresses of code or of the stack, or arbitrary ones.
pub fn stack(data: &[u8]) {
    let mut bytes = Bytes(data);
    let flags = bytes.byte();
    let mode = Mode::ALL[usize::from(flags >> 2 & 3) % 3];
    let has_kernel = flags & 1 != 0 && mode != Mode::Bits16;
    let options = Options { wide: mode != Mode::Bits32, has_mem: flags & 2 != 0, ..OPTIONS };
    UNWOUND.with_borrow_mut(|guests| {
        let (guest, kernel) = guests.entry(flags & 0xe).or_insert_with(|| {
            let guest = Guest::new(options);
            let kernel = Kernel::find(&guest, &[guest.registers]).expect("the kernel is intact");
            (guest, kernel)
        });
        let (code, at_stack) = match (has_kernel, mode) {
            (true, _) => (guest.text(), guest.text() + STACK),
            // Offsets in segments.
            (false, Mode::Bits16) => (0, 0),
            (false, _) => (CODE_AT, STACK_AT),
        };
        let mut start = Start {
            mode,
            ip: code + bytes.number::<2>() % (20 * STRIDE),
            sp: at_stack + bytes.number::<1>() * 4,
            bp: at_stack + bytes.number::<1>() * 4,
            cs_base: if code == 0 { CODE_AT } else { 0 },
            ss_base: if code == 0 { STACK_AT } else { 0 },
        };
        if flags & 0x80 != 0 {
            start.bp = bytes.number::<8>();
            start.cs_base = bytes.number::<8>();
        }
        let entries = usize::from(bytes.byte() & 15) * 6;
        let entries = bytes.take(entries);
        let instructions = usize::from(bytes.byte());
        let instructions = bytes.take(instructions);
        let (changed_at, change) = (bytes.number::<1>() * 4, bytes.byte());
        let mut words = Vec::new();
        while !bytes.is_empty() && words.len() < 1024 {
            let kind = bytes.byte();
            let word = match kind & 3 {
                0 => code + bytes.number::<2>() % (20 * STRIDE),
                1 => at_stack + bytes.number::<1>() * 4,
                2 => u64::from(kind >> 2),
                _ => bytes.number::<8>(),
            };
            words.extend_from_slice(&word.to_le_bytes()[..mode.bits() as usize / 8]);
        }
        let parts = [(CODE_AT, instructions), (CODE_AT + ORC_ENTRIES, entries), (STACK_AT, &words)];
        let before = parts.map(|(at, new)| {
            let old = &mut guest.ram[at as usize..][..new.len()];
            let before = old.to_vec();
            old.copy_from_slice(new);
            before
        });
        unwind_twice(guest, has_kernel.then_some(kernel), &start, STACK_AT + changed_at, change);
        for ((at, _), old) in parts.into_iter().zip(before) {
            guest.ram[at as usize..][..old.len()].copy_from_slice(&old);
        }
    });
}

/// Unwinds a stack, and again after a byte was changed: a stack that matches the recipe must have the same chain.
///
/// But the recipe leaves out the words between SP and a frame, which only prove that the code has made the frame. Where they
/// differ, the proof may fail: one chain is the beginning of the other.
fn unwind_twice(guest: &mut Guest, kernel: Option<&Kernel>, start: &Start, at: u64, change: u8) {
    let read = |guest: &Guest, at: u64, into: &mut [u8]| match kernel {
        Some(kernel) => kernel.read_linear(guest, at, into),
        None => guest.read(at, into),
    };
    let first = unwind(kernel, start, MOST_FRAMES, &mut |at, into| read(guest, at, into));
    assert!(first.chain.frames.len() <= MOST_FRAMES, "a chain is bounded");
    assert!(first.recipe.matches(start, &mut |at, into| read(guest, at, into)));
    let few = unwind(kernel, start, 2, &mut |at, into| read(guest, at, into)).chain.frames;
    assert!(first.chain.frames.starts_with(&few), "the same callers come first");
    guest.ram[at as usize] ^= change;
    if first.recipe.matches(start, &mut |at, into| read(guest, at, into)) {
        let second = unwind(kernel, start, MOST_FRAMES, &mut |at, into| read(guest, at, into));
        if second.chain != first.chain {
            let (one, other) = (&first.chain, &second.chain);
            let proven = |chain: &Chain| (chain.frames.len(), chain.end != End::Unknown);
            let (less, more) =
                if proven(one) < proven(other) { (one, other) } else { (other, one) };
            let is_by_tables = kernel.is_some() && start.mode == Mode::Bits64;
            let is_unproven = less.end == End::Unknown && more.frames.starts_with(&less.frames);
            assert!(
                is_unproven && !is_by_tables,
                "{one:x?} {other:x?}: the recipe has what decides"
            );
        }
    }
    guest.ram[at as usize] ^= change;
}

/// The linear address of the memory of [`tables`], which is physical memory from 0 on.
const BASE: u64 = 0xffff_ffff_8000_0000;

/// RAM with page tables after it, which map it at [`BASE`].
struct Ram<'a>(&'a [u8]);

impl Ram<'_> {
    /// The physical address of the page tables.
    const TABLES: u64 = 0x4000_0000;

    fn registers() -> Registers {
        Registers { cr0: 0x8000_0001, cr3: Ram::TABLES, cr4: 0x20, efer: 0xd00 }
    }

    /// The entry of a page table: one page of 1 GiB at the base.
    fn entry(physical: u64) -> u64 {
        match physical - Ram::TABLES {
            0xff8 => (Ram::TABLES + 0x1000) | 0x63,
            0x1ff0 => 0xe3,
            _ => 0,
        }
    }
}

impl PhysicalMemory for Ram<'_> {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        if (Ram::TABLES..Ram::TABLES + 0x2000).contains(&physical) && into.len() == 8 {
            into.copy_from_slice(&Ram::entry(physical).to_le_bytes());
            return true;
        }
        // Memory consists of whole pages. Those after the data are zero.
        if physical.saturating_add(into.len() as u64)
            > (self.0.len() as u64).next_multiple_of(0x1000)
        {
            return false;
        }
        into.fill(0);
        let data = self.0.get(physical as usize..).unwrap_or_default();
        let len = data.len().min(into.len());
        into[..len].copy_from_slice(&data[..len]);
        true
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        std::iter::once(0..(self.0.len() as u64).next_multiple_of(0x1000)).collect()
    }
}

/// Reads arbitrary memory as each of the kernel's tables.
///
/// VMCOREINFO is where it is found; types (BTF), a list of modules and ORC tables begin at addresses that the first bytes
/// give, in each case as a kernel's symbols would give them.
pub fn tables(data: &[u8]) {
    let (head, memory) = data.split_at(data.len().min(16));
    let mut head = Bytes(head);
    let memory = Ram(memory);
    let space = &AddressSpace::of(&memory, Ram::registers());
    for info in VmCoreInfo::search(&memory) {
        info.is_mapped(|linear| space.translate(linear));
        let _ = (info.release(), info.build_id(), info.kaslr_offset(), info.page_table());
        if let Some(kallsyms) = Kallsyms::by_info(space, &info) {
            kallsyms.for_each(
                space,
                |_| true,
                |symbol| {
                    let _ = symbol.is_text();
                    Some(())
                },
            );
        }
    }
    let address = |offset: u64| BASE + offset;
    let btf = (address(head.number::<2>()), address(memory.0.len() as u64));
    let wanted = [
        Wanted { name: "module", members: &["state", "list", "name", "mem", "kallsyms"] },
        Wanted { name: "task_struct", members: &["pid", "comm"] },
    ];
    btf::structures(space, btf, &wanted);
    let modules = address(head.number::<2>());
    for btf in [None, Some(btf)] {
        if let Some(list) = ModuleList::at(space, modules, btf) {
            list.read(space, &mut Budget::new());
            list.name(space, address(head.number::<2>()));
        }
    }
    let orc = orc::Table::new(
        address(head.number::<2>()),
        address(head.number::<2>()),
        head.number::<2>(),
    );
    if let Some(table) = orc {
        orc::Tables::read(space, table);
    }
}
