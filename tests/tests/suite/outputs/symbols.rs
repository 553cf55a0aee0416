//! Names that `symbols=FILE` gives to sites, compared with what is in memory there.

mod bad_files;
mod debug_files;
mod elf_code;
mod elf_files;
mod kernel_files;
mod lines;
mod mangled;

use pvio_cli::machine::Ended;
use pvio_tests::{Host, guest};

/// Runs the guest `forms` with options for the plugin.
fn run_forms(host: &Host, options: &[&str]) -> Ended {
    host.machine().plugin(options).bare_guest(&guest("forms.bin")).run().unwrap()
}
