//! The guest's calls: the ABI of [`pvio_guest::abi`], carried out.
//!
//! It knows the calls, who may make them and what they answer. It does not know how the instruction was
//! caught. A call reaches every port: pvio's devices directly, QEMU's through QEMU's bus; and memory
//! through the caller's page tables, as the caller might reach it itself.

mod batch;
mod call_cache;
mod control;
mod guest_log;
mod mailbox;
mod memory;
mod port_io;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use pvio_guest::abi::{self, CallWord, Status, feature, status};

use crate::access_log::VcpuLog;
use crate::bus::{CachedPort, PortBus, PortTarget};
use crate::dumps::Dumps;
use crate::guest_memory::LinearMemory;
use crate::qemu::{CallingVcpu, GuestRam, Machine, Register};
use crate::stats::{Call, Outcome, Statistics, VcpuCounters};
use crate::x86::{Cr0, Mode, PAGE, Port, Rflags, Supervisor};

pub use guest_log::{GuestLog, harmless};

use call_cache::CallCache;
use mailbox::Mailbox;
use memory::caller_memory;
use port_io::{IoCall, PortCalls, Transfer};

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Supervisor code.
    Kernel,
    /// Code of any ring.
    Any,
}

/// Who calls, as far as the place of the instruction tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The mode whose instruction it was: how much of a register counts.
    pub mode: Mode,
    /// Whether it is supervisor code; `None` where only the registers can tell.
    pub supervisor: Option<Supervisor>,
    /// The linear address of the instruction.
    pub pc: u64,
}

/// Why a call was not carried out, or not to its end: one of the ABI's [`status`] codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal(u8);

/// What a machine needs to answer calls.
pub struct Hypercalls {
    /// Who may call.
    pub policy: Policy,
    /// Who has which port.
    pub bus: Arc<PortBus>,
    /// `None` where QEMU does not export what reaches it.
    pub machine: Option<Arc<Machine>>,
    /// Under `-icount` QEMU aborts when a device looks at a clock or raises an interrupt in the middle of
    /// a block, which is where a call comes from.
    pub icount: bool,
    /// Windows and counts.
    pub statistics: Arc<Statistics>,
    /// Where dumps go.
    pub dumps: Arc<Dumps>,
    /// Where the guest's lines go.
    pub log: GuestLog,
    /// See [`Hypercalls::expect_nested_guests`].
    pub nested_guests: AtomicBool,
    /// Mailboxes of which machine are good.
    pub epoch: MailboxEpoch,
}

/// A number for the machine as it was from one reset, or load of a snapshot, to the next.
///
/// A mailbox is one in the epoch in which it was registered.
#[derive(Clone, Default)]
pub struct MailboxEpoch(Arc<AtomicU32>);

impl MailboxEpoch {
    /// The epoch in which there are no mailboxes, and behind which no other comes.
    const NO_MAILBOXES: u32 = u32::MAX;

    /// Another begins.
    pub fn next(&self) {
        let next = |epoch: u32| (epoch < Self::NO_MAILBOXES - 1).then(|| epoch + 1);
        // After four thousand million resets the last one goes on.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// There are no mailboxes any more.
    pub fn end(&self) {
        self.0.store(Self::NO_MAILBOXES, Ordering::Relaxed);
    }

    #[inline]
    fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Hypercalls {
    /// The guest may run guests of its own: from now on all calls are declined where QEMU does not tell
    /// whose they are.
    pub fn expect_nested_guests(&self) {
        self.nested_guests.store(true, Ordering::Relaxed);
    }

    /// Which vCPU is in a callback is not known: none can have a mailbox.
    pub fn vcpus_are_mixed(&self) {
        self.epoch.end();
    }

    /// Who has a port, if a call may reach it.
    #[inline]
    fn target(&self, port: Port) -> Option<PortTarget<'_>> {
        self.bus.target(port).filter(|target| !self.icount || target.is_independent())
    }

    /// The same for a port that is used often.
    fn cached_port(&self, port: Port) -> Option<CachedPort> {
        self.target(port).and_then(|_| self.bus.cached_port(port))
    }

    fn ram(&self) -> Option<&GuestRam> {
        self.machine.as_ref()?.ram()
    }

    fn features(&self) -> u32 {
        let every_port = self.machine.is_some() && !self.icount;
        let memory = self.ram().is_some();
        (if every_port { feature::EVERY_PORT } else { 0 })
            | (if memory { feature::MEMORY | feature::MAILBOX } else { 0 })
    }
}

/// The calls of one vCPU.
pub struct VcpuCalls {
    hypercalls: Arc<Hypercalls>,
    counters: Arc<VcpuCounters>,
    access_log: Option<VcpuLog>,
    /// On its way between memory and a device.
    buffer: Box<[u8; PAGE as usize]>,
    mailbox: Option<Mailbox>,
    cached: CallCache,
}

impl VcpuCalls {
    /// Of one vCPU, which counts into `counters`.
    pub fn new(
        hypercalls: Arc<Hypercalls>,
        counters: Arc<VcpuCounters>,
        access_log: Option<VcpuLog>,
    ) -> VcpuCalls {
        let buffer = Box::new([0; PAGE as usize]);
        let cached = CallCache::default();
        VcpuCalls { hypercalls, counters, access_log, buffer, mailbox: None, cached }
    }

    /// Carries a call out, and answers it.
    #[inline]
    pub fn call(&mut self, caller: Caller, vcpu: &mut CallingVcpu<'_>) {
        self.counters.calls_from(caller.pc);
        let word = CallWord(vcpu.read(Register::Rax) as u32);
        // It has been answered already, by another plugin like this one; or it is none.
        let Some(number) = word.call() else { return };
        let refusal = if self.is_nested(vcpu) {
            Some(Refusal(status::DECLINED))
        } else if !self.may_call(caller, vcpu) {
            Some(Refusal(status::DENIED))
        } else {
            None
        };
        if refusal.is_none()
            && let Some(data) = self.cached.carry_out(word, vcpu, &self.counters)
        {
            vcpu.write(Register::Rax, Status::new(status::OK, data).0.into());
            return;
        }
        self.call_another(Call::from_number(number), word, refusal, caller, vcpu);
    }

    /// Carries out what was not carried out often of late.
    #[inline(never)]
    fn call_another(
        &mut self,
        call: Call,
        word: CallWord,
        refusal: Option<Refusal>,
        caller: Caller,
        vcpu: &mut CallingVcpu<'_>,
    ) {
        let answer = match refusal {
            Some(refusal) => Err(refusal),
            None => {
                self.cached.remember(word, &self.hypercalls, self.access_log.as_ref());
                self.carry_out(call, word, caller, vcpu)
            }
        };
        let status = answered(&self.counters, call, answer);
        vcpu.write(Register::Rax, status.0.into());
    }

    /// Whether the caller is, or may be, a guest of the guest's. That has memory behind page tables that are
    /// not seen here, and such ports as its own host lets it have.
    fn is_nested(&self, vcpu: &CallingVcpu<'_>) -> bool {
        let expected = || self.hypercalls.nested_guests.load(Ordering::Relaxed);
        vcpu.is_in_nested_guest().unwrap_or_else(expected)
    }

    fn may_call(&self, caller: Caller, vcpu: &mut CallingVcpu<'_>) -> bool {
        self.hypercalls.policy == Policy::Any || caller.supervisor(vcpu) == Supervisor::Yes
    }

    fn carry_out(
        &mut self,
        call: Call,
        word: CallWord,
        caller: Caller,
        vcpu: &mut CallingVcpu<'_>,
    ) -> Result<u32, Refusal> {
        if let Some(io) = IoCall::of(call) {
            if !io.takes_operand() {
                must_be_zero(word.operand())?;
            }
            let port = Port(word.port());
            return match io.is_string {
                false => self.port_calls(caller.pc).scalar(io, port, word.operand(), vcpu),
                true => self.with_transfer(caller, vcpu, |ports, memory, transfer| {
                    ports.string(io, port, memory, transfer)
                }),
            };
        }
        // What the fields of a call of tomorrow's mean is not known; the mailbox's are not made by registers.
        if matches!(call, Call::Unknown | Call::Register | Call::Release) {
            return Err(Refusal(status::UNKNOWN));
        }
        must_be_zero(word.port())?;
        if !matches!(call, Call::Exit | Call::Log) {
            must_be_zero(word.operand())?;
        }
        match call {
            Call::Probe => {
                vcpu.write(Register::Rdx, self.hypercalls.features().into());
                Ok(abi::VERSION)
            }
            Call::Batch => self.with_transfer(caller, vcpu, |ports, memory, transfer| {
                ports.batch(memory, transfer)
            }),
            _ => self.control(call, word.operand(), caller, vcpu),
        }
    }

    fn port_calls(&mut self, pc: u64) -> PortCalls<'_> {
        self.mailbox_and_ports(pc).1
    }

    #[inline]
    fn mailbox_and_ports(&mut self, pc: u64) -> (&mut Option<Mailbox>, PortCalls<'_>) {
        let ports = PortCalls {
            hypercalls: &self.hypercalls,
            counters: &self.counters,
            access_log: self.access_log.as_ref(),
            pc,
            buffer: &mut self.buffer,
            budget: abi::ELEMENTS_MAX,
        };
        (&mut self.mailbox, ports)
    }

    /// A call that moves elements between memory and ports: from where, and how many, is in registers,
    /// and so is afterwards how far it has come.
    fn with_transfer(
        &mut self,
        caller: Caller,
        vcpu: &mut CallingVcpu<'_>,
        work: impl FnOnce(&mut PortCalls<'_>, &LinearMemory<'_>, &mut Transfer) -> Result<(), Refusal>,
    ) -> Result<u32, Refusal> {
        let mut ports = self.port_calls(caller.pc);
        let mut transfer = Transfer {
            address: caller.argument(vcpu, Register::Rdx),
            left: caller.argument(vcpu, Register::Rcx),
        };
        let before = transfer;
        let memory = caller_memory(caller, vcpu, ports.hypercalls)?;
        let result = work(&mut ports, &memory, &mut transfer);
        vcpu.write(Register::Rdx, transfer.address);
        vcpu.write(Register::Rcx, transfer.left);
        match result {
            // What is wrong is said by the next call, which finds it at its beginning.
            Err(refusal) if refusal.outcome() == Outcome::Error && transfer != before => Ok(0),
            result => result.map(|()| 0),
        }
    }
}

impl Caller {
    /// An argument, of which outside 64-bit code only 32 bits count.
    fn argument(self, vcpu: &mut CallingVcpu<'_>, register: Register) -> u64 {
        let value = vcpu.read(register);
        match self.mode {
            Mode::Bits64 => value,
            Mode::Bits16 | Mode::Bits32 => value & 0xffff_ffff,
        }
    }

    fn supervisor(self, vcpu: &mut CallingVcpu<'_>) -> Supervisor {
        self.supervisor.unwrap_or_else(|| {
            let rflags = Rflags::from_bits_retain(vcpu.read(Register::Rflags));
            let cs = vcpu.read(Register::Cs);
            Supervisor::of(rflags, cs, || Cr0::from_bits_retain(vcpu.read(Register::Cr0)))
        })
    }
}

impl Refusal {
    fn outcome(self) -> Outcome {
        match self.0 {
            // The guest touches the page, and the call goes on.
            status::PAGE => Outcome::Ok,
            status::DECLINED => Outcome::Declined,
            status::DENIED => Outcome::Denied,
            _ => Outcome::Error,
        }
    }
}

/// Makes a status of how a call went, and counts what has not been counted yet.
#[inline]
fn answered(counters: &VcpuCounters, call: Call, answer: Result<u32, Refusal>) -> Status {
    match answer {
        Ok(data) => {
            // One of one element was counted when it was moved.
            if IoCall::of(call).is_none_or(|io| io.is_string) {
                counters.hypercall(call, Outcome::Ok);
            }
            Status::new(status::OK, data)
        }
        Err(refusal) => {
            counters.hypercall(call, refusal.outcome());
            Status::new(refusal.0, 0)
        }
    }
}

fn must_be_zero<T: Default + PartialEq>(field: T) -> Result<(), Refusal> {
    match field == T::default() {
        true => Ok(()),
        false => Err(Refusal(status::ARGUMENT)),
    }
}
