//! QEMU's monitor, through its machine protocol QMP.

use std::fmt;
use std::io::{BufRead, BufReader, BufWriter, Chain, Cursor, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use pvio_cli::machine::{Ended, Machine, Running};
use qapi::qmp::{self, Event, MigrationStatus, QmpCommand, RunState};
use qapi::{ExecuteError, Qmp, Stream};
use tempfile::TempDir;

use crate::wait_for;

/// Time limit of QEMU's answer to one command. Saving a machine takes longest.
const ANSWER_LIMIT: Duration = Duration::from_secs(150);

/// QEMU's greeting, which is read first, and all that follows it.
type Answers = Chain<Cursor<String>, BufReader<UnixStream>>;

/// The monitor of a running machine.
pub struct Monitor {
    running: Running,
    qmp: Qmp<Stream<Answers, BufWriter<UnixStream>>>,
    /// Holds the socket.
    _directory: TempDir,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Monitor").field("running", &self.running).finish_non_exhaustive()
    }
}

/// Skips the events before QEMU's greeting: while the machine starts, it may send some to a client that has just come.
fn greeted(mut reader: BufReader<UnixStream>) -> Answers {
    let mut line = String::new();
    while !line.contains("\"QMP\"") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "QEMU closed the monitor");
    }
    Cursor::new(line).chain(reader)
}

impl Monitor {
    /// Starts a machine and connects to its monitor.
    ///
    /// # Panics
    ///
    /// If QEMU does not start.
    pub fn start(machine: Machine) -> Monitor {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("qmp");
        let server = format!("unix:{},server=on,wait=off", socket.display());
        let mut running = machine.args(["-qmp", &server]).start().unwrap();
        let stream = wait_for(|| {
            if let Some(ended) = running.poll().unwrap() {
                panic!("QEMU ended ({}): {}", ended.status, ended.stderr);
            }
            UnixStream::connect(&socket).map_err(|error| format!("no monitor: {error}"))
        });
        stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
        // Buffered, so that a command that ends QEMU is sent whole.
        let reader = greeted(BufReader::new(stream.try_clone().unwrap()));
        let mut qmp = Qmp::new(Stream::new(reader, BufWriter::new(stream)));
        qmp.handshake().unwrap();
        Monitor { running, qmp, _directory: directory }
    }

    /// Starts a machine whose vCPUs are stopped, so that only the monitor accesses ports.
    pub fn start_stopped(machine: Machine) -> Monitor {
        let arguments = ["-S", "-machine", "pc", "-m", "64", "-display", "none", "-nodefaults"];
        Monitor::start(machine.args(arguments))
    }

    /// Returns the machine.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Executes a command. Returns QEMU's answer, or the description of its error.
    ///
    /// # Panics
    ///
    /// If QEMU ends, or its answer is not of the command's type.
    pub fn execute<C: QmpCommand>(&mut self, command: C) -> Result<C::Ok, String> {
        match self.qmp.execute(&command) {
            Ok(answer) => Ok(answer),
            Err(ExecuteError::Qapi(error)) => Err(error.desc),
            Err(ExecuteError::Io(error)) => panic!("{}: {error}", C::NAME),
        }
    }

    /// Runs a command of the monitor for humans. Returns what it prints.
    ///
    /// QMP has no commands for ports, registers and gdb, and saves snapshots only as jobs.
    pub fn ask(&mut self, command: &str) -> String {
        let answer = self.execute(for_humans(command)).unwrap();
        answer.trim_end().replace('\r', "")
    }

    /// Stops the vCPUs.
    pub fn stop(&mut self) {
        self.execute(qmp::stop {}).unwrap();
    }

    /// Lets the vCPUs run.
    pub fn cont(&mut self) {
        self.execute(qmp::cont {}).unwrap();
    }

    /// Returns the state of the machine.
    pub fn status(&mut self) -> RunState {
        self.execute(qmp::query_status {}).unwrap().status
    }

    /// Raises a non-maskable interrupt.
    pub fn inject_nmi(&mut self) {
        self.execute(qmp::inject_nmi {}).unwrap();
    }

    /// Resets the machine, and waits until it is reset.
    pub fn reset(&mut self) {
        self.execute(qmp::system_reset {}).unwrap();
        self.wait_for_reset();
    }

    /// Waits for a reset that has been requested since the last one.
    pub fn wait_for_reset(&mut self) {
        wait_for(|| {
            self.qmp.nop().unwrap();
            let is_reset = self.qmp.events().any(|event| matches!(event, Event::RESET { .. }));
            is_reset.then_some(()).ok_or_else(|| "the machine was not reset".to_owned())
        });
    }

    /// Saves the machine in a file, by migration.
    ///
    /// # Errors
    ///
    /// Returns QEMU's description if the machine cannot be migrated.
    pub fn migrate(&mut self, file: &Path) -> Result<(), String> {
        let uri = Some(format!("file:{}", file.display()));
        self.execute(qmp::migrate { channels: None, detach: None, resume: None, uri })?;
        wait_for(|| match self.execute(qmp::query_migrate {})?.status {
            Some(MigrationStatus::completed) => Ok(()),
            Some(MigrationStatus::failed) => panic!("the migration failed"),
            status => Err(format!("the migration is {status:?}")),
        });
        Ok(())
    }

    /// Writes physical memory to a file.
    pub fn save_memory(&mut self, address: u64, size: u64, file: &Path) {
        let filename = file.display().to_string();
        self.execute(qmp::pmemsave { filename, size, val: address }).unwrap();
    }

    /// Makes the drive of [`snapshot_drive`] able to hold snapshots: a raw image is not.
    pub fn add_overlay(&mut self, directory: &Path) {
        let overlay = qmp::BlockdevSnapshotSync {
            device: Some("disk".to_owned()),
            format: Some("qcow2".to_owned()),
            mode: None,
            node_name: None,
            snapshot_node_name: None,
            snapshot_file: directory.join("disk.qcow2").display().to_string(),
        };
        self.execute(qmp::blockdev_snapshot_sync(overlay)).unwrap();
    }

    /// Writes to a port: 1, 2 or 4 bytes.
    pub fn write(&mut self, port: u16, size: u8, value: u32) {
        assert_eq!(self.ask(&format!("o /{} {port:#x} {value:#x}", unit(size))), "");
    }

    /// Reads from a port.
    pub fn read(&mut self, port: u16, size: u8) -> u32 {
        let answer = self.ask(&format!("i /{} {port:#x}", unit(size)));
        let value = answer.split_once(" = 0x").unwrap_or_else(|| panic!("{answer}")).1;
        u32::from_str_radix(value, 16).unwrap()
    }

    /// Waits until QEMU ends by itself or by a signal.
    pub fn wait(self) -> Ended {
        self.running.wait().unwrap()
    }

    /// Ends QEMU.
    pub fn quit(self) -> Ended {
        self.last(qmp::quit {})
    }

    /// Sends a command for humans that ends QEMU, and waits for the end.
    pub fn ask_last(self, command: &str) -> Ended {
        self.last(for_humans(command))
    }

    /// Sends a command and waits for the end of QEMU, which may not answer any more.
    fn last(mut self, command: impl QmpCommand) -> Ended {
        self.qmp.write_command(&command).unwrap();
        self.running.wait().unwrap()
    }
}

/// Wraps a command of the monitor for humans in a command of QMP.
fn for_humans(command: &str) -> qmp::human_monitor_command {
    qmp::human_monitor_command { cpu_index: None, command_line: command.to_owned() }
}

/// Makes an empty disk in a directory. Returns its value for `-drive`.
pub fn snapshot_drive(directory: &Path) -> String {
    let raw = directory.join("disk.raw");
    std::fs::File::create(&raw).unwrap().set_len(1 << 20).unwrap();
    format!("if=none,id=disk,format=raw,file={}", raw.display())
}

/// The letter of `i` and `o` for a size in bytes.
fn unit(size: u8) -> char {
    match size {
        1 => 'b',
        2 => 'h',
        4 => 'w',
        _ => panic!("no access has {size} bytes"),
    }
}
