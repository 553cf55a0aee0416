//! Observers: they see accesses to ports, and serve none.

use std::io;

use pvio_stats::PostRow;

use super::{DeviceError, DeviceKind, Settings};
use crate::x86::{AccessSize, Direction, Port};

/// An access that the guest has made, by a port instruction or by a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObservedAccess {
    /// The first port of the access. All of the access counts there, as in the statistics.
    pub port: Port,
    /// The port's offset from the observer's first port.
    pub offset: u16,
    /// The direction.
    pub direction: Direction,
    /// The size; unknown only if the mode of the code is.
    pub size: AccessSize,
    /// The value that was read or written. `None` if the machine ended before it was known, or if the size is unknown.
    pub value: Option<u32>,
    /// True if the access may have faulted instead, and this QEMU does not report which.
    pub may_have_faulted: bool,
    /// True if a hypercall made the access, not a port instruction.
    pub by_hypercall: bool,
    /// The vCPU's index; `None` if QEMU's callbacks do not distinguish vCPUs.
    pub vcpu: Option<u32>,
    /// The linear address of the instruction, or of the code that made the hypercall.
    pub pc: u64,
    /// Nanoseconds since the machine started, on the guest's clock if it can be read, otherwise on the host's.
    pub time_ns: u64,
}

/// An observer of a range of ports. QEMU's devices and pvio's keep their accesses.
///
/// An observer sees what the access log lists: each access that begins at one of its ports, one at a time, in the
/// order of each vCPU. A write may come before the device has it; a read comes when its value is known, at the latest at the
/// vCPU's next access.
///
/// Calls come on a vCPU's thread, between two instructions, and the vCPU waits for them. So an observer
/// **must not block**: it must not wait for another program, for QEMU's global lock, or for another vCPU. If it passes accesses
/// to a thread of its own, it must drop some when that falls behind, and say so.
pub trait Observer: Send {
    /// Sees an access.
    fn access(&mut self, access: &ObservedAccess);

    /// Resets the observer with the machine, and once before the machine starts.
    ///
    /// On a QEMU that does not export its functions, only before the machine starts.
    fn reset(&mut self) {}

    /// Returns POST codes for the dump's table `post`; `None` if the observer collects none.
    fn post_codes(&self) -> Option<PostCodes> {
        None
    }

    /// Writes what the observer buffers, when the machine ends.
    ///
    /// # Errors
    ///
    /// Output is lost, now or earlier.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The POST codes of one observer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostCodes {
    /// The codes in their order.
    pub rows: Vec<PostRow>,
    /// The codes before the last that did not fit.
    pub dropped: u64,
}

/// A kind of observer, which the option `device=NAME@PORT` makes an instance of.
#[derive(Clone, Copy, Debug)]
pub struct ObserverKind {
    /// The name in the option.
    pub name: &'static str,
    /// The number of ports if the option names only the first.
    pub ports: u16,
    /// Builds an observer from its settings. An observer has no interrupt line.
    ///
    /// Returns an error if a setting is wrong. QEMU then does not start, and prints the error.
    pub build: fn(&mut Settings<'_>) -> Result<Box<dyn Observer>, DeviceError>,
}

/// A kind that the option `device` may name.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A device, which serves its ports.
    Device(DeviceKind),
    /// An observer, which shares its ports with others.
    Observer(ObserverKind),
}

impl Kind {
    /// The name in the option.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Device(kind) => kind.name,
            Kind::Observer(kind) => kind.name,
        }
    }

    /// The number of ports if the option names only the first.
    pub fn ports(&self) -> u16 {
        match self {
            Kind::Device(kind) => kind.ports,
            Kind::Observer(kind) => kind.ports,
        }
    }
}

impl From<DeviceKind> for Kind {
    fn from(kind: DeviceKind) -> Kind {
        Kind::Device(kind)
    }
}

impl From<ObserverKind> for Kind {
    fn from(kind: ObserverKind) -> Kind {
        Kind::Observer(kind)
    }
}
