//! The control calls: exit, log lines, statistics windows, dumps.

use arrayvec::ArrayVec;
use pvio_guest::abi::{self, status};
use pvio_stats::trace::WindowEvent;

use super::arguments::Arguments;
use super::guest_log::Level;
use super::memory::read_text;
use super::port_io::Transfer;
use super::{DumpError, Refusal, VcpuCalls};
use crate::access_listeners::AccessListeners;
use crate::stats::{Call, CallOrigin, Outcome, WindowError};

impl VcpuCalls {
    /// Runs a control call. `operand` is the exit status or the log level.
    pub(super) fn control(
        &mut self,
        (call, operand): (Call, u8),
        origin: CallOrigin,
        arguments: &mut impl Arguments,
    ) -> Result<u32, Refusal> {
        self.counters.calls_by(origin.site);
        match call {
            Call::Exit => {
                // Count it first: the exit may dump the statistics and not return.
                self.recorder(origin).ended(call, Outcome::Ok, 1);
                self.hypercalls.control.exit(operand);
            }
            Call::Log => {
                let level = Level::from_number(operand).ok_or(Refusal(status::ARGUMENT))?;
                let text = self.text::<{ abi::LOG_MAX }>(arguments)?;
                let written = self.hypercalls.log.line(level, &text);
                written.map_err(|_| Refusal(status::FAILED))?;
                self.recorder(origin).moved_bytes(call, text.len() as u64);
            }
            Call::Begin | Call::End => {
                let name = self.text::<{ abi::NAME_MAX }>(arguments)?;
                if name.is_empty() {
                    return Err(Refusal(status::LENGTH));
                }
                let name = str::from_utf8(&name)
                    .ok()
                    .filter(|name| !name.chars().any(char::is_control))
                    .ok_or(Refusal(status::ARGUMENT))?;
                let statistics = &self.hypercalls.statistics;
                match call {
                    Call::Begin => self.window(&origin, WindowEvent::Began(name.into()), || {
                        statistics.begin(name, &self.counters)
                    }),
                    _ => {
                        let event = WindowEvent::Ended(name.into());
                        self.window(&origin, event, || statistics.end(name))
                    }
                }
                .map_err(|error| match error {
                    WindowError::Open | WindowError::NotOpen => Refusal(status::STATE),
                    WindowError::Full => Refusal(status::FULL),
                })?;
            }
            Call::Reset => {
                let reset = || {
                    self.hypercalls.statistics.reset(&self.counters);
                    Ok::<(), Refusal>(())
                };
                self.window(&origin, WindowEvent::Reset, reset)?;
            }
            Call::Dump => self.hypercalls.control.dump().map_err(|error| match error {
                DumpError::Full => Refusal(status::FULL),
                DumpError::Failed => Refusal(status::FAILED),
            })?,
            _ => return Err(Refusal(status::UNKNOWN)),
        }
        Ok(0)
    }

    /// Changes a window, and records the change in the trace if it succeeds.
    fn window<E>(
        &self,
        origin: &CallOrigin,
        event: WindowEvent,
        change: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        match self.listeners.as_ref().and_then(AccessListeners::trace) {
            Some(trace) => trace.window(&event, origin, change),
            None => change(),
        }
    }

    /// Reads the text argument: the count is its length in bytes.
    fn text<const MAX: usize>(
        &self,
        arguments: &mut impl Arguments,
    ) -> Result<ArrayVec<u8, MAX>, Refusal> {
        let Transfer { address, left: len } = arguments.transfer();
        if len > MAX as u64 {
            return Err(Refusal(status::LENGTH));
        }
        let memory = arguments.memory(&self.hypercalls, self.pages.as_ref())?;
        read_text(&memory, address, len)
    }
}
