//! The programs in qemu-scripts.

mod bench;
mod boot_linux;
mod command_line;
mod demo;
mod experiment;
mod guest_test;
mod guest_test_outputs;
mod install;
mod paravirt_linux;
mod run_report;
