//! An observer that is another process: `device=observe@PORTS:path=SOCKET`.
//!
//! A thread sends each access to the program, which answers nothing. vCPUs never wait for it: if it reads too slowly,
//! accesses are left out, and the next frame says how many.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::connect::Address;
use super::frame::{Frame, kind};
use crate::devices::thread_end::ends_within;
use crate::devices::{DeviceError, ObservedAccess, Observer, Settings};
use crate::qemu::report::say;
use crate::x86::Direction;

/// The most accesses that wait for the thread, 48 bytes each.
const QUEUE: usize = 64 << 10;

/// The frames that are sent by one system call at most.
const TOGETHER: usize = 256;

/// The length of what follows a frame: time, address, vCPU, flags.
pub(super) const DETAILS: usize = 24;

/// Flags of an access.
pub(super) mod flag {
    pub const BY_HYPERCALL: u32 = 1;
    pub const MAY_HAVE_FAULTED: u32 = 2;
    pub const VALUE_UNKNOWN: u32 = 4;
    pub const VCPU_UNKNOWN: u32 = 8;
}

/// The time that the program has at the end of the machine for what it has not read yet.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// Connects to the program at `path`.
pub(in crate::devices) fn build(
    settings: &Settings<'_>,
    path: &str,
) -> Result<Box<dyn Observer>, DeviceError> {
    let failed = |error: String| DeviceError::other(format!("path={path}: {error}"));
    if settings.is_recorded() {
        return Err(DeviceError::Recorded { key: "path".to_owned(), path: path.to_owned() });
    }
    let range = settings.range;
    let address =
        Address::new(path.to_owned(), range).map_err(|error| failed(error.to_string()))?;
    // Only the greeting is waited for, before the machine starts.
    let connection =
        address.connect(Arc::new(|| false)).map_err(|error| failed(error.to_string()))?;
    let stream = connection.stream().try_clone().map_err(|error| failed(error.to_string()))?;
    stream.set_nonblocking(false).map_err(|error| failed(error.to_string()))?;
    let (accesses, queue) = sync_channel(QUEUE);
    let name = format!("observe at {range}");
    let sender = Sender { stream, queue, name };
    let thread = std::thread::Builder::new().name("pvio-observer".to_owned());
    let thread = thread.spawn(move || sender.run()).map_err(|error| failed(error.to_string()))?;
    Ok(Box::new(SocketObserver { accesses: Some(accesses), thread, left_out: 0, all_left_out: 0 }))
}

/// An access on its way to the program, and how many were left out before it.
struct Seen {
    access: ObservedAccess,
    left_out: u32,
}

struct SocketObserver {
    /// `None` after the end.
    accesses: Option<SyncSender<Seen>>,
    thread: JoinHandle<()>,
    /// The accesses that were left out since the last that was not.
    left_out: u32,
    all_left_out: u64,
}

impl Observer for SocketObserver {
    fn access(&mut self, access: &ObservedAccess) {
        let Some(accesses) = &self.accesses else { return };
        let seen = Seen { access: *access, left_out: self.left_out };
        match accesses.try_send(seen) {
            Ok(()) => self.left_out = 0,
            Err(TrySendError::Full(_)) => {
                self.left_out = self.left_out.saturating_add(1);
                self.all_left_out += 1;
            }
            // The program has gone, which the thread has reported.
            Err(TrySendError::Disconnected(_)) => self.accesses = None,
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        // The thread ends when it has sent all.
        self.accesses = None;
        match (self.all_left_out, ends_within(&self.thread, LAST_PATIENCE)) {
            (0, true) => Ok(()),
            (0, false) => Err(io::Error::other("the program did not read the last accesses")),
            (count, _) => Err(io::Error::other(format!(
                "{count} accesses were left out, because the program reads too slowly"
            ))),
        }
    }
}

/// The thread that sends.
struct Sender {
    stream: UnixStream,
    queue: Receiver<Seen>,
    name: String,
}

impl Sender {
    fn run(mut self) {
        let mut bytes = Vec::with_capacity(TOGETHER * (16 + DETAILS));
        while let Ok(first) = self.queue.recv() {
            bytes.clear();
            append(&mut bytes, &first);
            for seen in self.queue.try_iter().take(TOGETHER - 1) {
                append(&mut bytes, &seen);
            }
            if let Err(error) = self.stream.write_all(&bytes) {
                say(format_args!(
                    "{}: the program has gone ({error}): it sees nothing more",
                    self.name
                ));
                return;
            }
        }
        let end = Frame { kind: kind::END, ..Frame::default() };
        // The program may have gone by now.
        let _ = self.stream.write_all(&end.to_bytes());
    }
}

fn append(bytes: &mut Vec<u8>, Seen { access, left_out }: &Seen) {
    let kind = match access.direction {
        Direction::In => kind::SAW_READ,
        Direction::Out => kind::SAW_WRITE,
    };
    let frame = Frame {
        kind,
        size: access.size.bytes().unwrap_or(0),
        offset: access.offset,
        value: access.value.unwrap_or(0),
        count: *left_out,
        id: 0,
    };
    let flags = [
        (access.by_hypercall, flag::BY_HYPERCALL),
        (access.may_have_faulted, flag::MAY_HAVE_FAULTED),
        (access.value.is_none(), flag::VALUE_UNKNOWN),
        (access.vcpu.is_none(), flag::VCPU_UNKNOWN),
    ];
    let flags =
        flags.into_iter().filter(|(is_set, _)| *is_set).fold(0, |sum, (_, flag)| sum | flag);
    bytes.extend(frame.to_bytes());
    bytes.extend(access.time_ns.to_le_bytes());
    bytes.extend(access.pc.to_le_bytes());
    bytes.extend(access.vcpu.unwrap_or(0).to_le_bytes());
    bytes.extend(flags.to_le_bytes());
}
