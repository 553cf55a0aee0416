//! The accesses of a dump in groups that have one cost: one site, port, direction and size.

use std::collections::BTreeMap;

use pvio_x86::{AccessSize, Direction, InsnForm, Port};

use super::amount::apportion;
use crate::stats::{Snapshot, Tables};

/// Accesses by instruction that have one cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The index of the site; `None` for accesses without a row by site.
    pub site: Option<usize>,
    /// The form; `None` without a site.
    pub form: Option<InsnForm>,
    /// The port.
    pub port: Port,
    /// The direction.
    pub dir: Direction,
    /// Bytes in one access.
    pub size: AccessSize,
    /// Elements moved.
    pub accesses: u64,
    /// Instructions that moved them. For a site with several ports it is in proportion to their accesses.
    pub instructions: u64,
}

impl Group {
    /// Returns true if a string instruction made the accesses.
    pub fn is_string(&self) -> bool {
        self.form.is_some_and(InsnForm::is_string)
    }

    /// Bytes in one access; 4 if the mode of the code, which decides between 2 and 4, is not known.
    pub fn bytes(&self) -> u64 {
        self.size.bytes().map_or(4, u64::from)
    }
}

/// The accesses of a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// The accesses by instruction, by site and port; those without a site are last.
    pub groups: Vec<Group>,
    /// Accesses by hypercall. They have no exits of instructions.
    pub by_hypercall: u64,
    /// Accesses that were made or faulted; QEMU does not report which.
    pub unverified: u64,
}

impl Groups {
    /// Groups the accesses of a dump.
    pub fn of(dump: &Snapshot) -> Groups {
        let mut groups = with_site(&dump.tables);
        groups.extend(without_site(&dump.tables, &groups));
        Groups {
            groups,
            by_hypercall: dump.ports.iter().map(|row| row.hypercall).sum(),
            unverified: dump.ports.iter().map(|row| row.unverified).sum(),
        }
    }

    /// Accesses by instruction without a row by site. Each counts as one exit.
    pub fn without_site(&self) -> u64 {
        let groups = self.groups.iter().filter(|group| group.site.is_none());
        groups.map(|group| group.accesses).sum()
    }
}

fn with_site(tables: &Tables) -> Vec<Group> {
    let mut groups = Vec::new();
    for (site, mut rows) in tables.ports_by_site() {
        let Some(row) = tables.sites.get(site) else { continue };
        rows.retain(|row| row.counts.accesses > 0);
        rows.sort_by_key(|row| (row.port, row.dir, row.size));
        let accesses: Vec<u64> = rows.iter().map(|row| row.counts.accesses).collect();
        let all: u64 = accesses.iter().sum();
        let instructions = match row.form.is_string() {
            // Some executions of a `rep` move nothing, and an interrupted one may have moved something.
            true => apportion(row.counts.executions.clamp(1, all.max(1)).into(), &accesses),
            false => accesses.iter().map(|&accesses| accesses.into()).collect(),
        };
        groups.extend(rows.iter().zip(instructions).map(|(access, instructions)| Group {
            site: Some(site),
            form: Some(row.form),
            port: access.port,
            dir: access.dir,
            size: access.size,
            accesses: access.counts.accesses,
            // Each port was accessed by one instruction at least.
            instructions: (instructions as u64).max(1),
        }));
    }
    groups
}

/// What the table of ports has in addition to the table of accesses.
fn without_site(tables: &Tables, groups: &[Group]) -> Vec<Group> {
    let mut known: BTreeMap<(Port, Direction, AccessSize), u64> = BTreeMap::new();
    for group in groups {
        *known.entry((group.port, group.dir, group.size)).or_default() += group.accesses;
    }
    let rows = tables.ports.iter().map(|row| {
        let known = known.get(&(row.port, row.dir, row.size)).copied().unwrap_or(0);
        (row, (row.device + row.qemu).saturating_sub(known))
    });
    let rows = rows.filter(|&(_, accesses)| accesses > 0);
    rows.map(|(row, accesses)| Group {
        site: None,
        form: None,
        port: row.port,
        dir: row.dir,
        size: row.size,
        accesses,
        instructions: accesses,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use pvio_x86::{PortForm, Width};

    use super::*;
    use crate::stats::test_data::snapshot;

    #[test]
    fn accesses_without_a_site_stay() {
        let mut dump = snapshot(10);
        dump.tables.accesses[0].counts.accesses = 7;
        dump.tables.ports[0].hypercall = 5;
        let groups = Groups::of(&dump);
        let counts: Vec<_> = groups.groups.iter().map(|g| (g.site, g.accesses)).collect();
        assert_eq!(counts, [(Some(0), 7), (None, 3)]);
        assert_eq!((groups.without_site(), groups.by_hypercall), (3, 5));
    }

    #[test]
    fn string_instructions_are_shared_among_their_ports() {
        let mut dump = snapshot(10);
        let site = &mut dump.tables.sites[0];
        site.form = PortForm::RepOutsb.into();
        site.counts.executions = 3;
        dump.tables.accesses[0].counts.accesses = 6;
        let mut second = dump.tables.accesses[0].clone();
        (second.port, second.counts.accesses) = (Port(0x3f9), 4);
        dump.tables.accesses.push(second);
        let groups = Groups::of(&dump).groups;
        let counts: Vec<_> = groups.iter().map(|g| (g.accesses, g.instructions)).collect();
        assert_eq!(&counts[..2], [(6, 2), (4, 1)]);
        assert_eq!(groups[0].bytes(), u64::from(Width::Byte.bytes()));
    }
}
