//! A record of the access log, and its line of text.

use std::io::{self, Write};
use std::time::Duration;

use super::code_names::{CodeNames, NameId};
use crate::processes::Owner;
use crate::x86::{AccessSize, Direction, InsnForm, Port};

/// The direction and size of an access.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The direction.
    pub direction: Direction,
    /// The size.
    pub size: AccessSize,
}

impl From<InsnForm> for Access {
    fn from(form: InsnForm) -> Access {
        Access { direction: form.direction(), size: form.size() }
    }
}

/// One access.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Time since the log was opened.
    pub time: Duration,
    /// The vCPU's index; `None` if QEMU's callbacks do not distinguish vCPUs.
    pub vcpu: Option<u32>,
    /// The linear address of the instruction.
    pub pc: u64,
    pub symbol: NameId,
    /// The process that makes the access; `None` if processes are not logged.
    pub process: Option<Owner>,
    pub direction: Direction,
    pub port: Port,
    pub size: AccessSize,
    /// The value read or written; `None` if the machine ended before it was known, or if another
    /// vCPU on the same thread read in between, or if the size is unknown.
    pub value: Option<u32>,
    /// True if the access may have faulted for lack of privilege. QEMU before 11.0 does not report it.
    pub unverified: bool,
}

impl Record {
    /// Writes the record's line.
    pub fn write(&self, out: &mut impl Write, names: &CodeNames) -> io::Result<()> {
        let Record { time, vcpu, pc, symbol, process, direction, port, size, value, unverified } =
            self;
        let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
        write!(out, "{seconds:>5}.{nanos:09} ")?;
        match vcpu {
            Some(vcpu) => write!(out, "{vcpu}")?,
            None => write!(out, "-")?,
        }
        write!(out, " {pc:#x} {direction:<3} {port} {size} ")?;
        match value {
            Some(value) => {
                let digits = 2 + 2 * usize::from(size.bytes().unwrap_or(4));
                write!(out, "{value:#0digits$x}")?;
            }
            None => write!(out, "-")?,
        }
        let mark = if *unverified { "?" } else { "" };
        write!(out, "{mark}\t{}\t", names.text(*symbol).unwrap_or("?"))?;
        match process {
            Some(process) => writeln!(out, "{process}"),
            None => writeln!(out, "-"),
        }
    }
}
