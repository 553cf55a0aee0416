//! The reasons why a device's program is given up.

use std::io;
use std::time::Duration;

use super::frame::Frame;

/// Why the program no longer is the device. The text continues "the program at PATH …".
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("closed the connection")]
    Closed,
    #[error("said that it ends")]
    Ended,
    #[error("did not answer within {} ms (timeout=)", .0.as_millis())]
    Silent(Duration),
    #[error("did not read what it was sent within {} ms (timeout=)", .0.as_millis())]
    Stuck(Duration),
    #[error(
        "answers too late too often: of its latest answers the guest has waited {} ms more than it may (timeout=)",
        .0.as_millis()
    )]
    Slow(Duration),
    #[error("left {0} requests unanswered, and does not read more")]
    Unanswered(usize),
    #[error("sent {0}, a frame of a kind that the protocol does not have")]
    UnknownKind(Frame),
    #[error("sent {0}, an answer to no request")]
    Unasked(Frame),
    #[error("sent {0}, which is not the answer to the oldest request, {1}")]
    WrongAnswer(Frame, Frame),
    #[error("sent {0}, whose interrupt level is neither 0 nor 1")]
    Level(Frame),
    #[error("sent {0}, which is not a hello of this protocol")]
    NoHello(Frame),
    #[error("sent no hello within {} ms", .0.as_millis())]
    NoGreeting(Duration),
    #[error("speaks version {0} of the protocol, and pvio version {version}", version = super::frame::VERSION)]
    Version(u32),
    #[error("cannot be reached: {0}")]
    Io(#[from] io::Error),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The program is given up.
    Fault(Fault),
    /// QEMU ends or stops. The answer may come later.
    Stopped,
}

impl From<Fault> for NoAnswer {
    fn from(fault: Fault) -> NoAnswer {
        NoAnswer::Fault(fault)
    }
}
