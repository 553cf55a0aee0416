//! What a trace says of the machine, at its start and at its end. Both are JSON, so that fields can be added.

use std::borrow::Cow;

use pvio_x86::Port;
use serde::{Deserialize, Serialize};

use super::chunk::{ChunkHeader, ChunkKind, chunk};
use crate::{ChainEnd, QemuRow, SymbolFileRow};

/// What is known when the trace begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of pvio.
    pub pvio: Cow<'static, str>,
    /// The QEMU that runs.
    pub qemu: QemuRow,
    /// The host's time of day when the trace began, in nanoseconds since 1970.
    pub began: u64,
    /// Whether QEMU reports exceptions: without, faults are not known.
    pub reports_exceptions: bool,
    /// Whether pvio can read memory: without, exits of nested guests are not known.
    pub reads_memory: bool,
    /// Whether accesses have call chains.
    pub callers: bool,
    /// Whether accesses have processes.
    pub processes: bool,
    /// The filters of the option, as it writes them; empty if there are none.
    #[serde(default)]
    pub filter: String,
    /// The ports that pvio's devices serve.
    #[serde(default)]
    pub devices: Vec<OwnDevice>,
}

/// One of pvio's devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnDevice {
    /// Its kind.
    pub kind: String,
    /// The first port.
    pub first: Port,
    /// The last port.
    pub last: Port,
}

impl Head {
    /// The first chunk of a trace.
    pub fn to_chunk(&self) -> Vec<u8> {
        to_chunk(ChunkKind::Head, self)
    }

    /// The kind of pvio's device at a port; `None` if QEMU serves the port.
    pub fn device_at(&self, port: Port) -> Option<&str> {
        let mut devices = self.devices.iter();
        let device = devices.find(|device| (device.first..=device.last).contains(&port))?;
        Some(&device.kind)
    }
}

/// What is known when the machine has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why the machine ended, as in a dump.
    pub ended: Cow<'static, str>,
    /// The vCPUs that get a row.
    pub vcpus: Vec<u32>,
    /// Why no vCPU gets one.
    pub vcpus_omitted: Option<Cow<'static, str>>,
    /// Translated instructions without a row among the sites.
    pub sites_dropped: u64,
    /// The symbol files.
    pub symbol_files: Vec<SymbolFileRow>,
    /// The sites that have names.
    pub sites: Vec<SiteNames>,
    /// The ports that were accessed.
    pub ports: Vec<PortIdentity>,
    /// The callers in `stacks`.
    pub frames: Vec<FrameName>,
    /// The stacks of all vCPUs.
    pub stacks: Vec<StackFrames>,
    /// How many events each vCPU has.
    pub streams: Vec<StreamEnd>,
}

impl End {
    /// The last chunk of a trace.
    pub fn to_chunk(&self) -> Vec<u8> {
        to_chunk(ChunkKind::End, self)
    }
}

fn to_chunk(kind: ChunkKind, contents: &impl Serialize) -> Vec<u8> {
    let contents = serde_json::to_vec(contents).expect("plain data becomes JSON");
    chunk(&ChunkHeader { kind, stream: 0, vcpu: 0, sequence: 0, events: 0, start: 0 }, &contents)
}

/// What a site is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteNames {
    /// The number of the site.
    pub site: u32,
    /// The symbol and the offset.
    pub symbol: String,
    /// What names it.
    pub named_by: String,
    /// The file and the line of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// What was at a port when the machine ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortIdentity {
    /// The address.
    pub port: Port,
    /// The name, as in a dump.
    pub name: Option<String>,
    /// Whether anything was there; `None` if QEMU does not say.
    pub served: Option<bool>,
}

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameName {
    /// The linear address.
    pub pc: u64,
    /// The symbol and the offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Whether an interrupt or an exception interrupted it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
}

/// The call chain of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackFrames {
    /// The vCPU's number among those that count.
    pub stream: u32,
    /// The vCPU's number of the stack.
    pub stack: u32,
    /// The callers, as indexes in [`End::frames`].
    pub frames: Vec<usize>,
    /// Why there are no more.
    pub end: ChainEnd,
}

/// The end of the events of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// The vCPU's number among those that count.
    pub stream: u32,
    /// How many chunks it has.
    pub chunks: u32,
}
