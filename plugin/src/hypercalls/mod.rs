//! The guest's calls: the ABI of [`pvio_guest::abi`], carried out.
//!
//! It knows the calls, who may make them and what they answer. It does not know how the instruction was
//! caught. A call reaches every port: pvio's devices directly, QEMU's through QEMU's bus; and memory
//! through the caller's page tables, as the caller might reach it itself.

mod batch;
mod control;
mod guest_log;
mod memory;
mod port_io;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pvio_guest::abi::{self, CallWord, Status, feature, status};

use crate::access_log::VcpuLog;
use crate::bus::PortBus;
use crate::qemu::{CallingVcpu, GuestRam, Machine, Register};
use crate::stats::{Call, Outcome, Statistics, Tally};
use crate::x86::{Mode, Supervisor};

pub use guest_log::GuestLog;

use memory::CallerMemory;
use port_io::{IoCall, Transfer};

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
    /// Where the guest's lines go.
    pub log: GuestLog,
    /// See [`Hypercalls::expect_nested_guests`].
    pub nested_guests: AtomicBool,
}

impl Hypercalls {
    /// The guest may run guests of its own, whose memory is behind page tables that are not seen here:
    /// from now on each translation is held against QEMU's own.
    pub fn expect_nested_guests(&self) {
        self.nested_guests.store(true, Ordering::Relaxed);
    }

    fn ram(&self) -> Option<&GuestRam> {
        self.machine.as_ref()?.ram()
    }

    fn features(&self) -> u32 {
        let every_port = self.machine.is_some() && !self.icount;
        let memory = self.ram().is_some();
        (if every_port { feature::EVERY_PORT } else { 0 })
            | (if memory { feature::MEMORY } else { 0 })
    }
}

/// The calls of one vCPU.
pub struct VcpuCalls {
    hypercalls: Arc<Hypercalls>,
    tally: Arc<Tally>,
    access_log: Option<VcpuLog>,
    /// On its way between memory and a device.
    buffer: Box<[u8; crate::x86::PAGE as usize]>,
}

impl VcpuCalls {
    /// Of one vCPU, which counts into `tally`.
    pub fn new(
        hypercalls: Arc<Hypercalls>,
        tally: Arc<Tally>,
        access_log: Option<VcpuLog>,
    ) -> VcpuCalls {
        let buffer = Box::new([0; crate::x86::PAGE as usize]);
        VcpuCalls { hypercalls, tally, access_log, buffer }
    }

    /// Carries a call out, and answers it.
    pub fn call(&mut self, caller: Caller, vcpu: &mut CallingVcpu<'_>) {
        let word = CallWord(vcpu.read(Register::Rax) as u32);
        let call = word.call().map_or(Call::Unknown, Call::from_number);
        let answer = match self.may_call(caller, vcpu) {
            true => self.carry_out(call, word, caller, vcpu),
            false => Err(Refusal(status::DENIED)),
        };
        let (status, outcome) = match answer {
            Ok(data) => (Status::new(status::OK, data), Outcome::Ok),
            Err(Refusal(code)) => (Status::new(code, 0), outcome_of(code)),
        };
        self.tally.hypercall(call, outcome);
        vcpu.write(Register::Rax, status.0.into());
    }

    fn may_call(&self, caller: Caller, vcpu: &mut CallingVcpu<'_>) -> bool {
        self.hypercalls.policy == Policy::Any || supervisor(caller, vcpu) == Supervisor::Yes
    }

    fn carry_out(
        &mut self,
        call: Call,
        word: CallWord,
        caller: Caller,
        vcpu: &mut CallingVcpu<'_>,
    ) -> Result<u32, Refusal> {
        if let Some(io) = IoCall::of(call) {
            must_be_zero(if io.takes_operand() { 0 } else { word.operand() }.into())?;
            let port = crate::x86::Port(word.port());
            return match io.is_string {
                false => self.scalar(io, port, word.operand(), caller.pc, vcpu),
                true => self.with_transfer(caller, vcpu, |this, memory, transfer| {
                    let mut budget = abi::ELEMENTS_MAX;
                    this.string(io, port, transfer, memory, caller.pc, &mut budget)
                }),
            };
        }
        must_be_zero(word.port().into())?;
        if !matches!(call, Call::Exit | Call::Log) {
            must_be_zero(word.operand().into())?;
        }
        match call {
            Call::Probe => {
                vcpu.write(Register::Rdx, self.hypercalls.features().into());
                Ok(abi::VERSION)
            }
            Call::Batch => self.with_transfer(caller, vcpu, |this, memory, transfer| {
                this.batch(transfer, memory, caller.pc)
            }),
            Call::Unknown => Err(Refusal(status::UNKNOWN)),
            _ => self.control(call, word.operand(), caller, vcpu),
        }
    }

    /// A call that moves elements between memory and ports: from where, and how many, is in registers,
    /// and so is afterwards how far it has come.
    fn with_transfer(
        &mut self,
        caller: Caller,
        vcpu: &mut CallingVcpu<'_>,
        work: impl FnOnce(&mut Self, &CallerMemory<'_>, &mut Transfer) -> Result<(), Refusal>,
    ) -> Result<u32, Refusal> {
        let hypercalls = Arc::clone(&self.hypercalls);
        let ram = hypercalls.ram().ok_or(Refusal(status::DECLINED))?;
        let mut transfer = Transfer {
            address: argument(caller, vcpu, Register::Rdx),
            left: argument(caller, vcpu, Register::Rcx),
        };
        let before = transfer;
        let result = {
            let nested = hypercalls.nested_guests.load(Ordering::Relaxed);
            let memory = CallerMemory::of(caller, vcpu, ram, nested);
            work(self, &memory, &mut transfer)
        };
        vcpu.write(Register::Rdx, transfer.address);
        vcpu.write(Register::Rcx, transfer.left);
        match result {
            // What is wrong is said by the next call, which finds it at its beginning.
            Err(Refusal(code)) if is_error(code) && transfer != before => Ok(0),
            result => result.map(|()| 0),
        }
    }
}

/// An argument, of which outside 64-bit code only 32 bits count.
fn argument(caller: Caller, vcpu: &mut CallingVcpu<'_>, register: Register) -> u64 {
    let value = vcpu.read(register);
    match caller.mode {
        Mode::Bits64 => value,
        Mode::Bits16 | Mode::Bits32 => value & 0xffff_ffff,
    }
}

fn supervisor(caller: Caller, vcpu: &mut CallingVcpu<'_>) -> Supervisor {
    caller.supervisor.unwrap_or_else(|| {
        let (rflags, cs) = (vcpu.read(Register::Rflags), vcpu.read(Register::Cs));
        Supervisor::of(rflags, cs, || vcpu.read(Register::Cr0))
    })
}

fn must_be_zero(field: u32) -> Result<(), Refusal> {
    match field {
        0 => Ok(()),
        _ => Err(Refusal(status::ARGUMENT)),
    }
}

/// Whether a call that gets this answer was wrong in itself.
fn is_error(code: u8) -> bool {
    outcome_of(code) == Outcome::Error
}

fn outcome_of(code: u8) -> Outcome {
    match code {
        status::OK | status::PAGE => Outcome::Ok,
        status::DECLINED => Outcome::Declined,
        status::DENIED => Outcome::Denied,
        _ => Outcome::Error,
    }
}
