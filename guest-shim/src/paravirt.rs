//! Port I/O by hypercall, with the processor's instruction where a call is not carried out.
//!
//! Each access is asked for by a call of its own, and each answer taken by itself: the machine may
//! have been saved under one host and restored under another since the last one. Scalars are here,
//! the loop that strings need is in `strings`.

use crate::abi::{CallWord, call};
use crate::machine::Machine;
use crate::port_io::PortIo;
use crate::strings;

/// A machine, and what makes a linear address of a pointer.
pub(crate) struct Paravirt<'m, M> {
    pub(crate) machine: &'m M,
    pub(crate) segment_base: usize,
}

macro_rules! strings {
    ($($ins:ident $outs:ident $type:ident;)*) => {
        $(
            #[inline]
            unsafe fn $ins(&self, port: u16, buffer: &mut [$type]) {
                // SAFETY: the same is asked of the caller; the buffer is a slice.
                unsafe { strings::input(self, port, buffer.as_mut_ptr(), buffer.len()) }
            }

            #[inline]
            unsafe fn $outs(&self, port: u16, buffer: &[$type]) {
                // SAFETY: the same is asked of the caller; the buffer is a slice.
                unsafe { strings::output(self, port, buffer.as_ptr(), buffer.len()) }
            }
        )*
    };
}

impl<M: Machine> PortIo for Paravirt<'_, M> {
    #[inline]
    unsafe fn inb(&self, port: u16) -> u8 {
        // SAFETY: the same is asked of the caller.
        unsafe {
            let status = self.machine.call_plain(CallWord::new(call::INB, 0, port));
            if status.is_ok() { status.data() as u8 } else { self.machine.instructions().inb(port) }
        }
    }

    #[inline]
    unsafe fn inw(&self, port: u16) -> u16 {
        // SAFETY: the same is asked of the caller.
        unsafe {
            let status = self.machine.call_plain(CallWord::new(call::INW, 0, port));
            if status.is_ok() {
                status.data() as u16
            } else {
                self.machine.instructions().inw(port)
            }
        }
    }

    #[inline]
    unsafe fn inl(&self, port: u16) -> u32 {
        // SAFETY: the same is asked of the caller.
        unsafe {
            let (status, value) = self.machine.call_read(CallWord::new(call::INL, 0, port));
            if status.is_ok() { value } else { self.machine.instructions().inl(port) }
        }
    }

    #[inline]
    unsafe fn outb(&self, value: u8, port: u16) {
        // SAFETY: the same is asked of the caller.
        unsafe {
            let status = self.machine.call_plain(CallWord::new(call::OUTB, value, port));
            if !status.is_ok() {
                self.machine.instructions().outb(value, port);
            }
        }
    }

    #[inline]
    unsafe fn outw(&self, value: u16, port: u16) {
        // SAFETY: the same is asked of the caller.
        unsafe {
            let status = self.machine.call_write(CallWord::new(call::OUTW, 0, port), value.into());
            if !status.is_ok() {
                self.machine.instructions().outw(value, port);
            }
        }
    }

    #[inline]
    unsafe fn outl(&self, value: u32, port: u16) {
        // SAFETY: the same is asked of the caller.
        unsafe {
            let status = self.machine.call_write(CallWord::new(call::OUTL, 0, port), value);
            if !status.is_ok() {
                self.machine.instructions().outl(value, port);
            }
        }
    }

    strings! {
        insb outsb u8;
        insw outsw u16;
        insl outsl u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::status;
    use crate::simulation::{By, Simulation};

    /// All six, and what was read.
    fn scalars(machine: &Simulation) -> (u8, u16, u32) {
        let io = Paravirt { machine, segment_base: 0 };
        // SAFETY: nothing can go wrong in a simulation.
        unsafe {
            io.outb(0xab, 0x300);
            io.outw(0xabcd, 0x301);
            io.outl(0xabcd_ef01, 0x302);
            (io.inb(0x303), io.inw(0x304), io.inl(0xffff))
        }
    }

    #[test]
    fn each_access_is_made_once_and_by_a_call_if_that_works() {
        let refused = Simulation { refusal: Some(status::DENIED), ..Simulation::host() };
        for (machine, by) in [
            (Simulation::host(), By::Call),
            (Simulation::default(), By::Instruction),
            (refused, By::Instruction),
        ] {
            assert_eq!(scalars(&machine), (1, 2, 3));
            let expected = [
                (by, call::OUTB, 0x300, 0xab),
                (by, call::OUTW, 0x301, 0xabcd),
                (by, call::OUTL, 0x302, 0xabcd_ef01),
                (by, call::INB, 0x303, 1),
                (by, call::INW, 0x304, 2),
                (by, call::INL, 0xffff, 3),
            ];
            assert_eq!(machine.accesses(), expected);
            assert_eq!(machine.diary.borrow().calls, 6);
        }
    }

    #[test]
    fn what_is_declined_is_executed() {
        let machine = Simulation { declined: [0x301, 0xffff].into(), ..Simulation::host() };
        assert_eq!(scalars(&machine), (1, 2, 3));
        assert_eq!(machine.ways(), [By::Call, By::Instruction, By::Call, By::Instruction]);
    }
}
