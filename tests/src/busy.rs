//! Machines of which every vCPU runs without end.

use std::thread::sleep;
use std::time::{Duration, Instant};

use pvio_cli::machine::{Machine, Running};

/// How long the vCPUs may take to start, also on a loaded computer.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Starts a machine with its monitor on stdin, and waits until this many vCPUs run.
///
/// Each needs a thread of its own, and a guest that never halts: nothing else keeps QEMU busy.
pub fn start_busy(machine: Machine, vcpus: usize) -> Running {
    let mut running = machine.args(["-monitor", "stdio"]).start().unwrap();
    running.wait_for("(qemu)").unwrap();
    let started = Instant::now();
    while running.busy_threads().unwrap() < vcpus {
        assert!(started.elapsed() < TIME_LIMIT, "fewer than {vcpus} vCPUs run");
        sleep(Duration::from_millis(10));
    }
    running
}
