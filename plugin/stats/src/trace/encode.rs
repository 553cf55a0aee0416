//! Encodes the events of one vCPU into the contents of chunks.

mod calls;
mod definitions;

use pvio_x86::{Mode, Port};

use super::bytes::Bytes;
use super::event::{
    CallCode, CallOutcome, CallSiteDefinition, Code, Event, InsnEvent, Process, ProcessDefinition,
    SiteDefinition, StackDefinition, What,
};
use super::record::{MORE, PORT, VALUE, kind, more};
use crate::ChainEnd;

/// Provides the definitions of the numbers in events, when a chunk uses them for the first time.
pub trait Define {
    /// Returns the definition of a site's number.
    fn site(&self, site: u32) -> SiteDefinition;
    /// Returns the definition of a call site's number.
    fn call_site(&self, site: u32) -> CallSiteDefinition;
    /// Returns the definition of a vCPU's number of a stack.
    fn stack(&self, stack: u32) -> StackDefinition;
    /// Returns the definition of a process's number.
    fn process(&self, process: u32) -> ProcessDefinition;
}

/// Encodes the events of one vCPU.
///
/// Definitions are valid in one chunk only: all tables hold the number of the chunk.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Bytes,
    events: u32,
    /// The time of the first event, and of the last.
    start: u64,
    last: u64,
    /// How far the guest's clock is ahead of the host's, in nanoseconds.
    clock: Option<i64>,
    /// True if the chunk has a record of it.
    clock_is_said: bool,
    /// The number of the chunk, from 1.
    chunk: u32,
    /// By number.
    sites: Vec<SiteState>,
    call_sites: Vec<Local>,
    stacks: Vec<Local>,
    processes: Vec<Local>,
    /// The numbers of sites, stacks, processes and call sites that this chunk has defined.
    defined: [u32; 4],
    /// The state of instructions without a site.
    dropped: SiteState,
    process: Option<Process>,
    call: CallState,
}

/// A number in a chunk.
#[derive(Clone, Copy, Debug, Default)]
struct Local {
    chunk: u32,
    number: u32,
}

/// The fields of a site's last record.
#[derive(Clone, Copy, Debug, Default)]
struct SiteState {
    local: Local,
    port: Option<Port>,
    value: u32,
    stack: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct CallState {
    port: Option<Port>,
    value: u32,
    code: Option<CallCode>,
    stack: Option<u32>,
}

impl Encoder {
    /// Creates an encoder without events.
    pub fn new() -> Encoder {
        Encoder { chunk: 1, ..Encoder::default() }
    }

    /// Bytes of the chunk so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.0.len()
    }

    /// Returns true if the chunk has no events.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Ends the chunk. Returns its contents, the number of its events, and the time of the first.
    pub fn take(&mut self) -> (Vec<u8>, u32, u64) {
        let room = Vec::with_capacity(self.bytes.0.len());
        let bytes = std::mem::replace(&mut self.bytes.0, room);
        let taken = (bytes, self.events, self.start);
        self.events = 0;
        self.clock_is_said = false;
        self.chunk += 1;
        self.defined = [0; 4];
        self.dropped = SiteState::default();
        self.process = None;
        self.call = CallState::default();
        taken
    }

    /// Sets how far the guest's clock is ahead of the host's, in nanoseconds, from now on.
    pub fn set_clock(&mut self, ahead: i64) {
        if self.clock != Some(ahead) {
            self.clock = Some(ahead);
            self.clock_is_said = false;
        }
    }

    /// Adds an event. `define` provides the definitions of the numbers in it.
    #[inline]
    pub fn event(&mut self, event: &Event, define: &impl Define) {
        match &event.what {
            What::Insn(insn) => self.insn(event.host, insn, define),
            What::Call(call) => self.call(event.host, *call, define),
            What::Window(window, None) => self.window(event.host, window),
            What::Window(window, Some(code)) => {
                self.window_by_call(event.host, window, *code, define);
            }
            What::Filter(text) => self.filter(event.host, Some(text)),
            What::Off => self.filter(event.host, None),
            What::Irq { line, level } => self.irq(event.host, *line, *level),
        }
    }

    /// Adds an event of an instruction.
    #[inline]
    pub fn insn(&mut self, host: u64, insn: &InsnEvent, define: &impl Define) {
        self.begin(host);
        let InsnEvent { stage, code, form, port, value, stack, process } = *insn;
        let local = match code {
            Code::Site(site) => self.site(site, define),
            Code::Dropped(_) => 0,
        };
        let (kind, mut flags) = stage.kind();
        let mut first = kind;
        let mut stack_number = 0;
        let (mut has_stack, mut has_process) = (false, false);
        if !stage.is_bare() {
            if let Some(stack) = stack {
                stack_number = self.stack(stack, define);
            }
            let has_row = process.and_then(|process| process.number);
            has_process = process != self.process;
            if has_process && let Some(number) = has_row {
                self.process_number(number, define);
            }
            let state = match code {
                Code::Site(site) => &mut self.sites[site as usize],
                Code::Dropped(_) => &mut self.dropped,
            };
            match port {
                None => flags |= more::NO_PORT,
                Some(_) if state.port == port => {}
                Some(_) => {
                    state.port = port;
                    first |= PORT;
                }
            }
            match value {
                None => flags |= more::NO_VALUE,
                Some(value) if state.value == value => {}
                Some(value) => {
                    state.value = value;
                    first |= VALUE;
                }
            }
            if state.stack != stack {
                state.stack = stack;
                has_stack = stack.is_some();
                flags |= if has_stack { more::STACK } else { more::NO_STACK };
            }
            if has_process {
                flags |= more::PROCESS;
            }
        }
        self.first(first, flags);
        let since_last = self.since_last(host);
        self.bytes.number(since_last);
        self.bytes.number(local.into());
        if let Code::Dropped(pc) = code {
            self.bytes.byte(form.index() as u8);
            self.bytes.number(pc);
        }
        if first & PORT != 0 {
            self.bytes.number(port.map_or(0, |port| port.0).into());
        }
        if first & VALUE != 0 {
            self.bytes.value(value.unwrap_or(0), form.size());
        }
        if has_stack {
            self.bytes.number(stack_number.into());
        }
        if has_process {
            self.put_process(process);
        }
    }

    /// Puts the first byte of a record, and the byte of flags if there are any.
    #[inline]
    fn first(&mut self, first: u8, flags: u8) {
        if flags == 0 {
            self.bytes.byte(first);
        } else {
            self.bytes.byte(first | MORE);
            self.bytes.byte(flags);
        }
    }

    /// Adds the filter that holds from here on; `None` if the trace is off.
    pub fn filter(&mut self, host: u64, filter: Option<&str>) {
        self.begin(host);
        match filter {
            Some(text) => self.text(host, kind::FILTER, text),
            None => self.text(host, kind::OFF, ""),
        }
    }

    /// Adds a change of an interrupt line.
    pub fn irq(&mut self, host: u64, line: u8, level: bool) {
        self.begin(host);
        self.bytes.byte(kind::IRQ);
        let since_last = self.since_last(host);
        self.bytes.number(since_last);
        self.bytes.byte(line << 1 | u8::from(level));
    }

    fn text(&mut self, host: u64, kind: u8, text: &str) {
        self.bytes.byte(kind);
        let since_last = self.since_last(host);
        self.bytes.number(since_last);
        self.bytes.number(text.len() as u64);
        self.bytes.extend(text.as_bytes());
    }

    /// Prepares for an event: the first of a chunk gives the chunk its time.
    #[inline]
    fn begin(&mut self, host: u64) {
        if self.events == 0 {
            self.start = host;
            self.last = host;
        }
        if !self.clock_is_said {
            self.say_clock();
        }
        self.events += 1;
    }

    #[cold]
    fn say_clock(&mut self) {
        self.clock_is_said = true;
        if let Some(ahead) = self.clock {
            self.bytes.byte(kind::CLOCK);
            self.bytes.signed(ahead);
        }
    }

    #[inline]
    fn since_last(&mut self, host: u64) -> u64 {
        let since = host.saturating_sub(self.last);
        self.last = self.last.max(host);
        since
    }

    /// Encodes a process, whose number is defined in this chunk.
    fn put_process(&mut self, process: Option<Process>) {
        self.process = process;
        self.bytes.number(match process {
            None => 0,
            Some(Process { number, is_user }) => {
                let local = number.map_or(0, |number| self.processes[number as usize].number);
                1 + (u64::from(local) << 1 | u64::from(is_user))
            }
        });
    }
}

/// The end of a chain with a number.
pub(super) fn end_of_number(number: u8) -> Option<ChainEnd> {
    let ends =
        [ChainEnd::User, ChainEnd::Bottom, ChainEnd::Unknown, ChainEnd::Depth, ChainEnd::Dropped];
    ends.get(usize::from(number)).copied()
}

/// The mode with a number, 0 if it is not known.
pub(super) fn mode_of_number(number: u8) -> Option<Option<Mode>> {
    match number {
        0 => Some(None),
        number => Mode::ALL.get(usize::from(number) - 1).copied().map(Some),
    }
}

/// The outcome with a number.
pub(super) fn outcome_of_number(number: u8) -> Option<CallOutcome> {
    CallOutcome::ALL.get(usize::from(number)).copied()
}
