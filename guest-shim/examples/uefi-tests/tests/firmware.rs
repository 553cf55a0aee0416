//! Tests of what the firmware passes to an application.

#![no_std]
#![no_main]

use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering};

use harness::tests;
use pvio_guest::Port;
use uefi_tests::SystemTable;

uefi_tests::entry!(main);

static TABLE: AtomicPtr<SystemTable> = AtomicPtr::new(core::ptr::null_mut());

fn main(image: *const c_void, table: &'static SystemTable) -> ! {
    TABLE.store(core::ptr::from_ref(table).cast_mut(), Ordering::Relaxed);
    let mut buffer = [0; 1024];
    // SAFETY: both are the firmware's, and its boot services have not ended.
    let options = unsafe { table.load_options(image, &mut buffer) };
    harness::run(options, tests![table_is_valid, clock_has_a_date])
}

fn table_is_valid() {
    // SAFETY: the firmware's table stays where it is.
    let table = unsafe { TABLE.load(Ordering::Relaxed).as_ref() };
    assert!(table.unwrap().is_valid());
}

fn clock_has_a_date() {
    // SAFETY: reading the month from the clock (CMOS) harms nothing.
    let month = unsafe {
        Port::<u8>::new(0x70).write(8);
        Port::<u8>::new(0x71).read()
    };
    // In BCD or in binary.
    assert!(matches!(month, 1..=0x12), "the month is {month:#x}");
}
