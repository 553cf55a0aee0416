//! Unwinding and processes in damaged memory: the results are bounded, and come soon.

use std::time::{Duration, Instant};

use pvio::guest::{Kernel, MOST_FRAMES, Processes, unwind};
use pvio_tests::linux::BootedLinux;

use super::tasks::{TASKS, sleeping_tasks};

#[test]
fn damaged_memory_gives_bounded_results_in_bounded_time() {
    let mut guest = BootedLinux::boot(&["--suite", "trixie"], "pti=off", TASKS);
    let cpu = guest.stop(|cpu| cpu.is_in_user_mode());
    let registers = cpu.registers();
    let kernel = guest.kernel();
    let processes = Processes::find(&kernel, &guest.ram).unwrap();
    let tasks = sleeping_tasks(&guest, &kernel, &processes);
    let mut ram = guest.ram.copy();
    let mut random = fastrand::Rng::with_seed(12);
    for _ in 0..20 {
        ram.damage(&mut random, 20_000);
        let begin = Instant::now();
        let found = Kernel::find(&ram, &[registers]);
        // The kernel that was found earlier is used as well, on tables that have changed since.
        for kernel in found.iter().chain([&kernel]) {
            let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&ram, at, into);
            for task in &tasks {
                let chain = unwind(Some(kernel), &task.start, MOST_FRAMES, &mut read).chain;
                assert!(chain.frames.len() <= MOST_FRAMES);
            }
            let found = Processes::find(kernel, &ram);
            for processes in found.iter().chain([&processes]) {
                let base = processes.base_of(0, &mut read).unwrap_or_default();
                let current = processes.current(&[base], &mut read);
                for process in tasks.iter().map(|task| &task.process).chain(&current) {
                    assert!(process.comm.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                    let path = processes.executable(process, &mut read).unwrap_or_default();
                    assert!(path.len() <= 64 * 256);
                    for address in [0, 0x40_1000, random.u64(..), cpu.get("RIP")] {
                        let _ = processes.mapping(process, address, &mut read);
                    }
                }
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
}
