//! The driver that the demo shows: the same to the board in both ways, and as many calls as instructions.

use pvio_cli::demo::{self, Comparison};
use pvio_tests::Host;

#[test]
fn one_driver_by_instructions_and_by_hypercalls() {
    let qemu = Host::NEWEST.program("qemu-system-x86_64");
    let Comparison { native, paravirt } = demo::compare(&qemu).unwrap();
    let instructions = [
        ("in al,dx", 13),
        ("in eax,dx", 100),
        ("out dx,al", 18),
        ("out dx,eax", 100),
        ("rep outsb", 1),
    ];
    assert_eq!(native.instructions, instructions.map(|(form, count)| (form.to_owned(), count)));
    assert_eq!((native.accesses, native.bytes), (4327, 4927));
    assert_eq!(paravirt.calls, 232);
    assert!(native.cycles > 0 && paravirt.cycles > 0);
}
