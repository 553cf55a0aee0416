//! Arbitrary guest memory: a small kernel with some of its bytes replaced, and tables that are arbitrary as a whole.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use super::address_space::AddressSpace;
use super::btf::{self, Wanted};
use super::kallsyms::Kallsyms;
use super::modules::ModuleList;
use super::names::Budget;
use super::synthetic_kernel::{Guest, Options, SHAPES};
use super::unwind::orc;
use super::vmcoreinfo::VmCoreInfo;
use super::{Kernel, MOST_FRAMES, PhysicalMemory, Processes, Registers, Start, unwind};
use crate::fuzzing::Bytes;
use crate::x86::Mode;

thread_local! {
    /// Kernels that were made, each intact, by the number of their options. Making one takes milliseconds.
    static GUESTS: RefCell<HashMap<u8, Guest>> = RefCell::default();
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
        let guest = guests.entry(bits).or_insert_with(|| Guest::new(options(bits)));
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
        explore(guest, &start);
        for (at, old) in before.into_iter().rev() {
            guest.ram[at..at + old.len()].copy_from_slice(&old);
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

fn explore(guest: &Guest, start: &Start) {
    Kernel::left(guest, &[guest.registers], &[0x20_0000]);
    let Some(kernel) = Kernel::find(guest, &[guest.registers]) else { return };
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
    let spaces = AddressSpace::of(&memory, Ram::registers());
    let Some(space) = spaces.first() else { return };
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
