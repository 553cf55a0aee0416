//! The mailbox: calls of one element through 16 bytes of memory that a host watches for a processor.
//!
//! What is in it belongs to the call that is being made; every call leaves word and value as it has found
//! them, so that an interrupt's handler may call between any two instructions of another call. Nothing
//! here knows to which processor or task a mailbox belongs.

use core::cell::UnsafeCell;
use core::num::NonZeroU64;

use crate::abi::{self, CallWord, Status, call};
use crate::detect::{Features, Host};
use crate::error::CallError;
use crate::machine::{Machine, MailboxMachine, Real};
use crate::paravirt::Paravirt;
use crate::port_io::{PortIo, port_io};

/// A processor's mailbox, and a [`PortIo`]: calls of one element go through it; by registers where nobody
/// hears it; by the processor's instruction where that is not carried out either. Strings go by
/// registers at once. So it works on every machine, registered or not.
///
/// ```no_run
/// use pvio_guest::{Mailbox, PortIo};
///
/// static MAILBOX: Mailbox = Mailbox::new();
///
/// // SAFETY: a static stays where it is, in a page of plain RAM without code, and this kernel has one
/// // processor.
/// let registered = unsafe { MAILBOX.register(MAILBOX.any_key()) };
/// // SAFETY: a UART is at 0x3f8, and this code may use ports.
/// unsafe { MAILBOX.outb(b'x', 0x3f8) };
/// ```
///
/// Interrupt handlers may use the mailbox of the processor that they run on. A kernel that is preemptible
/// must not be preempted within a call.
#[derive(Debug, Default)]
pub struct Mailbox {
    memory: UnsafeCell<abi::Mailbox>,
    segment_base: usize,
}

// SAFETY: its memory is used by the unsafe methods alone, which are made on one processor.
unsafe impl Sync for Mailbox {}

impl Mailbox {
    /// One that nobody knows of yet, in a segment whose base is zero.
    pub const fn new() -> Mailbox {
        Mailbox::with_segment_base(0)
    }

    /// The same where the base of DS, which must be that of ES, is another.
    pub const fn with_segment_base(segment_base: usize) -> Mailbox {
        let memory = UnsafeCell::new(abi::Mailbox { word: 0, value: 0, key: 0 });
        Mailbox { memory, segment_base }
    }

    /// A key that is in no other place by chance: of where the mailbox is, and of when that is asked,
    /// as the time-stamp counter has it.
    pub fn any_key(&self) -> NonZeroU64 {
        #[cfg(target_arch = "x86")]
        use core::arch::x86::_rdtsc;
        #[cfg(target_arch = "x86_64")]
        use core::arch::x86_64::_rdtsc;

        // SAFETY: reads a counter.
        let time = unsafe { _rdtsc() };
        // Odd, with ones and zeros in no order: the low bits of both reach all of the key.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let seed = time.rotate_left(32) ^ self.linear() as u64;
        NonZeroU64::MIN | (seed.wrapping_mul(SPREAD) ^ seed)
    }

    /// Makes it the mailbox of the processor that executes this, in the place of one that was before.
    ///
    /// It may be done again, with the same key or another: after a reset of the machine, or when a
    /// snapshot goes on, the host has forgotten it.
    ///
    /// # Safety
    ///
    /// Until it is released, or another is registered, the mailbox must stay where it is, in RAM that is
    /// mapped there; and from now on it must be used on this processor alone, by one task at a time.
    pub unsafe fn register(&self, key: NonZeroU64) -> Result<Host, CallError> {
        // SAFETY: the same is asked of the caller.
        unsafe { self.through(&Real).register(key) }
    }

    /// Makes it nobody's. The processor has no mailbox then.
    ///
    /// # Safety
    ///
    /// As for every call through it: on the processor that it is registered for, if any, by one task at a
    /// time.
    pub unsafe fn release(&self) -> Result<(), CallError> {
        // SAFETY: the same is asked of the caller.
        unsafe { self.through(&Real).release() }
    }

    fn linear(&self) -> usize {
        self.memory.get().expose_provenance().wrapping_add(self.segment_base)
    }

    #[inline]
    fn through<'m, M>(&'m self, machine: &'m M) -> Through<'m, M> {
        Through { mailbox: self, machine }
    }
}

port_io!(impl [] Mailbox, |this| Paravirt {
    machine: &this.through(&Real),
    segment_base: this.segment_base,
});

/// A machine whose calls of one element go through a mailbox, if somebody hears that.
struct Through<'m, M> {
    mailbox: &'m Mailbox,
    machine: &'m M,
}

/// One of the two words: volatile, since a host, and handlers of interrupts, use it too.
struct Word(*mut u32);

impl Word {
    /// # Safety
    ///
    /// As for [`Through::ask`].
    #[inline]
    unsafe fn get(&self) -> u32 {
        // SAFETY: a part of a mailbox, of which there are no references.
        unsafe { self.0.read_volatile() }
    }

    /// # Safety
    ///
    /// As for [`Through::ask`].
    #[inline]
    unsafe fn set(&self, bits: u32) {
        // SAFETY: as above.
        unsafe { self.0.write_volatile(bits) }
    }
}

impl<M: MailboxMachine> Through<'_, M> {
    #[inline]
    fn word(&self) -> Word {
        // SAFETY: within the mailbox.
        Word(unsafe { &raw mut (*self.mailbox.memory.get()).word })
    }

    #[inline]
    fn value(&self) -> Word {
        // SAFETY: within the mailbox.
        Word(unsafe { &raw mut (*self.mailbox.memory.get()).value })
    }

    /// Leaves a call, has it looked at, and takes the answer.
    ///
    /// # Safety
    ///
    /// A host may do all that the call asks for. On the processor whose mailbox it is, by one task at a
    /// time.
    #[inline]
    unsafe fn ask(&self, call: CallWord, look: impl FnOnce()) -> Status {
        let word = self.word();
        // SAFETY: the same is asked of the caller.
        unsafe {
            let found = word.get();
            word.set(call.0);
            look();
            let answer = word.get();
            word.set(found);
            Status(answer)
        }
    }

    /// Makes a call; `None` where nobody has heard it.
    ///
    /// # Safety
    ///
    /// As for [`Through::ask`].
    #[inline]
    unsafe fn ring(&self, call: CallWord) -> Option<Status> {
        // SAFETY: the same is asked of the caller.
        let status = unsafe { self.ask(call, || self.machine.ring_doorbell()) };
        status.code().map(|_| status)
    }

    /// As [`Mailbox::register`].
    unsafe fn register(&self, key: NonZeroU64) -> Result<Host, CallError> {
        let value = self.value();
        // SAFETY: the same is asked of the caller.
        unsafe {
            (&raw mut (*self.mailbox.memory.get()).key).write_volatile(key.get());
            let found = value.get();
            let call = CallWord::new(call::REGISTER, 0, 0);
            let status = self.ask(call, || self.machine.register_mailbox(self.mailbox.linear()));
            let features = Features(value.get());
            value.set(found);
            CallError::check(status).map(|version| Host { version, features })
        }
    }

    /// As [`Mailbox::release`].
    unsafe fn release(&self) -> Result<(), CallError> {
        // SAFETY: the same is asked of the caller.
        let status = unsafe {
            self.ask(CallWord::new(call::RELEASE, 0, 0), || self.machine.ring_doorbell())
        };
        CallError::check(status).map(|_| ())
    }
}

impl<M: MailboxMachine> Machine for Through<'_, M> {
    type Instructions = M::Instructions;

    #[inline]
    unsafe fn call(&self, word: CallWord, edx: &mut usize, ecx: &mut usize) -> Status {
        // SAFETY: the same is asked of the caller.
        unsafe { self.machine.call(word, edx, ecx) }
    }

    #[inline]
    fn instructions(&self) -> &M::Instructions {
        self.machine.instructions()
    }

    #[inline]
    unsafe fn call_plain(&self, word: CallWord) -> Status {
        // SAFETY: the same is asked of the caller.
        unsafe {
            match self.ring(word) {
                Some(status) => status,
                None => self.machine.call_plain(word),
            }
        }
    }

    #[inline]
    unsafe fn call_write(&self, word: CallWord, value: u32) -> Status {
        let place = self.value();
        // SAFETY: the same is asked of the caller.
        unsafe {
            let found = place.get();
            place.set(value);
            let status = self.ring(word);
            place.set(found);
            match status {
                Some(status) => status,
                None => self.machine.call_write(word, value),
            }
        }
    }

    #[inline]
    unsafe fn call_read(&self, word: CallWord) -> (Status, u32) {
        let place = self.value();
        // SAFETY: the same is asked of the caller.
        unsafe {
            let found = place.get();
            let status = self.ring(word);
            let value = place.get();
            place.set(found);
            match status {
                Some(status) => (status, value),
                None => self.machine.call_read(word),
            }
        }
    }
}

#[cfg(test)]
mod tests;
