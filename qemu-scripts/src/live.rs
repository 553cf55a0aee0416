//! A machine that runs: its control socket, and requests to it.
//!
//! `docs/control.md` describes the protocol.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

/// The variable that names the socket of a machine.
pub const VARIABLE: &str = "PVIO_CONTROL";

/// The longest line that is read: more than the largest dump has.
const MAX_LINE: u64 = 1 << 30;

/// The time that an answer may take. A snapshot of a machine that is busy takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the directory in which `qemu-scripts/run` makes sockets.
pub fn runtime_directory() -> PathBuf {
    match env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty()) {
        Some(directory) => Path::new(&directory).join("pvio"),
        None => env::temp_dir().join(format!("pvio-{}", rustix::process::geteuid().as_raw())),
    }
}

/// Returns the socket of the machine that is meant: the given one, that of `$PVIO_CONTROL`, or the only one that
/// `qemu-scripts/run` has started.
///
/// # Errors
///
/// Fails if no machine runs, or several do.
pub fn find(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    if let Some(path) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let directory = runtime_directory();
    let mut alive = sockets(&directory);
    alive.sort();
    match &alive[..] {
        [] => bail!(
            "no machine with a control socket is found in {}; start QEMU with the plugin's option control=PATH and name \
             PATH here, or in ${VARIABLE}",
            directory.display()
        ),
        [one] => Ok(one.clone()),
        several => {
            let names: Vec<String> =
                several.iter().map(|path| path.display().to_string()).collect();
            bail!("several machines run; name one: {}", names.join(", "))
        }
    }
}

/// The sockets in a directory that somebody serves.
fn sockets(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    sockets.map(|entry| entry.path()).filter(|path| UnixStream::connect(path).is_ok()).collect()
}

/// A connection to a machine's control socket.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<UnixStream>,
    /// Events that came while an answer was waited for.
    events: Vec<Value>,
}

impl Connection {
    /// Connects, and reads the greeting.
    ///
    /// # Errors
    ///
    /// Fails if nobody serves the socket, or not this protocol.
    pub fn open(path: &Path) -> Result<Connection> {
        let named = || path.display().to_string();
        let stream = UnixStream::connect(path).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::ConnectionRefused => ": its QEMU has ended",
                io::ErrorKind::NotFound => "; the option control=PATH makes the socket",
                _ => "",
            };
            anyhow!("{}: {error}{hint}", path.display())
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut connection = Connection { reader: BufReader::new(stream), events: Vec::new() };
        let greeting = connection.line().with_context(named)?;
        if let Some(why) = error_of(&greeting) {
            bail!("{}: {why}", path.display());
        }
        match greeting["pvio"]["protocol"].as_u64() {
            Some(1) => Ok(connection),
            Some(other) => {
                bail!("{}: its protocol is {other}, and this program's is 1", path.display())
            }
            None => bail!("{}: it is not a control socket of pvio", path.display()),
        }
    }

    /// Sends a request and returns its answer.
    ///
    /// # Errors
    ///
    /// Fails if the machine refuses the request or has ended.
    pub fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
        request.push('\n');
        self.reader.get_mut().write_all(request.as_bytes()).context("the machine has ended")?;
        loop {
            let mut line = self.line()?;
            if line["event"].is_string() {
                self.events.push(line);
            } else if let Some(why) = error_of(&line) {
                bail!("{why}");
            } else {
                return Ok(line["return"].take());
            }
        }
    }

    /// Waits for the next event: its name and its data. Without a time limit.
    ///
    /// # Errors
    ///
    /// Fails if the machine has ended.
    pub fn next_event(&mut self) -> Result<(String, Value)> {
        self.reader.get_ref().set_read_timeout(None)?;
        loop {
            let mut line = match self.events.is_empty() {
                true => self.line()?,
                false => self.events.remove(0),
            };
            if let Some(name) = line["event"].as_str() {
                return Ok((name.to_owned(), line["data"].take()));
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = Vec::new();
        let len = (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut line);
        match len {
            Ok(0) => bail!("the machine has ended"),
            Ok(_) => serde_json::from_slice(&line).context("it is not a control socket of pvio"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                bail!("no answer in {} seconds", PATIENCE.as_secs())
            }
            Err(error) => Err(error).context("the machine has ended"),
        }
    }
}

fn error_of(answer: &Value) -> Option<&str> {
    answer["error"]["desc"].as_str()
}
