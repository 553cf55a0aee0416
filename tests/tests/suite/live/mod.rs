//! A machine that runs: its control socket, breakpoints at accesses, and `pvio top`.

mod all_at_once;
mod breakpoints;
mod control;
mod document;
mod hostile_clients;
mod socket;
mod top;
mod trace;

use std::path::{Path, PathBuf};

use pvio::stats::Snapshot;
use pvio_cli::live::Connection;
use pvio_cli::machine::{Machine, Running};
use pvio_cli::paths;
use pvio_tests::{guest, wait_for};
use serde_json::{Value, json};

/// The command `pvio` that was built together with the plugin.
pub(crate) fn program() -> PathBuf {
    let plugin = paths::plugin().unwrap();
    let directory = plugin.parent().unwrap();
    let program = directory.with_file_name("pvio");
    assert!(program.exists(), "{} is not built: run qemu-scripts/setup", program.display());
    program
}

/// A machine with a control socket, and the connection to it.
struct Live {
    running: Running,
    connection: Connection,
    directory: tempfile::TempDir,
}

/// The option of a control socket in a directory.
fn control(directory: &Path) -> (String, PathBuf) {
    let path = directory.join("socket");
    (format!("control={}", path.display()), path)
}

/// Connects as soon as the socket is there.
fn connect(path: &Path) -> Connection {
    wait_for(|| Connection::open(path).map_err(|error| format!("{error:#}")))
}

impl Live {
    fn start(machine: Machine, image: &Path, options: &[&str]) -> Live {
        let directory = tempfile::tempdir().unwrap();
        let (option, path) = control(directory.path());
        let machine = machine.plugin(&["summary=off", &option]).plugin(options);
        let running = machine.bare_guest(image).start().unwrap();
        Live { running, connection: connect(&path), directory }
    }

    /// Starts a guest of `tests/guests`.
    fn guest(machine: Machine, name: &str, options: &[&str]) -> Live {
        Live::start(machine, &guest(&format!("{name}.bin")), options)
    }

    fn socket(&self) -> PathBuf {
        control(self.directory.path()).1
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        self.connection.ask(command, arguments).unwrap()
    }

    /// The error of a request that is refused.
    fn refused(&mut self, command: &str, arguments: Value) -> String {
        format!("{:#}", self.connection.ask(command, arguments).unwrap_err())
    }

    /// Takes a snapshot, and whether no vCPU ran meanwhile.
    fn snapshot(&mut self) -> (Snapshot, bool) {
        let answer = self.ask("snapshot", json!({}));
        let stats = serde_json::to_vec(&answer["stats"]).unwrap();
        (Snapshot::from_json(&stats).unwrap(), answer["exact"] == true)
    }
}

fn accesses(snapshot: &Snapshot) -> u64 {
    snapshot.tables.forms.iter().map(|row| row.accesses).sum()
}
