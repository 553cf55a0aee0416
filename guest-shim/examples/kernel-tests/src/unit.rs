//! The library's own tests: `cargo test --lib`.

use harness::tests;

use crate::StartInfo;

crate::entry!(main);

fn main(info: &'static StartInfo) -> ! {
    harness::run(info.command_line(), tests![layout_is_that_of_pvh, command_line_may_be_absent])
}

/// A structure without a command line.
const EMPTY: StartInfo = StartInfo {
    magic: 0x336e_c578,
    version: 1,
    flags: 0,
    modules: 0,
    module_list: 0,
    command_line: 0,
};

/// Xen's documentation of hvm_start_info has this offset.
fn layout_is_that_of_pvh() {
    assert_eq!(core::mem::offset_of!(StartInfo, command_line), 24);
}

fn command_line_may_be_absent() {
    assert_eq!(EMPTY.command_line(), "");
}
