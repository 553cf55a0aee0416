//! The mailbox: calls through memory instead of registers.
//!
//! Every call restores the fields that it uses, so that an interrupt handler may make a call between any two
//! instructions of another call. Only the caller knows to which CPU a mailbox belongs.
//!
//! The memory is that of a large mailbox. A host that has only small ones uses the first 16 bytes, and answers
//! strings with UNKNOWN.

use core::cell::UnsafeCell;
use core::num::NonZeroU64;

use crate::abi::{CallWord, LargeMailbox, Status, call, status};
use crate::detect::{Features, Host};
use crate::error::CallError;
use crate::machine::{Machine, MailboxMachine, Real};
use crate::paravirt::Paravirt;
use crate::port_io::{PortIo, port_io};

/// A CPU's mailbox, and a [`PortIo`].
///
/// Calls go through the mailbox. If no host answers there, they go through registers; if that fails,
/// too, the CPU's instruction is executed. So it works on every machine, registered or not.
///
/// ```no_run
/// use pvio_guest::{Mailbox, PortIo};
///
/// static MAILBOX: Mailbox = Mailbox::new();
///
/// // SAFETY: a static stays where it is, in a page of plain RAM without code, and this kernel has one
/// // CPU.
/// let registered = unsafe { MAILBOX.register(MAILBOX.any_key()) };
/// // SAFETY: a UART is at 0x3f8, and this code may use ports.
/// unsafe { MAILBOX.outb(b'x', 0x3f8) };
/// ```
///
/// Interrupt handlers may use the mailbox of the CPU that they run on. A preemptible kernel disables
/// preemption during a call.
#[derive(Debug, Default)]
pub struct Mailbox {
    memory: UnsafeCell<LargeMailbox>,
    segment_base: usize,
}

// SAFETY: only the unsafe methods use its memory, and their callers stay on one CPU.
unsafe impl Sync for Mailbox {}

impl Mailbox {
    /// Creates an unregistered mailbox, in a segment whose base is zero.
    pub const fn new() -> Mailbox {
        Mailbox::with_segment_base(0)
    }

    /// Creates an unregistered mailbox, in segments DS and ES with this base.
    pub const fn with_segment_base(segment_base: usize) -> Mailbox {
        let (word, value, key, address, count, site) = (0, 0, 0, 0, 0, 0);
        let reserved = [0; 3];
        let memory = LargeMailbox { word, value, key, address, count, site, reserved };
        Mailbox { memory: UnsafeCell::new(memory), segment_base }
    }

    /// A key that does not occur elsewhere in memory by chance: made from the mailbox's address and the
    /// time-stamp counter.
    pub fn any_key(&self) -> NonZeroU64 {
        #[cfg(target_arch = "x86")]
        use core::arch::x86::_rdtsc;
        #[cfg(target_arch = "x86_64")]
        use core::arch::x86_64::_rdtsc;

        // SAFETY: reads a counter.
        let time = unsafe { _rdtsc() };
        // An odd constant without a pattern: the low bits of both reach all of the key.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let seed = time.rotate_left(32) ^ self.linear() as u64;
        NonZeroU64::MIN | (seed.wrapping_mul(SPREAD) ^ seed)
    }

    /// Registers the mailbox for this CPU, as a large one if the host has these. It replaces the previous one.
    ///
    /// It may be registered again, with the same key or another: the host forgets it when the machine is
    /// reset, migrated or restored from a snapshot.
    ///
    /// # Errors
    ///
    /// [`CallError::Unanswered`] if there is no host; [`CallError::Declined`] if it has no mailboxes.
    ///
    /// # Safety
    ///
    /// Until it is released or replaced, the mailbox must stay where it is, in mapped RAM. From now on it
    /// must be used on this CPU alone, by one task at a time.
    pub unsafe fn register(&self, key: NonZeroU64) -> Result<Host, CallError> {
        // SAFETY: the caller answers for the call.
        unsafe { self.through(&Real).register(key) }
    }

    /// Releases the mailbox. The CPU then has none.
    ///
    /// # Errors
    ///
    /// [`CallError::Unanswered`] if it is not registered.
    ///
    /// # Safety
    ///
    /// The call must be made on the CPU that it is registered for, if any, and by one task at a time.
    pub unsafe fn release(&self) -> Result<(), CallError> {
        // SAFETY: the caller answers for the call.
        unsafe { self.through(&Real).release() }
    }

    fn linear(&self) -> usize {
        self.memory.get().expose_provenance().wrapping_add(self.segment_base)
    }

    #[inline]
    pub(crate) fn through<'m, M>(&'m self, machine: &'m M) -> Through<'m, M> {
        Through { mailbox: self, machine }
    }
}

port_io!(impl [] Mailbox, |this| Paravirt {
    machine: &this.through(&Real),
    segment_base: this.segment_base,
});

/// A machine whose calls go through a mailbox if a host answers there.
pub(crate) struct Through<'m, M> {
    mailbox: &'m Mailbox,
    machine: &'m M,
}

/// A field: volatile, since the host and interrupt handlers use it, too.
struct Field<T>(*mut T);

impl<T> Field<T> {
    /// # Safety
    ///
    /// The same as for [`Through::ask`].
    #[inline]
    unsafe fn get(&self) -> T {
        // SAFETY: it is in a mailbox, of which there are no references.
        unsafe { self.0.read_volatile() }
    }

    /// # Safety
    ///
    /// The same as for [`Through::ask`].
    #[inline]
    unsafe fn set(&self, bits: T) {
        // SAFETY: as above.
        unsafe { self.0.write_volatile(bits) }
    }
}

impl<M: MailboxMachine> Through<'_, M> {
    #[inline]
    fn word(&self) -> Field<u32> {
        // SAFETY: within the mailbox.
        Field(unsafe { &raw mut (*self.mailbox.memory.get()).word })
    }

    #[inline]
    fn value(&self) -> Field<u32> {
        // SAFETY: within the mailbox.
        Field(unsafe { &raw mut (*self.mailbox.memory.get()).value })
    }

    #[inline]
    fn address(&self) -> Field<u64> {
        // SAFETY: within the mailbox.
        Field(unsafe { &raw mut (*self.mailbox.memory.get()).address })
    }

    #[inline]
    fn count(&self) -> Field<u64> {
        // SAFETY: within the mailbox.
        Field(unsafe { &raw mut (*self.mailbox.memory.get()).count })
    }

    /// Stores a call, executes the instruction `notify`, loads the answer, and restores the word.
    ///
    /// # Safety
    ///
    /// A host may do everything that the call requests. Only on the mailbox's CPU, by one task at a time.
    #[inline]
    unsafe fn ask(&self, call: CallWord, notify: impl FnOnce()) -> Status {
        let word = self.word();
        // SAFETY: the caller answers for the call.
        unsafe {
            let found = word.get();
            word.set(call.0);
            notify();
            let answer = word.get();
            word.set(found);
            Status(answer)
        }
    }

    /// Makes a call; `None` if no host has answered.
    ///
    /// # Safety
    ///
    /// The same as for [`Through::ask`].
    #[inline]
    unsafe fn call_by_doorbell(&self, call: CallWord) -> Option<Status> {
        // SAFETY: the caller answers for the call.
        let status = unsafe { self.ask(call, || self.machine.ring_doorbell()) };
        status.code().map(|_| status)
    }

    /// The same as for [`Mailbox::register`].
    pub(crate) unsafe fn register(&self, key: NonZeroU64) -> Result<Host, CallError> {
        let value = self.value();
        // SAFETY: the caller answers for the call.
        unsafe {
            (&raw mut (*self.mailbox.memory.get()).key).write_volatile(key.get());
            let found = value.get();
            let register = |number| {
                let call = CallWord::new(number, 0, 0);
                self.ask(call, || self.machine.register_mailbox(self.mailbox.linear()))
            };
            let mut status = register(call::REGISTER_LARGE);
            if !status.is_ok() {
                status = register(call::REGISTER);
            }
            let features = Features(value.get());
            value.set(found);
            CallError::check(status).map(|version| Host { version, features })
        }
    }

    /// Makes a call with address and count; `None` if no host has answered, or if the mailbox is a small one.
    ///
    /// # Safety
    ///
    /// The same as for [`Through::ask`].
    unsafe fn move_by_doorbell(
        &self,
        call: CallWord,
        edx: &mut usize,
        ecx: &mut usize,
    ) -> Option<Status> {
        let (address, count) = (self.address(), self.count());
        // SAFETY: the caller answers for the call.
        unsafe {
            let found = (address.get(), count.get());
            address.set(*edx as u64);
            count.set(*ecx as u64);
            let answer = self.call_by_doorbell(call);
            let after = (address.get(), count.get());
            address.set(found.0);
            count.set(found.1);
            let answer = answer.filter(|answer| answer.code() != Some(status::UNKNOWN))?;
            // Both fit: the host has only moved them within the buffer.
            (*edx, *ecx) = (after.0 as usize, after.1 as usize);
            Some(answer)
        }
    }

    /// The same as for [`Mailbox::release`].
    unsafe fn release(&self) -> Result<(), CallError> {
        // SAFETY: the caller answers for the call.
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
        // SAFETY: the caller answers for the call.
        unsafe {
            match self.move_by_doorbell(word, edx, ecx) {
                Some(status) => status,
                None => self.machine.call(word, edx, ecx),
            }
        }
    }

    #[inline]
    fn instructions(&self) -> &M::Instructions {
        self.machine.instructions()
    }

    #[inline]
    unsafe fn call_plain(&self, word: CallWord) -> Status {
        // SAFETY: the caller answers for the call.
        unsafe {
            match self.call_by_doorbell(word) {
                Some(status) => status,
                None => self.machine.call_plain(word),
            }
        }
    }

    #[inline]
    unsafe fn call_write(&self, word: CallWord, value: u32) -> Status {
        let place = self.value();
        // SAFETY: the caller answers for the call.
        unsafe {
            let found = place.get();
            place.set(value);
            let status = self.call_by_doorbell(word);
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
        // SAFETY: the caller answers for the call.
        unsafe {
            let found = place.get();
            let status = self.call_by_doorbell(word);
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
