//! Total accesses of a dump or a window.

use crate::schema::{FormRow, HypercallRow, Tables, UndecidedFormRow};

/// The counts of a form, decided or not.
#[derive(Clone, Copy, Debug)]
pub struct FormCounts {
    /// Instructions that started.
    pub attempts: u64,
    /// Instructions that retired.
    pub executions: u64,
    /// Elements moved.
    pub accesses: u64,
    /// Bytes moved; `None` if the size of an access is not known.
    pub bytes: Option<u64>,
    /// Attempts that ended by a fault; `None` if QEMU does not report exceptions.
    pub faults: Option<u64>,
    /// Attempts that a hypervisor intercepted; `None` if pvio cannot see them.
    pub exits: Option<u64>,
    /// Attempts that retired or faulted.
    pub unverified: u64,
}

impl From<&FormRow> for FormCounts {
    fn from(row: &FormRow) -> FormCounts {
        let &FormRow { attempts, executions, accesses, bytes, faults, exits, unverified, .. } = row;
        let bytes = Some(bytes);
        FormCounts { attempts, executions, accesses, bytes, faults, exits, unverified }
    }
}

impl From<&UndecidedFormRow> for FormCounts {
    fn from(row: &UndecidedFormRow) -> FormCounts {
        let &UndecidedFormRow { attempts, executions, accesses, faults, exits, unverified, .. } =
            row;
        let size = row.form.size().bytes();
        let bytes = match accesses {
            0 => Some(0),
            _ => size.map(|size| accesses * u64::from(size)),
        };
        FormCounts { attempts, executions, accesses, bytes, faults, exits, unverified }
    }
}

impl HypercallRow {
    /// Elements that the calls moved; 0 for a call that does no port I/O.
    pub fn elements(&self) -> u64 {
        self.call.port_io().map_or(0, |(_, width)| self.bytes / u64::from(width.bytes()))
    }
}

impl Tables {
    /// The counts of every form: the 24, then those that are undecided.
    pub fn form_counts(&self) -> impl Iterator<Item = FormCounts> {
        let undecided = self.forms_undecided.iter().map(FormCounts::from);
        self.forms.iter().map(FormCounts::from).chain(undecided)
    }

    /// Accesses by instructions.
    ///
    /// Forms are counted here because rows of ports may be missing for want of room.
    pub fn instruction_accesses(&self) -> u64 {
        self.form_counts().map(|row| row.accesses).fold(0, u64::saturating_add)
    }

    /// Accesses by hypercalls.
    pub fn hypercall_accesses(&self) -> u64 {
        self.hypercalls.iter().map(HypercallRow::elements).fold(0, u64::saturating_add)
    }

    /// All accesses, at most [`u64::MAX`].
    pub fn accesses(&self) -> u64 {
        self.instruction_accesses().saturating_add(self.hypercall_accesses())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Call;
    use crate::test_data::snapshot;

    fn row(call: Call, bytes: u64) -> HypercallRow {
        HypercallRow { call, count: 1, bytes, declined: 0, denied: 0, errors: 0 }
    }

    #[test]
    fn hypercall_accesses_are_elements_of_port_io_calls() {
        let mut tables = snapshot(5).tables;
        tables.hypercalls = vec![row(Call::Outsl, 40), row(Call::Inb, 3), row(Call::Log, 100)];
        assert_eq!((tables.instruction_accesses(), tables.hypercall_accesses()), (5, 13));
        assert_eq!(tables.accesses(), 18);
    }

    #[test]
    fn accesses_beyond_64_bits_saturate() {
        let mut tables = snapshot(u64::MAX).tables;
        tables.hypercalls = vec![row(Call::Outsb, u64::MAX)];
        assert_eq!(tables.accesses(), u64::MAX);
    }
}
