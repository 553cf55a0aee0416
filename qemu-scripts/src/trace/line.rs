//! An event in readable form: its numbers are resolved to names.

use std::collections::HashMap;

use pvio_x86::{AccessSize, Direction, Port, Width};

use crate::stats::trace::{
    CallCode, CallEvent, CallOutcome, Code, Definitions, End, Event, Head, InsnEvent, Owner,
    Process, REQUESTS, Stage, What, WindowEvent,
};

/// Lookup tables from the head and the end of a trace.
pub struct Names<'a> {
    head: &'a Head,
    /// `None` if the trace is cut off.
    end: Option<&'a End>,
    sites: HashMap<u32, &'a str>,
    call_sites: HashMap<u32, &'a str>,
    stacks: HashMap<(u32, u32), &'a [usize]>,
    ports: HashMap<Port, &'a str>,
}

impl<'a> Names<'a> {
    /// Builds the tables of a trace.
    pub fn new(head: &'a Head, end: Option<&'a End>) -> Names<'a> {
        let sites = end.iter().flat_map(|end| &end.sites);
        let call_sites = end.iter().flat_map(|end| &end.call_sites);
        let stacks = end.iter().flat_map(|end| &end.stacks);
        let ports = end.iter().flat_map(|end| &end.ports);
        Names {
            head,
            end,
            sites: sites.map(|names| (names.site, &*names.symbol)).collect(),
            call_sites: call_sites.map(|names| (names.site, &*names.symbol)).collect(),
            stacks: stacks.map(|stack| ((stack.stream, stack.stack), &stack.frames[..])).collect(),
            ports: ports.filter_map(|port| Some((port.port, port.name.as_deref()?))).collect(),
        }
    }

    /// Returns the name of the device at a port.
    pub fn port(&self, port: Port) -> Option<&'a str> {
        self.ports.get(&port).copied().or_else(|| self.head.device_at(port))
    }

    /// Returns true if the events' vCPU numbers are unreliable, because QEMU's callbacks named wrong vCPUs.
    pub fn mixes_vcpus(&self) -> bool {
        self.end.is_some_and(|end| end.vcpus_omitted.is_some())
    }

    /// Adds the call site of an event.
    fn at_call(&self, code: CallCode, definitions: &'a Definitions, line: Line<'a>) -> Line<'a> {
        let (pc, site) = match code {
            CallCode::Site(site) => (definitions.call_site(site).map(|site| site.pc), Some(site)),
            CallCode::Dropped(pc) => (Some(pc), None),
        };
        let symbol = site.and_then(|site| self.call_sites.get(&site)).copied();
        Line { pc, symbol, ..line }
    }

    /// Returns the callers of a call site. `stack` has those of the hypercall's instruction.
    pub(super) fn call_stack(
        &self,
        code: CallCode,
        definitions: &'a Definitions,
        stack: Vec<Caller<'a>>,
    ) -> Vec<Caller<'a>> {
        let CallCode::Site(site) = code else { return stack };
        let Some(site) = definitions.call_site(site) else { return stack };
        let return_of = |caller: &Caller<'_>| (!caller.interrupted).then_some(caller.pc);
        site.at.callers_of_site(site.pc, &stack, return_of).to_vec()
    }

    pub(super) fn stack(&self, definitions: &'a Definitions, stack: (u32, u32)) -> Vec<Caller<'a>> {
        if let Some((frames, end)) = self.stacks.get(&stack).zip(self.end) {
            let frames = frames.iter().filter_map(|&index| end.frames.get(index));
            return frames
                .map(|frame| Caller {
                    pc: frame.pc,
                    symbol: frame.symbol.as_deref(),
                    interrupted: frame.interrupted,
                })
                .collect();
        }
        let definition = definitions.stack(stack.0, stack.1);
        let frames = definition.iter().flat_map(|stack| &stack.frames);
        frames.map(|&(pc, interrupted)| Caller { pc, symbol: None, interrupted }).collect()
    }
}

/// A frame of the call chain that led to an access.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The linear address.
    pub pc: u64,
    /// The symbol and the offset.
    pub symbol: Option<&'a str>,
    /// True if an interrupt or an exception interrupted it.
    pub interrupted: bool,
}

impl Caller<'_> {
    /// Returns the symbol, or the address if there is none.
    pub fn name(&self) -> String {
        self.symbol.map_or_else(|| format!("{:#x}", self.pc), str::to_owned)
    }
}

/// An access, or the access that an attempt would have made.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The direction.
    pub direction: Direction,
    /// The size.
    pub size: AccessSize,
    /// The port; `None` if no access was made.
    pub port: Option<Port>,
    /// The value read or written; `None` if it is not known.
    pub value: Option<u32>,
}

impl Access {
    /// `in` or `out`.
    pub fn direction_name(&self) -> &'static str {
        match self.direction {
            Direction::In => "in",
            Direction::Out => "out",
        }
    }
}

/// An event in readable form.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// QEMU's index of the vCPU; `None` for a request from outside the guest.
    pub vcpu: Option<u32>,
    /// The kind of event, in one word.
    pub event: &'static str,
    /// The access; `None` if the event is not an access.
    pub access: Option<Access>,
    /// What served the access: the kind of pvio's device, `qemu`, or `hypercall` for an access by hypercall.
    pub by: Option<&'a str>,
    /// The linear address of the instruction.
    pub pc: Option<u64>,
    /// Its symbol and offset.
    pub symbol: Option<&'a str>,
    /// The process that made it.
    pub process: Option<&'a Owner>,
    /// The callers, the innermost first.
    pub stack: Vec<Caller<'a>>,
    /// More text: the name of a window, a filter, how a call ended.
    pub text: Option<String>,
}

/// Resolves the numbers of an event to names.
pub fn describe<'a>(
    event: &Event,
    (stream, vcpu): (u32, u32),
    definitions: &'a Definitions,
    names: &'a Names<'a>,
) -> Line<'a> {
    let line = Line {
        vcpu: (stream != REQUESTS).then_some(vcpu),
        event: "",
        access: None,
        by: None,
        pc: None,
        symbol: None,
        process: None,
        stack: Vec::new(),
        text: None,
    };
    let owner = |process: Option<Process>| {
        let definition = definitions.process(process?.number?)?;
        Some(&definition.owner)
    };
    match &event.what {
        What::Insn(insn) => {
            let (pc, site) = match insn.code {
                Code::Site(site) => (definitions.site(site).map(|site| site.pc), Some(site)),
                Code::Dropped(pc) => (Some(pc), None),
            };
            let (direction, size) = (insn.form.direction(), insn.form.size());
            let by = |port| names.head.device_at(port).unwrap_or("qemu");
            Line {
                event: stage_name(insn),
                access: Some(Access { direction, size, port: insn.port, value: insn.value }),
                by: insn.port.map(by),
                pc,
                symbol: site.and_then(|site| names.sites.get(&site)).copied(),
                process: owner(insn.process),
                stack: match insn.stack {
                    None => Vec::new(),
                    Some(stack) => names.stack(definitions, (stream, stack)),
                },
                ..line
            }
        }
        What::Call(CallEvent::Access { call, port, value, code, stack, process, .. }) => {
            let (direction, width) = call.port_io().unwrap_or((Direction::In, Width::Dword));
            let size = width.into();
            let access = Access { direction, size, port: Some(*port), value: Some(*value) };
            Line {
                event: access.direction_name(),
                access: Some(access),
                by: Some("hypercall"),
                process: owner(*process),
                stack: match stack {
                    None => Vec::new(),
                    Some(stack) => names.call_stack(
                        *code,
                        definitions,
                        names.stack(definitions, (stream, *stack)),
                    ),
                },
                ..names.at_call(*code, definitions, line)
            }
        }
        What::Call(CallEvent::Ended { call, outcome, count, bytes, code }) => {
            let outcome = match outcome {
                CallOutcome::Ok => "ok",
                CallOutcome::Declined => "declined",
                CallOutcome::Denied => "denied",
                CallOutcome::Error => "error",
            };
            let text = format!("{call} {outcome} count={count} bytes={bytes}");
            Line { event: "call", text: Some(text), ..names.at_call(*code, definitions, line) }
        }
        What::Window(window, _) => {
            let (event, name) = match window {
                WindowEvent::Began(name) => ("window-begin", &**name),
                WindowEvent::Ended(name) => ("window-end", &**name),
                WindowEvent::Reset => ("reset", ""),
            };
            Line { event, text: Some(name.to_owned()), ..line }
        }
        What::Filter(text) => Line { event: "filter", text: Some(text.to_string()), ..line },
        What::Off => Line { event: "trace-off", ..line },
        What::Irq { line: number, level } => {
            let event = if *level { "irq-raised" } else { "irq-lowered" };
            Line { event, text: Some(number.to_string()), ..line }
        }
    }
}

fn stage_name(insn: &InsnEvent) -> &'static str {
    let direction = match insn.form.direction() {
        Direction::In => ["in", "in?"],
        Direction::Out => ["out", "out?"],
    };
    match insn.stage {
        Stage::Executed | Stage::ResumedAndExecuted if insn.port.is_none() => "no-access",
        Stage::Executed | Stage::ResumedAndExecuted | Stage::Element { .. } => direction[0],
        Stage::Unverified | Stage::ResumedAndUnverified => direction[1],
        Stage::Faulted | Stage::ResumedAndFaulted | Stage::StringFaulted => "fault",
        Stage::Exited | Stage::ResumedAndExited | Stage::StringExited => "exit",
        Stage::Started => "start",
        Stage::Resumed => "resume",
        Stage::ExecutedBecomesUnverified => "was-unverified",
        Stage::UnverifiedBecomesExecuted => "was-executed",
        Stage::UnverifiedBecomesFault => "was-fault",
        Stage::ExecutedBecomesExit | Stage::UnverifiedBecomesExit => "was-exit",
    }
}
