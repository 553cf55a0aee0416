//! `device=observe@PORTS:path=SOCKET`: another process sees the accesses of the guest.

use std::collections::BTreeMap;
use std::time::Duration;

use pvio::x86::Direction;
use pvio_tests::{Host, guest, on_both_qemus, refusal};

use super::peer::Peer;
use super::python::Program;

on_both_qemus! {
    program_sees_every_access_that_the_statistics_count
    program_that_does_not_read_misses_accesses_and_stops_nobody
    program_that_ends_leaves_the_guest_alone
    wrong_observers_are_refused
}

/// Counts what it sees, and writes it at the end: offset, direction, size, accesses.
const COUNTER: &str = r#"
import sys
import pvio_device

class Counter(pvio_device.Device):
    counts = {}
    left_out = 0

    def saw(self, access):
        key = (access.offset, "out" if access.is_write else "in", access.size)
        self.counts[key] = self.counts.get(key, 0) + 1
        self.left_out += access.left_out

    def end(self):
        with open(sys.argv[1] + ".txt", "w") as file:
            for (offset, direction, size), count in sorted(self.counts.items()):
                print(offset, direction, size, count, file=file)
            print("left out", self.left_out, file=file)

pvio_device.serve(Counter, sys.argv[1], once=True)
"#;

fn program_sees_every_access_that_the_statistics_count(host: &Host) {
    let mut program = Program::start(COUNTER);
    let device = program.option("0x5000-0x57ff", "").replace("device=socket@", "device=observe@");
    let machine = host.machine().plugin(&["summary=off", &device]);
    let ended = machine.bare_guest(&guest("forms.bin")).run().unwrap();
    assert_eq!(ended.stderr, "");
    program.wait();
    let text = std::fs::read_to_string(program.path("socket.txt")).unwrap();
    let mut expected = BTreeMap::<(u16, String, u8), u64>::new();
    for row in &ended.stats().unwrap().ports {
        if (0x5000..=0x57ff).contains(&row.port.0) {
            let direction = if row.dir == Direction::In { "in" } else { "out" };
            let key = (row.port.0 - 0x5000, direction.to_owned(), row.size.bytes().unwrap());
            *expected.entry(key).or_default() += row.accesses();
        }
    }
    let mut lines: Vec<String> = expected
        .iter()
        .map(|((offset, direction, size), count)| format!("{offset} {direction} {size} {count}\n"))
        .collect();
    // The forms with the port in DX; those of the other six are below 0x100.
    assert_eq!(lines.len(), 18, "{lines:?}");
    lines.push("left out 0\n".to_owned());
    assert_eq!(text, lines.concat());
}

/// The guest makes far more accesses than wait.
fn program_that_does_not_read_misses_accesses_and_stops_nobody(host: &Host) {
    let peer = Peer::new(|mut connection| {
        connection.greet();
        std::thread::sleep(Duration::from_secs(3600));
    });
    let device = peer.option("0x5000-0x57ff", "").replace("device=socket@", "device=observe@");
    let machine = host.machine().plugin(&["summary=off", &device]).args(["-debugcon", "null"]);
    let ended = machine.bare_guest(&guest("irq-rep.bin")).run().unwrap();
    // isa-debug-exit turns 0 into 1.
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let line = ended
        .stderr
        .strip_suffix(" accesses were left out, because the program reads too slowly\n");
    let count = line.and_then(|line| line.rsplit(' ').next()).unwrap_or("none");
    assert!(count.parse::<u64>().is_ok_and(|count| count > 1_000_000), "{}", ended.stderr);
}

fn program_that_ends_leaves_the_guest_alone(host: &Host) {
    let peer = Peer::new(|mut connection| {
        connection.greet();
    });
    let device = peer.option("0x5000-0x57ff", "").replace("device=socket@", "device=observe@");
    let machine = host.machine().plugin(&["summary=off", &device]);
    let ended = machine.bare_guest(&guest("forms.bin")).run().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let begin = "pvio: observe at 0x5000-0x57ff: the program has gone (";
    assert!(ended.stderr.starts_with(begin), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

fn wrong_observers_are_refused(host: &Host) {
    for (settings, expected) in [
        (
            "path=/nonexistent",
            "path=/nonexistent: nobody listens there; start the device's program first",
        ),
        ("path=/tmp/x:file=/tmp/y", "an observer is a script or a program; remove file= or path="),
    ] {
        let option = format!("device=observe@0x80:{settings}");
        let machine = host.machine().plugin(&[&option]).bare_guest(&guest("poweroff.bin"));
        let line = refusal(&machine.run().unwrap());
        assert!(line.contains(expected), "{settings}: {line}");
    }
}
