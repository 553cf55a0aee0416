//! The ways in which a far end is connected, and what they leave in a directory.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::pseudoterminal::{Link, Pseudoterminal};
use super::standard_streams::StandardStreams;
use crate::listening_socket::ListeningSocket;

/// How bytes reach the far end.
pub(super) enum Connection {
    /// A terminal program opens the other side.
    Pseudoterminal(Pseudoterminal),
    /// One program at a time connects.
    Socket {
        socket: Arc<ListeningSocket>,
        /// The program that is connected.
        client: Option<UnixStream>,
    },
    /// QEMU's own input and output.
    Streams(StandardStreams),
}

/// What is removed when the machine ends.
pub(super) enum Place {
    /// The link to a pseudoterminal.
    Link { _link: Link },
    /// A socket.
    Socket { _socket: Arc<ListeningSocket> },
    /// Nothing.
    None,
}

/// Makes a pseudoterminal, and a link to it.
pub(super) fn pseudoterminal(link: &str) -> Result<(Connection, Place), String> {
    let terminal = Pseudoterminal::open().map_err(|error| error.to_string())?;
    let link = Link::make(Path::new(link), terminal.name())?;
    Ok((Connection::Pseudoterminal(terminal), Place::Link { _link: link }))
}

/// Makes a socket.
pub(super) fn listening_socket(path: &str) -> Result<(Connection, Place), String> {
    let socket = ListeningSocket::open(Path::new(path)).map_err(|error| error.to_string())?;
    let socket = Arc::new(socket);
    let connection = Connection::Socket { socket: Arc::clone(&socket), client: None };
    Ok((connection, Place::Socket { _socket: socket }))
}

/// Takes QEMU's standard streams.
pub(super) fn standard_streams() -> Result<(Connection, Place), String> {
    let streams = StandardStreams::open().map_err(|error| error.to_string())?;
    Ok((Connection::Streams(streams), Place::None))
}

/// What a thread waits for at a connection.
pub(super) enum Ends<'a> {
    /// Nobody is there; the descriptor tells when somebody comes.
    Listening(BorrowedFd<'a>),
    /// Nobody is there, and no event tells when somebody comes.
    Absent,
    /// Where bytes come from, if more can come, and where they go to.
    Connected(Option<BorrowedFd<'a>>, BorrowedFd<'a>),
}

impl Connection {
    pub fn ends(&self) -> Ends<'_> {
        match self {
            Connection::Pseudoterminal(terminal) => match terminal.is_open() {
                true => Ends::Connected(Some(terminal.as_fd()), terminal.as_fd()),
                false => Ends::Absent,
            },
            Connection::Socket { client: Some(client), .. } => {
                Ends::Connected(Some(client.as_fd()), client.as_fd())
            }
            Connection::Socket { socket, .. } => Ends::Listening(socket.listener().as_fd()),
            Connection::Streams(streams) => {
                Ends::Connected(streams.input().map(File::as_fd), streams.output().as_fd())
            }
        }
    }

    /// Takes the program that waits at a socket.
    pub fn accept(&mut self) {
        if let Connection::Socket { socket, client } = self
            && let Ok((stream, _)) = socket.listener().accept()
        {
            // Reads and writes follow `poll`, and must not wait if it was mistaken.
            *client = stream.set_nonblocking(true).is_ok().then_some(stream);
        }
    }

    /// Waits until the far end has read what it would lose with the end of the connection.
    pub fn wait_until_read(&self, patience: Duration) {
        if let Connection::Pseudoterminal(terminal) = self {
            terminal.wait_until_read(patience);
        }
    }

    /// The far end sends no more, or has gone.
    pub fn end(&mut self) {
        match self {
            // Whether it is open is asked each time.
            Connection::Pseudoterminal(_) => {}
            Connection::Socket { client, .. } => *client = None,
            Connection::Streams(streams) => streams.input_has_ended(),
        }
    }
}
