//! `replay`: the device of a recorded run, played back to its driver.
//!
//! `trace=ide.trace` records a driver and QEMU's own device. `device=replay@0x1f0-0x1f7:file=ide.trace` then returns to
//! the driver what it has read in that run, compares what it writes, and reports the first difference. Several devices of
//! one file share one place in it, so a device with two ranges of ports is recorded and replayed as one.
//!
//! | file | knows |
//! | --- | --- |
//! | `recording` | the accesses of a trace to some ports |
//! | `player` | the place in the recording, and how an access moves it |
//! | `difference` | the text of the first difference |
//! | `session` | what the devices of one file share: player, interrupt lines, reports |

mod access;
mod difference;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod player;
mod recording;
mod session;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use self::session::{Part, Session};
use super::{Device, DeviceError, DeviceKind, Settings};
use crate::files;

/// The kind `replay`.
pub const REPLAY: DeviceKind = DeviceKind { name: "replay", ports: 1, build };

fn build(settings: &mut Settings<'_>) -> Result<Box<dyn Device>, DeviceError> {
    let path = settings.take("file").ok_or_else(|| {
        DeviceError::other(
            "a replay device needs file=TRACE; name a file that the option trace=FILE wrote",
        )
    })?;
    let is_strict = settings.take_flag("strict")?;
    let interrupt = settings.take_numbered_interrupt("irq")?;
    // The place in the file is shared, and an access of any of its devices may set a line.
    settings.use_global_lock();
    let real = files::real_path(Path::new(&path)).unwrap_or_else(|_| path.clone().into());
    let name = format!("replay of {}", real.display());
    let session = settings.shared(&name, || Mutex::new(Session::new(&path)));
    let part = Part { range: settings.range, interrupt, is_strict, exit: settings.exit() };
    let is_first = lock(&session).add(part).map_err(DeviceError::other)?;
    Ok(Box::new(Replay { session, is_first }))
}

/// The devices of a file are called under QEMU's global lock, so nobody waits for this one.
fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One range of ports of a recorded device.
struct Replay {
    session: Arc<Mutex<Session>>,
    /// The first device of a file reports for all.
    is_first: bool,
}

fn port(base: PioAddress, offset: PioAddressOffset) -> u16 {
    base.0 + offset
}

impl MutDevicePio for Replay {
    fn pio_read(&mut self, base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        lock(&self.session).read(port(base, offset), data);
    }

    fn pio_write(&mut self, base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        lock(&self.session).write(port(base, offset), data);
    }
}

impl Device for Replay {
    // The recording has what came after a reset, too. So the place stays.
    fn reset(&mut self) {
        lock(&self.session).lower_lines();
    }

    fn read_string(
        &mut self,
        base: PioAddress,
        offset: PioAddressOffset,
        size: usize,
        data: &mut [u8],
    ) {
        lock(&self.session).read_string(port(base, offset), size, data);
    }

    fn write_string(
        &mut self,
        base: PioAddress,
        offset: PioAddressOffset,
        size: usize,
        data: &[u8],
    ) {
        lock(&self.session).write_string(port(base, offset), size, data);
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.is_first {
            lock(&self.session).report_end();
        }
        Ok(())
    }
}
