//! A sequence of events with its own numbering of chunks: one vCPU's, or that of requests from outside the guest.

use pvio_stats::trace::{ChunkHeader, ChunkKind, Encoder, StreamEnd, chunk};

use super::clocks::{Clocks, VcpuClock};

/// The events that are not yet in a chunk.
pub(super) struct Stream {
    number: u32,
    vcpu: u32,
    /// Encodes the events of the next chunk.
    pub encoder: Encoder,
    clock: VcpuClock,
    /// The number of chunks so far.
    chunks: u32,
}

impl Stream {
    /// Creates a stream without events. `vcpu` is the index of the vCPU, 0 for requests.
    pub fn new(number: u32, vcpu: u32) -> Stream {
        Stream { number, vcpu, encoder: Encoder::new(), clock: VcpuClock::default(), chunks: 0 }
    }

    /// Returns the host's time of an event, and notes by how much the guest's clock is ahead.
    #[inline]
    pub fn now(&mut self, clocks: &Clocks) -> u64 {
        let (host, ahead) = clocks.now(&mut self.clock);
        if let Some(ahead) = ahead {
            self.encoder.set_clock(ahead);
        }
        host
    }

    /// Ends the chunk. Returns `None` if it has no events.
    pub fn seal(&mut self) -> Option<Vec<u8>> {
        if self.encoder.is_empty() {
            return None;
        }
        let (contents, events, start) = self.encoder.take();
        let header = ChunkHeader {
            kind: ChunkKind::Events,
            stream: self.number,
            vcpu: self.vcpu,
            sequence: self.chunks,
            events,
            start,
        };
        self.chunks += 1;
        Some(chunk(&header, &contents))
    }

    /// Returns the number of chunks so far, as the end of the trace records it.
    pub fn end(&self) -> StreamEnd {
        StreamEnd { stream: self.number, chunks: self.chunks }
    }
}
