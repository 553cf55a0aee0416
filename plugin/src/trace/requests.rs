//! What the trace says of requests from outside the guest: windows, resets, and changes of its filter.

use std::sync::Mutex;

use pvio_stats::trace::{ChunkHeader, ChunkKind, Encoder, REQUESTS, StreamEnd, WindowEvent, chunk};

use super::clocks::{Clocks, VcpuClock};
use super::lock;

/// The stream of requests, which is no vCPU's.
pub(super) struct Requests {
    state: Mutex<State>,
}

struct State {
    encoder: Encoder,
    clock: VcpuClock,
    /// Chunks that were made.
    chunks: u32,
    /// The text of the filter in force.
    filter: String,
}

impl Requests {
    /// A stream without events. `filter` is the text of the trace's first filter.
    pub fn new(filter: &str) -> Requests {
        let (encoder, clock) = (Encoder::new(), VcpuClock::default());
        let filter = filter.to_owned();
        Requests { state: Mutex::new(State { encoder, clock, chunks: 0, filter }) }
    }

    /// Adds a change of a window.
    pub fn window(&self, clocks: &Clocks, window: &WindowEvent) {
        let mut state = lock(&self.state);
        let host = state.now(clocks);
        state.encoder.window(host, window);
    }

    /// Adds a change of the filter: its new text, if it has a new one, and whether anything is traced from now on.
    pub fn filter(&self, clocks: &Clocks, text: Option<&str>, is_enabled: bool) {
        let mut state = lock(&self.state);
        let host = state.now(clocks);
        let State { encoder, filter, .. } = &mut *state;
        if let Some(text) = text {
            text.clone_into(filter);
        }
        encoder.filter(host, is_enabled.then_some(filter));
    }

    /// Takes the events so far; `None` if there are none.
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut state = lock(&self.state);
        if state.encoder.is_empty() {
            return None;
        }
        let (contents, events, start) = state.encoder.take();
        let header = ChunkHeader {
            kind: ChunkKind::Events,
            stream: REQUESTS,
            vcpu: 0,
            sequence: state.chunks,
            events,
            start,
        };
        state.chunks += 1;
        Some(chunk(&header, &contents))
    }

    /// How many chunks were taken.
    pub fn end(&self) -> StreamEnd {
        StreamEnd { stream: REQUESTS, chunks: lock(&self.state).chunks }
    }
}

impl State {
    fn now(&mut self, clocks: &Clocks) -> u64 {
        let (host, ahead) = clocks.now(&mut self.clock);
        if let Some(ahead) = ahead {
            self.encoder.set_clock(ahead);
        }
        host
    }
}
