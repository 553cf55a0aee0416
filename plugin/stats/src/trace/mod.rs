//! The file of the option `trace`: every access and hypercall of a run, in a few bytes each.
//!
//! A file is a sequence of chunks. Each has a magic number, its length and a checksum, and defines the sites, call
//! chains and processes that its events use, so that it can be read by itself. A file that is cut off is read up to
//! the last complete chunk.
//!
//! | chunk | contents |
//! | --- | --- |
//! | head | data that is known at the start, as JSON: [`Head`] |
//! | events | events of one vCPU, or of requests from outside the guest, in their order: [`Event`] |
//! | end | data that is known at the end, as JSON: names and totals, [`End`] |
//!
//! | file | knows |
//! | --- | --- |
//! | `chunk` | magic, length and checksum |
//! | `event` | the contents of an event |
//! | `record` | the layout of an event in a chunk |
//! | `encode`, `bytes`, `decode` | events to bytes and back |
//! | `describe` | the head and the end |
//! | `file` | the chunks of a file, and the order of the events of several vCPUs |
//! | `tally`, `tables` | statistics of events, as the plugin counts them |

mod bytes;
mod chunk;
mod decode;
mod describe;
mod encode;
mod event;
mod file;
mod record;
mod tables;
mod tally;

#[cfg(test)]
mod tests;

pub use chunk::{ChunkHeader, ChunkKind, MAGIC, REQUESTS, chunk};
pub use decode::{Damage, Definitions};
pub use describe::{
    End, FrameName, Head, OwnDevice, PortIdentity, SiteNames, StackFrames, StreamEnd,
};
pub use encode::{Define, Encoder};
pub use event::{
    CallCode, CallEvent, CallOutcome, CallSiteDefinition, Code, Event, FileOffset, InsnEvent,
    Owner, Process, ProcessDefinition, SiteDefinition, StackDefinition, Stage, What, WindowEvent,
};
pub use file::{Trace, TraceError};
pub use tally::{statistics, statistics_while};
