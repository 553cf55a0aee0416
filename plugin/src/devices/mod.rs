//! Devices at ports: the [`Device`] trait and the built-in kinds.
//!
//! A device is a [`MutDevicePio`] of the `vm-device` crate that a machine can also reset and finish.
//! It knows its range and its [`Settings`]. It does not know QEMU.
//!
//! ```
//! use pvio::devices::{Device, DeviceKind, Settings};
//! use vm_device::MutDevicePio;
//! use vm_device::bus::{PioAddress, PioAddressOffset};
//!
//! /// Counts reads.
//! struct Counter(u8);
//!
//! impl MutDevicePio for Counter {
//!     fn pio_read(&mut self, _base: PioAddress, _offset: PioAddressOffset, data: &mut [u8]) {
//!         self.0 = self.0.wrapping_add(1);
//!         data.fill(self.0);
//!     }
//!     fn pio_write(&mut self, _base: PioAddress, _offset: PioAddressOffset, _data: &[u8]) {}
//! }
//!
//! impl Device for Counter {
//!     fn reset(&mut self) {
//!         self.0 = 0;
//!     }
//! }
//!
//! /// `device=counter@0x300`
//! pub const COUNTER: DeviceKind = DeviceKind {
//!     name: "counter",
//!     ports: 1,
//!     build: |_settings| Ok(Box::new(Counter(0))),
//! };
//! ```

mod console;
mod debug_exit;
mod error;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod latch;
mod nothing;
mod observer;
mod output;
mod post;
mod replay;
mod script;
mod settings;
mod socket;
mod stream;
mod thread_end;
mod uart16550;

pub use console::CONSOLE;
pub use debug_exit::DEBUG_EXIT;
pub use error::DeviceError;
pub use latch::LATCH;
pub use nothing::{NULL, ONES};
pub use observer::{Kind, ObservedAccess, Observer, ObserverKind, PostCodes};
pub use post::POST;
pub use replay::REPLAY;
pub use script::{FILTER, OBSERVE, SCRIPT};
pub use settings::{
    Clock, GuestRegisters, Interrupt, PortsBelow, Services, Settings, SharedObject, StopRequest,
    Timer, Waker,
};
pub use socket::SOCKET;
pub use stream::STREAM;
pub use uart16550::UART16550;

use std::io;

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use crate::x86::PortRange;

/// A device at a range of ports.
///
/// `pio_read` and `pio_write` get the range's first port, an offset from it in ports, and 1 to 4
/// bytes of data: the bytes of the access within the range, in port order. For a read, `data` is all
/// ones at first, like a bus that nobody drives. Accesses come one at a time.
pub trait Device: MutDevicePio + Send {
    /// Resets the device with the machine, and once before the machine starts.
    fn reset(&mut self);

    /// Returns true if the device has state that a snapshot of the machine would lose.
    ///
    /// With such a device, QEMU refuses to save or migrate the machine.
    fn has_state(&self) -> bool {
        true
    }

    /// Returns true if an access may wait for something outside QEMU, such as another process.
    ///
    /// Then vCPUs do not hold QEMU's global lock in an access. The device gets its interrupt lines by
    /// [`Settings::take_queued_interrupt`], and ends a wait when [`Settings::stop_request`] says so.
    fn may_wait(&self) -> bool {
        false
    }

    /// Reads elements of `size` bytes at one offset until `data` is full.
    ///
    /// Equivalent to one `pio_read` per element; override it if you can do better. One `rep insb` of
    /// the guest may arrive as any sequence of strings and single elements.
    fn read_string(
        &mut self,
        base: PioAddress,
        offset: PioAddressOffset,
        size: usize,
        data: &mut [u8],
    ) {
        for element in data.chunks_exact_mut(size) {
            self.pio_read(base, offset, element);
        }
    }

    /// Writes elements of `size` bytes at one offset.
    ///
    /// Equivalent to one `pio_write` per element; override it if you can do better.
    fn write_string(
        &mut self,
        base: PioAddress,
        offset: PioAddressOffset,
        size: usize,
        data: &[u8],
    ) {
        for element in data.chunks_exact(size) {
            self.pio_write(base, offset, element);
        }
    }

    /// A timer of the device is due. It has the number with which the device asked for it.
    fn timer(&mut self, _number: usize) {}

    /// The device has woken itself by [`Settings::waker`], once or several times.
    fn woken(&mut self) {}

    /// Reads again the file that says how the device works, as the user asks for while the machine runs. The device then
    /// starts as after a reset.
    ///
    /// # Errors
    ///
    /// There is no such file, or it has a mistake: the text says which. The device goes on as before.
    fn reload(&mut self) -> Result<(), String> {
        Err("this kind of device has no file to read again".to_owned())
    }

    /// Writes what the device buffers, when the machine ends.
    ///
    /// # Errors
    ///
    /// Output is lost, now or earlier.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A kind of device, which the option `device=NAME@PORT` makes an instance of.
#[derive(Clone, Copy, Debug)]
pub struct DeviceKind {
    /// The name in the option.
    pub name: &'static str,
    /// The number of ports if the option names only the first.
    pub ports: u16,
    /// Builds a device from its settings.
    ///
    /// Returns an error if a setting is wrong. QEMU then does not start, and prints the error.
    pub build: fn(&mut Settings<'_>) -> Result<Box<dyn Device>, DeviceError>,
}

/// A device, or something of another kind, that an option asks for.
#[derive(Clone, Debug)]
pub struct DeviceRequest<K = DeviceKind> {
    /// The kind.
    pub kind: K,
    /// The ports.
    pub range: PortRange,
    /// `KIND@PORT` as the user wrote it, for messages.
    pub kind_and_ports: String,
    /// The settings, as pairs of key and value.
    pub settings: Vec<(String, String)>,
}

/// The settings, of any kind, whose values are paths.
pub const PATH_SETTINGS: [&str; 6] = ["file", "in", "out", "path", "pty", "socket"];

/// The built-in kinds of devices.
pub const BUILT_IN: [DeviceKind; 11] =
    [LATCH, CONSOLE, DEBUG_EXIT, STREAM, UART16550, SCRIPT, SOCKET, REPLAY, FILTER, NULL, ONES];

/// The built-in kinds of observers.
pub const BUILT_IN_OBSERVERS: [ObserverKind; 2] = [OBSERVE, POST];

/// All built-in kinds.
pub fn built_in_kinds() -> Vec<Kind> {
    let devices = BUILT_IN.into_iter().map(Kind::from);
    devices.chain(BUILT_IN_OBSERVERS.map(Kind::from)).collect()
}

impl<K> DeviceRequest<K> {
    /// The same request with another type of kind.
    pub fn with_kind<L>(self, kind: L) -> DeviceRequest<L> {
        let DeviceRequest { range, kind_and_ports, settings, .. } = self;
        DeviceRequest { kind, range, kind_and_ports, settings }
    }
}
