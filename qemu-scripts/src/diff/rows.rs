//! The text of one row of each table.

use crate::stats::{
    CallCallerRow, CallSiteAccess, CallSiteRow, CallerRow, ChainEnd, FormRow, FrameRow,
    HypercallRow, PortRow, Row, SiteAccess, SiteRow, UndecidedFormRow, ValueRow,
};

/// A row that a table of changes can show.
pub trait Described: Row {
    /// Headings of the cells that name the row. A column with an empty heading is left out.
    const NAMES: [&'static str; 4];

    /// Returns the cells that name the row.
    fn name(&self) -> [String; 4];

    /// Returns the names and values of the row's other counts.
    fn others(&self) -> Vec<(&'static str, Option<u64>)>;

    /// Returns the row's old name if it changed.
    fn renamed(_before: &Self, _after: &Self) -> Option<String> {
        None
    }
}

impl Described for FormRow {
    const NAMES: [&'static str; 4] = ["<form", "", "", ""];

    fn name(&self) -> [String; 4] {
        [self.form.to_string(), String::new(), String::new(), String::new()]
    }

    fn others(&self) -> Vec<(&'static str, Option<u64>)> {
        vec![
            ("attempts", Some(self.attempts)),
            ("executions", Some(self.executions)),
            ("faults", self.faults),
            ("exits", self.exits),
            ("unverified", Some(self.unverified)),
        ]
    }
}

impl Described for UndecidedFormRow {
    const NAMES: [&'static str; 4] = ["<form", "", "", ""];

    fn name(&self) -> [String; 4] {
        [self.form.to_string(), String::new(), String::new(), String::new()]
    }

    fn others(&self) -> Vec<(&'static str, Option<u64>)> {
        vec![
            ("attempts", Some(self.attempts)),
            ("executions", Some(self.executions)),
            ("faults", self.faults),
            ("exits", self.exits),
            ("unverified", Some(self.unverified)),
        ]
    }
}

impl Described for PortRow {
    const NAMES: [&'static str; 4] = ["<port", "<dir", ">size", "<name"];

    fn name(&self) -> [String; 4] {
        let size = self.size;
        let name = self.name.as_deref().unwrap_or("-").to_owned();
        [self.port.to_string(), self.dir.to_string(), size.to_string(), name]
    }

    fn others(&self) -> Vec<(&'static str, Option<u64>)> {
        vec![
            ("by pvio's devices", Some(self.device)),
            ("by QEMU", Some(self.qemu)),
            ("by hypercall", Some(self.hypercall)),
            ("unverified", Some(self.unverified)),
        ]
    }

    fn renamed(before: &PortRow, after: &PortRow) -> Option<String> {
        let name = before.name.as_deref().unwrap_or("without a name");
        (before.name != after.name).then(|| format!("was {name}"))
    }
}

impl Described for ValueRow {
    const NAMES: [&'static str; 4] = ["<port", "<dir", ">size", ">value"];

    fn name(&self) -> [String; 4] {
        let size = self.size.to_string();
        [self.port.to_string(), self.dir.to_string(), size, self.value_text()]
    }

    fn others(&self) -> Vec<(&'static str, Option<u64>)> {
        vec![("unverified", Some(self.counts.unverified))]
    }
}

impl Described for SiteRow {
    const NAMES: [&'static str; 4] = ["<address", "<instruction", "<symbol", ""];

    fn name(&self) -> [String; 4] {
        let symbol = self.symbol.as_deref().unwrap_or("-").to_owned();
        [self.pc.clone(), self.insn.clone(), symbol, String::new()]
    }

    fn others(&self) -> Vec<(&'static str, Option<u64>)> {
        let counts = &self.counts;
        vec![("executions", Some(counts.executions)), ("unverified", Some(counts.unverified))]
    }
}

impl Described for SiteAccess {
    const NAMES: [&'static str; 4] = ["<address", "<instruction", "<port", "<symbol"];

    fn name(&self) -> [String; 4] {
        let [address, instruction, symbol, _] = self.site.name();
        [address, instruction, self.port.to_string(), symbol]
    }

    fn others(&self) -> Vec<(&'static str, Option<u64>)> {
        vec![("unverified", Some(self.counts.unverified))]
    }
}

/// The cells that name a call chain.
fn chain(site: &str, frames: &[FrameRow], end: ChainEnd) -> [String; 4] {
    let mut callers: Vec<&str> = frames.iter().map(FrameRow::name).collect();
    if matches!(end, ChainEnd::Unknown | ChainEnd::Dropped) {
        callers.push("?");
    }
    [site.to_owned(), callers.join(" < "), String::new(), String::new()]
}

impl Described for CallSiteRow {
    const NAMES: [&'static str; 4] = ["<address", "<call", "<symbol", ""];

    fn name(&self) -> [String; 4] {
        let symbol = self.symbol.as_deref().unwrap_or("-").to_owned();
        [self.pc.clone(), self.call.to_string(), symbol, String::new()]
    }

    fn others(&self) -> Vec<(&'static str, Option<u64>)> {
        vec![("calls", Some(self.counts.calls)), ("bytes", Some(self.counts.bytes))]
    }
}

impl Described for CallSiteAccess {
    const NAMES: [&'static str; 4] = ["<address", "<call", "<port", "<symbol"];

    fn name(&self) -> [String; 4] {
        let [address, call, symbol, _] = self.site.name();
        [address, call, self.port.to_string(), symbol]
    }

    fn others(&self) -> Vec<(&'static str, Option<u64>)> {
        Vec::new()
    }
}

impl Described for CallCallerRow {
    const NAMES: [&'static str; 4] = ["<site", "<callers", "", ""];

    fn name(&self) -> [String; 4] {
        chain(self.site(), &self.frames, self.end)
    }

    fn others(&self) -> Vec<(&'static str, Option<u64>)> {
        Vec::new()
    }
}

impl Described for CallerRow {
    const NAMES: [&'static str; 4] = ["<site", "<callers", "", ""];

    fn name(&self) -> [String; 4] {
        chain(self.site(), &self.frames, self.end)
    }

    fn others(&self) -> Vec<(&'static str, Option<u64>)> {
        Vec::new()
    }
}

impl Described for HypercallRow {
    const NAMES: [&'static str; 4] = ["<call", "", "", ""];

    fn name(&self) -> [String; 4] {
        [self.call.to_string(), String::new(), String::new(), String::new()]
    }

    fn others(&self) -> Vec<(&'static str, Option<u64>)> {
        vec![
            ("bytes", Some(self.bytes)),
            ("declined", Some(self.declined)),
            ("denied", Some(self.denied)),
            ("errors", Some(self.errors)),
        ]
    }
}
