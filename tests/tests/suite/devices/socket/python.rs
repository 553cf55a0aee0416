//! The module and the example for Python, as a user starts them.

use std::io::BufRead;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use pvio_cli::machine::Machine;
use pvio_cli::paths;
use pvio_tests::{Host, LinuxGuest, assert_consistent, guest, on_both_qemus, wait_until};

use crate::devices::latches::assert_is_qemus_latch;

on_both_qemus! {
    alarm_in_python_interrupts_its_guest
    programs_cannot_tell_a_latch_in_python_from_qemus
    linux_program_uses_a_latch_in_python
    exception_in_a_device_ends_the_program_and_not_the_guest
}

fn example(name: &str) -> PathBuf {
    paths::repository().join("plugin/examples/socket-device").join(name)
}

/// A program of the user's, which is killed at the end.
pub(super) struct Program {
    child: Child,
    directory: tempfile::TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts a program beside the module, as the documentation says.
    pub fn start(text: &str) -> Program {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        std::fs::copy(example("pvio_device.py"), path("pvio_device.py")).unwrap();
        std::fs::write(path("device.py"), text).unwrap();
        let mut command = Command::new(paths::python().unwrap());
        command.arg(path("device.py")).arg(path("socket")).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        wait_until(
            || {
                assert!(child.try_wait().unwrap().is_none(), "the program has ended");
                path("socket").exists()
            },
            || "the program does not listen".to_owned(),
        );
        Program { child, directory }
    }

    /// A file in the program's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until the program ends.
    pub fn wait(&mut self) {
        let ended = || self.child.try_wait().unwrap().is_some();
        wait_until(ended, || "the program goes on".to_owned());
    }

    pub fn option(&self, ports: &str, settings: &str) -> String {
        let socket = self.directory.path().join("socket");
        format!("device=socket@{ports}:path={}{settings}", socket.display())
    }
}

fn with(host: &Host, devices: &[&str]) -> Machine {
    host.machine().plugin(&["summary=off"]).plugin(devices)
}

fn alarm_in_python_interrupts_its_guest(host: &Host) {
    let text = std::fs::read_to_string(example("alarm.py")).unwrap();
    let code = text.lines().filter(|line| !line.trim().is_empty());
    assert!(code.count() <= 20, "it is longer than 20 lines");
    let (_, shown) = text.split_once("import sys\n").unwrap();
    let page = std::fs::read_to_string(paths::repository().join("docs/socket-device.md")).unwrap();
    assert!(
        page.contains(&format!("```python\nimport sys\n{shown}```\n")),
        "the page shows another"
    );
    let program = Program::start(&text);
    let devices = [&*program.option("0x300", ":irq=5:timeout=60000"), "device=debug-exit@0xf4"];
    // A second QEMU gets a new device.
    for _ in 0..2 {
        let ended = with(host, &devices).bare_guest(&guest("alarm.bin")).run().unwrap();
        assert_eq!((ended.status.code(), &*ended.stderr), (Some(3), ""));
        assert_consistent(ended.stats().unwrap());
    }
}

const LATCH: &str = "
import sys
import pvio_device

class Latch(pvio_device.Device):
    def reset(self):
        self.bytes = bytearray(4)

    def read(self, offset, size):
        return int.from_bytes(self.bytes[offset:offset + size], 'little')

    def write(self, offset, size, value):
        self.bytes[offset:offset + size] = value.to_bytes(size, 'little')

pvio_device.serve(Latch, sys.argv[1])
";

/// All forms and sizes, in every kind of code. The other latch is that of QEMU's `pc-testdev`.
fn programs_cannot_tell_a_latch_in_python_from_qemus(host: &Host) {
    let program = Program::start(LATCH);
    assert_is_qemus_latch(host, 0x50c4, &program.option("0xe0-0xe3", ":timeout=60000"));
}

fn linux_program_uses_a_latch_in_python(host: &Host) {
    let program = Program::start(LATCH);
    let ioperm = std::fs::read(guest("ioperm")).unwrap();
    let script = "/ioperm grant; echo \"granted: status $?\"";
    let linux = LinuxGuest::new(script, &[("ioperm", &ioperm)]).unwrap();
    let device = program.option("0x300-0x303", ":timeout=60000");
    let ended = linux.on(host.machine().plugin(&[&device])).run().unwrap();
    assert!(ended.stdout.contains("granted: status 0"), "{}{}", ended.stdout, ended.stderr);
    let rows =
        ended.stats().unwrap().ports.iter().filter(|row| (0x300..0x304).contains(&row.port.0));
    // Without exception events, only the strings of user mode are sure.
    let sure = if host.reports_exceptions() { 400 } else { 100 };
    assert!(rows.map(|row| row.device).sum::<u64>() >= sure);
}

fn exception_in_a_device_ends_the_program_and_not_the_guest(host: &Host) {
    let text = LATCH.replace("return int.from_bytes", "return self.oops or int.from_bytes");
    let mut program = Program::start(&text);
    let mut monitor =
        pvio_tests::Monitor::start_stopped(with(host, &[&program.option("0x300-0x303", "")]));
    monitor.write(0x300, 1, 1);
    assert_eq!(monitor.read(0x300, 4), 0xffff_ffff);
    let ended = monitor.quit();
    assert!(ended.stderr.contains("closed the connection: from now on"), "{}", ended.stderr);
    assert!(!program.child.wait().unwrap().success());
    let stderr = std::io::BufReader::new(program.child.stderr.take().unwrap());
    let last = stderr.lines().last().unwrap().unwrap();
    assert_eq!(last, "AttributeError: 'Latch' object has no attribute 'oops'");
}
