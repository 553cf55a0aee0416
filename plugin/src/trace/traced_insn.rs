//! The terms of a vCPU's events: instructions, changes of what is known of them, calls and processes.

use pvio_stats::trace::{self as format, CallCode, InsnEvent, Process, Stage};

use crate::access_log::{Code, CodeKind};
use crate::stats::{CallOrigin, CallSiteId, CallerId, ProcessUse, SiteId};
use crate::x86::{InsnForm, Port};

/// A port instruction that runs.
#[derive(Clone, Copy, Debug)]
pub struct TracedInsn {
    /// Its form.
    pub form: InsnForm,
    /// Its site, if it has a row.
    pub site: Option<SiteId>,
    /// Its linear address.
    pub pc: u64,
    /// The process that runs it, if processes are counted.
    pub process: Option<ProcessUse>,
}

/// A change of what is known of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// An executed attempt is unverified.
    ExecutedToUnverified,
    /// An unverified attempt was executed.
    UnverifiedToExecuted,
    /// An unverified attempt has faulted.
    UnverifiedToFault,
    /// An executed attempt was intercepted.
    ExecutedToExit,
    /// An unverified attempt was intercepted.
    UnverifiedToExit,
}

impl Change {
    /// The stage of a pending attempt after the change; `None` if it does not fit.
    pub(super) fn of(self, stage: Stage) -> Option<Stage> {
        use Stage::{
            Executed, Exited, Faulted, ResumedAndExecuted, ResumedAndExited, ResumedAndFaulted,
            ResumedAndUnverified, Unverified,
        };
        Some(match (self, stage) {
            (Change::ExecutedToUnverified, Executed) => Unverified,
            (Change::ExecutedToUnverified, ResumedAndExecuted) => ResumedAndUnverified,
            (Change::UnverifiedToExecuted, Unverified) => Executed,
            (Change::UnverifiedToExecuted, ResumedAndUnverified) => ResumedAndExecuted,
            (Change::UnverifiedToFault, Unverified) => Faulted,
            (Change::UnverifiedToFault, ResumedAndUnverified) => ResumedAndFaulted,
            (Change::ExecutedToExit, Executed) | (Change::UnverifiedToExit, Unverified) => Exited,
            (Change::ExecutedToExit, ResumedAndExecuted)
            | (Change::UnverifiedToExit, ResumedAndUnverified) => ResumedAndExited,
            _ => return None,
        })
    }

    /// Returns the stage that records the change of an attempt whose event is already encoded.
    pub(super) fn stage(self) -> Stage {
        match self {
            Change::ExecutedToUnverified => Stage::ExecutedBecomesUnverified,
            Change::UnverifiedToExecuted => Stage::UnverifiedBecomesExecuted,
            Change::UnverifiedToFault => Stage::UnverifiedBecomesFault,
            Change::ExecutedToExit => Stage::ExecutedBecomesExit,
            Change::UnverifiedToExit => Stage::UnverifiedBecomesExit,
        }
    }
}

/// The code of an instruction, for filters.
pub(super) fn code(insn: &TracedInsn) -> Code {
    Code { pc: insn.pc, kind: insn.site.map_or(CodeKind::Dropped, CodeKind::Site) }
}

/// A process, as events name it.
pub(super) fn traced_process(process: Option<ProcessUse>) -> Option<Process> {
    process.map(|process| Process { number: process.number(), is_user: process.is_user() })
}

/// The site of a call, as events name it.
pub(super) fn call_code(origin: &CallOrigin) -> CallCode {
    match origin.site.row() {
        Some(CallSiteId(site)) => CallCode::Site(site),
        None => CallCode::Dropped(origin.key.pc),
    }
}

/// The event of an attempt. `value` may have more bits than the access.
pub(super) fn event(
    insn: &TracedInsn,
    stage: Stage,
    port: Option<Port>,
    caller: CallerId,
    value: Option<u32>,
) -> InsnEvent {
    let code = match insn.site {
        Some(SiteId(site)) => format::Code::Site(site),
        None => format::Code::Dropped(insn.pc),
    };
    let process = traced_process(insn.process);
    let value = value.and_then(|value| insn.form.size().low_bytes(value));
    InsnEvent { stage, code, form: insn.form, port, value, stack: caller.number(), process }
}
