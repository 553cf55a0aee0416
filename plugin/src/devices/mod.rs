//! Devices that pvio serves at ports: what a device is, and the kinds that are built in.
//!
//! A device is a [`MutDevicePio`] of the `vm-device` crate, with the little that a machine wants
//! besides: to be reset, to say whether it has state, to finish. It knows its own range, and what it
//! was given as [`Settings`]; it does not know QEMU.
//!
//! ```
//! use pvio::devices::{Device, DeviceKind, Settings};
//! use vm_device::MutDevicePio;
//! use vm_device::bus::{PioAddress, PioAddressOffset};
//!
//! /// Counts how often it is read.
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
mod latch;
mod nothing;
mod output;
mod settings;
mod stream;
mod uart16550;

pub use console::CONSOLE;
pub use debug_exit::DEBUG_EXIT;
pub use latch::LATCH;
pub use nothing::{NULL, ONES};
pub use settings::{Interrupt, Services, Settings};
pub use stream::STREAM;
pub use uart16550::UART16550;

use std::io;

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

/// Something behind a range of ports.
///
/// `pio_read` and `pio_write` get the range's first port, the offset from it, and 1 to 4 bytes, in the
/// order of their ports: those of the access that are within the range. `data` is all ones when a read
/// begins: what it leaves is what nobody drives. One access comes at a time.
pub trait Device: MutDevicePio + Send {
    /// The machine was reset. (It is also reset once before it starts.)
    fn reset(&mut self);

    /// Whether the guest would notice if a snapshot of the machine lacked this device. While one
    /// that has state is there, QEMU refuses to save the machine or to migrate it.
    fn has_state(&self) -> bool {
        true
    }

    /// Reads elements of `size` bytes, one after another, at the same offset, until `data` is full: what
    /// `pio_read` does for each, and where that can be had for less, for less.
    ///
    /// A `rep insb` of the guest's may come as any sequence of these and of single elements.
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

    /// Writes elements of `size` bytes, one after another, at the same offset.
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

    /// The machine has ended: what was held back is written now.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A kind of device, which `device=NAME@...` makes one of.
#[derive(Clone, Copy, Debug)]
pub struct DeviceKind {
    /// The name.
    pub name: &'static str,
    /// How many ports it has where the option names the first alone.
    pub ports: u16,
    /// Makes one. An error says what is wrong with the settings, and what would be right.
    pub build: fn(&mut Settings<'_>) -> Result<Box<dyn Device>, String>,
}

/// The kinds that are built in.
pub const BUILT_IN: [DeviceKind; 7] = [LATCH, CONSOLE, DEBUG_EXIT, STREAM, UART16550, NULL, ONES];
