//! Instructions that run without an interruption.

use super::*;

#[test]
fn one_report_of_a_scalar_is_one_execution() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4(), Guest::on_9_2()] {
        for _ in 0..3 {
            guest.start(OUT, PC);
        }
        assert_eq!(guest.row(PortForm::OutDxAl), [3, 3, 3, 0, 0]);
    }
}

#[test]
fn string_is_executed_when_all_its_elements_are_moved() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4(), Guest::on_9_2()] {
        guest.cs = RING_3;
        let token = guest.start(INSB, PC);
        guest.elements(token, 1);
        guest.rcx = 5;
        let token = guest.start(REP_OUTSB, PC + 8);
        guest.elements(token, 5);
        assert_eq!(guest.row(PortForm::Insb), [1, 1, 1, 0, 0]);
        assert_eq!(guest.row(PortForm::RepOutsb), [1, 1, 5, 0, 0]);
    }
}

#[test]
fn rep_of_count_zero_is_one_execution_and_no_access() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4(), Guest::on_9_2()] {
        guest.start(REP_INSB, PC);
        guest.start(REP_INSB, PC);
        assert_eq!(guest.row(PortForm::RepInsb)[..3], [2, 2, 0]);
    }
}

#[test]
fn count_has_the_bits_of_the_address_size() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 0xffff_ffff_0001_0003;
    let token = guest.start(&[0x67, 0xf3, 0x6e], PC);
    guest.elements(token, 3);
    assert_eq!(guest.row(PortForm::RepOutsb), [1, 1, 3, 0, 0]);
}
