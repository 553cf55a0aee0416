//! A per-vCPU cache of scalar hypercalls. A driver repeats the same few calls from the same few sites, so each entry keeps
//! what decoding found: the device, the operation, the counters. Calls to ports that have a listener are never cached,
//! nor any call while call chains or processes are counted.

use pvio_guest::abi::{CALL_SHIFT, CallWord};

use super::Hypercalls;
use super::port_io::{Data, IoCall};
use crate::access_listeners::AccessListeners;
use crate::bus::CachedPort;
use crate::stats::{CallAccessCounter, CallOrigin, CallSiteKey, PortCounter, VcpuCounters};
use crate::x86::Port;

/// Number of entries. The cache is direct-mapped: a new call evicts the old one.
const ENTRIES: usize = 64;

/// Mask that ignores the operand, the byte that `outb` writes.
const IGNORE_OPERAND: u32 = !0x00ff_0000;

/// The calls of the kernel that runs.
pub(super) struct CallCache {
    /// The boot of that kernel.
    boot: u32,
    entries: [Option<CachedCall>; ENTRIES],
}

struct CachedCall {
    /// The entry matches when `word & mask == tag`, and the site is `site`.
    mask: u32,
    tag: u32,
    site: CallSiteKey,
    io: IoCall,
    port: CachedPort,
    counter: PortCounter,
    site_counter: CallAccessCounter,
}

/// Spreads calls to one port from several sites, and calls from one site to several ports.
#[inline]
fn index(word: CallWord, site: &CallSiteKey) -> usize {
    let call = word.0 ^ word.0 >> CALL_SHIFT;
    let site = (site.pc as u32).wrapping_mul(0x9e37_79b1) >> (u32::BITS - ENTRIES.ilog2());
    (call ^ site) as usize % ENTRIES
}

impl Default for CallCache {
    fn default() -> CallCache {
        CallCache { boot: 0, entries: [const { None }; ENTRIES] }
    }
}

impl CallCache {
    /// Runs the call if it is cached. Returns the data for the answer.
    #[inline]
    pub fn run(
        &self,
        word: CallWord,
        site: &CallSiteKey,
        data: &mut impl Data,
        counters: &VcpuCounters,
    ) -> Option<u32> {
        let entry = self.entries[index(word, site)].as_ref()?;
        if word.0 & entry.mask != entry.tag || entry.site != *site || self.boot != counters.boot() {
            return None;
        }
        let CachedCall { io, port, counter, site_counter, .. } = entry;
        let moved = io.move_one(
            word.operand(),
            data,
            |width| port.read(width),
            |width, value| port.write(width, value),
        );
        counters.hypercall_moved_one(io.call, *counter, *site_counter);
        Some(moved.answer)
    }

    /// Caches the call if it is a scalar call to a known port, and only counters want to know of it.
    pub fn insert(
        &mut self,
        word: CallWord,
        origin: &CallOrigin,
        hypercalls: &Hypercalls,
        (counters, listeners): (&VcpuCounters, Option<&AccessListeners>),
    ) {
        if counters.chains().is_some() || counters.processes().is_some() {
            return;
        }
        let port = Port(word.port());
        let io = word.call().and_then(IoCall::scalar);
        let Some(io) = io.filter(|io| word.operand() == 0 || io.takes_operand()) else { return };
        if listeners.is_some_and(|listeners| listeners.may_cover(port, io.direction)) {
            return;
        }
        let Some(cached_port) = hypercalls.cached_port(port) else { return };
        let Some(site_counter) = counters.call_access_counter(origin.site, io.call, port) else {
            return;
        };
        let boot = counters.boot();
        if self.boot != boot {
            *self = CallCache { boot, ..CallCache::default() };
        }
        let mask = if io.takes_operand() { IGNORE_OPERAND } else { u32::MAX };
        self.entries[index(word, &origin.key)] = Some(CachedCall {
            mask,
            tag: word.0 & mask,
            site: origin.key,
            io,
            port: cached_port,
            counter: PortCounter::new(port, io.direction, io.width),
            site_counter,
        });
    }
}
