//! The experiment of `tests/guests/experiment`: the cost of port I/O for a monitor.
//!
//! The guest reaches its monitor by several mechanisms, such as a trap or a hypercall. [`guest`] runs it and
//! parses its output, [`equivalence`] compares the accesses of the mechanisms, [`metrics`] computes
//! instructions and time of their [`part`]s, [`workload`] weights them by a real guest's port I/O, [`conclusions`]
//! draws the conclusions, those on today's mechanisms in [`today`], [`report`] prints everything, and [`plots`] draws
//! it.

pub mod conclusions;
pub mod equivalence;
pub mod guest;
pub mod metrics;
pub mod part;
pub mod plots;
pub mod report;
pub mod tables;
pub mod today;
pub mod workload;

use std::fmt;

use pvio_x86::{Direction, PortForm, PortSource};
use serde::Serialize;

/// A mechanism for port I/O, in the order of the guest's loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// The instruction in ring 0, without a monitor.
    Native,
    /// #GP; the monitor walks the page tables.
    TrapChecked,
    /// #GP, without the walk.
    Trap,
    /// `int n` with the operation's number in a register.
    Int,
    /// pvio's hypercall.
    Pvio,
    /// pvio's hypercall through a mailbox.
    PvioMailbox,
    /// SYSENTER and SYSEXIT, from ring 3.
    Sysenter,
    /// SVM, with port I/O intercepted.
    SvmIoio,
    /// SVM, with VMMCALL.
    SvmVmmcall,
    /// A function that makes a hypercall in place of the instruction, as in EDK II's library for TDX.
    Direct,
    /// #VE: the guest's own handler asks what was intercepted, and makes a hypercall.
    Ve,
    /// #VC: the guest's own handler decodes the instruction, and makes a hypercall.
    Vc,
    /// Records of many operations, and one hypercall.
    Batch,
    /// #GP; the device is in user space.
    TrapUser,
    /// The same, but writes are posted to a ring, which the next exit to user space empties.
    Coalesced,
}

impl Mechanism {
    /// All mechanisms.
    pub const ALL: [Mechanism; 15] = [
        Mechanism::Native,
        Mechanism::TrapChecked,
        Mechanism::Trap,
        Mechanism::Int,
        Mechanism::Pvio,
        Mechanism::PvioMailbox,
        Mechanism::Sysenter,
        Mechanism::SvmIoio,
        Mechanism::SvmVmmcall,
        Mechanism::Direct,
        Mechanism::Ve,
        Mechanism::Vc,
        Mechanism::Batch,
        Mechanism::TrapUser,
        Mechanism::Coalesced,
    ];

    /// The mechanisms of 2007 and pvio's own.
    pub const OF_2007: &[Mechanism] = Self::ALL.split_at(9).0;

    /// The other mechanisms, and the one that all are compared with.
    pub const NEW: [Mechanism; 7] = [
        Mechanism::Native,
        Mechanism::Direct,
        Mechanism::Ve,
        Mechanism::Vc,
        Mechanism::Batch,
        Mechanism::TrapUser,
        Mechanism::Coalesced,
    ];

    /// Today's mechanisms, after the trap and the hypercall that they are compared with.
    pub const OF_TODAY: [Mechanism; 8] = [
        Mechanism::Trap,
        Mechanism::Int,
        Mechanism::Direct,
        Mechanism::Ve,
        Mechanism::Vc,
        Mechanism::Batch,
        Mechanism::TrapUser,
        Mechanism::Coalesced,
    ];

    /// The name in the guest's output and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::Native => "native",
            Mechanism::TrapChecked => "trap-checked",
            Mechanism::Trap => "trap",
            Mechanism::Int => "int",
            Mechanism::Pvio => "pvio",
            Mechanism::PvioMailbox => "pvio-mailbox",
            Mechanism::Sysenter => "sysenter",
            Mechanism::SvmIoio => "svm-ioio",
            Mechanism::SvmVmmcall => "svm-vmmcall",
            Mechanism::Direct => "direct",
            Mechanism::Ve => "ve",
            Mechanism::Vc => "vc",
            Mechanism::Batch => "batch",
            Mechanism::TrapUser => "trap-user",
            Mechanism::Coalesced => "coalesced",
        }
    }

    /// Finds a mechanism by its name.
    pub fn from_name(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Returns true if the accesses go to the plugin's device.
    ///
    /// Then the plugin's access log has them, and the monitor's device log is empty.
    pub fn reaches_plugin(self) -> bool {
        self == Mechanism::Native || self.is_answered_by_plugin()
    }

    /// Returns true if the plugin is the monitor. Its instructions are the host's, so they are not counted.
    pub const fn is_answered_by_plugin(self) -> bool {
        matches!(self, Mechanism::Pvio | Mechanism::PvioMailbox)
    }

    /// Returns true if the mechanism supports the operation.
    ///
    /// Mailboxes have no strings, and only writes are posted. A string of many elements is one record, so a batch
    /// has none. Some mechanisms are measured with four forms only.
    pub fn has(self, cell: Cell) -> bool {
        use PortForm::{InAlDx, OutDxAl, RepInsb, RepOutsb};
        match self {
            Mechanism::PvioMailbox => !cell.form.is_string(),
            Mechanism::Batch => cell.elements == 1,
            Mechanism::Coalesced => cell.form.direction() == Direction::Out,
            Mechanism::Sysenter | Mechanism::SvmIoio | Mechanism::SvmVmmcall => {
                matches!(cell.form, InAlDx | OutDxAl | RepInsb | RepOutsb)
            }
            _ => true,
        }
    }

    /// Returns after how many operations the same instructions are executed again.
    ///
    /// A batch, and a ring of posted writes, are complete after [`BATCH`] operations.
    pub fn period(self, cell: Cell) -> u32 {
        match self {
            Mechanism::Batch | Mechanism::Coalesced if cell.elements == 1 => BATCH,
            _ => 1,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Records of a batch, and entries of the ring of posted writes (`machine.h`, `user.h`).
pub const BATCH: u32 = 16;

/// Number of elements of the long strings.
pub const STRING: u32 = 512;

/// One operation: a form and a number of elements.
///
/// A string instruction without `rep` moves one element, so many elements take as many instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Cell {
    /// The form.
    pub form: PortForm,
    /// 1, or [`STRING`].
    pub elements: u32,
}

impl Cell {
    /// Iterates over all operations, in the order of the guest's numbers.
    pub fn all() -> impl Iterator<Item = Cell> {
        let strings = PortForm::ALL.into_iter().filter(|form| form.is_string());
        let one = PortForm::ALL.into_iter().map(|form| Cell { form, elements: 1 });
        one.chain(strings.map(|form| Cell { form, elements: STRING }))
    }

    /// Returns the guest's number of the operation.
    pub fn number(self) -> usize {
        Cell::all().position(|cell| cell == self).expect("all() has every cell")
    }

    /// Returns true if one instruction moves all elements.
    pub fn is_one_instruction(self) -> bool {
        self.elements == 1 || self.form.source() == PortSource::RepString
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.form.is_string(), self.elements) {
            (false, _) => f.pad(self.form.name()),
            (true, elements) => f.pad(&format!("{} x {elements}", self.form.name())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_the_guests_numbers() {
        assert_eq!(Cell::all().count(), 36);
        for (number, cell) in Cell::all().enumerate() {
            assert_eq!(cell.number(), number);
        }
        assert_eq!(Cell { form: PortForm::RepOutsb, elements: STRING }.number(), 33);
        let few = Cell::all().filter(|&cell| Mechanism::SvmIoio.has(cell));
        assert_eq!(few.map(Cell::number).collect::<Vec<_>>(), [3, 9, 15, 21, 27, 33]);
        let writes = Cell::all().filter(|&cell| Mechanism::Coalesced.has(cell)).count();
        let records = Cell::all().filter(|&cell| Mechanism::Batch.has(cell)).count();
        assert_eq!((writes, records), (18, 24));
    }
}
