//! Rows about call sites: the code that makes hypercalls, and the call chains that lead to it.

use std::borrow::Cow;

use pvio_x86::{AccessSize, Direction, Mode, Port};
use serde::{Deserialize, Serialize};

use super::{ChainEnd, FrameRow, parse_address};
use crate::Call;
#[cfg(test)]
use crate::json_schema;

/// The meaning of a call site's address.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum CallAt {
    /// It is the address of the hypercall's own instruction.
    #[default]
    Instruction,
    /// The call states it: the address to which the guest's port function returns.
    Return,
}

impl CallAt {
    /// The word in the dump.
    pub fn name(self) -> &'static str {
        match self {
            CallAt::Instruction => "instruction",
            CallAt::Return => "return",
        }
    }

    /// Returns the frames of a call's chain after the one at which the site is, if the call states its site.
    ///
    /// The frames before are those of the functions that make the call on behalf of the site. `return_of` gives the
    /// return address of a frame. If no frame is at the site, all stay.
    pub fn callers_of_site<F>(
        self,
        pc: u64,
        frames: &[F],
        return_of: impl Fn(&F) -> Option<u64>,
    ) -> &[F] {
        let site = match self {
            CallAt::Instruction => None,
            CallAt::Return => frames.iter().position(|frame| return_of(frame) == Some(pc)),
        };
        site.map_or(frames, |index| &frames[index + 1..])
    }
}

/// The counts of one or several call sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CallCounts {
    /// Hypercalls made; an operation in a batch counts too.
    pub calls: u64,
    /// Elements that they moved to or from ports.
    pub accesses: u64,
    /// Bytes that they moved between guest and host.
    pub bytes: u64,
}

/// One call at one call site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CallSiteRow {
    /// The linear address at run time, in hexadecimal.
    #[cfg_attr(test, schemars(schema_with = "json_schema::address"))]
    pub pc: String,
    /// The meaning of the address.
    pub at: CallAt,
    /// The mode of the code that makes the call; `null` in dumps of other programs.
    #[cfg_attr(test, schemars(schema_with = "json_schema::mode"))]
    pub mode: Option<Mode>,
    /// The symbol at or before the address, and the offset from it; `null` if there is none.
    ///
    /// The function is that of the byte before a return address.
    pub symbol: Option<String>,
    /// The source of the symbol, as in `sites`.
    pub named_by: Option<String>,
    /// The file and the line of the source, as in `sites`; absent without debug information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The call, as in `hypercalls`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub call: Call,
    /// The counts of the call there.
    #[serde(flatten)]
    pub counts: CallCounts,
}

impl CallSiteRow {
    /// The linear address as a number; `None` if [`CallSiteRow::pc`] is not one.
    pub fn address(&self) -> Option<u64> {
        parse_address(&self.pc)
    }

    /// The symbol, and after it the name of the source file without directories, and the line.
    pub fn label_with_source(&self) -> Option<Cow<'_, str>> {
        let symbol = self.symbol.as_deref()?;
        let Some(source) = &self.source else { return Some(Cow::Borrowed(symbol)) };
        let file = source.rsplit('/').next().unwrap_or(source);
        Some(Cow::Owned(format!("{symbol} ({file})")))
    }
}

/// The accesses of one row of `call_sites` to one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CallAccessRow {
    /// The index of the row in `call_sites`, from 0.
    pub site: usize,
    /// The address of the port.
    #[cfg_attr(test, schemars(with = "u16"))]
    pub port: Port,
    /// The direction, as the processor sees it.
    #[cfg_attr(test, schemars(schema_with = "json_schema::direction"))]
    pub dir: Direction,
    /// Bytes in one access.
    #[cfg_attr(test, schemars(schema_with = "json_schema::size"))]
    pub size: AccessSize,
    /// Elements moved.
    pub accesses: u64,
}

/// The accesses of one call site, by all its calls, with one call chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CallCallerRow {
    /// The site's address, as in `call_sites`.
    #[cfg_attr(test, schemars(schema_with = "json_schema::address"))]
    pub pc: String,
    /// The meaning of the address.
    pub at: CallAt,
    /// The site's mode.
    #[cfg_attr(test, schemars(schema_with = "json_schema::mode"))]
    pub mode: Option<Mode>,
    /// The site's symbol.
    pub symbol: Option<String>,
    /// The callers of the site's function, the innermost first.
    pub frames: Vec<FrameRow>,
    /// Why there are no more frames.
    pub end: ChainEnd,
    /// Elements moved.
    pub accesses: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_begins_after_the_stated_site() {
        let chain = |at: CallAt, pc| at.callers_of_site(pc, &[10, 20, 30], |&frame| Some(frame));
        assert_eq!(chain(CallAt::Instruction, 20), [10, 20, 30]);
        assert_eq!(chain(CallAt::Return, 10), [20, 30]);
        assert!(chain(CallAt::Return, 30).is_empty());
        assert_eq!(chain(CallAt::Return, 40), [10, 20, 30]);
        assert_eq!(CallAt::Return.callers_of_site(10, &[10, 20], |_| None), [10, 20]);
    }
}
