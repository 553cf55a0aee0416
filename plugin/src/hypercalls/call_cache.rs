//! Calls of one element that a vCPU has made of late, with all that follows from their words: a driver makes
//! the same few again and again.
//!
//! Only those are here that nobody logs.

use pvio_guest::abi::{CALL_SHIFT, CallWord};

use super::Hypercalls;
use super::port_io::{Data, IoCall};
use crate::access_log::VcpuLog;
use crate::bus::CachedPort;
use crate::stats::{PortCounter, VcpuCounters};
use crate::x86::Port;

/// How many there may be: each has one place, which it shares with others.
const PLACES: usize = 16;

/// All of a call word but what `outb` writes.
const BUT_OPERAND: u32 = !0x00ff_0000;

#[derive(Default)]
pub(super) struct CallCache([Option<CachedCall>; PLACES]);

struct CachedCall {
    /// The part of the call word that tells the call from others, and what it is.
    mask: u32,
    word: u32,
    io: IoCall,
    port: CachedPort,
    counter: PortCounter,
}

fn place(word: CallWord) -> usize {
    (word.0 as usize ^ (word.0 >> CALL_SHIFT) as usize) % PLACES
}

impl CallCache {
    /// Carries out a call, if it is one of these; what comes back is the answer's data.
    #[inline]
    pub fn carry_out(
        &self,
        word: CallWord,
        data: &mut impl Data,
        counters: &VcpuCounters,
    ) -> Option<u32> {
        let cached = self.0[place(word)].as_ref()?;
        if word.0 & cached.mask != cached.word {
            return None;
        }
        let CachedCall { io, port, counter, .. } = cached;
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

    /// Has a call among these from now on, if it is one that may be.
    pub fn remember(&mut self, word: CallWord, hypercalls: &Hypercalls, log: Option<&VcpuLog>) {
        let port = Port(word.port());
        let io = word.call().and_then(IoCall::scalar);
        let Some(io) = io.filter(|io| word.operand() == 0 || io.takes_operand()) else { return };
        if log.is_some_and(|log| log.covers(port)) {
            return;
        }
        if let Some(known) = hypercalls.cached_port(port) {
            let counter = PortCounter::new(port, io.direction, io.width);
            let mask = if io.takes_operand() { BUT_OPERAND } else { u32::MAX };
            self.0[place(word)] =
                Some(CachedCall { mask, word: word.0 & mask, io, port: known, counter });
        }
    }
}
