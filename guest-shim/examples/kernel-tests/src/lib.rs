//! A kernel: from the entry point of PVH to 64-bit Rust.

#![no_std]
#![cfg_attr(test, no_main)]

mod start;
#[cfg(test)]
mod unit;

use core::ffi::CStr;

/// What the boot loader passes to a PVH kernel: the beginning of `hvm_start_info`.
#[repr(C)]
pub struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
}

impl StartInfo {
    /// Returns the command line. One that is not UTF-8 is as if there were none.
    pub fn command_line(&self) -> &str {
        if self.command_line == 0 {
            return "";
        }
        // SAFETY: the boot loader's text ends with a zero, and memory is mapped one to one.
        let text = unsafe { CStr::from_ptr(self.command_line as *const _) };
        text.to_str().unwrap_or_default()
    }
}

/// Makes a function the one that the kernel runs: `fn(&StartInfo) -> !`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// The function that the start code calls.
        #[unsafe(no_mangle)]
        extern "C" fn kernel_main(info: &'static $crate::StartInfo) -> ! {
            let main: fn(&'static $crate::StartInfo) -> ! = $main;
            main(info)
        }
    };
}
