//! A per-vCPU cache of scalar hypercalls. A driver repeats the same few calls, so each entry keeps
//! what decoding found: the device, the operation, the counter. Calls to ports that have a listener are
//! never cached.

use pvio_guest::abi::{CALL_SHIFT, CallWord};

use super::Hypercalls;
use super::port_io::{Data, IoCall};
use crate::access_listeners::AccessListeners;
use crate::bus::CachedPort;
use crate::stats::{PortCounter, VcpuCounters};
use crate::x86::Port;

/// Number of entries. The cache is direct-mapped: a new call evicts the old one.
const ENTRIES: usize = 16;

/// Mask that ignores the operand, the byte that `outb` writes.
const IGNORE_OPERAND: u32 = !0x00ff_0000;

#[derive(Default)]
pub(super) struct CallCache([Option<CachedCall>; ENTRIES]);

struct CachedCall {
    /// The entry matches when `word & mask == tag`.
    mask: u32,
    tag: u32,
    io: IoCall,
    port: CachedPort,
    counter: PortCounter,
}

fn index(word: CallWord) -> usize {
    (word.0 as usize ^ (word.0 >> CALL_SHIFT) as usize) % ENTRIES
}

impl CallCache {
    /// Runs the call if it is cached. Returns the data for the answer.
    #[inline]
    pub fn run(
        &self,
        word: CallWord,
        data: &mut impl Data,
        counters: &VcpuCounters,
    ) -> Option<u32> {
        let entry = self.0[index(word)].as_ref()?;
        if word.0 & entry.mask != entry.tag {
            return None;
        }
        let CachedCall { io, port, counter, .. } = entry;
        let moved = io.move_one(
            word.operand(),
            data,
            |width| port.read(width),
            |width, value| port.write(width, value),
        );
        counters.hypercall_moved_one(io.call);
        counters.hypercall_access(*counter);
        Some(moved.answer)
    }

    /// Caches the call if it is a scalar call to a known port that has no listener.
    pub fn insert(
        &mut self,
        word: CallWord,
        hypercalls: &Hypercalls,
        listeners: Option<&AccessListeners>,
    ) {
        let port = Port(word.port());
        let io = word.call().and_then(IoCall::scalar);
        let Some(io) = io.filter(|io| word.operand() == 0 || io.takes_operand()) else { return };
        if listeners.is_some_and(|listeners| listeners.may_cover(port, io.direction)) {
            return;
        }
        let Some(cached_port) = hypercalls.cached_port(port) else { return };
        let mask = if io.takes_operand() { IGNORE_OPERAND } else { u32::MAX };
        self.0[index(word)] = Some(CachedCall {
            mask,
            tag: word.0 & mask,
            io,
            port: cached_port,
            counter: PortCounter::new(port, io.direction, io.width),
        });
    }
}
