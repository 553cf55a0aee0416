//! The demo's driver makes the same accesses by instructions and by hypercalls.

use pvio_cli::demo::{self, Comparison};
use pvio_tests::Host;

#[test]
fn driver_does_the_same_by_instructions_and_by_hypercalls() {
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
