//! The layout of an event in a chunk.
//!
//! A record begins with a byte: its kind, and which fields follow. A missing field has the value that it had in the last
//! record of the same site in the chunk (of the last call, for calls), so that a typical access takes 5 to 8 bytes.
//!
//! | record | fields |
//! | --- | --- |
//! | of an instruction | \[more\], time, site, \[port\], \[value\], \[stack\], \[process\] |
//! | of a call's access | \[more\], time, call, \[port\], \[value\], \[call site\], \[stack\], \[process\] |
//! | others | in `encode` |
//!
//! Numbers are of variable length (LEB128; signed ones are zigzag); values have the size of the access, little-endian.
//! Times are nanoseconds since the last record. Sites, call sites, stacks and processes are numbered in each chunk, from 1, by
//! the definitions in it.

use pvio_x86::{AccessSize, Width};

use super::event::Stage;

/// Bits of the first byte that hold the kind.
pub(super) const KIND: u8 = 0x1f;
/// The port follows.
pub(super) const PORT: u8 = 0x20;
/// A byte of [`more`] flags follows.
pub(super) const MORE: u8 = 0x40;
/// The value follows.
pub(super) const VALUE: u8 = 0x80;

/// Flags of records that are not typical.
pub(super) mod more {
    /// The stack follows.
    pub const STACK: u8 = 0x01;
    /// The process follows.
    pub const PROCESS: u8 = 0x02;
    /// The value is not known.
    pub const NO_VALUE: u8 = 0x04;
    /// An element starts its attempt.
    pub const STARTS: u8 = 0x08;
    /// An element ends its attempt.
    pub const ENDS: u8 = 0x10;
    /// There was no access.
    pub const NO_PORT: u8 = 0x20;
    /// There is no stack.
    pub const NO_STACK: u8 = 0x40;
    /// The call site follows: its number, or 0 and the address.
    pub const CALL_SITE: u8 = 0x80;
}

/// Kinds of records beside those of instructions.
pub(super) mod kind {
    /// An access by hypercall.
    pub const CALL_ACCESS: u8 = 18;
    /// Hypercalls have ended.
    pub const CALL_ENDED: u8 = 19;
    /// A window has begun.
    pub const WINDOW_BEGAN: u8 = 20;
    /// A window has ended.
    pub const WINDOW_ENDED: u8 = 21;
    /// The statistics start anew.
    pub const RESET: u8 = 22;
    /// The filter.
    pub const FILTER: u8 = 23;
    /// The distance of the guest's clock from the host's.
    pub const CLOCK: u8 = 24;
    /// A site.
    pub const SITE: u8 = 25;
    /// A stack.
    pub const STACK: u8 = 26;
    /// A process.
    pub const PROCESS: u8 = 27;
    /// The trace is off.
    pub const OFF: u8 = 28;
    /// A call site.
    pub const CALL_SITE: u8 = 29;
    /// The level of an interrupt line.
    pub const IRQ: u8 = 30;
}

/// The number of bytes of a value in a record. Values of an unknown size have all bytes of EAX.
#[inline]
pub(super) fn len_of_value(size: AccessSize) -> usize {
    usize::from(size.bytes().unwrap_or(Width::Dword.bytes()))
}

/// The bit of a call's number that is set if the access completes the call.
pub(super) const COMPLETES: u8 = 0x80;

/// The kinds of records of instructions, by [`Stage`]. Flags of elements are in [`more`].
const STAGES: [Stage; 18] = [
    Stage::Executed,
    Stage::Unverified,
    Stage::Faulted,
    Stage::Exited,
    Stage::ResumedAndExecuted,
    Stage::ResumedAndFaulted,
    Stage::ResumedAndExited,
    Stage::ResumedAndUnverified,
    Stage::Started,
    Stage::Resumed,
    Stage::Element { starts: false, ends: false },
    Stage::StringFaulted,
    Stage::StringExited,
    Stage::ExecutedBecomesUnverified,
    Stage::UnverifiedBecomesExecuted,
    Stage::UnverifiedBecomesFault,
    Stage::ExecutedBecomesExit,
    Stage::UnverifiedBecomesExit,
];

impl Stage {
    /// The kind of its record, and the flags that it sets in [`more`].
    #[inline]
    pub(super) fn kind(self) -> (u8, u8) {
        match self {
            Stage::Executed => (0, 0),
            Stage::Unverified => (1, 0),
            Stage::Faulted => (2, 0),
            Stage::Exited => (3, 0),
            Stage::ResumedAndExecuted => (4, 0),
            Stage::ResumedAndFaulted => (5, 0),
            Stage::ResumedAndExited => (6, 0),
            Stage::ResumedAndUnverified => (7, 0),
            Stage::Started => (8, 0),
            Stage::Resumed => (9, 0),
            Stage::Element { starts, ends } => {
                let starts = if starts { more::STARTS } else { 0 };
                (10, starts | if ends { more::ENDS } else { 0 })
            }
            Stage::StringFaulted => (11, 0),
            Stage::StringExited => (12, 0),
            Stage::ExecutedBecomesUnverified => (13, 0),
            Stage::UnverifiedBecomesExecuted => (14, 0),
            Stage::UnverifiedBecomesFault => (15, 0),
            Stage::ExecutedBecomesExit => (16, 0),
            Stage::UnverifiedBecomesExit => (17, 0),
        }
    }

    /// The stage of a record; `None` if it is not one of an instruction.
    pub(super) fn of_kind(kind: u8, flags: u8) -> Option<Stage> {
        Some(match *STAGES.get(usize::from(kind))? {
            Stage::Element { .. } => {
                Stage::Element { starts: flags & more::STARTS != 0, ends: flags & more::ENDS != 0 }
            }
            stage => stage,
        })
    }

    /// Returns true if it has only an instruction: no port, value, stack or process.
    #[inline]
    pub(super) fn is_bare(self) -> bool {
        matches!(self, Stage::Started | Stage::Resumed | Stage::StringFaulted | Stage::StringExited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_a_kind_of_its_own() {
        for (kind, stage) in (0..).zip(STAGES) {
            assert_eq!(stage.kind(), (kind, 0));
            assert_eq!(Stage::of_kind(kind, 0), Some(stage));
        }
        assert_eq!(Stage::of_kind(kind::CALL_ACCESS, 0), None);
    }
}
