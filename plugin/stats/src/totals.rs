//! Total accesses of a dump or a window.

use crate::schema::{HypercallRow, Tables};

impl HypercallRow {
    /// Elements that the calls moved; 0 for a call that does no port I/O.
    pub fn elements(&self) -> u64 {
        self.call.port_io().map_or(0, |(_, width)| self.bytes / u64::from(width.bytes()))
    }
}

impl Tables {
    /// Accesses by instructions.
    ///
    /// Forms are counted here because rows of ports may be missing for want of room.
    pub fn instruction_accesses(&self) -> u64 {
        self.forms.iter().map(|row| row.accesses).fold(0, u64::saturating_add)
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
