//! `pvio top`: accesses per second of a machine that runs, like `perf kvm stat live`.
//!
//! - [`Rates`] is what the machine sends; [`Top`] is what the user sees of it.
//! - `screen` draws it, `keys` change it, [`batch`] prints it.

mod batch;
mod keys;
mod rates;
mod screen;

pub use batch::batch;
pub use keys::{Key, press};
pub use rates::{Rates, Row};
pub use screen::{draw, run};

use clap::ValueEnum;

/// The table that is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Table {
    /// Accesses by port
    #[default]
    Port,
    /// Accesses by instruction
    Site,
    /// Accesses by process; QEMU must run with processes=on
    Process,
}

impl Table {
    /// All tables, in the order of the key that switches.
    pub const ALL: [Table; 3] = [Table::Port, Table::Site, Table::Process];

    /// The heading of the column that names rows.
    pub fn heading(self) -> &'static str {
        match self {
            Table::Port => "PORT",
            Table::Site => "SITE",
            Table::Process => "PROCESS",
        }
    }

    fn next(self) -> Table {
        Table::ALL[(self as usize + 1) % Table::ALL.len()]
    }
}

/// The order of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Accesses per second
    #[default]
    Rate,
    /// All accesses
    Total,
    /// The name of the row
    Name,
}

impl Sort {
    fn next(self) -> Sort {
        match self {
            Sort::Rate => Sort::Total,
            Sort::Total => Sort::Name,
            Sort::Name => Sort::Rate,
        }
    }
}

/// The state of the screen.
#[derive(Debug, Default)]
pub struct Top {
    /// The machine, for the title.
    pub title: String,
    /// The latest rates, or those at which the user paused.
    pub rates: Rates,
    /// The table that is shown.
    pub table: Table,
    /// The order of the rows.
    pub sort: Sort,
    /// The order is reversed.
    pub is_reversed: bool,
    /// Only rows that contain this text are shown.
    pub filter: String,
    /// The user types the filter.
    pub is_typing: bool,
    /// New rates are not shown.
    pub is_paused: bool,
    /// The first row that is shown.
    pub first: usize,
    /// Why no more rates come; `None` while they do.
    pub end: Option<String>,
}

impl Top {
    /// Takes new rates, unless the user has paused.
    pub fn update(&mut self, rates: Rates) {
        if !self.is_paused {
            self.rates = rates;
        }
    }

    /// Returns the rows of the table that is shown: filtered, sorted.
    pub fn rows(&self) -> Vec<&Row> {
        let needle = self.filter.to_lowercase();
        let rows = self.rates.table(self.table).iter();
        let mut rows: Vec<&Row> =
            rows.filter(|row| row.name.to_lowercase().contains(&needle)).collect();
        match self.sort {
            Sort::Rate => rows.sort_by_key(|row| std::cmp::Reverse((row.change, row.total))),
            Sort::Total => rows.sort_by_key(|row| std::cmp::Reverse((row.total, row.change))),
            Sort::Name => rows.sort_by(|one, other| one.name.cmp(&other.name)),
        }
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }
}

#[cfg(test)]
mod tests;
