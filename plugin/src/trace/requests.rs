//! Traces what no vCPU does: requests from outside the guest (windows, resets, changes of the filter), and changes of
//! interrupt lines.

use std::sync::Mutex;

use pvio_stats::trace::{REQUESTS, StreamEnd, WindowEvent};

use super::clocks::Clocks;
use super::lock;
use super::stream::Stream;

/// The stream of requests, which is no vCPU's.
pub(super) struct Requests {
    state: Mutex<State>,
}

struct State {
    stream: Stream,
    /// The text of the filter in force.
    filter: String,
    /// The levels of the interrupt lines, a bit for each.
    irqs: u16,
}

impl Requests {
    /// A stream without events. `filter` is the text of the trace's first filter.
    pub fn new(filter: &str) -> Requests {
        let (stream, filter) = (Stream::new(REQUESTS, 0), filter.to_owned());
        let state = State { stream, filter, irqs: 0 };
        Requests { state: Mutex::new(state) }
    }

    /// Adds a change of a window.
    pub fn window(&self, clocks: &Clocks, window: &WindowEvent) {
        let stream = &mut lock(&self.state).stream;
        let host = stream.now(clocks);
        stream.encoder.window(host, window);
    }

    /// Adds a change of the filter: its new text, if it has a new one, and whether anything is traced from now on.
    pub fn filter(&self, clocks: &Clocks, text: Option<&str>, is_enabled: bool) {
        let mut state = lock(&self.state);
        let State { stream, filter, .. } = &mut *state;
        let host = stream.now(clocks);
        if let Some(text) = text {
            text.clone_into(filter);
        }
        stream.encoder.filter(host, is_enabled.then_some(filter));
    }

    /// Adds the level of an interrupt line, 0 to 15, if it has changed and `is_enabled`. Returns the number of bytes that
    /// wait.
    pub fn irq(&self, clocks: &Clocks, line: u8, level: bool, is_enabled: bool) -> usize {
        let mut state = lock(&self.state);
        let State { stream, irqs, .. } = &mut *state;
        let bit = 1u16 << line;
        if (*irqs & bit != 0) != level {
            *irqs ^= bit;
            if is_enabled {
                let host = stream.now(clocks);
                stream.encoder.irq(host, line, level);
            }
        }
        stream.encoder.len()
    }

    /// Takes the events so far; `None` if there are none.
    pub fn take(&self) -> Option<Vec<u8>> {
        lock(&self.state).stream.seal()
    }

    /// Returns the number of chunks that were taken.
    pub fn end(&self) -> StreamEnd {
        lock(&self.state).stream.end()
    }
}
