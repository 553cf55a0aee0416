//! Who made the accesses: call chains and processes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::Result;
use pvio_x86::{Direction, Mode, Port};

use super::access::{CheckedAccess, Code};
use crate::stats::trace::Trace;
use crate::stats::{CallAt, ChainEnd, FrameRow, Tables};
use crate::trace;

/// The identity of code that makes accesses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CodeKey {
    /// A site: its address, mode and bytes.
    Site(String, Option<Mode>, String),
    /// A site in a file of the guest: path and offset, mode and bytes.
    InFile(String, String, Option<Mode>, String),
    /// A call site: its address, and what that means.
    CallSite(String, CallAt),
}

impl CodeKey {
    fn of(code: Code<'_>) -> CodeKey {
        match code {
            Code::Site(site) => match (&site.file, &site.offset) {
                (Some(file), Some(offset)) => {
                    CodeKey::InFile(file.clone(), offset.clone(), site.mode, site.bytes.clone())
                }
                _ => CodeKey::Site(site.pc.clone(), site.mode, site.bytes.clone()),
            },
            Code::CallSite(site) => CodeKey::CallSite(site.pc.clone(), site.at),
        }
    }
}

/// A call chain, and its number of accesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The callers, the innermost first.
    pub frames: Vec<FrameRow>,
    /// Why there are no more.
    pub end: ChainEnd,
    /// The accesses with this chain.
    pub accesses: u64,
}

/// The origins of accesses of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The call chains, the most frequent first; empty if callers were not counted.
    pub chains: Vec<Chain>,
    /// True if the chains are those of the code's accesses to all its ports.
    pub of_all_ports: bool,
    /// The processes and their numbers of accesses, the most accesses first; empty if they are not known.
    pub processes: Vec<(String, u64)>,
}

/// The origins of all accesses of a run.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// By code: what a dump knows.
    by_code: HashMap<CodeKey, Vec<Chain>>,
    /// By access: what traces know.
    by_access: Option<HashMap<(CodeKey, Port, Direction), Origin>>,
}

impl Origins {
    /// Reads the call chains of a dump or window.
    pub fn of_tables(tables: &Tables) -> Origins {
        let mut by_code: HashMap<CodeKey, Vec<Chain>> = HashMap::new();
        for row in &tables.callers {
            let key = CodeKey::Site(row.pc.clone(), row.mode, row.bytes.clone());
            let chain = Chain { frames: row.frames.clone(), end: row.end, accesses: row.accesses };
            by_code.entry(key).or_default().push(chain);
        }
        for row in &tables.call_callers {
            let key = CodeKey::CallSite(row.pc.clone(), row.at);
            let chain = Chain { frames: row.frames.clone(), end: row.end, accesses: row.accesses };
            by_code.entry(key).or_default().push(chain);
        }
        by_code.values_mut().for_each(|chains| sort(chains));
        Origins { by_code, by_access: None }
    }

    /// Adds the origins of each access in a trace.
    ///
    /// # Errors
    ///
    /// Fails if the file is not a trace.
    pub fn add_trace(&mut self, path: &Path) -> Result<()> {
        self.add(trace::origins(&mut Trace::open(path)?));
        Ok(())
    }

    fn add(&mut self, traced: TracedOrigins) {
        let by_access = self.by_access.get_or_insert_default();
        for (key, TracedOrigin { chains, processes }) in traced {
            let origin = by_access.entry(key).or_default();
            for ((frames, end), accesses) in chains {
                match origin.chains.iter_mut().find(|c| c.frames == frames && c.end == end) {
                    Some(chain) => chain.accesses += accesses,
                    None => origin.chains.push(Chain { frames, end, accesses }),
                }
            }
            for (process, accesses) in processes {
                match origin.processes.iter_mut().find(|(known, _)| *known == process) {
                    Some((_, sum)) => *sum += accesses,
                    None => origin.processes.push((process, accesses)),
                }
            }
            sort(&mut origin.chains);
            origin.processes.sort_by_key(|&(_, accesses)| Reverse(accesses));
        }
    }

    /// Returns the origins of an access.
    pub(super) fn of(&self, access: &CheckedAccess<'_>) -> Origin {
        let key = CodeKey::of(access.code);
        if let Some(by_access) = &self.by_access {
            return by_access.get(&(key, access.port, access.dir)).cloned().unwrap_or_default();
        }
        // A dump's call chains name code in a file by its address.
        let key = match access.code {
            Code::Site(site) => CodeKey::Site(site.pc.clone(), site.mode, site.bytes.clone()),
            Code::CallSite(_) => key,
        };
        let chains = self.by_code.get(&key).cloned().unwrap_or_default();
        Origin { chains, of_all_ports: true, processes: Vec::new() }
    }
}

/// The origins of the accesses in a trace.
pub(crate) type TracedOrigins = HashMap<(CodeKey, Port, Direction), TracedOrigin>;

/// The origins of accesses of one kind in a trace.
#[derive(Debug, Default)]
pub(crate) struct TracedOrigin {
    pub chains: BTreeMap<(Vec<FrameRow>, ChainEnd), u64>,
    pub processes: BTreeMap<String, u64>,
}

fn sort(chains: &mut [Chain]) {
    chains.sort_by(|one, other| {
        (Reverse(one.accesses), &one.frames, one.end).cmp(&(
            Reverse(other.accesses),
            &other.frames,
            other.end,
        ))
    });
}
