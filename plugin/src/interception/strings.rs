//! Moves elements of a `rep` on a port of pvio's devices, page by page, before QEMU moves the rest.
//!
//! It knows how QEMU runs a `rep`, and when all of its elements are alike. It does not count. If anything is unusual or
//! unknown, it moves nothing, and QEMU moves all elements.
//!
//! QEMU reads the count from RCX once, when the instruction starts. So elements can be moved before the start, but not
//! between two elements that QEMU moves.

use std::sync::Arc;

use vm_memory::VolatileSlice;

use super::operation::Operation;
use super::rules::Rules;
use crate::bus::{PortBus, PortTarget};
use crate::guest_memory::{LinearMemory, RamAccess, left_in_page};
use crate::qemu::{GuestRam, PortTrace, ReadRegisters, Register, Watchpoints};
use crate::stats::SiteKey;
use crate::x86::{
    Access, Cr0, Cr4, Direction, Efer, KeyRights, Mode, PAGE, Paging, Port, Rflags, Run,
    StringWalk, Supervisor, Width, ignores_segment, string_segment,
};

/// Minimum number of elements that pvio moves itself. For fewer, the checks cost more than letting QEMU move them.
const MIN_ELEMENTS: u64 = 16;

/// The state that all vCPUs share.
pub(super) struct Strings {
    bus: Arc<PortBus>,
    ram: Arc<GuestRam>,
    trace: PortTrace,
    watchpoints: Watchpoints,
    rules: Rules,
}

impl Strings {
    /// Returns `None` if this QEMU does not export what is needed.
    pub fn new(bus: Arc<PortBus>, ram: Arc<GuestRam>, rules: Rules) -> Option<Strings> {
        let (trace, watchpoints) = (PortTrace::find()?, Watchpoints::find()?);
        Some(Strings { bus, ram, trace, watchpoints, rules })
    }
}

/// Returns how many elements can be moved without a change of where QEMU leaves the loop.
///
/// QEMU leaves it when the remaining count is one more than a multiple of 65,536. At least one element is left to QEMU,
/// which completes the instruction.
fn max_elements(count: u64) -> u64 {
    let Some(after_first) = count.checked_sub(2) else { return 0 };
    match after_first & !0xffff {
        0 => count - 1,
        leaves_at => after_first - leaves_at,
    }
}

/// Maximum number of bytes that a device gets at once: the number that a `rep outsb` moves between two pauses of QEMU.
const BATCH: usize = 1 << 16;

/// Moves the elements of one vCPU.
pub(super) struct VcpuStrings {
    strings: Arc<Strings>,
    /// Elements between memory and device, in the order in which they are moved.
    buffer: Box<[u8]>,
}

impl VcpuStrings {
    pub fn new(strings: Arc<Strings>) -> VcpuStrings {
        VcpuStrings { strings, buffer: vec![0; BATCH].into() }
    }

    /// Moves elements of a privileged `rep` that is about to run, and updates the registers.
    ///
    /// Returns how many it has moved.
    pub fn move_ahead(
        &mut self,
        operation: Operation,
        key: &SiteKey,
        port: Port,
        count: u64,
        registers: &mut impl ReadRegisters,
    ) -> u64 {
        let most = max_elements(count);
        if most < MIN_ELEMENTS || !self.strings.bus.serves(port) {
            return 0;
        }
        self.try_to_move(operation, key, port, most, registers).unwrap_or(0)
    }

    fn try_to_move(
        &mut self,
        operation: Operation,
        key: &SiteKey,
        port: Port,
        most: u64,
        registers: &mut impl ReadRegisters,
    ) -> Option<u64> {
        let VcpuStrings { strings, buffer } = self;
        let target = strings.bus.target(port)?;
        let mode = key.mode?;
        let (form, address_size) = (operation.form(), operation.address_size());
        let (direction, width) = (form.direction(), form.size().0?);

        let cpl = registers.string_cpu().filter(|cpu| cpu.is_plain())?.cpl();
        let paging = paging(cpl, registers);
        let mut cpu = registers.string_cpu()?;
        if strings.trace.is_on() {
            return None;
        }
        if strings.rules.adds_ignored_bases && ignores_segment(&key.bytes, mode) {
            return None;
        }
        let segment = string_segment(&key.bytes, mode, direction);
        let index = match direction {
            Direction::In => cpu.rdi(),
            Direction::Out => cpu.rsi(),
        };
        let mut walk = StringWalk {
            base: segment.map_or(0, |segment| cpu.segment_base(segment.number())),
            offset: index & address_size.mask(),
            address_size,
            is_long: mode == Mode::Bits64,
            goes_down: cpu.goes_down()?,
            size: width.bytes().into(),
        };
        let memory = Memory(LinearMemory {
            ram: RamAccess::InPlace(&strings.ram),
            pages: None,
            paging,
            mode,
        });
        let code = match direction {
            Direction::In => Some(memory.code(key)?),
            Direction::Out => None,
        };

        let mut moved = 0;
        while moved < most {
            let size = walk.size;
            let is_free = |run: &Run| {
                let len = run.count * size;
                !cpu.is_watched(&strings.watchpoints, run.lowest, len as usize)
            };
            let mut elements = Elements { target, width, goes_down: walk.goes_down, buffer };
            let batch = match code {
                None => elements.write(&mut walk, most - moved, &memory, is_free),
                Some(code) => elements.read(&mut walk, most - moved, &memory, code, is_free),
            };
            if batch == 0 {
                break;
            }
            moved += batch;
            let index = address_size.written(index, walk.offset);
            match direction {
                Direction::In => cpu.set_rdi(index),
                Direction::Out => cpu.set_rsi(index),
            }
            let rcx = cpu.rcx();
            cpu.set_rcx(address_size.written(rcx, rcx.wrapping_sub(batch)));
        }
        Some(moved)
    }
}

fn paging(cpl: u8, registers: &mut impl ReadRegisters) -> Paging {
    let cpu = registers.string_cpu();
    let keys = cpu.map(|cpu| KeyRights { user: cpu.pkru(), supervisor: cpu.pkrs() });
    Paging {
        keys: keys.unwrap_or_default(),
        cr0: Cr0::from_bits_retain(registers.read(Register::Cr0)),
        cr3: registers.read(Register::Cr3),
        cr4: Cr4::from_bits_retain(registers.read(Register::Cr4)),
        efer: Efer::from_bits_retain(registers.read(Register::Efer)),
        rflags: Rflags::from_bits_retain(registers.read(Register::Rflags)),
        supervisor: if cpl == 3 { Supervisor::No } else { Supervisor::Yes },
    }
}

/// Moves elements between memory and a device.
struct Elements<'a> {
    target: PortTarget<'a>,
    width: Width,
    goes_down: bool,
    buffer: &'a mut [u8],
}

impl Elements<'_> {
    /// Writes a batch from memory to the device, as far as memory is accessible. Returns the number of elements.
    fn write(
        &mut self,
        walk: &mut StringWalk,
        most: u64,
        memory: &Memory<'_>,
        is_free: impl Fn(&Run) -> bool,
    ) -> u64 {
        let most = most.min(self.buffer.len() as u64 / walk.size);
        let (mut count, mut filled) = (0, 0);
        while count < most {
            let Some(run) = walk.next_run(most - count).filter(&is_free) else { break };
            let len = (run.count * walk.size) as usize;
            let bytes = &mut self.buffer[filled..filled + len];
            if memory.copy(run, bytes).is_none() {
                break;
            }
            put_in_order(bytes, self.width, self.goes_down);
            walk.advance(run.count);
            count += run.count;
            filled += len;
        }
        if filled > 0 {
            self.target.write_string(self.width, &self.buffer[..filled]);
        }
        count
    }

    /// Reads a run from the device to memory. Returns the number of elements.
    ///
    /// The device is read only if memory is accessible, because its data must not be lost.
    fn read(
        &mut self,
        walk: &mut StringWalk,
        most: u64,
        memory: &Memory<'_>,
        code: Code,
        is_free: impl Fn(&Run) -> bool,
    ) -> u64 {
        let Some(run) = walk.next_run(most).filter(is_free) else { return 0 };
        let bytes = &mut self.buffer[..(run.count * walk.size) as usize];
        let (target, width, goes_down) = (self.target, self.width, self.goes_down);
        let filled = memory.fill(run, code, bytes, |bytes| {
            target.read_string(width, bytes);
            put_in_order(bytes, width, goes_down);
        });
        if filled.is_none() {
            return 0;
        }
        walk.advance(run.count);
        run.count
    }
}

/// Converts elements between the order of memory and the order in which they are moved. It is its own inverse.
fn put_in_order(bytes: &mut [u8], width: Width, goes_down: bool) {
    if goes_down {
        bytes.reverse();
        bytes.chunks_exact_mut(width.bytes().into()).for_each(<[u8]>::reverse);
    }
}

/// The physical page numbers of the first and last byte of the instruction.
type Code = [u64; 2];

/// Guest memory, as the instruction accesses it.
struct Memory<'a>(LinearMemory<'a>);

impl Memory<'_> {
    /// Returns the physical address of a byte; `None` if the access may fault or change page tables.
    fn physical(&self, linear: u64, access: Access) -> Option<u64> {
        self.0.physical(linear, access).ok()
    }

    fn code(&self, key: &SiteKey) -> Option<Code> {
        let last = key.pc.checked_add(key.bytes.len() as u64 - 1)?;
        let page = |linear| Some(self.physical(linear, Access::Read)? / PAGE);
        Some([page(key.pc)?, page(last)?])
    }

    /// Returns where a run is: in one page, or in two.
    fn pieces(&self, run: Run, len: usize, access: Access) -> Option<(Piece, Option<Piece>)> {
        let here = len.min(left_in_page(run.lowest));
        let first = Piece { physical: self.physical(run.lowest, access)?, len: here };
        if here == len {
            return Some((first, None));
        }
        let physical = self.physical(run.lowest.checked_add(here as u64)?, access)?;
        Some((first, Some(Piece { physical, len: len - here })))
    }

    /// Copies a run from memory; `None` if it is not RAM.
    fn copy(&self, run: Run, bytes: &mut [u8]) -> Option<()> {
        self.0.read(run.lowest, bytes).ok()
    }

    /// Writes what `fill` provides to a run.
    ///
    /// `None`, without a call of `fill`, if the run is not RAM, or if it is in a page of the instruction: QEMU handles
    /// code that overwrites itself.
    fn fill(
        &self,
        run: Run,
        code: Code,
        bytes: &mut [u8],
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<()> {
        let (first, second) = self.pieces(run, bytes.len(), Access::Write)?;
        let overwrites = |piece: &Piece| code.contains(&(piece.physical / PAGE));
        if [Some(first), second].iter().flatten().any(overwrites) {
            return None;
        }
        let put = |here: VolatileSlice<'_>, next: Option<VolatileSlice<'_>>| {
            fill(bytes);
            here.copy_from(bytes);
            if let Some(next) = next {
                next.copy_from(&bytes[first.len..]);
            }
        };
        let ram = self.0.ram;
        let put_both = ram.with_mut(first.physical, first.len, |here| match second {
            None => {
                put(here, None);
                Ok(())
            }
            Some(Piece { physical, len }) => {
                ram.with_mut(physical, len, |next| put(here, Some(next)))
            }
        });
        put_both.ok()?.ok()
    }
}

/// A range of bytes in one page.
#[derive(Clone, Copy)]
struct Piece {
    physical: u64,
    len: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the remaining count at which QEMU leaves the loop of a `rep`, by its source (`do_gen_rep`).
    fn leaves_at(count: u64) -> u64 {
        let mut next = count - 1;
        loop {
            if next == 0 {
                return 0;
            }
            let left = next;
            next -= 1;
            if next & 0xffff == 0 && next != 0 {
                return left;
            }
        }
    }

    #[test]
    fn moved_elements_do_not_change_where_qemu_leaves_the_loop() {
        let near = |n: u64| n - 4..n + 4;
        for count in (1..70).chain(near(1 << 16)).chain(near(1 << 17)).chain(near(3 << 16)) {
            let most = max_elements(count);
            assert!(most < count, "one element is left to QEMU");
            assert_eq!(leaves_at(count - most), leaves_at(count), "{count}");
            // No more could be moved.
            assert!(count - most == 1 || leaves_at(count) == count - most - 1, "{count}");
        }
    }
}
