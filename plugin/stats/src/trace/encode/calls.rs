//! The records of hypercalls and of windows.

use pvio_x86::Width;

use super::{CallState, Define, Encoder};
use crate::trace::event::{CallCode, CallEvent, WindowEvent};
use crate::trace::record::{COMPLETES, PORT, VALUE, kind, more};

impl Encoder {
    /// Adds an event of a hypercall.
    pub fn call(&mut self, host: u64, call: CallEvent, define: &impl Define) {
        self.begin(host);
        match call {
            CallEvent::Access { call, port, value, code, stack, process, completes } => {
                let local = self.call_site(code, define);
                let stack_number = stack.map(|stack| self.stack(stack, define));
                if process != self.process
                    && let Some(number) = process.and_then(|process| process.number)
                {
                    self.process_number(number, define);
                }
                let (mut first, mut flags) = (kind::CALL_ACCESS, 0);
                first |= if self.call.port == Some(port) { 0 } else { PORT };
                first |= if self.call.value == value { 0 } else { VALUE };
                flags |= if self.call.code == Some(code) { 0 } else { more::CALL_SITE };
                flags |= match stack {
                    _ if self.call.stack == stack => 0,
                    Some(_) => more::STACK,
                    None => more::NO_STACK,
                };
                flags |= if process == self.process { 0 } else { more::PROCESS };
                self.first(first, flags);
                let since_last = self.since_last(host);
                self.bytes.number(since_last);
                self.bytes.byte(call.index() as u8 | if completes { COMPLETES } else { 0 });
                if first & PORT != 0 {
                    self.bytes.number(port.0.into());
                }
                if first & VALUE != 0 {
                    let width = call.port_io().map_or(Width::Dword, |(_, width)| width);
                    self.bytes.value(value, width.into());
                }
                if flags & more::CALL_SITE != 0 {
                    self.put_call_site(code, local);
                }
                if flags & more::STACK != 0 {
                    self.bytes.number(stack_number.unwrap_or(0).into());
                }
                if flags & more::PROCESS != 0 {
                    self.put_process(process);
                }
                self.call = CallState { port: Some(port), value, code: Some(code), stack };
            }
            CallEvent::Ended { call, outcome, count, bytes, code } => {
                let local = self.call_site(code, define);
                let flags = if self.call.code == Some(code) { 0 } else { more::CALL_SITE };
                self.first(kind::CALL_ENDED, flags);
                let since_last = self.since_last(host);
                self.bytes.number(since_last);
                self.bytes.byte(call.index() as u8);
                self.bytes.byte(outcome as u8);
                self.bytes.number(count);
                self.bytes.number(bytes);
                if flags != 0 {
                    self.put_call_site(code, local);
                }
                self.call.code = Some(code);
            }
        }
    }

    /// Adds an event of a window that a request from outside the guest changed.
    pub fn window(&mut self, host: u64, window: &WindowEvent) {
        self.begin(host);
        self.window_text(host, window);
        self.bytes.byte(0);
    }

    /// Adds an event of a window that a hypercall changed.
    pub fn window_by_call(
        &mut self,
        host: u64,
        window: &WindowEvent,
        code: CallCode,
        define: &impl Define,
    ) {
        self.begin(host);
        let local = self.call_site(code, define);
        self.window_text(host, window);
        self.bytes.byte(1);
        self.put_call_site(code, local);
    }

    fn window_text(&mut self, host: u64, window: &WindowEvent) {
        match window {
            WindowEvent::Began(name) => self.text(host, kind::WINDOW_BEGAN, name),
            WindowEvent::Ended(name) => self.text(host, kind::WINDOW_ENDED, name),
            WindowEvent::Reset => self.text(host, kind::RESET, ""),
        }
    }

    /// Puts a call site, whose number is defined in this chunk.
    pub(super) fn put_call_site(&mut self, code: CallCode, local: u32) {
        self.bytes.number(local.into());
        if let CallCode::Dropped(pc) = code {
            self.bytes.number(pc);
        }
    }
}
