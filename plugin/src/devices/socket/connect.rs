//! Connects to a device's program: the path, its owner, and the greeting.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::connection::Connection;
use super::fault::{Fault, NoAnswer};
use super::frame::{ANSWER, Frame, MAGIC, VERSION, kind};
use super::patience::Patience;
use crate::devices::StopRequest;
use crate::listening_socket::MAX_PATH;
use crate::x86::PortRange;

/// The longest wait for the greeting: the program may only just have started.
const GREETING: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the path has {0} bytes, and a socket's has {MAX_PATH} at most; name a shorter one")]
    TooLong(usize),
    #[error("nobody listens there; start the device's program first")]
    Nobody,
    #[error("it is not a socket; name the Unix socket on which the device's program listens")]
    NotASocket,
    #[error("it cannot be connected to: {0}; start the device's program first, as this user")]
    Failed(io::Error),
    #[error(
        "the program that listens there belongs to user {0}; run it as user {1}, like QEMU, or as root"
    )]
    Foreign(u32, u32),
    #[error("the program that listens there {0}")]
    Greeting(Fault),
    #[error("QEMU ends")]
    Stopped,
}

impl From<Fault> for ConnectError {
    fn from(fault: Fault) -> ConnectError {
        match fault {
            Fault::Silent(limit) => ConnectError::Greeting(Fault::NoGreeting(limit)),
            fault => ConnectError::Greeting(fault),
        }
    }
}

/// Where a device's program listens.
#[derive(Debug)]
pub(super) struct Address {
    /// As the user wrote it, for messages.
    pub path: String,
    /// Absolute, since QEMU may change its directory; or relative if only that is short enough.
    address: PathBuf,
    range: PortRange,
}

impl Address {
    /// # Errors
    ///
    /// The path is too long for a socket.
    pub fn new(path: String, range: PortRange) -> Result<Address, ConnectError> {
        let absolute = std::path::absolute(&path).map_err(ConnectError::Failed)?;
        let relative = Path::new(&path);
        let len = |path: &Path| path.as_os_str().len();
        let address = match (len(&absolute) <= MAX_PATH, len(relative) <= MAX_PATH) {
            (true, _) => absolute,
            (false, true) => relative.to_owned(),
            (false, false) => return Err(ConnectError::TooLong(len(relative).min(len(&absolute)))),
        };
        Ok(Address { path, address, range })
    }

    /// Connects, and exchanges hellos.
    ///
    /// # Errors
    ///
    /// Nobody listens, the program is another user's, or does not speak the protocol.
    pub fn connect(&self, stop: StopRequest) -> Result<Connection, ConnectError> {
        let is_other = || {
            let there = std::fs::metadata(&self.address);
            there.is_ok_and(|there| !there.file_type().is_socket())
        };
        let failed = |error: Errno| match error {
            Errno::CONNREFUSED if is_other() => ConnectError::NotASocket,
            Errno::CONNREFUSED | Errno::NOENT => ConnectError::Nobody,
            error => ConnectError::Failed(error.into()),
        };
        // Without waiting, even if the program's queue of connections is full.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        let address = SocketAddrUnix::new(&self.address).map_err(failed)?;
        connect(&socket, &address).map_err(failed)?;
        let theirs = socket_peercred(&socket).map_err(failed)?.uid.as_raw();
        let ours = rustix::process::geteuid().as_raw();
        // Someone else may have made the socket in a shared directory.
        if ours != 0 && ![0, ours].contains(&theirs) {
            return Err(ConnectError::Foreign(theirs, ours));
        }
        let mut connection = Connection::new(UnixStream::from(socket));
        greet(&mut connection, self.range, stop)?;
        Ok(connection)
    }
}

fn greet(
    connection: &mut Connection,
    range: PortRange,
    stop: StopRequest,
) -> Result<(), ConnectError> {
    let hello = Frame {
        kind: kind::HELLO,
        offset: range.first().0,
        value: MAGIC,
        count: range.len(),
        id: VERSION,
        ..Frame::default()
    };
    connection.post(hello, &[])?;
    let mut patience = Patience::new(GREETING, stop);
    let stopped = |no_answer| match no_answer {
        NoAnswer::Fault(fault) => ConnectError::from(fault),
        NoAnswer::Stopped => ConnectError::Stopped,
    };
    let wait = patience.begin().map_err(stopped)?;
    let answer = loop {
        if let Some(frame) = connection.take_frame() {
            break frame;
        }
        if !connection.receive()? {
            patience.wait(&wait, connection.stream(), connection.interest()).map_err(stopped)?;
        }
        connection.flush()?;
    };
    match (answer.kind, answer.value, answer.id) {
        (kind, MAGIC, VERSION) if kind == kind::HELLO | ANSWER => Ok(()),
        (kind, MAGIC, version) if kind == kind::HELLO | ANSWER => {
            Err(Fault::Version(version).into())
        }
        _ => Err(Fault::NoHello(answer).into()),
    }
}
