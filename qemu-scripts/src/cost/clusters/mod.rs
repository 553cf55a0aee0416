//! Clusters: accesses within a few instructions of each other, which one exit could serve.
//!
//! See Agesen et al., "Software techniques for avoiding hardware virtualization exits", USENIX ATC 2012. A trace does
//! not record instructions other than those of port I/O, so the rule uses what it has: [`Rule`].

mod find;
mod open;
mod saving;

use std::collections::BTreeMap;

use pvio_x86::{AccessSize, Direction, InsnForm, Mode, Port};

use crate::stats::SiteRow;

pub use find::add_trace;
pub use saving::{ClusterSaving, saved_by_cluster, saved_by_rep};

/// When two accesses belong together.
///
/// They are by one vCPU, for one process, by `in` or `out`, with no other port access or hypercall of the vCPU between
/// them. Their instructions, or the addresses to which their functions return, are near, and little time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The largest distance of addresses in bytes.
    pub near: u64,
    /// The longest time between the accesses, in nanoseconds of the host's clock.
    pub within: u64,
    /// The largest number of accesses in a cluster.
    pub most: u64,
}

/// An instruction: its place, mode and bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteKey {
    place: Place,
    mode: Option<Mode>,
    bytes: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    File(String, Option<u64>),
    Address(u64),
}

impl SiteKey {
    /// The key of a row of a dump; `None` if its address is not a number.
    pub fn of_row(row: &SiteRow) -> Option<SiteKey> {
        let place = match &row.file {
            Some(file) => {
                let digits = row.offset.as_deref().and_then(|offset| offset.strip_prefix("0x"));
                let offset = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
                Place::File(file.clone(), offset)
            }
            None => Place::Address(row.address()?),
        };
        Some(SiteKey { place, mode: row.mode, bytes: row.bytes.clone() })
    }
}

/// One instruction at one port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The instruction; `None` if it has no row among the sites.
    pub site: Option<SiteKey>,
    /// Its linear address.
    pub pc: u64,
    /// Its symbol and offset.
    pub symbol: Option<String>,
    /// Its form.
    pub form: InsnForm,
    /// The port.
    pub port: Port,
}

impl Point {
    /// The direction.
    pub fn dir(&self) -> Direction {
        self.form.direction()
    }

    /// Bytes in one access.
    pub fn size(&self) -> AccessSize {
        self.form.size()
    }

    /// The symbol, or else the address.
    pub fn label(&self) -> String {
        self.symbol.clone().unwrap_or_else(|| format!("{:#x}", self.pc))
    }
}

/// What the accesses of a cluster do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One instruction reads a port until what it reads changes.
    Poll,
    /// One instruction accesses one port again and again.
    Loop,
    /// One instruction writes a port, another accesses a port: an index and its data.
    Pair,
    /// Anything else.
    Sequence,
}

impl Kind {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Poll => "poll",
            Kind::Loop => "loop",
            Kind::Pair => "pair",
            Kind::Sequence => "sequence",
        }
    }
}

/// Which accesses a cluster has, in the order of the first of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// What they do.
    pub kind: Kind,
    /// The instructions and ports.
    pub points: Vec<Point>,
}

/// How often clusters of one shape occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShapeCounts {
    /// The number of clusters.
    pub times: u64,
    /// The accesses of each point in them.
    pub accesses: Vec<u64>,
}

impl ShapeCounts {
    /// All accesses.
    pub fn all(&self) -> u64 {
        self.accesses.iter().sum()
    }

    /// The exits that are saved if one exit serves each cluster.
    pub fn saved_exits(&self) -> u64 {
        self.all() - self.times
    }
}

/// The clusters of traces.
#[derive(Clone, Debug)]
pub struct Clusters {
    /// The rule that found them.
    pub rule: Rule,
    /// The clusters of at least two accesses, by their shape.
    pub shapes: BTreeMap<Shape, ShapeCounts>,
    /// Loops at one port that a `rep` could replace: how many had so many accesses. Polls are not among them.
    pub loops: BTreeMap<Point, BTreeMap<u64, u64>>,
    /// Accesses by `in` and `out`.
    pub accesses: u64,
    /// Those that are alone.
    pub singles: u64,
    /// Those whose cluster had no room among the shapes.
    pub dropped: u64,
}

impl Clusters {
    /// No clusters yet.
    pub fn new(rule: Rule) -> Clusters {
        Clusters {
            rule,
            shapes: BTreeMap::new(),
            loops: BTreeMap::new(),
            accesses: 0,
            singles: 0,
            dropped: 0,
        }
    }

    /// The number of clusters.
    pub fn times(&self) -> u64 {
        self.shapes.values().map(|counts| counts.times).sum()
    }

    /// The accesses in clusters.
    pub fn clustered(&self) -> u64 {
        self.shapes.values().map(ShapeCounts::all).sum()
    }

    /// The exits of `in` and `out` that are left if one exit serves each cluster.
    pub fn exits_left(&self) -> u64 {
        self.times() + self.singles + self.dropped
    }

    /// The exits that are saved if one exit serves each cluster.
    pub fn saved_exits(&self) -> u64 {
        self.accesses - self.exits_left()
    }
}
