//! Latches of pvio compared with that of QEMU's `pc-testdev`, by programs in every kind of code.

use std::path::Path;

use pvio_cli::machine::Machine;
use pvio_tests::programs::{Batch, Generator, Outcome};
use pvio_tests::{Host, guest};

/// Fails unless 500 programs, of all forms and sizes, find the same latch with a device at 0xe0-0xe3 as without.
pub(super) fn assert_is_qemus_latch(host: &Host, seed: u64, device: &str) {
    let programs = Generator::with_seed(seed).take(500).collect();
    let batch = Batch { programs, paged: false };
    let directory = tempfile::tempdir().unwrap();
    let run = |name: &str, options: &[&str]| {
        let machine = host.machine().plugin(&["summary=off"]).plugin(options);
        run_programs(machine, &batch, &directory.path().join(name))
    };
    let (native, ours) = (run("qemu", &[]), run("pvio", &[device]));
    for (index, (program, effects)) in batch.programs.iter().enumerate() {
        let (left, right) = (&native.0[index], &ours.0[index]);
        assert!(left.ended_as_modelled(program, effects), "{program}\n{left}");
        assert!(left == right, "{program}\nQEMU's latch:\n{left}\n{device}:\n{right}");
    }
    assert!(native.1 == ours.1, "the memory differs");
}

/// Runs programs of the guest `differ`. Returns how each ended, and the memory at the end.
fn run_programs(machine: Machine, batch: &Batch, ram: &Path) -> (Vec<Outcome>, Vec<u8>) {
    batch.write_memory(ram, &mut fastrand::Rng::with_seed(7)).unwrap();
    let backend =
        format!("memory-backend-file,id=ram,size=64M,share=on,mem-path={}", ram.display());
    let machine = machine.bare_guest(&guest("differ.bin")).args(["-object", &backend]);
    let machine = machine.args(["-machine", "memory-backend=ram", "-device", "pc-testdev"]);
    let ended = machine.run().unwrap();
    // isa-debug-exit turns 0 into 1.
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(1), ""));
    let memory = std::fs::read(ram).unwrap();
    (batch.read_outcomes(&memory), memory)
}
