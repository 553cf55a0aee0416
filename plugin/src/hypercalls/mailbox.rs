//! The mailbox: 16 bytes of guest memory through which a vCPU makes scalar calls without registers.
//!
//! Registration translates its address once, through the caller's page tables. A call reads each
//! word once, because other vCPUs may write them at any time.

use pvio_guest::abi::{self, CallWord, Status, UNANSWERED, status};

use super::memory::{caller_memory, check};
use super::port_io::{Data, IoCall, PortCalls};
use super::refusal::{Refusal, must_be_zero};
use super::{Caller, FindCaller, MailboxEpoch, VcpuCalls};
use crate::qemu::{MappedRam, Register, Registers};
use crate::stats::{Call, CallSiteKey};
use crate::x86::{Port, Supervisor};

const WORD: usize = std::mem::offset_of!(abi::Mailbox, word);
const VALUE: usize = std::mem::offset_of!(abi::Mailbox, value);
const KEY: usize = std::mem::offset_of!(abi::Mailbox, key);
const SIZE: usize = size_of::<abi::Mailbox>();

/// A vCPU's mailbox.
pub(super) struct Mailbox {
    memory: MappedRam,
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

    /// The site that the pending call states; `None` if it states none.
    fn site(&self) -> Option<u64> {
        None
    }

    fn answer(&mut self, status: Status) {
        self.memory.store_u32(WORD, status.0);
    }

    /// Answers a call other than a successful scalar one.
    #[cold]
    fn answer_other(&mut self, word: CallWord, ports: &PortCalls<'_>) -> IsReleased {
        let call = word.call().map_or(Call::Unknown, Call::from_number);
        let fields = must_be_zero(word.operand()).and(must_be_zero(word.port()));
        let answer = match call {
            Call::Probe => fields.map(|()| {
                self.set_value(ports.hypercalls.features());
                abi::VERSION
            }),
            Call::Release => fields.map(|()| 0),
            _ => match IoCall::of(call).filter(|io| !io.is_string) {
                None => Err(Refusal(status::UNKNOWN)),
                Some(io) if !io.takes_operand() && word.operand() != 0 => {
                    Err(Refusal(status::ARGUMENT))
                }
                Some(_) => Err(Refusal(status::DECLINED)),
            },
        };
        self.answer(ports.recorder.answered(call, answer));
        match (call, answer) {
            (Call::Release, Ok(_)) => IsReleased::Yes,
            _ => IsReleased::No,
        }
    }
}

/// The state of a mailbox: in use, or released by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IsReleased {
    Yes,
    No,
}

impl VcpuCalls {
    /// Runs the call in the vCPU's mailbox and answers it there.
    ///
    /// Supervisor code has executed the doorbell instruction. `vcpu` may be `None` if neither call chains nor processes are
    /// counted.
    #[inline]
    pub fn doorbell(
        &mut self,
        caller: Caller,
        vcpu: Option<&mut Registers<'_>>,
        find: FindCaller<'_>,
    ) {
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
        self.doorbell_uncached(word, caller, site, vcpu, find);
    }

    /// Slow path: runs a call that missed the cache.
    #[cold]
    fn doorbell_uncached(
        &mut self,
        word: CallWord,
        caller: Caller,
        site: CallSiteKey,
        vcpu: Option<&mut Registers<'_>>,
        find: FindCaller<'_>,
    ) {
        let origin = self.origin(caller, site, |id| {
            vcpu.map(|vcpu| find(id, caller, vcpu)).unwrap_or_default()
        });
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
        if mailbox.answer_other(word, &ports) == IsReleased::Yes {
            *slot = None;
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
        let Some(memory) = self.mailbox_memory(caller, vcpu) else { return };
        let key = memory.load_u64(KEY);
        let epoch = self.hypercalls.epoch.now();
        let mut mailbox = Mailbox { memory, key, epoch };
        if mailbox.memory.load_u32(WORD) != CallWord::new(abi::call::REGISTER, 0, 0).0 {
            return;
        }
        let answer = if epoch == MailboxEpoch::NO_MAILBOXES {
            Err(Refusal(status::DECLINED))
        } else if key == 0 {
            Err(Refusal(status::ARGUMENT))
        } else {
            mailbox.set_value(self.hypercalls.features());
            Ok(abi::VERSION)
        };
        let origin = self.origin(caller, caller.site(None), |_| Default::default());
        mailbox.answer(self.recorder(origin).answered(Call::Register, answer));
        if answer.is_ok() {
            self.mailbox = Some(mailbox);
        }
    }

    fn mailbox_memory(&self, caller: Caller, vcpu: &mut Registers<'_>) -> Option<MappedRam> {
        let linear = caller.argument(vcpu, Register::Rdx);
        if !linear.is_multiple_of(SIZE as u64) {
            return None;
        }
        let memory = caller_memory(caller, vcpu, &self.hypercalls).ok()?;
        check(&memory, linear, 1, SIZE).ok()?;
        memory.hold(linear, SIZE).ok()
    }
}
