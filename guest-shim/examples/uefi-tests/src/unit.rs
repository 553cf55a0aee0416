//! The library's own tests: `cargo test --lib`.

use core::ffi::c_void;
use core::mem::{offset_of, size_of};

use harness::tests;

use crate::{BootServices, Guid, LoadedImage, SystemTable};

crate::entry!(main);

fn main(image: *const c_void, table: &'static SystemTable) -> ! {
    let mut buffer = [0; 1024];
    // SAFETY: both are the firmware's, and its boot services have not ended.
    let options = unsafe { table.load_options(image, &mut buffer) };
    harness::run(options, tests![layout_is_that_of_uefi])
}

/// The offsets of the UEFI specification, for 64 bits.
fn layout_is_that_of_uefi() {
    assert_eq!(size_of::<Guid>(), 16);
    assert_eq!(offset_of!(SystemTable, boot_services), 96);
    assert_eq!(offset_of!(BootServices, handle_protocol), 152);
    assert_eq!(offset_of!(LoadedImage, load_options), 56);
}
