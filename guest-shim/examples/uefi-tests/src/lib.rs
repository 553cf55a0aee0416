//! An EFI application: from the firmware's call to the tests.

#![no_std]
#![cfg_attr(test, no_main)]

mod start;
#[cfg(test)]
mod unit;

use core::ffi::c_void;
use core::ptr;

/// EFI_GUID.
#[repr(C)]
struct Guid(u32, u16, u16, [u8; 8]);

/// EFI_LOADED_IMAGE_PROTOCOL_GUID.
const LOADED_IMAGE: Guid =
    Guid(0x5b1b31a1, 0x9562, 0x11d2, [0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b]);

/// The beginning of EFI_SYSTEM_TABLE.
#[repr(C)]
pub struct SystemTable {
    signature: u64,
    revision: u32,
    header: [u32; 3],
    vendor: *const u16,
    firmware_revision: u32,
    console: [*const c_void; 7],
    boot_services: *const BootServices,
}

/// The beginning of EFI_BOOT_SERVICES.
#[repr(C)]
struct BootServices {
    header: [u64; 3],
    others: [*const c_void; 16],
    handle_protocol: extern "efiapi" fn(*const c_void, &Guid, &mut *const LoadedImage) -> usize,
}

/// The beginning of EFI_LOADED_IMAGE_PROTOCOL.
#[repr(C)]
struct LoadedImage {
    revision: u32,
    others: [*const c_void; 5],
    load_options_size: u32,
    load_options: *const u16,
}

impl SystemTable {
    /// Returns true if this is a system table.
    pub fn is_valid(&self) -> bool {
        self.signature == u64::from_le_bytes(*b"IBI SYST")
    }

    /// Copies the load options, which are a command line, as ASCII. What does not fit is cut.
    ///
    /// # Safety
    ///
    /// Both must be those of the firmware, before the end of its boot services.
    pub unsafe fn load_options<'a>(&self, image: *const c_void, buffer: &'a mut [u8]) -> &'a str {
        let mut loaded = ptr::null();
        // SAFETY: the caller guarantees that the table is the firmware's.
        let services = unsafe { &*self.boot_services };
        if (services.handle_protocol)(image, &LOADED_IMAGE, &mut loaded) != 0 {
            return "";
        }
        // SAFETY: the firmware has found the protocol.
        let loaded = unsafe { &*loaded };
        let length = loaded.load_options_size as usize / 2;
        let mut written = 0;
        for (index, byte) in buffer.iter_mut().enumerate().take(length) {
            // SAFETY: the index is within the options, which the firmware may have placed anywhere.
            let unit = unsafe { loaded.load_options.add(index).read_unaligned() };
            if unit == 0 {
                break;
            }
            *byte = u8::try_from(unit).ok().filter(u8::is_ascii).unwrap_or(b'?');
            written = index + 1;
        }
        core::str::from_utf8(&buffer[..written]).unwrap_or_default()
    }
}

/// Makes a function the one that the firmware calls: `fn(image: *const c_void, &SystemTable) -> !`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// The entry point.
        #[unsafe(no_mangle)]
        extern "efiapi" fn efi_main(
            image: *const ::core::ffi::c_void,
            table: &'static $crate::SystemTable,
        ) -> usize {
            let main: fn(*const ::core::ffi::c_void, &'static $crate::SystemTable) -> ! = $main;
            main(image, table)
        }
    };
}
