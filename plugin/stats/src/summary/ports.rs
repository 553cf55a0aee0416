//! Tables of ports and of the values at them.

use super::{BUSIEST, most};
use crate::schema::{FirstAccess, PortRow, Snapshot};
use crate::text_table::{TextTable, number, percent};
use crate::values::timeline;

pub(super) fn ports(snapshot: &Snapshot) -> String {
    let total: u64 = snapshot.ports.iter().map(PortRow::accesses).sum();
    let any = |column: fn(&PortRow) -> u64| snapshot.ports.iter().any(|row| column(row) > 0);
    let by_hypercall = if any(|row| row.hypercall) { ">by hypercall" } else { "" };
    let unverified = if any(|row| row.unverified) { ">unverified" } else { "" };
    let columns = ["<port", "<dir", ">size", ">accesses", ">%", by_hypercall, unverified, "<name"];
    let mut table = TextTable::new(&columns);
    for row in most(&snapshot.ports, PortRow::accesses) {
        table.row([
            row.port.to_string(),
            row.dir.to_string(),
            row.size.to_string(),
            number(row.accesses()),
            percent(row.accesses(), total),
            number(row.hypercall),
            number(row.unverified),
            row.name.as_deref().unwrap_or("-").to_string(),
        ]);
    }
    table.render()
}

/// The ports that no device serves, if their first accesses are known: a heading and a table.
pub(super) fn first_unserved(snapshot: &Snapshot) -> Option<(String, String)> {
    let rows = snapshot.ports.iter().filter(|row| row.served == Some(false));
    let mut rows: Vec<(&FirstAccess, &PortRow)> =
        rows.filter_map(|row| Some((row.first.as_ref()?, row))).collect();
    if rows.is_empty() {
        return None;
    }
    rows.sort_by_key(|(first, _)| first.rank);
    let what = "ports that no device serves, in the order of their first access";
    let title = match rows.len() > BUSIEST {
        true => format!("The first {BUSIEST} of {} {what}", number(rows.len() as u64)),
        false => format!("All {what}"),
    };
    let columns = ["<port", "<dir", ">size", ">accesses", "<usual name", "<first by", "<symbol"];
    let mut table = TextTable::new(&columns);
    for (first, row) in rows.into_iter().take(BUSIEST) {
        table.row([
            row.port.to_string(),
            row.dir.to_string(),
            row.size.to_string(),
            number(row.accesses()),
            row.name.as_deref().unwrap_or("-").to_owned(),
            first.by().to_owned(),
            first.symbol.as_deref().unwrap_or("-").to_owned(),
        ]);
    }
    Some((title, table.render()))
}

/// The values at ports: a heading and a table.
pub(super) fn values(snapshot: &Snapshot) -> (String, String) {
    let rows = timeline(&snapshot.values);
    let clock = match &snapshot.values_clock {
        Some(clock) => {
            format!(", in the order of their first accesses; times by the {clock}'s clock")
        }
        None => String::new(),
    };
    let title = match rows.len() > BUSIEST {
        true => format!("The first {BUSIEST} of {} values{clock}", number(rows.len() as u64)),
        false => format!("All values{clock}"),
    };
    (title, crate::values::table(rows.into_iter().take(BUSIEST)))
}

/// Returns a line that lists the used ports that no device serves; empty if there are none.
pub(super) fn unserved(snapshot: &Snapshot) -> String {
    let mut ports: Vec<_> =
        snapshot.ports.iter().filter(|row| row.served == Some(false)).map(|row| row.port).collect();
    ports.dedup();
    let shown: Vec<String> = ports.iter().take(BUSIEST).map(ToString::to_string).collect();
    let more = match ports.len().saturating_sub(BUSIEST) {
        0 => String::new(),
        more => format!(" and {} more", number(more as u64)),
    };
    match ports.is_empty() {
        true => String::new(),
        false => format!("  no device serves {}{more}\n", shown.join(", ")),
    }
}
