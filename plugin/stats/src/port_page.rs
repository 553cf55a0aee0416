//! One port as text: who accessed it, how often.

use std::fmt::Write;

use pvio_x86::Port;

use crate::schema::{PortRow, Snapshot};
use crate::text_table::{TextTable, number, percent, printable};
use crate::values::{table, timeline};

/// Renders the accesses to a port by site as a text table, with a newline at the end.
pub fn render_port(snapshot: &Snapshot, port: Port) -> String {
    let rows: Vec<&PortRow> = snapshot.ports.iter().filter(|row| row.port == port).collect();
    let name = rows.iter().find_map(|row| row.name.as_deref());
    let name = name.map_or(String::new(), |name| format!(", {name}"));
    let total: u64 = rows.iter().map(|row| row.device + row.qemu).sum();
    let by_hypercall: u64 = rows.iter().map(|row| row.hypercall).sum();
    let mut text = printable(&format!("Port {port}{name}"));
    let _ = match rows.is_empty() {
        true => writeln!(text, ": the guest did not access it"),
        false => {
            writeln!(
                text,
                ": accesses by instruction {}, by hypercall {}",
                number(total),
                number(by_hypercall)
            )
        }
    };
    let values = timeline(snapshot.values.iter().filter(|row| row.port == port));
    let values = match (values.is_empty(), &snapshot.values_clock) {
        (true, _) => String::new(),
        (false, None) => format!("\nValues\n{}", table(values)),
        (false, Some(clock)) => {
            format!("\nValues, times by the {}'s clock\n{}", printable(clock), table(values))
        }
    };
    let by_call_site = call_sites(snapshot, port, by_hypercall);
    let sites = snapshot.accesses_to(port);
    if sites.is_empty() {
        return text + &by_call_site + &values;
    }
    let unverified = sites.iter().any(|row| row.counts.unverified > 0);
    let mut by_site = TextTable::new(&[
        "<address",
        ">mode",
        "<instruction",
        "<dir",
        ">size",
        ">accesses",
        ">%",
        if unverified { ">unverified" } else { "" },
        "<symbol",
    ]);
    for row in &sites {
        by_site.row([
            row.site.pc.clone(),
            row.site.mode.map_or("-".to_owned(), |mode| mode.bits().to_string()),
            row.site.insn.clone(),
            row.dir.to_string(),
            row.size.to_string(),
            number(row.counts.accesses),
            percent(row.counts.accesses, total),
            number(row.counts.unverified),
            row.site.symbol.as_deref().unwrap_or("-").to_owned(),
        ]);
    }
    text.push_str(&by_site.render());
    let told: u64 = sites.iter().map(|row| row.counts.accesses).sum();
    if told < total {
        let _ = writeln!(
            text,
            "  {} more are of sites that did not fit into the table",
            number(total - told)
        );
    }
    text + &by_call_site + &values
}

/// Renders the accesses by hypercall by call site; empty if there are none.
fn call_sites(snapshot: &Snapshot, port: Port, total: u64) -> String {
    let rows = snapshot.call_accesses_to(port);
    if rows.is_empty() {
        return String::new();
    }
    let mut table = TextTable::new(&[
        "<call site",
        "<of",
        ">mode",
        "<call",
        "<dir",
        ">size",
        ">accesses",
        ">%",
        "<symbol",
    ]);
    for row in &rows {
        table.row([
            row.site.pc.clone(),
            row.site.at.name().to_owned(),
            row.site.mode.map_or("-".to_owned(), |mode| mode.bits().to_string()),
            row.site.call.to_string(),
            row.dir.to_string(),
            row.size.to_string(),
            number(row.accesses),
            percent(row.accesses, total),
            row.site.symbol.as_deref().unwrap_or("-").to_owned(),
        ]);
    }
    let mut text = table.render();
    let told: u64 = rows.iter().map(|row| row.accesses).sum();
    if told < total {
        let more = number(total - told);
        let _ = writeln!(text, "  {more} more are of call sites that did not fit into the table");
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::test_data::smp_snapshot;

    #[test]
    fn a_port_has_its_sites() {
        let mut dump = smp_snapshot();
        dump.tables.accesses[0].counts.accesses = 69_000;
        expect![[r#"
            Port 0x03f8, COM1: accesses by instruction 70,000, by hypercall 0
              address             mode  instruction  dir  size  accesses     %  symbol
              0xffffffff81000051    64  out dx,al    out     1    69,000  98.6  io_serial_out+0x1
              1,000 more are of sites that did not fit into the table
        "#]]
        .assert_eq(&render_port(&dump, Port(0x3f8)));
        assert_eq!(render_port(&dump, Port(0x61)), "Port 0x0061: the guest did not access it\n");
    }
}
