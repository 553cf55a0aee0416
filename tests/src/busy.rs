//! Machines whose vCPUs run without end.

use pvio_cli::machine::Machine;

use crate::{Monitor, wait_until};

/// Starts a machine and waits until its vCPUs run.
///
/// It counts busy threads, so each vCPU needs its own thread, and the guest must never halt.
pub fn start_busy(machine: Machine, vcpus: usize) -> Monitor {
    let monitor = Monitor::start(machine);
    let all_run = || monitor.running().busy_threads().unwrap() >= vcpus;
    wait_until(all_run, || format!("fewer than {vcpus} vCPUs run"));
    monitor
}
