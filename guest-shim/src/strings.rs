//! Strings by hypercall: the loop around `insb` ... `outsl`.
//!
//! A host moves as many elements as it likes and leaves the rest in the count. At a page that it
//! cannot judge it stops, and wants that touched; where that does not help, one element goes through a
//! scalar call, and this code moves it to or from memory. Any other answer leaves the rest to the
//! processor's `rep`.

use crate::abi::{CallWord, status};
use crate::machine::Machine;
use crate::paravirt::Paravirt;
use crate::touch;
use crate::value::Value;

/// Fills a buffer from a port.
///
/// # Safety
///
/// Reading the port may do anything that its device does on a read. The buffer must be writable.
pub(crate) unsafe fn input<T: Value, M: Machine>(
    io: &Paravirt<'_, M>,
    port: u16,
    buffer: *mut T,
    count: usize,
) {
    let element = |io: &Paravirt<'_, M>, at: *mut T| {
        // SAFETY: `at` is an element of the buffer; the rest is asked of the caller.
        unsafe { at.write_volatile(T::read_from(io, port)) }
    };
    let rest = |io: &Paravirt<'_, M>, at: *mut T, left: usize| {
        // SAFETY: these are the last elements of the buffer; the rest is asked of the caller.
        unsafe {
            let buffer = core::slice::from_raw_parts_mut(at, left);
            T::read_string(io.machine.instructions(), port, buffer);
        }
    };
    let word = CallWord::new(T::INS, 0, port);
    // SAFETY: asked of the caller, and the call writes to the buffer alone.
    unsafe { run(io, word, buffer, count, touch::for_writing, element, rest) };
}

/// Writes a buffer to a port.
///
/// # Safety
///
/// Writing the port may do anything that its device does on a write. The buffer must be readable.
pub(crate) unsafe fn output<T: Value, M: Machine>(
    io: &Paravirt<'_, M>,
    port: u16,
    buffer: *const T,
    count: usize,
) {
    let element = |io: &Paravirt<'_, M>, at: *mut T| {
        // SAFETY: `at` is an element of the buffer; the rest is asked of the caller.
        unsafe { at.read_volatile().write_to(io, port) }
    };
    let rest = |io: &Paravirt<'_, M>, at: *mut T, left: usize| {
        // SAFETY: these are the last elements of the buffer; the rest is asked of the caller.
        unsafe {
            let buffer = core::slice::from_raw_parts(at, left);
            T::write_string(io.machine.instructions(), port, buffer);
        }
    };
    let word = CallWord::new(T::OUTS, 0, port);
    let touch = |byte: *mut u8| {
        // SAFETY: the byte is in the buffer, which the caller says can be read.
        unsafe { touch::for_reading(byte) }
    };
    // SAFETY: asked of the caller, and the call reads the buffer alone.
    unsafe { run(io, word, buffer.cast_mut(), count, touch, element, rest) };
}

/// Makes a string's call until nothing is left.
///
/// # Safety
///
/// The call must be allowed to do what it does with `count` elements from `buffer` on, and `touch`
/// to do what it does with their bytes.
unsafe fn run<T, M: Machine>(
    io: &Paravirt<'_, M>,
    word: CallWord,
    buffer: *mut T,
    count: usize,
    touch: unsafe fn(*mut u8),
    element: impl Fn(&Paravirt<'_, M>, *mut T),
    rest: impl Fn(&Paravirt<'_, M>, *mut T, usize),
) {
    let mut next = buffer;
    let mut left = count;
    // Whether the next element has been touched already.
    let mut touched = false;
    while left != 0 {
        let mut edx = next.expose_provenance().wrapping_add(io.segment_base);
        let mut ecx = left;
        // SAFETY: asked of the caller.
        let status = unsafe { io.machine.call(word, &mut edx, &mut ecx) };
        let code = status.code();
        // How far it came is in EDX, too, and in the same words; once is enough.
        let moved = match code {
            Some(status::OK | status::PAGE | status::DECLINED) => left - ecx.min(left),
            _ => 0,
        };
        // SAFETY: no more than what is left has been moved.
        next = unsafe { next.add(moved) };
        left -= moved;
        touched &= moved == 0;
        match code {
            Some(status::OK) if moved != 0 => {}
            Some(status::PAGE) if left != 0 && !touched => {
                // An element may lie across the border of two pages.
                let last = size_of::<T>() - 1;
                // SAFETY: these are the first and the last byte of an element.
                unsafe {
                    touch(next.cast());
                    touch(next.cast::<u8>().add(last));
                }
                touched = true;
            }
            Some(status::OK | status::PAGE) if left != 0 => {
                element(io, next);
                // SAFETY: one element was left at least.
                next = unsafe { next.add(1) };
                left -= 1;
                touched = false;
            }
            _ => {
                rest(io, next, left);
                left = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::call;
    use crate::port_io::PortIo;
    use crate::simulation::{By, Simulation};
    use std::vec::Vec;

    /// Some pages of memory, and a bit.
    const COUNT: usize = 3000;

    /// Writes and reads strings of 32 bits, of 16 and of 8, and checks what comes and goes.
    fn check(machine: &Simulation) {
        let io = Paravirt { machine, segment_base: machine.segment_base };
        let values: Vec<u32> = (0..COUNT as u32).collect();
        let mut longs: Vec<u32> = values.clone();
        let mut words: Vec<u16> = values.iter().map(|value| *value as u16).collect();
        let mut bytes: Vec<u8> = values.iter().map(|value| *value as u8).collect();
        // SAFETY: nothing can go wrong in a simulation.
        unsafe {
            io.outsl(0x300, &longs);
            io.outsw(0x301, &words);
            io.outsb(0x302, &bytes);
            io.insl(0x303, &mut longs);
            io.insw(0x304, &mut words);
            io.insb(0x305, &mut bytes);
            io.insb(0x305, &mut []);
            io.outsl(0x305, &[]);
        }
        let cut = values.iter().map(|value| value & 0xff);
        assert!(machine.written().into_iter().eq(values.iter().chain(&values).copied().chain(cut)));
        let read = 1..=3 * COUNT as u32;
        let all = longs.into_iter().chain(words.into_iter().map(u32::from));
        let all = all.chain(bytes.into_iter().map(u32::from));
        assert!(all.eq(read.map(|value| match value as usize {
            value if value <= 2 * COUNT => value as u32,
            value => value as u32 & 0xff,
        })));
        assert_eq!(machine.accesses().len(), 6 * COUNT);
    }

    #[test]
    fn one_call_moves_all() {
        let machine = Simulation::host();
        check(&machine);
        assert_eq!(machine.diary.borrow().calls, 6);
        assert_eq!(machine.ways(), [By::Call]);
    }

    #[test]
    fn the_rest_is_asked_for_again() {
        let machine = Simulation { elements_max: 7, ..Simulation::host() };
        check(&machine);
        assert_eq!(machine.diary.borrow().calls, 6 * COUNT.div_ceil(7));
        assert_eq!(machine.ways(), [By::Call]);
    }

    #[test]
    fn pages_are_touched_where_the_host_says_so() {
        // With a base that has elements lie across borders, too.
        for segment_base in [0, 1, 0x1000_0002] {
            let machine = Simulation { pages: true, segment_base, ..Simulation::host() };
            check(&machine);
            assert_eq!(machine.ways(), [By::Call]);
            // Some three pages of 32-bit elements, two of 16, one of 8, and one for each border.
            let calls = machine.diary.borrow().calls;
            assert!((6 + 5..6 + 11).contains(&calls), "{calls}");
        }
    }

    #[test]
    fn where_touching_does_not_help_elements_go_one_by_one() {
        let machine = Simulation { pages: true, stubborn: true, ..Simulation::host() };
        check(&machine);
        assert_eq!(machine.ways(), [By::Call]);
        // For each element: one that is refused, one after touching, the scalar.
        assert_eq!(machine.diary.borrow().calls, 6 * COUNT * 3);
    }

    #[test]
    fn where_a_host_does_nothing_elements_go_one_by_one() {
        let machine = Simulation { elements_max: 0, ..Simulation::host() };
        check(&machine);
        assert_eq!(machine.diary.borrow().calls, 6 * COUNT * 2);
    }

    #[test]
    fn other_answers_leave_it_to_the_processor() {
        let refusals = status::DECLINED..=status::FAILED + 1;
        let refused = refusals.filter(|code| *code != status::PAGE);
        let refused = refused.map(|code| Simulation { refusal: Some(code), ..Simulation::host() });
        for machine in refused.chain([Simulation::default()]) {
            check(&machine);
            assert_eq!(machine.diary.borrow().calls, 6);
            assert_eq!(machine.ways(), [By::Instruction]);
        }
    }

    #[test]
    fn each_string_has_its_call() {
        let machine = Simulation { declined: [0x301, 0x305].into(), ..Simulation::host() };
        check(&machine);
        let mut kinds: Vec<(By, u8)> = Vec::new();
        machine.accesses().iter().for_each(|access| kinds.push((access.0, access.1)));
        kinds.dedup();
        assert_eq!(
            kinds,
            [
                (By::Call, call::OUTL),
                (By::Instruction, call::OUTW),
                (By::Call, call::OUTB),
                (By::Call, call::INL),
                (By::Call, call::INW),
                (By::Instruction, call::INB),
            ]
        );
    }
}
