//! Rows about sites: instructions and the call chains that lead to them.

use std::borrow::Cow;

use pvio_x86::{InsnForm, Mode, Supervisor};
use serde::{Deserialize, Serialize};

use super::Counts;
#[cfg(test)]
use crate::json_schema;

/// One port instruction: its address, mode and bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SiteRow {
    /// The linear address at run time, in hexadecimal; of code in a file, the first one at which it was seen.
    #[cfg_attr(test, schemars(schema_with = "json_schema::address"))]
    pub pc: String,
    /// The mode of the code: 16, 32 or 64 bits; `null` if QEMU does not say.
    #[cfg_attr(test, schemars(schema_with = "json_schema::mode"))]
    pub mode: Option<Mode>,
    /// The instruction's bytes, in hexadecimal, prefixes included.
    #[cfg_attr(test, schemars(schema_with = "json_schema::bytes"))]
    pub bytes: String,
    /// The instruction in Intel syntax.
    pub insn: String,
    /// The privilege of the code; `null` if it is not known.
    #[serde(default)]
    pub privilege: Option<Privilege>,
    /// The form of the instruction; both forms, with `|` between them, if the mode decides it and is not known.
    #[cfg_attr(test, schemars(schema_with = "json_schema::insn_form"))]
    pub form: InsnForm,
    /// The symbol at or before the address, and the offset from it; `null` if there is none.
    pub symbol: Option<String>,
    /// The source of the symbol: `guest kernel`, `firmware`, or a file as the option names it; `null` without a
    /// symbol.
    #[serde(default)]
    pub named_by: Option<String>,
    /// The file and the line of the source that the instruction is from, as `path/file.c:123`; absent without debug
    /// information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The path of the file that the instruction is mapped from, in the guest; absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The offset of the instruction in that file, in hexadecimal; absent without a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "json_schema::address"))]
    pub offset: Option<String>,
    /// The counts of the instruction.
    #[serde(flatten)]
    pub counts: Counts,
}

impl SiteRow {
    /// The symbol, or else the place in a file, as `/bin/true+0x1234`; `None` if neither is known.
    pub fn label(&self) -> Option<Cow<'_, str>> {
        let place = || Some(format!("{}+{}", self.file.as_deref()?, self.offset.as_deref()?));
        self.symbol.as_deref().map(Cow::Borrowed).or_else(|| place().map(Cow::Owned))
    }

    /// The label, and after it the name of the source file without directories, and the line: `send+0x3 (uart.c:45)`.
    pub fn label_with_source(&self) -> Option<Cow<'_, str>> {
        let label = self.label()?;
        let Some(source) = &self.source else { return Some(label) };
        let file = source.rsplit('/').next().unwrap_or(source);
        Some(Cow::Owned(format!("{label} ({file})")))
    }

    /// The linear address as a number; `None` if [`SiteRow::pc`] is not one.
    pub fn address(&self) -> Option<u64> {
        parse_address(&self.pc)
    }
}

/// The privilege of the code at a site, as paging defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// CPL 0 to 2. Real mode is CPL 0.
    Supervisor,
    /// CPL 3. Virtual-8086 mode is CPL 3.
    User,
    /// Both ran the instruction at this address.
    Both,
}

impl Privilege {
    /// The word in the dump.
    pub fn name(self) -> &'static str {
        match self {
            Privilege::Supervisor => "supervisor",
            Privilege::User => "user",
            Privilege::Both => "both",
        }
    }

    /// The privilege of code that ran with one and with the other.
    pub fn and(self, other: Privilege) -> Privilege {
        if self == other { self } else { Privilege::Both }
    }
}

impl From<Supervisor> for Privilege {
    fn from(supervisor: Supervisor) -> Privilege {
        match supervisor {
            Supervisor::Yes => Privilege::Supervisor,
            Supervisor::No => Privilege::User,
        }
    }
}

/// The accesses of one site with one call chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CallerRow {
    /// The site's address, as in `sites`.
    #[cfg_attr(test, schemars(schema_with = "json_schema::address"))]
    pub pc: String,
    /// The site's mode.
    #[cfg_attr(test, schemars(schema_with = "json_schema::mode"))]
    pub mode: Option<Mode>,
    /// The site's bytes.
    #[cfg_attr(test, schemars(schema_with = "json_schema::bytes"))]
    pub bytes: String,
    /// The site's symbol.
    pub symbol: Option<String>,
    /// The callers, the innermost first.
    pub frames: Vec<FrameRow>,
    /// Why there are no more frames.
    pub end: ChainEnd,
    /// Elements moved.
    pub accesses: u64,
}

/// One caller in a call chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FrameRow {
    /// The linear address to which the call returns, or that of the interrupted instruction.
    #[cfg_attr(test, schemars(schema_with = "json_schema::address"))]
    pub pc: String,
    /// The symbol and the offset from it; `null` if there is none.
    pub symbol: Option<String>,
    /// The frame called nothing: an interrupt or an exception interrupted it. Absent if false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
}

/// Why a call chain has no more frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ChainEnd {
    /// The last frame was entered from user mode.
    User,
    /// The stack begins with the last frame.
    Bottom,
    /// The next caller cannot be known.
    Unknown,
    /// The chain has more frames than the option `callers` asks for, or than 64.
    Depth,
    /// There was no room for more chains: nothing is known of these.
    Dropped,
}

impl ChainEnd {
    /// The word in the dump.
    pub fn name(self) -> &'static str {
        match self {
            ChainEnd::User => "user",
            ChainEnd::Bottom => "bottom",
            ChainEnd::Unknown => "unknown",
            ChainEnd::Depth => "depth",
            ChainEnd::Dropped => "dropped",
        }
    }
}

/// Reads an address as the dump writes it: hexadecimal after `0x`.
pub(crate) fn parse_address(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| is_plain)
}
