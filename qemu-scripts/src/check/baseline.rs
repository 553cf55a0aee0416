//! The kinds of access of an earlier run.

use std::borrow::Cow;
use std::collections::HashSet;

use pvio_x86::{AccessSize, Direction, Port};

use super::access::{CheckedAccess, accesses};
use crate::stats::Tables;

/// What makes two accesses of two runs the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Port, direction and size.
    Port,
    /// Also the function, or the program, or the address if neither is known.
    #[default]
    Symbol,
    /// Also the offset in it.
    Site,
}

impl By {
    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            By::Port => "port",
            By::Symbol => "symbol",
            By::Site => "site",
        }
    }

    fn key(self, access: &CheckedAccess<'_>) -> Key {
        let code = match self {
            By::Port => String::new(),
            By::Symbol => access.code.function().into_owned(),
            By::Site => {
                let label = access.code.label();
                label.unwrap_or(Cow::Borrowed(access.code.pc())).into_owned()
            }
        };
        Key { port: access.port, dir: access.dir, size: access.size, code }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    port: Port,
    dir: Direction,
    size: AccessSize,
    code: String,
}

/// The kinds of access of an earlier run.
#[derive(Clone, Debug)]
pub struct Baseline {
    by: By,
    known: HashSet<Key>,
}

impl Baseline {
    /// Reads the kinds of access of a dump or window.
    pub fn new(tables: &Tables, by: By) -> Baseline {
        let known = accesses(tables).iter().map(|access| by.key(access)).collect();
        Baseline { by, known }
    }

    /// What makes two accesses the same.
    pub fn by(&self) -> By {
        self.by
    }

    /// Returns true if the earlier run made an access, too.
    pub fn has(&self, access: &CheckedAccess<'_>) -> bool {
        self.known.contains(&self.by.key(access))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::test_accesses::linux;

    #[test]
    fn accesses_are_the_same_by_port_symbol_or_site() {
        let old = linux();
        let mut new = linux();
        let site = new.tables.accesses[0].site;
        let known = |new: &crate::stats::Snapshot| {
            [By::Port, By::Symbol, By::Site]
                .map(|by| Baseline::new(&old, by).has(&accesses(new)[0]))
        };
        new.tables.sites[site].pc = "0xffffffff99000000".to_owned();
        assert_eq!(known(&new), [true; 3], "a kernel may move");
        new.tables.sites[site].symbol = Some("pit_read+0x9".to_owned());
        assert_eq!(known(&new), [true, true, false]);
        new.tables.sites[site].symbol = Some("pit_next_event+0x9".to_owned());
        assert_eq!(known(&new), [true, false, false]);
        new.tables.accesses[0].port = Port(0x41);
        assert_eq!(known(&new), [false; 3]);
    }
}
