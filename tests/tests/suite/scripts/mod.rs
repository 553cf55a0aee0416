//! The programs in qemu-scripts.

mod bench;
mod boot_linux;
mod command_line;
mod demo;
mod experiment;
mod experiment_decoders;
mod experiment_image;
mod guest_test;
mod guest_test_boot;
mod guest_test_cargo;
mod guest_test_fleet;
mod guest_test_outputs;
mod guest_test_reports;
mod guest_test_unittests;
mod guest_test_verdicts;
mod install;
mod paravirt_linux;
mod run_report;
mod survey;
