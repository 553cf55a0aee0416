//! Probes for a host, and chooses between hypercalls and instructions.

use core::fmt;

use crate::abi::{self, CallWord, call, feature};
use crate::error::CallError;
use crate::hypercall;
use crate::paravirt::Hypercall;
use crate::port_io::{Native, PortIo, port_io};

/// A host that answers hypercalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its version of the ABI.
    pub version: u32,
    /// Its features.
    pub features: Features,
}

/// The features of a host.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(pub u32);

impl Features {
    /// Returns true if calls reach every port, not only those that the host's own devices serve.
    pub const fn every_port(self) -> bool {
        self.0 & feature::EVERY_PORT != 0
    }

    /// Returns true if calls that read or write memory work, instead of being declined.
    pub const fn memory(self) -> bool {
        self.0 & feature::MEMORY != 0
    }

    /// Returns true if a mailbox can be registered.
    pub const fn mailbox(self) -> bool {
        self.0 & feature::MAILBOX != 0
    }

    /// Returns true if a large mailbox can be registered, which takes strings, too.
    pub const fn large_mailbox(self) -> bool {
        self.0 & feature::LARGE_MAILBOX != 0
    }

    /// Returns true if the host shares a directory, so that calls for files work.
    pub const fn files(self) -> bool {
        self.0 & feature::FILES != 0
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Features({:#x})", self.0)
    }
}

/// Probes for a host.
///
/// # Errors
///
/// [`CallError::Unanswered`] if there is none; any other error is the host's answer.
///
/// ```
/// use pvio_guest::{CallError, control};
///
/// // A process on Linux, without a host:
/// assert_eq!(control::probe(), Err(CallError::Unanswered));
/// ```
pub fn probe() -> Result<Host, CallError> {
    // SAFETY: a probe changes nothing but EAX and EDX.
    let (status, features) = unsafe { hypercall::call_read(CallWord::new(call::PROBE, 0, 0)) };
    let version = CallError::check(status)?;
    Ok(Host { version, features: Features(features) })
}

/// Chooses between hypercalls, if a host with this version of the ABI answers this code, and the CPU's
/// instructions.
///
/// ```
/// let best = pvio_guest::detect();
/// // A process on Linux, without a host:
/// assert_eq!(best, pvio_guest::Detected::Native);
/// assert_eq!(best.host(), None);
/// ```
pub fn detect() -> Detected {
    match probe() {
        Ok(host) if host.version == abi::VERSION => Detected::Hypercall(Hypercall::FLAT, host),
        _ => Detected::Native,
    }
}

/// The kind of port I/O that [`detect`] chose. It implements [`PortIo`].
///
/// Unlike the functions at the top of the crate, it makes no hypercalls if no host answered the probe.
/// Both are correct everywhere. This one is cheaper without a host, and does not notice a host that
/// appears later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// Instructions.
    Native,
    /// Hypercalls, to this host.
    Hypercall(Hypercall, Host),
}

impl Detected {
    /// Returns the chosen kind of port I/O as a trait object.
    pub fn port_io(&self) -> &dyn PortIo {
        match self {
            Detected::Native => &Native,
            Detected::Hypercall(hypercall, _) => hypercall,
        }
    }

    /// The host, if there is one.
    pub fn host(&self) -> Option<Host> {
        match self {
            Detected::Native => None,
            Detected::Hypercall(_, host) => Some(*host),
        }
    }
}

port_io!(impl [] Detected, |this| this.port_io());
