//! Machines whose vCPUs run without end.

use pvio_cli::machine::{Machine, Running};

use crate::wait_until;

/// Starts a machine with its monitor on stdin, and waits until its vCPUs run.
///
/// It counts threads that are busy, so each vCPU needs its own thread and a guest that never halts.
pub fn start_busy(machine: Machine, vcpus: usize) -> Running {
    let mut running = machine.args(["-monitor", "stdio"]).start().unwrap();
    running.wait_for("(qemu)").unwrap();
    let all_run = || running.busy_threads().unwrap() >= vcpus;
    wait_until(all_run, || format!("fewer than {vcpus} vCPUs run"));
    running
}
