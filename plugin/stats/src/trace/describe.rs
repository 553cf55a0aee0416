//! The head and the end of a trace, which describe the machine. Both are JSON, so that fields can be added.

use std::borrow::Cow;

use pvio_x86::Port;
use serde::{Deserialize, Serialize};

use super::chunk::{ChunkHeader, ChunkKind, chunk};
use crate::{ChainEnd, QemuRow, SymbolFileRow};

/// The head of a trace: data that is known when it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of pvio.
    pub pvio: Cow<'static, str>,
    /// The QEMU that runs.
    pub qemu: QemuRow,
    /// The host's time of day when the trace began, in nanoseconds since 1970.
    pub began: u64,
    /// True if QEMU reports exceptions. If not, faults are not known.
    pub reports_exceptions: bool,
    /// True if pvio can read memory. If not, exits of nested guests are not known.
    pub reads_memory: bool,
    /// True if accesses have call chains.
    pub callers: bool,
    /// True if accesses have processes.
    pub processes: bool,
    /// The filters, in the syntax of the option; empty if there are none.
    #[serde(default)]
    pub filter: String,
    /// True if changes of interrupt lines are recorded. Not every QEMU and machine allows that.
    #[serde(default)]
    pub irqs: bool,
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

/// The end of a trace: data that is known when the machine has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why the machine ended, as in a dump.
    pub ended: Cow<'static, str>,
    /// The vCPUs that get a row.
    pub vcpus: Vec<u32>,
    /// The reason why no vCPU gets one.
    pub vcpus_omitted: Option<Cow<'static, str>>,
    /// Translated instructions without a row among the sites.
    pub sites_dropped: u64,
    /// The symbol files.
    pub symbol_files: Vec<SymbolFileRow>,
    /// The sites that ran with both privileges; some of their definitions have only one.
    #[serde(default)]
    pub sites_of_both: Vec<u32>,
    /// The sites that have names.
    pub sites: Vec<SiteNames>,
    /// The call sites that have names.
    #[serde(default)]
    pub call_sites: Vec<SiteNames>,
    /// The ports that were accessed.
    pub ports: Vec<PortIdentity>,
    /// The callers in `stacks`.
    pub frames: Vec<FrameName>,
    /// The stacks of all vCPUs.
    pub stacks: Vec<StackFrames>,
    /// The end of each vCPU's events.
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

/// The name of a site or call site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteNames {
    /// The number of the site.
    pub site: u32,
    /// The symbol and the offset.
    pub symbol: String,
    /// The source of the name.
    pub named_by: String,
    /// The file and the line of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// The device at a port when the machine ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortIdentity {
    /// The address.
    pub port: Port,
    /// The name, as in a dump.
    pub name: Option<String>,
    /// True if a device was there; `None` if that is not known.
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
    /// True if an interrupt or an exception interrupted it.
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
    /// The reason why there are no more.
    pub end: ChainEnd,
}

/// The end of the events of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// The vCPU's number among those that count.
    pub stream: u32,
    /// The number of its chunks.
    pub chunks: u32,
}
