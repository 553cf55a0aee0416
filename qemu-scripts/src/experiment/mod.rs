//! The experiment of `tests/guests/experiment`: what an operation of port I/O costs a monitor, by each way
//! from the guest to it.
//!
//! [`guest`] runs it and reads what it says, [`equivalence`] compares what the ways did,
//! [`metrics`] makes numbers of windows and clocks, [`workload`] weighs them by what a real guest did,
//! [`conclusions`] draws the conclusions, [`report`] prints.

pub mod conclusions;
pub mod equivalence;
pub mod guest;
pub mod metrics;
pub mod report;
pub mod workload;

use std::fmt;

use pvio_x86::{PortForm, PortSource};
use serde::Serialize;

/// A way from the guest to what carries its port I/O out, in the order in which the guest takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// Ring 0, no monitor.
    Native,
    /// #GP, with a walk of the page tables.
    TrapChecked,
    /// #GP.
    Trap,
    /// `int n` with a number in a register.
    Int,
    /// pvio's hypercall.
    Pvio,
    /// The same through a mailbox.
    PvioMailbox,
    /// SYSENTER and SYSEXIT, from ring 3.
    Sysenter,
    /// SVM, port I/O intercepted.
    SvmIoio,
    /// SVM, VMMCALL.
    SvmVmmcall,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Mechanism; 9] = [
        Mechanism::Native,
        Mechanism::TrapChecked,
        Mechanism::Trap,
        Mechanism::Int,
        Mechanism::Pvio,
        Mechanism::PvioMailbox,
        Mechanism::Sysenter,
        Mechanism::SvmIoio,
        Mechanism::SvmVmmcall,
    ];

    /// As the guest and the tables write it.
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
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Whether the ports are the plugin's: then its access log has what was done, and the monitor's device
    /// has seen nothing.
    pub fn reaches_plugin(self) -> bool {
        self == Mechanism::Native || self.is_answered_by_plugin()
    }

    /// Whether the plugin is the monitor, whose instructions are the host's and not counted.
    pub const fn is_answered_by_plugin(self) -> bool {
        matches!(self, Mechanism::Pvio | Mechanism::PvioMailbox)
    }

    /// Whether it carries out this operation: mailboxes have no strings, and some ways are tried with four
    /// forms alone.
    pub fn has(self, cell: Cell) -> bool {
        use PortForm::{InAlDx, OutDxAl, RepInsb, RepOutsb};
        match self {
            Mechanism::PvioMailbox => !cell.form.is_string(),
            Mechanism::Sysenter | Mechanism::SvmIoio | Mechanism::SvmVmmcall => {
                matches!(cell.form, InAlDx | OutDxAl | RepInsb | RepOutsb)
            }
            _ => true,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The elements of the longer strings.
pub const STRING: u32 = 512;

/// One operation: a form, and how many elements it moves. A plain string instruction of many elements is as
/// many instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Cell {
    /// Which of the 24.
    pub form: PortForm,
    /// 1, or [`STRING`].
    pub elements: u32,
}

impl Cell {
    /// All of them, by the guest's numbers.
    pub fn all() -> impl Iterator<Item = Cell> {
        let strings = PortForm::ALL.into_iter().filter(|form| form.is_string());
        let one = PortForm::ALL.into_iter().map(|form| Cell { form, elements: 1 });
        one.chain(strings.map(|form| Cell { form, elements: STRING }))
    }

    /// The guest's number of it.
    pub fn number(self) -> usize {
        Cell::all().position(|cell| cell == self).expect("one of them")
    }

    /// Whether one instruction does it all.
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
    }
}
