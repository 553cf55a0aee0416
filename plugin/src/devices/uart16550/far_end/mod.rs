//! The far end of the serial line: a person at a terminal, or a program.
//!
//! A thread moves bytes between it and two buffers, so the guest never waits for it. While nobody is connected, what the
//! guest sends is lost, as on a cable without a peer.

mod connection;
mod mover;
mod pseudoterminal;
mod standard_streams;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use self::connection::Connection;
use crate::devices::thread_end::ends_within;
use crate::devices::{DeviceError, Settings, Waker};

/// Bytes for the guest that wait until it is ready. Then the far end has to wait.
const MOST_TO_GUEST: usize = 4096;

/// Bytes of the guest that wait until the far end takes them. What comes then is lost.
const MOST_TO_FAR_END: usize = 1 << 20;

/// The time that the far end has at the end of the machine for what it has not taken yet.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

/// The settings, of which a port may have one, and none together with files.
const SETTINGS: [&str; 3] = ["pty", "socket", "stdio"];

/// The time that the thread has to end. It may be writing to a terminal that somebody has stopped.
const THREAD_PATIENCE: Duration = Duration::from_millis(1500);

/// The device's side of the far end.
pub(super) struct FarEnd {
    shared: Arc<Shared>,
    /// `None` after the end of the machine, and of the thread.
    open: Option<Open>,
}

struct Open {
    thread: JoinHandle<()>,
    /// Removes the pseudoterminal's link or the socket from its directory.
    _place: connection::Place,
}

/// What the device and the thread share.
struct Shared {
    buffers: Mutex<Buffers>,
    /// Wakes the thread when it is written to.
    alarm: OwnedFd,
    /// Has QEMU's main loop call the device.
    waker: Waker,
}

#[derive(Default)]
struct Buffers {
    to_guest: VecDeque<u8>,
    to_far_end: VecDeque<u8>,
    is_connected: bool,
    /// The number of bytes that the far end did not take in time.
    lost: u64,
    is_over: bool,
}

impl Shared {
    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_thread(&self) {
        // It fails only if the counter is full; then the thread wakes anyway.
        let _ = rustix::io::write(&self.alarm, &1_u64.to_ne_bytes());
    }
}

impl FarEnd {
    /// Opens the far end that the settings name; `None` if they name none.
    ///
    /// # Errors
    ///
    /// They name several, QEMU records or replays the run, or the far end cannot be made.
    pub fn take(settings: &mut Settings<'_>) -> Result<Option<FarEnd>, DeviceError> {
        let mut found: Option<(&'static str, String)> = None;
        for key in SETTINGS {
            let Some(value) = settings.take(key) else { continue };
            if let Some((other, _)) = found.replace((key, value)) {
                return Err(DeviceError::other(format!(
                    "a serial port has one far end; remove {other}= or {key}="
                )));
            }
        }
        let Some((key, value)) = found else { return Ok(None) };
        if settings.is_recorded() {
            return Err(DeviceError::Recorded { key: key.to_owned(), path: value });
        }
        let failed = |why: String| DeviceError::other(format!("{key}={value}: {why}"));
        let waker = settings.waker().ok_or_else(|| {
            failed("this QEMU does not export its main loop; use file= and in=".to_owned())
        })?;
        let (connection, place) = match key {
            "pty" => connection::pseudoterminal(&value).map_err(failed)?,
            "socket" => connection::listening_socket(&value).map_err(failed)?,
            _ if value != "on" => return Err(failed("write stdio=on".to_owned())),
            _ => connection::standard_streams().map_err(failed)?,
        };
        let start = || FarEnd::start(connection, place, waker);
        start().map(Some).map_err(|error| failed(error.to_string()))
    }

    fn start(connection: Connection, place: connection::Place, waker: Waker) -> io::Result<FarEnd> {
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { buffers: Mutex::default(), alarm, waker });
        let mover = mover::Mover::new(Arc::clone(&shared), connection);
        let thread = std::thread::Builder::new().name("pvio-serial".to_owned());
        let thread = thread.spawn(move || mover.run())?;
        Ok(FarEnd { shared, open: Some(Open { thread, _place: place }) })
    }

    /// Takes bytes for the guest, as many as there are and fit.
    pub fn receive(&self, bytes: &mut [u8]) -> usize {
        let mut buffers = self.shared.buffers();
        let was_full = buffers.to_guest.len() >= MOST_TO_GUEST;
        let count = bytes.len().min(buffers.to_guest.len());
        for (byte, taken) in bytes.iter_mut().zip(buffers.to_guest.drain(..count)) {
            *byte = taken;
        }
        drop(buffers);
        if was_full && count > 0 {
            self.shared.wake_thread();
        }
        count
    }

    /// Waits a moment until the far end has taken all that the guest has sent, and closes the connection.
    ///
    /// # Errors
    ///
    /// Some of it is lost.
    pub fn finish(&mut self) -> io::Result<()> {
        let result = self.drain();
        self.close();
        result
    }

    fn drain(&self) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            let buffers = self.shared.buffers();
            let waits = buffers.is_connected && !buffers.to_far_end.is_empty();
            let lost = buffers.lost + if waits { buffers.to_far_end.len() as u64 } else { 0 };
            drop(buffers);
            if waits && begun.elapsed() < LAST_PATIENCE {
                std::thread::sleep(PAUSE);
                continue;
            }
            return match lost {
                0 => Ok(()),
                lost => Err(io::Error::other(format!(
                    "the far end did not take {lost} bytes of it in time"
                ))),
            };
        }
    }
}

impl FarEnd {
    /// Ends the thread, which gives a terminal its mode back.
    fn close(&mut self) {
        let Some(Open { thread, .. }) = self.open.take() else { return };
        let mut buffers = self.shared.buffers();
        (buffers.is_over, buffers.is_connected) = (true, false);
        drop(buffers);
        self.shared.wake_thread();
        // A thread that does not end in time ends with QEMU.
        ends_within(&thread, THREAD_PATIENCE);
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.close();
    }
}

/// The output of a serial port to its far end.
impl Write for FarEnd {
    /// Never fails and never waits: what finds no room, or nobody, is lost.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffers = self.shared.buffers();
        let was_empty = buffers.to_far_end.is_empty();
        if buffers.is_connected {
            let room = MOST_TO_FAR_END - buffers.to_far_end.len();
            let taken = &bytes[..bytes.len().min(room)];
            buffers.to_far_end.extend(taken);
            buffers.lost += (bytes.len() - taken.len()) as u64;
        }
        let has_begun = was_empty && !buffers.to_far_end.is_empty();
        drop(buffers);
        if has_begun {
            self.shared.wake_thread();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
