//! Code that is translated once and runs at several addresses.

use super::*;

/// The distance of the alias from the address of the translation.
const ALIAS: u64 = 0x8000_0000;

impl Guest {
    /// Sets the distance from the translation at which the next instructions run.
    fn at(&mut self, distance: u64) -> &mut Guest {
        self.distance = distance;
        self
    }

    /// Returns the executions and accesses of each site, by address.
    fn sites(&self) -> Vec<(String, u64, u64)> {
        let row = |row: &SiteRow| (row.pc.clone(), row.counts.executions, row.counts.accesses);
        self.snapshot().sites.iter().map(row).collect()
    }
}

fn site(pc: u64, executions: u64, accesses: u64) -> (String, u64, u64) {
    (format!("{pc:#x}"), executions, accesses)
}

#[test]
fn each_address_is_a_site() {
    for privileged in [true, false] {
        let mut guest = Guest::on_api_7();
        guest.privileged = privileged;
        for (distance, runs) in [(0, 3), (ALIAS, 5), (0, 2), (2 * ALIAS, 1), (ALIAS, 4)] {
            for _ in 0..runs {
                guest.at(distance).start(OUT, PC + distance);
            }
        }
        let expected = [site(PC, 5, 5), site(PC + ALIAS, 9, 9), site(PC + 2 * ALIAS, 1, 1)];
        assert_eq!(guest.sites(), expected);
        assert_eq!(guest.row(PortForm::OutDxAl), [15, 15, 15, 0, 0]);
    }
}

#[test]
fn fault_at_an_alias_is_not_an_execution() {
    let mut guest = Guest::on_api_7();
    guest.cs = RING_3;
    guest.at(0).start(OUT, PC);
    guest.at(ALIAS).start(OUT, PC + ALIAS);
    guest.exception_at(PC + ALIAS);
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 1, 1, 1, 0]);
    assert_eq!(guest.sites(), [site(PC, 1, 1)]);
}

#[test]
fn exception_at_the_address_of_the_translation_is_not_a_fault_of_the_alias() {
    let mut guest = Guest::on_api_7();
    guest.cs = RING_3;
    guest.at(ALIAS).start(OUT, PC + ALIAS);
    guest.exception_at(PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [1, 1, 1, 0, 0]);
}

#[test]
fn addresses_that_differ_only_above_bit_32_are_different() {
    let far = 0x5555_0000_0000;
    let mut guest = Guest::on_api_7();
    guest.cs = RING_3;
    guest.at(far).start(OUT, PC + far);
    guest.exception_at(PC);
    guest.start(OUT, PC + far);
    guest.exception_at(PC + far);
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 1, 1, 1, 0]);
}

#[test]
fn string_resumes_at_its_address_whatever_the_translation() {
    for (before, after) in [(0, ALIAS), (ALIAS, 0), (ALIAS, ALIAS)] {
        let mut guest = Guest::on_api_7();
        guest.rcx = 10;
        let token = guest.at(before).start(REP_OUTSB, PC + ALIAS);
        guest.elements(token, 4);
        guest.interrupt_at(PC + ALIAS);
        let token = guest.at(after).start(REP_OUTSB, PC + ALIAS);
        guest.elements(token, 6);
        assert_eq!(guest.row(PortForm::RepOutsb), [1, 1, 10, 0, 0]);
        assert_eq!(guest.sites(), [site(PC + ALIAS, 1, 10)]);
    }
}

#[test]
fn string_at_another_alias_is_another_attempt() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 10;
    let token = guest.at(0).start(REP_OUTSB, PC);
    guest.elements(token, 4);
    guest.interrupt_at(PC);
    let token = guest.at(ALIAS).start(REP_OUTSB, PC + ALIAS);
    guest.elements(token, 6);
    assert_eq!(guest.row(PortForm::RepOutsb), [2, 1, 10, 0, 0]);
    assert_eq!(guest.sites(), [site(PC, 0, 4), site(PC + ALIAS, 1, 6)]);
}
