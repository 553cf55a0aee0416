//! `socket`: a device that is another process, in any language.
//!
//! `device=socket@0x300-0x303:path=FILE` connects to the Unix socket on which the device's program listens.
//! Each access of the guest is a frame to the program, and its answer is a frame from it:
//! `docs/socket-device.md` describes the protocol. `plugin/examples/socket-device` has a module for Python.
//!
//! The program is not trusted: whatever it does, or fails to do, harms only the device's own ports. The guest
//! waits for each answer with a limit, without QEMU's global lock; interrupts are queued.
//!
//! | part | what it does |
//! | --- | --- |
//! | `frame` | the protocol's frames |
//! | `connect` | the path, its owner, and the greeting |
//! | `connection` | frames out and in, in bounded memory |
//! | `patience` | how long the guest waits |
//! | `session` | requests, resets, interrupts, and the death of a program |
//! | `observer` | an observer that is another process |
//! | `worker` | the thread that listens between accesses, and reconnects |

mod connect;
mod connection;
mod fault;
mod frame;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod observer;
mod patience;
mod session;
#[cfg(test)]
mod tests;
mod worker;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use self::connect::{Address, ConnectError};
use self::frame::{Frame, MAX_DATA, kind};
pub(super) use self::observer::build as build_observer;
use self::patience::Patience;
use self::session::Session;
use self::worker::Shared;
use super::{Device, DeviceError, DeviceKind, Settings};

/// The kind `socket`.
pub const SOCKET: DeviceKind = DeviceKind { name: "socket", ports: 1, build };

/// The longest wait for one answer, in milliseconds, unless `timeout=` says otherwise.
const DEFAULT_TIMEOUT: u64 = 1000;

/// The largest value of `timeout=`.
const MAX_TIMEOUT: u64 = 600_000;

fn build(settings: &mut Settings<'_>) -> Result<Box<dyn Device>, DeviceError> {
    let path = settings.take("path").ok_or_else(|| {
        DeviceError::other(
            "a socket device needs path=SOCKET; name the Unix socket on which the device's program listens",
        )
    })?;
    if settings.is_recorded() {
        return Err(DeviceError::Recorded { key: "path".to_owned(), path });
    }
    let limit = match settings.take("timeout") {
        None => DEFAULT_TIMEOUT,
        Some(value) => parse_timeout(&value).ok_or_else(|| {
            DeviceError::other(format!(
                "timeout={value} is not a number of milliseconds; write 1 to {MAX_TIMEOUT}"
            ))
        })?,
    };
    let is_posted = take_switch(settings, "posted")?;
    let reconnects = take_switch(settings, "reconnect")?;
    let line = settings.take_queued_interrupt("irq")?;
    let stop = settings.stop_request().ok_or_else(|| {
        DeviceError::other("this QEMU does not export its run state; use QEMU 10.0 or 11.1 as distributions build it")
    })?;
    let failed = |error: ConnectError| DeviceError::other(format!("path={path}: {error}"));
    let address = Address::new(path.clone(), settings.range).map_err(failed)?;
    let connection = address.connect(Arc::clone(&stop)).map_err(failed)?;
    let patience = Patience::new(Duration::from_millis(limit), Arc::clone(&stop));
    let session = Session::new(connection, patience, line);
    let name = format!("{} at {}", SOCKET.name, settings.range);
    let shared =
        Shared::start(name, address, reconnects, session, stop).map_err(DeviceError::other)?;
    Ok(Box::new(Socket { shared, is_posted }))
}

fn parse_timeout(value: &str) -> Option<u64> {
    value.parse().ok().filter(|millis| (1..=MAX_TIMEOUT).contains(millis))
}

fn take_switch(settings: &mut Settings<'_>, key: &str) -> Result<bool, DeviceError> {
    match settings.take(key).as_deref() {
        None | Some("off") => Ok(false),
        Some("on") => Ok(true),
        Some(value) => Err(DeviceError::other(format!("{key}={value}: write on or off"))),
    }
}

struct Socket {
    shared: Arc<Shared>,
    /// Writes are sent, and not waited for.
    is_posted: bool,
}

impl Socket {
    fn write(&self, frame: Frame, written: &[u8]) {
        match self.is_posted {
            true => self.shared.tell(|session| session.tell(frame, written)),
            false => drop(self.shared.ask(|session| session.ask(frame, written, &mut []))),
        }
    }
}

impl MutDevicePio for Socket {
    fn pio_read(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        let size = data.len() as u8;
        let frame = Frame { kind: kind::READ, size, offset, ..Frame::default() };
        if let Some(value) = self.shared.ask(|session| session.ask(frame, &[], &mut [])) {
            data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
        }
    }

    fn pio_write(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        let mut value = [0; 4];
        value[..data.len()].copy_from_slice(data);
        let (size, value) = (data.len() as u8, u32::from_le_bytes(value));
        self.write(Frame { kind: kind::WRITE, size, offset, value, ..Frame::default() }, &[]);
    }
}

impl Device for Socket {
    fn reset(&mut self) {
        self.shared.tell(|session| Ok(session.reset()?));
    }

    fn may_wait(&self) -> bool {
        true
    }

    fn read_string(
        &mut self,
        _base: PioAddress,
        offset: PioAddressOffset,
        size: usize,
        data: &mut [u8],
    ) {
        for piece in data.chunks_mut(MAX_DATA) {
            let count = (piece.len() / size) as u32;
            let size = size as u8;
            let frame = Frame { kind: kind::READ_STRING, size, offset, count, ..Frame::default() };
            if self.shared.ask(|session| session.ask(frame, &[], piece)).is_none() {
                return;
            }
        }
    }

    fn write_string(
        &mut self,
        _base: PioAddress,
        offset: PioAddressOffset,
        size: usize,
        data: &[u8],
    ) {
        for piece in data.chunks(MAX_DATA) {
            let count = (piece.len() / size) as u32;
            let size = size as u8;
            let frame = Frame { kind: kind::WRITE_STRING, size, offset, count, ..Frame::default() };
            self.write(frame, piece);
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.shared.end();
        Ok(())
    }
}
