//! The events of a trace as lines of text, as `perf script` prints its own.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use pvio_x86::{Direction, Port, Width};

use super::warn;
use crate::stats::access_filter::AccessFilter;
use crate::stats::trace::{
    CallEvent, CallOutcome, Code, Definitions, End, Event, InsnEvent, Owner, Process, Stage, Trace,
    What, WindowEvent,
};
use crate::status::StdoutError;

/// The first line.
const HEADER: &str = "# process [vcpu] guest-seconds host-seconds: event: port size value by address symbol\n";

/// What the end of a trace says, to look up.
struct Names<'a> {
    head: &'a crate::stats::trace::Head,
    sites: HashMap<u32, &'a str>,
    stacks: HashMap<(u32, u32), &'a [usize]>,
    end: Option<&'a End>,
}

/// Prints the events that a filter covers.
///
/// # Errors
///
/// Fails if stdout cannot be written.
pub fn print(program: &str, path: &Path, mut trace: Trace, filter: &AccessFilter) -> Result<()> {
    let head = trace.head().clone();
    let end = trace.end().cloned();
    let said = trace.problems().len();
    let names = Names::new(&head, end.as_ref());
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut result = out.write_all(HEADER.as_bytes());
    let mut line = String::new();
    if result.is_ok() {
        trace.read(|event, vcpu, definitions| {
            line.clear();
            let printer = Printer { names: &names, definitions, vcpu, filter };
            if printer.event(&mut line, event).is_some() {
                result = out.write_all(line.as_bytes());
            }
            result.is_ok()
        });
    }
    result.and_then(|()| out.flush()).map_err(StdoutError::from)?;
    warn(program, path, &trace.problems()[said..]);
    Ok(())
}

impl<'a> Names<'a> {
    fn new(head: &'a crate::stats::trace::Head, end: Option<&'a End>) -> Names<'a> {
        let sites = end.iter().flat_map(|end| &end.sites);
        let stacks = end.iter().flat_map(|end| &end.stacks);
        Names {
            head,
            sites: sites.map(|names| (names.site, &*names.symbol)).collect(),
            stacks: stacks
                .map(|stack| ((stack.stream, stack.stack), &stack.frames[..]))
                .collect(),
            end,
        }
    }
}

/// Prints one event.
struct Printer<'a> {
    names: &'a Names<'a>,
    definitions: &'a Definitions,
    vcpu: (u32, u32),
    filter: &'a AccessFilter,
}

/// One access, or an attempt at one.
struct Access<'a> {
    width: Width,
    port: Option<Port>,
    value: Option<u32>,
    by: &'a str,
    pc: Option<u64>,
    symbol: Option<&'a str>,
}

impl Printer<'_> {
    /// Writes an event; `None` if the filter leaves it out.
    fn event(&self, line: &mut String, event: &Event) -> Option<()> {
        match &event.what {
            What::Insn(insn) => self.insn(line, event, insn),
            What::Call(call) => self.call(line, event, *call),
            What::Window(window) => {
                let (what, name) = match window {
                    WindowEvent::Began(name) => ("window-begin", &**name),
                    WindowEvent::Ended(name) => ("window-end", &**name),
                    WindowEvent::Reset => ("reset", ""),
                };
                self.other(line, event, what, name)
            }
            What::Filter(text) => self.other(line, event, "filter", text),
        }
    }

    fn other(&self, line: &mut String, event: &Event, what: &str, text: &str) -> Option<()> {
        self.filter.covers_all().then_some(())?;
        self.start(line, event, None);
        let _ = writeln!(line, "{what}: {}", Harmless(text));
        Some(())
    }

    /// Writes who, where and when.
    fn start(&self, line: &mut String, event: &Event, owner: Option<&Owner>) {
        let start = line.len();
        match owner {
            Some(owner) => drop(write!(line, "{}", Harmless(&owner.to_string()))),
            None => line.push('-'),
        }
        let width = line.len() - start;
        line.extend(std::iter::repeat_n(' ', 16usize.saturating_sub(width)));
        let (_, vcpu) = self.vcpu;
        match self.names.end.is_some_and(|end| end.vcpus_omitted.is_some()) {
            true => line.push_str(" [---]"),
            false => drop(write!(line, " [{vcpu:03}]")),
        }
        for time in [event.guest, Some(event.host)] {
            match time {
                None => line.push_str("               -"),
                Some(time) => {
                    let (seconds, nanos) = (time / 1_000_000_000, time % 1_000_000_000);
                    let _ = write!(line, " {seconds:>5}.{nanos:09}");
                }
            }
        }
        line.push_str(": ");
    }

    fn owner(&self, process: Option<Process>) -> Option<&Owner> {
        let definition = self.definitions.process(process?.number?)?;
        Some(&definition.owner)
    }

    fn insn(&self, line: &mut String, event: &Event, insn: &InsnEvent) -> Option<()> {
        let (pc, site) = match insn.code {
            Code::Site(site) => (self.definitions.site(site).map(|site| site.pc), Some(site)),
            Code::Dropped(pc) => (Some(pc), None),
        };
        let symbol = site.and_then(|site| self.names.sites.get(&site)).copied();
        let owner = self.owner(insn.process);
        let direction = insn.form.direction();
        let by = match insn.port.and_then(|port| self.names.head.device_at(port)) {
            Some(kind) => kind,
            None => "qemu",
        };
        self.covers(direction, insn.port, insn.value, (pc, symbol), owner)?;
        self.start(line, event, owner);
        let what = match insn.stage {
            Stage::Executed | Stage::ResumedAndExecuted if insn.port.is_none() => "no-access",
            Stage::Executed | Stage::ResumedAndExecuted | Stage::Element { .. } => direction_name(direction),
            Stage::Unverified | Stage::ResumedAndUnverified => match direction {
                Direction::In => "in?",
                Direction::Out => "out?",
            },
            Stage::Faulted | Stage::ResumedAndFaulted | Stage::StringFaulted => "fault",
            Stage::Exited | Stage::ResumedAndExited | Stage::StringExited => "exit",
            Stage::Started => "start",
            Stage::Resumed => "resume",
            Stage::ExecutedBecomesUnverified => "was-unverified",
            Stage::UnverifiedBecomesExecuted => "was-executed",
            Stage::UnverifiedBecomesFault => "was-fault",
            Stage::ExecutedBecomesExit | Stage::UnverifiedBecomesExit => "was-exit",
        };
        let by = if insn.port.is_some() { by } else { "-" };
        let (port, value, width) = (insn.port, insn.value, insn.form.width());
        put(line, what, &Access { width, port, value, by, pc, symbol });
        if let Some(stack) = insn.stack {
            self.stack(line, stack);
        }
        Some(())
    }

    fn call(&self, line: &mut String, event: &Event, call: CallEvent) -> Option<()> {
        match call {
            CallEvent::Access { call, port, value, pc, process, .. } => {
                let (direction, width) = call.port_io()?;
                let owner = self.owner(process);
                self.covers(direction, Some(port), Some(value), (Some(pc), None), owner)?;
                self.start(line, event, owner);
                let (port, value, pc) = (Some(port), Some(value), Some(pc));
                let by = "hypercall";
                let access = Access { width, port, value, by, pc, symbol: None };
                put(line, direction_name(direction), &access);
            }
            CallEvent::Ended { call, outcome, count, bytes } => {
                self.filter.covers_all().then_some(())?;
                self.start(line, event, None);
                let outcome = match outcome {
                    CallOutcome::Ok => "ok",
                    CallOutcome::Declined => "declined",
                    CallOutcome::Denied => "denied",
                    CallOutcome::Error => "error",
                };
                let _ = writeln!(line, "call: {call} {outcome} count={count} bytes={bytes}");
            }
        }
        Some(())
    }

    /// `None` if the filter leaves the access out.
    fn covers(
        &self,
        direction: Direction,
        port: Option<Port>,
        value: Option<u32>,
        (pc, symbol): (Option<u64>, Option<&str>),
        owner: Option<&Owner>,
    ) -> Option<()> {
        if self.filter.covers_all() {
            return Some(());
        }
        let covered = self.filter.covers_port(port?, direction)
            && self.filter.covers_value(value)
            && self.filter.covers_code(pc?, || symbol)
            && self.filter.covers_process(owner);
        covered.then_some(())
    }

    /// Writes the callers, the innermost first.
    fn stack(&self, line: &mut String, stack: u32) {
        let (stream, _) = self.vcpu;
        match (self.names.stacks.get(&(stream, stack)), self.names.end) {
            (Some(frames), Some(end)) => {
                for frame in frames.iter().filter_map(|&index| end.frames.get(index)) {
                    put_frame(line, frame.pc, frame.symbol.as_deref(), frame.interrupted);
                }
            }
            _ => {
                let definition = self.definitions.stack(stream, stack);
                for &(pc, interrupted) in definition.iter().flat_map(|stack| &stack.frames) {
                    put_frame(line, pc, None, interrupted);
                }
            }
        }
    }
}

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
    }
}

fn put(line: &mut String, what: &str, access: &Access<'_>) {
    let _ = write!(line, "{what}: ");
    match access.port {
        Some(port) => drop(write!(line, "{port}")),
        None => line.push('-'),
    }
    let _ = write!(line, " {} ", access.width.bytes());
    match access.value {
        Some(value) => {
            let digits = 2 + 2 * usize::from(access.width.bytes());
            let _ = write!(line, "{value:#0digits$x}");
        }
        None => line.push('-'),
    }
    let _ = write!(line, " {}", Harmless(access.by));
    match access.pc {
        Some(pc) => drop(write!(line, " {pc:#x}")),
        None => line.push_str(" -"),
    }
    let _ = writeln!(line, " {}", Harmless(access.symbol.unwrap_or("?")));
}

fn put_frame(line: &mut String, pc: u64, symbol: Option<&str>, interrupted: bool) {
    let mark = if interrupted { " (interrupted)" } else { "" };
    let _ = writeln!(line, "\t{pc:#18x} {}{mark}", Harmless(symbol.unwrap_or("?")));
}

/// Text from a file, with what a terminal could obey escaped.
struct Harmless<'a>(&'a str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_harmful = |c: char| c.is_control() || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if !self.0.contains(is_harmful) {
            return f.write_str(self.0);
        }
        for c in self.0.chars() {
            match is_harmful(c) {
                true => write!(f, "{}", c.escape_default())?,
                false => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
