//! A snapshot as tables for a person.

use std::fmt::Write;

use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Padding, Style};
use thousands::Separable;

use super::snapshot::{FormRow, PortRow, SiteRow, Snapshot};

/// How many of the busiest ports and sites are shown; the JSON dump has all.
const BUSIEST: usize = 16;

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// The tables, with a trailing newline. `colour` is for terminals.
pub fn render(snapshot: &Snapshot, colour: bool) -> String {
    let mut text = String::new();
    let heading = |text: &mut String, line: &str| {
        let (on, off) = if colour { (BOLD, PLAIN) } else { ("", "") };
        let _ = writeln!(text, "{on}{line}{off}");
    };
    heading(&mut text, &title(snapshot));
    let _ = writeln!(text, "{}", overview(snapshot));
    text.push('\n');
    heading(&mut text, "The 24 forms");
    text.push_str(&forms(snapshot));
    if !snapshot.ports.is_empty() {
        let title = busiest("ports, by direction and size", snapshot.ports.len());
        text.push('\n');
        heading(&mut text, &title);
        text.push_str(&ports(snapshot));
        if let Some(unserved) = unserved(snapshot) {
            let _ = writeln!(text, "{unserved}");
        }
    }
    if !snapshot.sites.is_empty() {
        let title = busiest("sites", snapshot.sites.len());
        text.push('\n');
        heading(&mut text, &title);
        text.push_str(&sites(snapshot));
    }
    if snapshot.sites_dropped > 0 {
        let _ = writeln!(
            text,
            "{} translated instructions found no room among the sites; together they made {} accesses",
            number(snapshot.sites_dropped),
            number(snapshot.sites_dropped_counts.accesses),
        );
    }
    if snapshot.vcpus.len() > 1 {
        text.push('\n');
        heading(&mut text, "vCPUs");
        text.push_str(&vcpus(snapshot));
    }
    if let Some(why) = &snapshot.vcpus_omitted {
        let _ = writeln!(text, "\nNo rows by vCPU: {why}");
    }
    text
}

fn title(snapshot: &Snapshot) -> String {
    let qemu = &snapshot.qemu;
    format!(
        "pvio {}: QEMU {} ({}, plugin API {}), ended by {}",
        snapshot.pvio,
        qemu.version.as_deref().unwrap_or("of unknown version"),
        qemu.target,
        qemu.plugin_api,
        snapshot.ended,
    )
}

fn overview(snapshot: &Snapshot) -> String {
    let total = total_of(&snapshot.forms);
    let mut line = format!(
        "{} port accesses of {} bytes by {} executions",
        number(total.accesses),
        number(total.bytes),
        number(total.executions),
    );
    match total.faults {
        Some(0) => {}
        Some(faults) => {
            let _ = write!(line, "; {} attempts faulted", number(faults));
        }
        None if total.unverified > 0 => {
            let _ = write!(
                line,
                "; {} more were made or faulted, which QEMU before 11.0 does not report",
                number(total.unverified)
            );
        }
        None => {}
    }
    line
}

/// A form's row, or the sum of all.
struct Total {
    attempts: u64,
    executions: u64,
    accesses: u64,
    bytes: u64,
    faults: Option<u64>,
    unverified: u64,
}

fn total_of(rows: &[FormRow]) -> Total {
    let sum = |column: fn(&FormRow) -> u64| rows.iter().map(column).sum();
    Total {
        attempts: sum(|row| row.attempts),
        executions: sum(|row| row.executions),
        accesses: sum(|row| row.accesses),
        bytes: sum(|row| row.bytes),
        faults: rows.iter().map(|row| row.faults).sum(),
        unverified: sum(|row| row.unverified),
    }
}

fn forms(snapshot: &Snapshot) -> String {
    let total = total_of(&snapshot.forms);
    // The last column is what this QEMU can tell: faults, or what it leaves open.
    let last = if total.faults.is_some() { ">faults" } else { ">unverified" };
    let mut table =
        Lines::new(&["<form", ">attempts", ">executions", ">accesses", ">%", ">bytes", last]);
    for row in &snapshot.forms {
        table.row([
            row.form.name().to_string(),
            number(row.attempts),
            number(row.executions),
            number(row.accesses),
            percent(row.accesses, total.accesses),
            number(row.bytes),
            number(row.faults.unwrap_or(row.unverified)),
        ]);
    }
    table.row([
        "all".to_string(),
        number(total.attempts),
        number(total.executions),
        number(total.accesses),
        percent(total.accesses, total.accesses),
        number(total.bytes),
        number(total.faults.unwrap_or(total.unverified)),
    ]);
    table.render()
}

fn ports(snapshot: &Snapshot) -> String {
    let total: u64 = snapshot.ports.iter().map(port_accesses).sum();
    let open = snapshot.ports.iter().any(|row| row.unverified > 0);
    let unverified = if open { ">unverified" } else { "" };
    let mut table = Lines::new(&["<port", "<dir", ">size", ">accesses", ">%", unverified, "<name"]);
    for row in most(&snapshot.ports, port_accesses) {
        table.row([
            row.port.to_string(),
            row.dir.to_string(),
            row.size.bytes().to_string(),
            number(port_accesses(row)),
            percent(port_accesses(row), total),
            number(row.unverified),
            row.name.as_deref().unwrap_or("-").to_string(),
        ]);
    }
    table.render()
}

/// The ports that were used and that nobody serves.
fn unserved(snapshot: &Snapshot) -> Option<String> {
    let mut ports: Vec<_> =
        snapshot.ports.iter().filter(|row| row.served == Some(false)).map(|row| row.port).collect();
    ports.dedup();
    let shown: Vec<String> = ports.iter().take(BUSIEST).map(ToString::to_string).collect();
    let more = match ports.len().saturating_sub(BUSIEST) {
        0 => String::new(),
        more => format!(" and {} more", number(more as u64)),
    };
    (!ports.is_empty()).then(|| format!("  nothing is at {}{more}", shown.join(", ")))
}

fn port_accesses(row: &PortRow) -> u64 {
    row.device + row.qemu + row.hypercall
}

fn sites(snapshot: &Snapshot) -> String {
    let open = snapshot.sites.iter().any(|row| row.counts.unverified > 0);
    let accesses = |row: &SiteRow| row.counts.accesses;
    let total: u64 = snapshot.sites.iter().map(accesses).sum();
    let mut table = Lines::new(&[
        "<address",
        ">mode",
        "<instruction",
        ">executions",
        ">accesses",
        ">%",
        if open { ">unverified" } else { "" },
        "<symbol",
    ]);
    for row in most(&snapshot.sites, accesses) {
        table.row([
            row.pc.clone(),
            row.mode.map_or("-".to_string(), |mode| mode.bits().to_string()),
            row.insn.clone(),
            number(row.counts.executions),
            number(accesses(row)),
            percent(accesses(row), total),
            number(row.counts.unverified),
            row.symbol.as_deref().unwrap_or("-").to_string(),
        ]);
    }
    table.render()
}

fn vcpus(snapshot: &Snapshot) -> String {
    let total: u64 = snapshot.vcpus.iter().map(|row| row.accesses).sum();
    let mut table = Lines::new(&[">vCPU", ">executions", ">accesses", ">%"]);
    for row in &snapshot.vcpus {
        table.row([
            row.vcpu.to_string(),
            number(row.executions),
            number(row.accesses),
            percent(row.accesses, total),
        ]);
    }
    table.render()
}

fn busiest(what: &str, count: usize) -> String {
    match count > BUSIEST {
        true => format!("The {BUSIEST} busiest of {} {what}", number(count as u64)),
        false => format!("All {what}"),
    }
}

/// The busiest rows; of equals those that come first.
fn most<T>(rows: &[T], accesses: impl Fn(&T) -> u64) -> impl Iterator<Item = &T> {
    let mut rows: Vec<&T> = rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(accesses(row)));
    rows.into_iter().take(BUSIEST)
}

fn number(number: u64) -> String {
    number.separate_with_commas()
}

fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_string(),
        _ => format!("{:.1}", part as f64 * 100.0 / whole as f64),
    }
}

/// A table without borders; `<` and `>` before a column's name align it, and one without a name is
/// left out.
struct Lines {
    builder: Builder,
    columns: Vec<&'static str>,
}

impl Lines {
    fn new(columns: &[&'static str]) -> Lines {
        let mut lines = Lines { builder: Builder::default(), columns: columns.to_vec() };
        let names = columns.iter().map(|column| column.trim_start_matches(['<', '>']).to_owned());
        lines.push(names);
        lines
    }

    fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells.into_iter());
    }

    fn push(&mut self, cells: impl Iterator<Item = String>) {
        let shown = cells.zip(&self.columns).filter(|(_, column)| !column.is_empty());
        self.builder.push_record(shown.map(|(cell, _)| cell));
    }

    fn render(self) -> String {
        let mut table = self.builder.build();
        table.with(Style::empty());
        let shown = self.columns.iter().filter(|column| !column.is_empty());
        for (place, column) in shown.enumerate() {
            let left = column.starts_with('<');
            table.modify(
                Columns::one(place),
                if left { Alignment::left() } else { Alignment::right() },
            );
            table.modify(Columns::one(place), Padding::new(2, 0, 0, 0));
        }
        let mut text = String::new();
        for line in table.to_string().lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::snapshot::{Counts, QemuRow, VcpuRow};
    use crate::x86::{Direction, Mode, Port, PortForm, Width};

    fn snapshot() -> Snapshot {
        let counts = Counts { executions: 70_000, accesses: 70_000, unverified: 0 };
        Snapshot {
            schema: super::super::SCHEMA.into(),
            pvio: "1.2.3".into(),
            qemu: QemuRow {
                version: Some("11.1.3".into()),
                plugin_api: 7,
                target: "x86_64".into(),
            },
            ended: "shutdown".into(),
            vcpus: (0..2)
                .map(|vcpu| VcpuRow { vcpu, executions: 35_001, accesses: 36_000 })
                .collect(),
            vcpus_omitted: None,
            forms: PortForm::ALL
                .map(|form| FormRow {
                    form,
                    attempts: 0,
                    executions: 0,
                    accesses: 0,
                    bytes: 0,
                    faults: Some(0),
                    unverified: 0,
                })
                .into(),
            ports: vec![PortRow {
                port: Port(0x3f8),
                name: Some("COM1".into()),
                dir: Direction::Out,
                size: Width::Byte,
                served: Some(true),
                device: 0,
                qemu: 70_000,
                hypercall: 0,
                unverified: 0,
            }],
            sites: vec![SiteRow {
                pc: "0xffffffff81000051".into(),
                mode: Some(Mode::Bits64),
                bytes: "ee".into(),
                insn: "out dx,al".into(),
                form: PortForm::OutDxAl,
                symbol: Some("io_serial_out+0x1".into()),
                counts,
            }],
            sites_dropped: 0,
            sites_dropped_counts: Counts::default(),
            hypercalls: Vec::new(),
            windows: Vec::new(),
        }
    }

    #[test]
    fn tables_are_aligned() {
        let mut snapshot = snapshot();
        snapshot.forms[9] = FormRow {
            form: PortForm::OutDxAl,
            attempts: 70_002,
            executions: 70_000,
            accesses: 70_000,
            bytes: 70_000,
            faults: Some(2),
            unverified: 0,
        };
        insta::assert_snapshot!(render(&snapshot, false));
    }

    #[test]
    fn colour_is_for_terminals() {
        assert!(!render(&snapshot(), false).contains('\x1b'));
        assert!(render(&snapshot(), true).contains(BOLD));
    }
}
