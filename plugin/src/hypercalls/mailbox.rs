//! The mailbox: guest memory through which a vCPU makes calls without registers.
//!
//! A small one has 16 bytes and takes scalar calls. A large one has 64 bytes and takes every call. Registration
//! translates its address once, through the caller's page tables. A call reads each field once, because other
//! vCPUs may write them at any time.

use std::mem::offset_of;

use pvio_guest::abi::{self, CallWord, Status, UNANSWERED, status};

use super::arguments::Arguments;
use super::caller_pages::CallerPages;
use super::memory::{caller_memory, check};
use super::port_io::{Data, IoCall, Transfer};
use super::refusal::{Refusal, must_be_zero};
use super::{Caller, FindCaller, Hypercalls, MailboxEpoch, VcpuCalls};
use crate::guest_memory::LinearMemory;
use crate::qemu::{MappedRam, Register, Registers};
use crate::stats::{Call, CallOrigin, CallSiteKey};
use crate::x86::{Port, Supervisor};

const WORD: usize = offset_of!(abi::Mailbox, word);
const VALUE: usize = offset_of!(abi::Mailbox, value);
const KEY: usize = offset_of!(abi::Mailbox, key);
const ADDRESS: usize = offset_of!(abi::LargeMailbox, address);
const COUNT: usize = offset_of!(abi::LargeMailbox, count);
const SITE: usize = offset_of!(abi::LargeMailbox, site);
const RESERVED: usize = offset_of!(abi::LargeMailbox, reserved);

/// The size of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MailboxSize {
    Small,
    Large,
}

impl MailboxSize {
    /// The size that a guest registers with this word; `None` if it is not a registration.
    fn registered_by(word: u32) -> Option<MailboxSize> {
        const SMALL: u32 = CallWord::new(abi::call::REGISTER, 0, 0).0;
        const LARGE: u32 = CallWord::new(abi::call::REGISTER_LARGE, 0, 0).0;
        match word {
            SMALL => Some(MailboxSize::Small),
            LARGE => Some(MailboxSize::Large),
            _ => None,
        }
    }

    /// The number of bytes, and the alignment.
    fn bytes(self) -> usize {
        match self {
            MailboxSize::Small => size_of::<abi::Mailbox>(),
            MailboxSize::Large => size_of::<abi::LargeMailbox>(),
        }
    }

    fn call(self) -> Call {
        match self {
            MailboxSize::Small => Call::Register,
            MailboxSize::Large => Call::RegisterLarge,
        }
    }

    /// Returns true if a mailbox of this size may hold the call. (No call registers a mailbox.)
    fn takes(self, call: Call) -> bool {
        let is_scalar = || IoCall::of(call).is_some_and(|io| !io.is_string);
        self == MailboxSize::Large || call == Call::Probe || is_scalar()
    }
}

/// A vCPU's mailbox.
pub(super) struct Mailbox {
    memory: MappedRam,
    size: MailboxSize,
    key: u64,
    /// The epoch of its registration.
    epoch: u32,
}

impl Data for Mailbox {
    fn value(&mut self) -> u32 {
        self.memory.load_u32(VALUE)
    }

    fn set_value(&mut self, value: u32) {
        self.memory.store_u32(VALUE, value);
    }
}

impl Mailbox {
    /// The pending call. `None` if there is none, or if the key no longer matches.
    #[inline]
    fn call(&self) -> Option<CallWord> {
        let word = CallWord(self.memory.load_u32(WORD));
        (word.0 & UNANSWERED != 0 && self.memory.load_u64(KEY) == self.key).then_some(word)
    }

    /// The linear address that the guest attributes its call to; `None` if it names none.
    ///
    /// It is the guest's claim, and may be any number.
    #[inline]
    fn site(&self) -> Option<u64> {
        match self.size {
            MailboxSize::Small => None,
            MailboxSize::Large => Some(self.memory.load_u64(SITE)).filter(|&site| site != 0),
        }
    }

    fn answer(&mut self, status: Status) {
        self.memory.store_u32(WORD, status.0);
    }
}

/// The arguments of a call through a mailbox.
struct MailboxArguments<'a, 'v> {
    mailbox: &'a mut Mailbox,
    caller: Caller,
    vcpu: &'a mut Registers<'v>,
}

impl Data for MailboxArguments<'_, '_> {
    fn value(&mut self) -> u32 {
        self.mailbox.value()
    }

    fn set_value(&mut self, value: u32) {
        self.mailbox.set_value(value);
    }
}

/// Only for calls that the mailbox takes: a small one has neither address nor count.
impl Arguments for MailboxArguments<'_, '_> {
    fn memory<'h>(
        &mut self,
        hypercalls: &'h Hypercalls,
        pages: Option<&'h CallerPages>,
    ) -> Result<LinearMemory<'h>, Refusal> {
        caller_memory(self.caller, self.vcpu, hypercalls, pages)
    }

    fn transfer(&mut self) -> Transfer {
        let memory = &self.mailbox.memory;
        Transfer { address: memory.load_u64(ADDRESS), left: memory.load_u64(COUNT) }
    }

    fn set_transfer(&mut self, transfer: Transfer) {
        self.mailbox.memory.store_u64(ADDRESS, transfer.address);
        self.mailbox.memory.store_u64(COUNT, transfer.left);
    }
}

impl VcpuCalls {
    /// Runs the call in the vCPU's mailbox and answers it there.
    ///
    /// The caller is supervisor code. Of its registers, only those of [`Registers::can_read_system`] are read, and those
    /// that `find` reads.
    #[inline]
    pub fn doorbell(&mut self, caller: Caller, vcpu: &mut Registers<'_>, find: FindCaller<'_>) {
        let Some(mailbox) = &mut self.mailbox else { return };
        if mailbox.epoch != self.hypercalls.epoch.now() {
            self.mailbox = None;
            return;
        }
        let Some(word) = mailbox.call() else { return };
        self.counters.calls_from(caller.pc);
        let site = caller.site(mailbox.site());
        if let Some(data) = self.cache.run(word, &site, mailbox, &self.counters) {
            mailbox.answer(Status::new(status::OK, data));
            return;
        }
        self.doorbell_uncached(word, site, caller, vcpu, find);
    }

    /// Slow path: runs a call that missed the cache.
    #[cold]
    fn doorbell_uncached(
        &mut self,
        word: CallWord,
        site: CallSiteKey,
        caller: Caller,
        vcpu: &mut Registers<'_>,
        find: FindCaller<'_>,
    ) {
        let origin = self.origin(caller, site, |id| find(id, caller, vcpu));
        let recorders = (&*self.counters, self.listeners.as_ref());
        self.cache.insert(word, &origin, &self.hypercalls, recorders);
        let (slot, ports) = self.mailbox_and_ports(origin);
        let Some(mailbox) = slot else { return };
        let number = word.call().expect("a mailbox yields call words only");
        if let Some(io) = IoCall::scalar(number)
            && (word.operand() == 0 || io.takes_operand())
            && let Ok(data) = ports.scalar(io, Port(word.port()), word.operand(), mailbox)
        {
            mailbox.answer(Status::new(status::OK, data));
            return;
        }
        self.doorbell_other((Call::from_number(number), word), origin, caller, vcpu);
    }

    /// Runs a call other than a successful scalar one, and answers it.
    fn doorbell_other(
        &mut self,
        (call, word): (Call, CallWord),
        origin: CallOrigin,
        caller: Caller,
        vcpu: &mut Registers<'_>,
    ) {
        let Some(mut mailbox) = self.mailbox.take() else { return };
        let result = match call {
            Call::Release => {
                must_be_zero(word.operand()).and(must_be_zero(word.port())).map(|()| 0)
            }
            _ if mailbox.size.takes(call) => {
                let mut arguments = MailboxArguments { mailbox: &mut mailbox, caller, vcpu };
                self.dispatch((call, word), origin, &mut arguments)
            }
            _ => Err(Refusal(status::UNKNOWN)),
        };
        mailbox.answer(self.recorder(origin).answered(call, result));
        if call != Call::Release || result.is_err() {
            self.mailbox = Some(mailbox);
        }
    }

    /// Registers the mailbox at the linear address in RDX, and answers there.
    ///
    /// Ignores the request if it comes from a nested guest or from user code, or if the memory is
    /// unsuitable.
    pub fn register(&mut self, caller: Caller, vcpu: &mut Registers<'_>) {
        self.counters.calls_from(caller.pc);
        if self.is_nested(vcpu) || caller.supervisor(vcpu) == Supervisor::No {
            return;
        }
        let Some((memory, size)) = self.mailbox_memory(caller, vcpu) else { return };
        let key = memory.load_u64(KEY);
        let epoch = self.hypercalls.epoch.now();
        let mut mailbox = Mailbox { memory, size, key, epoch };
        let answer = self.may_register(&mailbox, vcpu).map(|()| {
            mailbox.set_value(self.hypercalls.features());
            abi::VERSION
        });
        let origin = self.origin(caller, caller.site(None), |_| Default::default());
        mailbox.answer(self.recorder(origin).answered(size.call(), answer));
        if answer.is_ok() {
            self.mailbox = Some(mailbox);
        }
    }

    fn may_register(&self, mailbox: &Mailbox, vcpu: &Registers<'_>) -> Result<(), Refusal> {
        let is_large = mailbox.size == MailboxSize::Large;
        // The doorbell reads no other registers.
        if mailbox.epoch == MailboxEpoch::NO_MAILBOXES || is_large && !vcpu.can_read_system() {
            return Err(Refusal(status::DECLINED));
        }
        if mailbox.key == 0 {
            return Err(Refusal(status::ARGUMENT));
        }
        if is_large {
            for offset in (RESERVED..mailbox.size.bytes()).step_by(size_of::<u64>()) {
                must_be_zero(mailbox.memory.load_u64(offset))?;
            }
        }
        Ok(())
    }

    /// The memory of a mailbox that is to be registered, and the size that its word tells; `None` if it is unsuitable.
    fn mailbox_memory(
        &self,
        caller: Caller,
        vcpu: &mut Registers<'_>,
    ) -> Option<(MappedRam, MailboxSize)> {
        let linear = caller.argument(vcpu, Register::Rdx);
        let memory = caller_memory(caller, vcpu, &self.hypercalls, self.pages.as_ref()).ok()?;
        let hold = |size: MailboxSize| {
            let bytes = size.bytes();
            linear.is_multiple_of(bytes as u64).then_some(())?;
            check(&memory, linear, 1, bytes).ok()?;
            memory.hold(linear, bytes).ok()
        };
        let small = hold(MailboxSize::Small)?;
        match MailboxSize::registered_by(small.load_u32(WORD))? {
            MailboxSize::Small => Some((small, MailboxSize::Small)),
            MailboxSize::Large => Some((hold(MailboxSize::Large)?, MailboxSize::Large)),
        }
    }
}
