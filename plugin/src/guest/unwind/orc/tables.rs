//! Finds the entry for an address in the tables of the kernel and its modules.

use super::super::stack::Stack;
use super::entry::{Base, ENTRY, Entry, Kind, Layout};
use crate::guest::PhysicalMemory;
use crate::guest::address_space::AddressSpace;
use crate::guest::kernel::Kernel;

/// Maximum number of entries of one table. Debian's kernels have up to 500,000.
const MOST_ENTRIES: u64 = 1 << 21;
/// The linear addresses of one table.
#[derive(Clone, Copy, Debug)]
pub(in crate::guest) struct Table {
    /// The addresses at which ranges of code begin, ascending.
    ///
    /// Each is an offset of 32 bits from its own address.
    ips: u64,
    entries: u64,
    count: u64,
}

/// The kernel's table, and those of its modules.
#[derive(Clone, Debug)]
pub(in crate::guest) struct Tables {
    layout: Layout,
    kernel: Table,
    modules: Vec<Table>,
    /// The middle of the kernel's table, in which another kernel has other bytes.
    sample: [u8; SAMPLE],
}

/// The size of the sample by which the kernel's table is recognized, in bytes.
const SAMPLE: usize = 32;

impl Table {
    /// Creates a table with this many entries.
    pub(in crate::guest) fn new(ips: u64, entries: u64, count: u64) -> Option<Table> {
        (ips != 0 && entries != 0 && (2..=MOST_ENTRIES).contains(&count)).then_some(Table {
            ips,
            entries,
            count,
        })
    }

    /// The address of bytes in the middle of the table, within one page.
    fn middle(&self) -> u64 {
        self.ips.wrapping_add(2 * self.count) & !(SAMPLE as u64 - 1)
    }

    /// The address at which the range of an entry begins.
    fn ip<R: FnMut(u64, &mut [u8]) -> bool>(
        &self,
        index: u64,
        stack: &mut Stack<'_, R>,
    ) -> Option<u64> {
        let at = self.ips.wrapping_add(4 * index);
        let mut bytes = [0; 4];
        stack.read(at, &mut bytes)?;
        Some(at.wrapping_add_signed(i64::from(i32::from_le_bytes(bytes))))
    }

    /// Finds the entry for an address, if the table covers it.
    fn find<R: FnMut(u64, &mut [u8]) -> bool>(
        &self,
        ip: u64,
        layout: Layout,
        stack: &mut Stack<'_, R>,
    ) -> Option<Entry> {
        // The last entry marks the end of the code.
        let (mut low, mut high) = (0, self.count - 1);
        if ip < self.ip(low, stack)? || ip >= self.ip(high, stack)? {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.ip(middle, stack)? <= ip {
                true => low = middle,
                false => high = middle,
            }
        }
        let mut bytes = [0; ENTRY as usize];
        stack.read(self.entries.wrapping_add(ENTRY * low), &mut bytes)?;
        Some(Entry::decode(bytes, layout))
    }
}

impl Tables {
    /// Reads the kernel's table. The layout is that in which most entries are calls.
    pub(in crate::guest) fn read<M: PhysicalMemory>(
        space: &AddressSpace<'_, M>,
        kernel: Table,
    ) -> Option<Tables> {
        const SAMPLES: u64 = 256;
        let mut calls = [0; Layout::ALL.len()];
        for sample in 0..SAMPLES {
            let index = kernel.count * sample / SAMPLES;
            let bytes = space.bytes(kernel.entries.wrapping_add(ENTRY * index))?;
            for (layout, calls) in Layout::ALL.into_iter().zip(&mut calls) {
                let entry = Entry::decode(bytes, layout);
                let by_pointer = matches!(entry.sp_base, Base::Sp | Base::Bp);
                *calls += u64::from(by_pointer && entry.kind == Kind::Call);
            }
        }
        let all = Layout::ALL.into_iter().zip(calls);
        let (layout, calls) = all.max_by_key(|&(_, calls)| calls)?;
        let sample = space.bytes(kernel.middle())?;
        (calls > SAMPLES / 2).then(|| Tables { layout, kernel, modules: Vec::new(), sample })
    }

    /// Returns true if the kernel's table is still there.
    pub(super) fn are_there<R: FnMut(u64, &mut [u8]) -> bool>(
        &self,
        stack: &mut Stack<'_, R>,
    ) -> bool {
        let mut bytes = [0; SAMPLE];
        stack.read(self.kernel.middle(), &mut bytes).is_some() && bytes == self.sample
    }

    /// Adds the tables of modules.
    pub(in crate::guest) fn add_modules(&mut self, tables: impl IntoIterator<Item = Table>) {
        self.modules.extend(tables);
    }

    /// Returns true if an address is in one of the tables.
    pub(in crate::guest) fn contains(&self, linear: u64) -> bool {
        let has = |start: u64, size: u64| linear.wrapping_sub(start) < size;
        let mut tables = [&self.kernel].into_iter().chain(&self.modules);
        tables
            .any(|table| has(table.ips, 4 * table.count) || has(table.entries, ENTRY * table.count))
    }

    /// Finds the entry for an address. A module that was unloaded has none.
    pub(super) fn find<R: FnMut(u64, &mut [u8]) -> bool>(
        &self,
        kernel: &Kernel,
        ip: u64,
        stack: &mut Stack<'_, R>,
    ) -> Option<Entry> {
        let by_kernel = self.kernel.find(ip, self.layout, stack);
        by_kernel.or_else(|| {
            let module = kernel.module_at(ip)?;
            module.is_loaded(&mut |at, into| stack.read(at, into).is_some()).then_some(())?;
            self.modules.iter().find_map(|table| table.find(ip, self.layout, stack))
        })
    }
}
