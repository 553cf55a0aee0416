//! Who made the accesses in a trace: call chains and processes, by code, port and direction.

use std::collections::HashMap;

use pvio_x86::{Direction, Port};

use super::line::{Caller, Names};
use crate::check::{CodeKey, TracedOrigin, TracedOrigins};
use crate::stats::trace::{
    CallCode, CallEvent, Code, Definitions, InsnEvent, Process, Stage, Trace, What,
};
use crate::stats::{ChainEnd, FrameRow};

/// The numbers in an event that decide about the origin of its access.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    code: Number,
    port: Port,
    direction: Direction,
    /// The stream, and its stack.
    stack: (u32, Option<u32>),
    process: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Number {
    Site(u32),
    CallSite(u32),
}

/// Finds the origins of all accesses in a trace. Code without a row has none.
pub(crate) fn origins(trace: &mut Trace) -> TracedOrigins {
    let (head, end) = (trace.head().clone(), trace.end().cloned());
    let names = Names::new(&head, end.as_ref());
    let mut counts: HashMap<Key, i64> = HashMap::new();
    let definitions = trace.read(|event, (stream, _), _| {
        let found = match &event.what {
            What::Insn(insn) => of_insn(insn, stream),
            What::Call(call) => of_call(call, stream).map(|key| (key, 1)),
            _ => None,
        };
        if let Some((key, by)) = found {
            *counts.entry(key).or_default() += by;
        }
        true
    });
    let ends = end.iter().flat_map(|end| &end.stacks);
    let ends: HashMap<_, _> = ends.map(|stack| ((stack.stream, stack.stack), stack.end)).collect();
    let mut all = TracedOrigins::new();
    for (key, count) in counts {
        let Some(count) = u64::try_from(count).ok().filter(|&count| count > 0) else { continue };
        let Some(code) = code_key(key.code, &definitions) else { continue };
        let origin: &mut TracedOrigin = all.entry((code, key.port, key.direction)).or_default();
        if head.callers {
            let chain = chain(key, &names, &definitions, &ends);
            *origin.chains.entry(chain).or_default() += count;
        }
        let process = key.process.and_then(|process| definitions.process(process));
        if let Some(process) = process {
            *origin.processes.entry(process.owner.to_string()).or_default() += count;
        }
    }
    all
}

/// The access of an instruction's event, and how many it adds; one that was not made after all adds -1.
fn of_insn(insn: &InsnEvent, stream: u32) -> Option<(Key, i64)> {
    let by = match insn.stage {
        // An access that may have faulted has an origin, too.
        Stage::Executed
        | Stage::ResumedAndExecuted
        | Stage::Element { .. }
        | Stage::Unverified
        | Stage::ResumedAndUnverified => 1,
        Stage::ExecutedBecomesExit
        | Stage::UnverifiedBecomesFault
        | Stage::UnverifiedBecomesExit => -1,
        _ => return None,
    };
    let Code::Site(site) = insn.code else { return None };
    let key = Key {
        code: Number::Site(site),
        port: insn.port?,
        direction: insn.form.direction(),
        stack: (stream, insn.stack),
        process: number(insn.process),
    };
    Some((key, by))
}

fn of_call(call: &CallEvent, stream: u32) -> Option<Key> {
    let CallEvent::Access { call, port, code: CallCode::Site(site), stack, process, .. } = *call
    else {
        return None;
    };
    let (direction, _) = call.port_io()?;
    let (stack, process) = ((stream, stack), number(process));
    Some(Key { code: Number::CallSite(site), port, direction, stack, process })
}

fn number(process: Option<Process>) -> Option<u32> {
    process?.number
}

/// The identity of code, as the rows of a dump have it.
fn code_key(code: Number, definitions: &Definitions) -> Option<CodeKey> {
    match code {
        Number::Site(site) => {
            let site = definitions.site(site)?;
            let bytes = site.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(match &site.place {
                None => CodeKey::Site(format!("{:#x}", site.pc), site.mode, bytes),
                Some(place) => {
                    let offset = format!("{:#x}", place.offset);
                    CodeKey::InFile(place.path.clone(), offset, site.mode, bytes)
                }
            })
        }
        Number::CallSite(site) => {
            let site = definitions.call_site(site)?;
            Some(CodeKey::CallSite(format!("{:#x}", site.pc), site.at))
        }
    }
}

/// The call chain of an access, and its end.
fn chain(
    key: Key,
    names: &Names<'_>,
    definitions: &Definitions,
    ends: &HashMap<(u32, u32), ChainEnd>,
) -> (Vec<FrameRow>, ChainEnd) {
    let (stream, Some(stack)) = key.stack else { return (Vec::new(), ChainEnd::Dropped) };
    let end = ends.get(&(stream, stack)).copied();
    let end = end.or_else(|| definitions.stack(stream, stack)?.end).unwrap_or(ChainEnd::Unknown);
    let frames = names.stack(definitions, (stream, stack));
    let frames = match key.code {
        Number::Site(_) => frames,
        Number::CallSite(site) => names.call_stack(CallCode::Site(site), definitions, frames),
    };
    (frames.iter().map(frame_row).collect(), end)
}

fn frame_row(caller: &Caller<'_>) -> FrameRow {
    FrameRow {
        pc: format!("{:#x}", caller.pc),
        symbol: caller.symbol.map(str::to_owned),
        interrupted: caller.interrupted,
    }
}
