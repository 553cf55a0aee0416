//! Rates as text, for files and pipes.

use std::fmt::Write;

use thousands::Separable;

use super::Top;

/// Returns the lines of one event: at most `rows` of the table, and a blank line.
pub fn batch(top: &Top, rows: usize) -> String {
    let rates = &top.rates;
    let mut text = format!(
        "{} accesses, {} per second\n{:>14} {:>16}  {}\n",
        rates.total.separate_with_commas(),
        rates.per_second(rates.change).separate_with_commas(),
        "RATE",
        "TOTAL",
        top.table.heading()
    );
    let all = top.rows();
    for row in all.iter().take(rows) {
        let rate = rates.per_second(row.change).separate_with_commas();
        let total = row.total.separate_with_commas();
        writeln!(text, "{rate:>14} {total:>16}  {}", row.name).expect("a string takes all");
    }
    if all.len() > rows {
        writeln!(text, "... and {} more", all.len() - rows).expect("a string takes all");
    }
    text.push('\n');
    text
}
