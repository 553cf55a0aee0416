//! Models: what a hypervisor's exits cost, and how many exits an instruction causes.
//!
//! A model is a TOML file, schema `pvio.model/1`; `docs/cost.md` defines its keys. Every figure names its source. A
//! figure that nobody has published is left out, and what depends on it is not known.

mod built_in;
mod parse;
mod serial;

use std::path::Path;

use anyhow::{Context, Result, bail};
use pvio_x86::{Direction, Port, PortRange};

use super::amount::{Decimal, Unit};
use crate::stats::nearest::suggestion_or;

pub use built_in::{BUILT_IN, built_in};
pub use serial::extract;

/// The name of the schema of models.
pub const SCHEMA: &str = "pvio.model/1";

/// What a hypervisor's exits cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Its name, in one word.
    pub name: String,
    /// A line about the machine.
    pub title: String,
    /// Remarks on the model; empty if there are none.
    pub notes: String,
    /// The unit of all figures.
    pub unit: Unit,
    /// How string instructions exit.
    pub strings: Strings,
    /// The most bytes that one exit of a string moves.
    pub string_bytes: u32,
    /// The sources of figures, in the order of the file.
    pub sources: Vec<Source>,
    /// The figures, by kind.
    figures: [Option<Figure>; CostKind::ALL.len()],
    /// Ports that the hypervisor's kernel serves.
    pub kernel_ports: Vec<PortRange>,
    /// Ports whose writes the hypervisor's kernel collects.
    pub coalesced_ports: Vec<PortRange>,
}

/// How string instructions exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strings {
    /// Each element is an exit.
    Element,
    /// One exit moves many elements.
    Page,
    /// One exit of `ins` moves many elements; each element of `outs` is an exit.
    PageIn,
    /// The guest cannot execute them, and has loops of `in` and `out` instead.
    Refused,
}

impl Strings {
    /// All, with their names in a model.
    pub const ALL: [(&'static str, Strings); 4] = [
        ("element", Strings::Element),
        ("page", Strings::Page),
        ("page-in", Strings::PageIn),
        ("refused", Strings::Refused),
    ];

    /// The name in a model.
    pub fn name(self) -> &'static str {
        let row = Strings::ALL.into_iter().find(|&(_, strings)| strings == self);
        row.map_or("", |(name, _)| name)
    }

    /// Returns true if one exit moves several elements in this direction.
    pub fn moves_many(self, direction: Direction) -> bool {
        match self {
            Strings::Page => true,
            Strings::PageIn => direction == Direction::In,
            Strings::Element | Strings::Refused => false,
        }
    }
}

/// The source of figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name that figures use.
    pub name: String,
    /// The text, program or machine.
    pub title: String,
    /// Where it can be read; `None` for a measurement of one's own.
    pub url: Option<String>,
    /// When it was published or measured; `None` for a measurement without a date.
    pub date: Option<String>,
}

/// One cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The cost in the model's unit.
    pub amount: Decimal,
    /// The position of its source in [`Model::sources`].
    pub source: usize,
    /// How it follows from other figures; `None` if the source states it.
    pub derived: Option<String>,
    /// True if the cost is at least this.
    pub at_least: bool,
}

macro_rules! cost_kinds {
    ($($variant:ident $name:literal $meaning:literal,)*) => {
        /// What a figure is the cost of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum CostKind {
            $(#[doc = $meaning] $variant,)*
        }

        impl CostKind {
            /// All kinds, in the order of tables.
            pub const ALL: [CostKind; 8] = [$(CostKind::$variant,)*];

            /// The key in a model.
            pub fn name(self) -> &'static str {
                match self { $(CostKind::$variant => $name,)* }
            }

            /// What it is the cost of.
            pub fn meaning(self) -> &'static str {
                match self { $(CostKind::$variant => $meaning,)* }
            }
        }
    };
}

cost_kinds! {
    In "in" "An `in` that user space serves.",
    Out "out" "An `out` that user space serves.",
    InKernel "in-kernel" "An `in` that the hypervisor's kernel serves.",
    OutKernel "out-kernel" "An `out` that the hypervisor's kernel serves.",
    CoalescedOut "coalesced-out" "An `out` that the hypervisor's kernel only collects.",
    Hypercall "hypercall" "A hypercall that does nothing.",
    StringElement "string-element" "One element of a string, besides the exit that moves it.",
    BatchRecord "batch-record" "One record of a batch, besides the hypercall.",
}

/// Who ends an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitClass {
    /// User space.
    User,
    /// The hypervisor's kernel.
    Kernel,
    /// The hypervisor's kernel, which collects writes.
    Coalesced,
}

impl Model {
    /// The figure of a kind; `None` if the model has none.
    pub fn figure(&self, kind: CostKind) -> Option<&Figure> {
        self.figures[kind as usize].as_ref()
    }

    /// The class of an access.
    pub fn class(&self, port: Port, direction: Direction) -> ExitClass {
        let is_among = |ranges: &[PortRange]| ranges.iter().any(|range| range.contains(port));
        if direction == Direction::Out && is_among(&self.coalesced_ports) {
            ExitClass::Coalesced
        } else if is_among(&self.kernel_ports) {
            ExitClass::Kernel
        } else {
            ExitClass::User
        }
    }

    /// Replaces the frequency of a model in cycles. A model in nanoseconds stays.
    pub fn set_mhz(&mut self, mhz: Decimal) {
        if self.unit != Unit::Nanoseconds {
            self.unit = Unit::CyclesAt(mhz);
        }
    }

    /// Reads a model: a file, or one of pvio's by name.
    ///
    /// A name with a slash or a dot is a file.
    ///
    /// # Errors
    ///
    /// No model has the name, the file cannot be read, or it has a mistake.
    pub fn named(name: &str) -> Result<Model> {
        if name.contains(['/', '.']) {
            let text = std::fs::read_to_string(name)
                .with_context(|| format!("--model: {name}: cannot be read; name a TOML file"))?;
            return Ok(parse::parse(name, &text)?);
        }
        let names = || BUILT_IN.iter().map(|(name, _)| *name);
        let Some((_, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) else {
            let remedy = suggestion_or(name, names(), || {
                format!("; there are {}", names().collect::<Vec<_>>().join(", "))
            });
            bail!(
                "--model: no model is named {name:?}{remedy}; a file's name has a slash or a dot"
            );
        };
        Ok(parse::parse(name, text)?)
    }

    /// Reads the model that a guest has printed to a serial line.
    ///
    /// # Errors
    ///
    /// The file cannot be read, it has no complete model, or the model has a mistake.
    pub fn measured(path: &Path) -> Result<(Model, String)> {
        let bytes = std::fs::read(path)
            .with_context(|| format!("--measure: {}: cannot be read", path.display()))?;
        let log = String::from_utf8_lossy(&bytes);
        let text = extract(&log).with_context(|| format!("--measure: {}", path.display()))?;
        let model = parse::parse(&path.display().to_string(), &text)?;
        Ok((model, text.trim_start_matches('\n').to_owned()))
    }
}

/// Parses a model of a test.
#[cfg(test)]
pub(crate) fn test_model(text: &str) -> Model {
    parse::parse("test", text).unwrap()
}
