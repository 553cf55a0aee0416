//! The calls of one vCPU: who may make them, and which code implements each.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pvio_guest::abi::{self, CallWord, Status, status};

use super::arguments::{Arguments, CallRegisters};
use super::call_cache::CallCache;
use super::call_sites::VcpuCallSites;
use super::caller_pages::CallerPages;
use super::mailbox::Mailbox;
use super::port_io::{IoCall, PortCalls, Transfer};
use super::recorder::CallRecorder;
use super::refusal::{Refusal, must_be_zero};
use super::{Caller, Hypercalls, Policy};
use crate::access_listeners::AccessListeners;
use crate::guest_memory::LinearMemory;
use crate::qemu::{Register, Registers, WritableRegisters};
use crate::stats::{
    Call, CallOrigin, CallSiteId, CallSiteKey, CallerId, Outcome, ProcessUse, VcpuCounters,
};
use crate::x86::{PAGE, Port, Supervisor};

/// Finds the call chain and the process of a call, if these are counted.
pub type FindCaller<'a> =
    &'a mut dyn FnMut(CallSiteId, Caller, &mut Registers<'_>) -> (CallerId, Option<ProcessUse>);

/// Runs the hypercalls of one vCPU.
pub struct VcpuCalls {
    pub(super) hypercalls: Arc<Hypercalls>,
    pub(super) counters: Arc<VcpuCounters>,
    pub(super) listeners: Option<AccessListeners>,
    /// Bytes on their way between memory and a device or a file.
    pub(super) buffer: Box<[u8; PAGE as usize]>,
    pub(super) mailbox: Option<Mailbox>,
    pub(super) cache: CallCache,
    /// `None` if QEMU gives no access to RAM in place.
    pub(super) pages: Option<CallerPages>,
    sites: VcpuCallSites,
}

impl VcpuCalls {
    /// The calls of the vCPU that `counters` and `listeners` belong to.
    pub fn new(
        hypercalls: Arc<Hypercalls>,
        counters: Arc<VcpuCounters>,
        listeners: Option<AccessListeners>,
    ) -> VcpuCalls {
        let buffer = Box::new([0; PAGE as usize]);
        let (cache, sites) = (CallCache::default(), VcpuCallSites::new(&hypercalls));
        let ram = hypercalls.machine.as_ref().and_then(|machine| machine.ram());
        let pages = ram.map(CallerPages::new);
        VcpuCalls { hypercalls, counters, listeners, buffer, mailbox: None, cache, pages, sites }
    }

    /// Runs a call by registers and answers it in RAX.
    #[inline]
    pub fn call(&mut self, caller: Caller, vcpu: &mut WritableRegisters<'_>, find: FindCaller<'_>) {
        self.counters.calls_from(caller.pc);
        let word = CallWord(vcpu.read(Register::Rax) as u32);
        // No call word: another plugin like this one has answered already, or it never was a call.
        let Some(number) = word.call() else { return };
        let refusal = if self.is_nested(vcpu) {
            Some(Refusal(status::DECLINED))
        } else if !self.may_call(caller, vcpu) {
            Some(Refusal(status::DENIED))
        } else {
            None
        };
        if refusal.is_none()
            && let Some(data) = self.cache.run(word, &caller.site(None), vcpu, &self.counters)
        {
            vcpu.write(Register::Rax, Status::new(status::OK, data).0.into());
            return;
        }
        self.call_uncached((Call::from_number(number), word), refusal, caller, vcpu, find);
    }

    /// Slow path: runs a call that missed the cache, or refuses it.
    #[inline(never)]
    fn call_uncached(
        &mut self,
        (call, word): (Call, CallWord),
        refusal: Option<Refusal>,
        caller: Caller,
        vcpu: &mut WritableRegisters<'_>,
        find: FindCaller<'_>,
    ) {
        let origin = self.origin(caller, caller.site(None), |site| find(site, caller, vcpu));
        let result = match refusal {
            Some(refusal) => Err(refusal),
            None => {
                let recorders = (&*self.counters, self.listeners.as_ref());
                self.cache.insert(word, &origin, &self.hypercalls, recorders);
                self.dispatch((call, word), origin, &mut CallRegisters { caller, vcpu })
            }
        };
        let status = self.recorder(origin).answered(call, result);
        vcpu.write(Register::Rax, status.0.into());
    }

    /// Finds the origin of a call from a site.
    pub(super) fn origin(
        &mut self,
        caller: Caller,
        key: CallSiteKey,
        find: impl FnOnce(CallSiteId) -> (CallerId, Option<ProcessUse>),
    ) -> CallOrigin {
        let site = self.sites.find(self.counters.boot(), key, caller);
        let (caller, process) = find(site);
        CallOrigin { site, key, caller, process }
    }

    pub(super) fn recorder(&self, origin: CallOrigin) -> CallRecorder<'_> {
        CallRecorder { counters: &self.counters, listeners: self.listeners.as_ref(), origin }
    }

    /// Returns true if the caller is, or may be, a nested guest. pvio cannot see a nested guest's page
    /// tables, and its own hypervisor decides which ports it may use.
    pub(super) fn is_nested(&self, vcpu: &Registers<'_>) -> bool {
        let expected = || self.hypercalls.nested_guests.load(Ordering::Relaxed);
        vcpu.is_in_nested_guest().unwrap_or_else(expected)
    }

    fn may_call(&self, caller: Caller, vcpu: &mut Registers<'_>) -> bool {
        self.hypercalls.policy == Policy::Any || caller.supervisor(vcpu) == Supervisor::Yes
    }

    /// Runs a call whose permission has been checked.
    pub(super) fn dispatch(
        &mut self,
        (call, word): (Call, CallWord),
        origin: CallOrigin,
        arguments: &mut impl Arguments,
    ) -> Result<u32, Refusal> {
        if let Some(io) = IoCall::of(call) {
            if !io.takes_operand() {
                must_be_zero(word.operand())?;
            }
            let port = Port(word.port());
            return match io.is_string {
                false => self.port_calls(origin).scalar(io, port, word.operand(), arguments),
                true => self.with_transfer(origin, arguments, |ports, memory, transfer| {
                    ports.string(io, port, memory, transfer)
                }),
            };
        }
        // The fields of an unknown call may have any meaning. Mailbox calls need a mailbox.
        if matches!(call, Call::Unknown | Call::Register | Call::RegisterLarge | Call::Release) {
            return Err(Refusal(status::UNKNOWN));
        }
        must_be_zero(word.port())?;
        if !matches!(call, Call::Exit | Call::Log) {
            must_be_zero(word.operand())?;
        }
        match call {
            Call::Probe => {
                arguments.set_value(self.hypercalls.features());
                Ok(abi::VERSION)
            }
            Call::Batch => self.with_transfer(origin, arguments, |ports, memory, transfer| {
                ports.batch(memory, transfer)
            }),
            Call::BatchCompact => {
                self.with_transfer(origin, arguments, |ports, memory, transfer| {
                    ports.compact_batch(memory, transfer)
                })
            }
            Call::FileRead | Call::FileWrite | Call::FileFinish => {
                self.file(call, origin, arguments)
            }
            _ => self.control((call, word.operand()), origin, arguments),
        }
    }

    fn port_calls(&mut self, origin: CallOrigin) -> PortCalls<'_> {
        self.mailbox_and_ports(origin).1
    }

    #[inline]
    pub(super) fn mailbox_and_ports(
        &mut self,
        origin: CallOrigin,
    ) -> (&mut Option<Mailbox>, PortCalls<'_>) {
        let (counters, listeners) = (&*self.counters, self.listeners.as_ref());
        let ports = PortCalls {
            hypercalls: &self.hypercalls,
            recorder: CallRecorder { counters, listeners, origin },
            buffer: &mut self.buffer,
            pages: self.pages.as_ref(),
            budget: abi::ELEMENTS_MAX,
        };
        (&mut self.mailbox, ports)
    }

    /// Runs a call that moves elements between memory and ports, and leaves its progress in address and
    /// count.
    fn with_transfer(
        &mut self,
        origin: CallOrigin,
        arguments: &mut impl Arguments,
        run: impl FnOnce(&mut PortCalls<'_>, &LinearMemory<'_>, &mut Transfer) -> Result<(), Refusal>,
    ) -> Result<u32, Refusal> {
        let mut ports = self.port_calls(origin);
        let before = arguments.transfer();
        let mut transfer = before;
        let memory = arguments.memory(ports.hypercalls, ports.pages)?;
        let result = run(&mut ports, &memory, &mut transfer);
        if transfer != before {
            arguments.set_transfer(transfer);
        }
        match result {
            // After some progress the call succeeds. The next call meets the error at its start.
            Err(refusal) if refusal.outcome() == Outcome::Error && transfer != before => Ok(0),
            result => result.map(|()| 0),
        }
    }
}
