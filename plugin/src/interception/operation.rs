//! A port I/O instruction that is about to run.

use super::address;
use super::token::PortIoToken;
use crate::stats::{ProcessUse, SiteId};
use crate::x86::{AddressSize, InsnForm, Port};

/// A port I/O instruction at the address at which it runs.
///
/// Two operations are equal if one may be a restart of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    form: InsnForm,
    /// The immediate port of a scalar; the address size of a string instruction.
    immediate_or_size: u8,
    is_privileged: bool,
    base: u32,
    pc: u64,
    site: Option<SiteId>,
    process: Process,
}

/// The process under which accesses are counted, if any. It does not distinguish operations: a restart is in the same
/// process, whose name may have changed since.
#[derive(Clone, Copy, Debug)]
struct Process(Option<ProcessUse>);

impl PartialEq for Process {
    fn eq(&self, _: &Process) -> bool {
        true
    }
}

impl Eq for Process {}

impl Operation {
    /// `pc` is the linear address at which the translated instruction runs; `site` is the site there, if it has a row.
    pub fn new(insn: PortIoToken, site: Option<SiteId>, pc: u64) -> Operation {
        Operation {
            form: insn.form(),
            immediate_or_size: insn.immediate_or_size(),
            is_privileged: insn.is_privileged(),
            base: insn.base(),
            pc,
            site,
            process: Process(None),
        }
    }

    /// Returns the same operation, made by a process.
    pub fn by(self, process: Option<ProcessUse>) -> Operation {
        Operation { process: Process(process), ..self }
    }

    /// Returns the process under which accesses are counted, if any.
    #[inline]
    pub fn process(&self) -> Option<ProcessUse> {
        self.process.0
    }

    pub fn form(&self) -> InsnForm {
        self.form
    }

    /// Returns true if it cannot get #GP for lack of IOPL or of a bit in the TSS.
    pub fn is_privileged(&self) -> bool {
        self.is_privileged
    }

    /// Returns the address size of a string instruction. Without meaning for a scalar.
    pub fn address_size(&self) -> AddressSize {
        AddressSize::ALL[usize::from(self.immediate_or_size)]
    }

    /// Returns the immediate port. Without meaning for forms that take the port from DX.
    pub fn immediate(&self) -> Port {
        Port(self.immediate_or_size.into())
    }

    /// Returns the site, if it has a row.
    pub fn site(&self) -> Option<SiteId> {
        self.site
    }

    /// Returns the linear address.
    pub fn pc(&self) -> u64 {
        self.pc
    }

    /// Returns the base of the code segment.
    pub fn code_base(&self) -> u32 {
        self.base
    }

    /// Returns true if an address that QEMU reports is the one of this instruction.
    pub fn is_at(&self, reported: u64) -> bool {
        address::is_same(self.pc, self.base, reported)
    }
}
