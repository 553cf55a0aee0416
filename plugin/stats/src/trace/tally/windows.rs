//! The windows of a trace: differences of totals, as the plugin's.

use super::{Tally, Totals, call, call_site};
use crate::Call;
use crate::trace::chunk::REQUESTS;
use crate::trace::event::{CallCode, WindowEvent};

/// The most rows of all windows, as the plugin's `MAX_WINDOW_ROWS`.
const MAX_WINDOW_ROWS: usize = 1 << 18;

/// One window.
#[derive(Clone, Debug)]
pub(in crate::trace) struct Window {
    pub name: Box<str>,
    pub entries: u64,
    pub open: bool,
    pub rows_dropped: bool,
    pub totals: Totals,
}

impl Tally {
    /// A window's call is counted after it: the one that begins a window, or resets, is not in what follows. A request
    /// from outside the guest is no call.
    pub(super) fn window(
        &mut self,
        window: &WindowEvent,
        by: Option<CallCode>,
        (stream, vcpu): (u32, u32),
    ) {
        let now = |call: Call| {
            let mut now = self.totals.clone();
            if stream != REQUESTS {
                now.calls[call.index()][0] += 1;
                now.vcpus.entry(vcpu).or_default()[2] += 1;
                let site = by.and_then(call_site);
                now.call_sites.entry((site, call)).or_default()[call::CALLS] += 1;
            }
            now
        };
        match window {
            WindowEvent::Began(name) => {
                let now = now(Call::Begin);
                self.begin(name, &now);
            }
            WindowEvent::Ended(name) => {
                let is_it = |window: &Window| window.name == *name && window.open;
                if let Some(index) = self.windows.iter().position(is_it) {
                    self.windows[index].open = false;
                    let now = self.totals.clone();
                    self.add_to_window(index, &now, 1);
                }
            }
            WindowEvent::Reset => {
                let now = now(Call::Reset);
                let mut since = Totals::default();
                since.add(&self.totals, 1);
                since.add(&now, -1);
                // The counts that the call itself will have make this 0.
                self.totals = since;
                let windows = std::mem::take(&mut self.windows);
                let open: Vec<_> = windows.into_iter().filter(|window| window.open).collect();
                let start = Totals::default();
                for window in open {
                    self.begin(&window.name, &start);
                }
            }
        }
    }

    fn begin(&mut self, name: &str, now: &Totals) {
        let index = self.windows.iter().position(|window| *window.name == *name);
        let index = index.unwrap_or_else(|| {
            self.windows.push(Window {
                name: name.into(),
                entries: 0,
                open: false,
                rows_dropped: false,
                totals: Totals::default(),
            });
            self.windows.len() - 1
        });
        self.windows[index].open = true;
        self.windows[index].entries += 1;
        self.add_to_window(index, now, -1);
    }

    fn add_to_window(&mut self, index: usize, now: &Totals, sign: i64) {
        let window = &mut self.windows[index];
        window.totals.add(now, sign);
        if window.rows_dropped {
            window.totals.drop_large_rows();
        }
        let rows: usize = self.windows.iter().map(|window| window.totals.large_rows()).sum();
        if rows > MAX_WINDOW_ROWS {
            let window = &mut self.windows[index];
            window.rows_dropped = true;
            window.totals.drop_large_rows();
        }
    }

    /// The windows, with what was counted in the open ones so far.
    pub(super) fn finish(&mut self) {
        let now = self.totals.clone();
        for index in 0..self.windows.len() {
            if self.windows[index].open {
                self.add_to_window(index, &now, 1);
            }
        }
    }
}
