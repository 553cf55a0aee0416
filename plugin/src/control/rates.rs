//! Accesses per second, for clients that subscribe to them.
//!
//! Each event has the rows of ports, sites and processes that had the most accesses since the last one. Rates read
//! the counters while vCPUs count, so they cost the guest nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pvio_stats::{PortRow, ProcessRow, SiteRow, Snapshot};
use serde_json::{Value, json};

use super::request::event;
use crate::x86::AccessSize;

/// The shortest and the longest time between two events, in milliseconds.
const INTERVALS: std::ops::RangeInclusive<u64> = 50..=3_600_000;
const DEFAULT_INTERVAL: u64 = 1000;

/// The most rows of a table in an event.
const MAX_ROWS: usize = 10_000;
const DEFAULT_ROWS: usize = 100;

/// What tells a row of a table from the others.
#[derive(PartialEq, Eq, Hash, Clone)]
enum Key {
    Port(u16, bool, AccessSize),
    Site(String),
    Process(u32, Option<u32>, String),
}

fn port_key(row: &PortRow) -> Key {
    Key::Port(row.port.0, row.dir == crate::x86::Direction::Out, row.size)
}

/// All accesses to a port, however they came.
fn port_accesses(row: &PortRow) -> u64 {
    row.device + row.qemu + row.hypercall
}

fn site_key(row: &SiteRow) -> Key {
    let SiteRow { pc, mode, bytes, file, offset, .. } = row;
    match file.as_ref().zip(offset.as_ref()) {
        Some((file, offset)) => Key::Site(format!("{file} {offset} {mode:?} {bytes}")),
        None => Key::Site(format!("{pc} {mode:?} {bytes}")),
    }
}

fn process_key(row: &ProcessRow) -> Key {
    Key::Process(row.boot, row.pid, row.name().to_owned())
}

/// A client's wish for rates.
pub struct Subscription {
    interval: Duration,
    rows: usize,
    due: Instant,
    last: Instant,
    /// The counts of the last event; `None` before the first.
    counts: Option<HashMap<Key, u64>>,
    /// The events that were left out since, because the client did not read.
    skipped: u64,
}

impl Subscription {
    /// # Errors
    ///
    /// The interval or the number of rows is out of range.
    pub fn new(interval: Option<u64>, rows: Option<usize>) -> Result<Subscription, String> {
        let interval = interval.unwrap_or(DEFAULT_INTERVAL);
        if !INTERVALS.contains(&interval) {
            let (first, last) = (INTERVALS.start(), INTERVALS.end());
            return Err(format!("interval-ms is {first} to {last}"));
        }
        let rows = rows.unwrap_or(DEFAULT_ROWS);
        if rows > MAX_ROWS {
            return Err(format!("rows is {MAX_ROWS} at most"));
        }
        let now = Instant::now();
        let interval = Duration::from_millis(interval);
        Ok(Subscription { interval, rows, due: now, last: now, counts: None, skipped: 0 })
    }

    /// When the next event is to be sent. The first is sent at once.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Leaves an event out.
    pub fn skip(&mut self, now: Instant) {
        self.skipped += 1;
        self.due = now + self.interval;
    }

    /// Makes the event of now.
    pub fn event(&mut self, now: Instant, snapshot: &Snapshot, names: &SiteNames) -> Vec<u8> {
        let elapsed = now - self.last;
        let before = self.counts.take();
        let mut counter = Counter { before, now: HashMap::new(), rows: self.rows };
        let tables = &snapshot.tables;
        let ports = counter.rows(
            &tables.ports,
            port_key,
            port_accesses,
            |row| json!({ "port": row.port, "name": row.name, "dir": row.dir, "size": row.size }),
        );
        let sites = counter.rows(&tables.sites, site_key, |row| row.counts.accesses, |row| {
            let symbol = row.symbol.as_ref().or_else(|| names.symbols.get(&site_key(row)));
            json!({ "pc": row.pc, "insn": row.insn, "form": row.form, "symbol": symbol, "file": row.file,
                "offset": row.offset })
        });
        let processes = counter.rows(
            &tables.processes,
            process_key,
            |row| row.counts.accesses,
            |row| json!({ "pid": row.pid, "comm": row.comm, "cr3": row.cr3, "boot": row.boot }),
        );
        let sum = |rows: &[PortRow]| rows.iter().map(port_accesses).sum::<u64>();
        let total = sum(&tables.ports);
        let change = ports.change;
        self.counts = Some(counter.now);
        (self.last, self.due) = (now, now + self.interval);
        let skipped = std::mem::take(&mut self.skipped);
        event(
            "rates",
            json!({
                "seconds": elapsed.as_secs_f64(),
                "skipped": skipped,
                "accesses": total,
                "change": change,
                "ports": ports.rows,
                "sites": sites.rows,
                "processes": processes.rows,
                "rows-left-out": ports.left_out + sites.left_out + processes.left_out,
            }),
        )
    }
}

/// Compares counts with those of the last event.
struct Counter {
    before: Option<HashMap<Key, u64>>,
    now: HashMap<Key, u64>,
    rows: usize,
}

struct Changed {
    rows: Vec<Value>,
    change: u64,
    left_out: usize,
}

impl Counter {
    /// Makes values of the rows that changed most.
    fn rows<R>(
        &mut self,
        rows: &[R],
        key: impl Fn(&R) -> Key,
        count: impl Fn(&R) -> u64,
        value: impl Fn(&R) -> Value,
    ) -> Changed {
        let mut sum = 0;
        let mut changed: Vec<(u64, u64, &R)> = Vec::with_capacity(rows.len());
        for row in rows {
            let (key, now) = (key(row), count(row));
            // Less than before: there was a reset.
            let change = match &self.before {
                None => 0,
                Some(before) => {
                    let before = before.get(&key).copied().unwrap_or(0);
                    now.checked_sub(before).unwrap_or(now)
                }
            };
            sum += change;
            self.now.insert(key, now);
            changed.push((change, now, row));
        }
        changed.sort_by_key(|&(change, now, _)| std::cmp::Reverse((change, now)));
        let left_out = changed.len().saturating_sub(self.rows);
        changed.truncate(self.rows);
        let rows = changed.into_iter().map(|(change, now, row)| {
            let mut value = value(row);
            if let Value::Object(fields) = &mut value {
                let counts = [("accesses", now), ("change", change)];
                fields.extend(counts.map(|(name, count)| (name.to_owned(), count.into())));
                fields.retain(|_, field| !field.is_null());
            }
            value
        });
        Changed { rows: rows.collect(), change: sum, left_out }
    }
}

/// The shortest and the longest time between two searches for names.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// The names of sites, which are looked up seldom: that takes milliseconds, in which the guest's devices wait.
pub struct SiteNames {
    symbols: HashMap<Key, String>,
    next: Option<Instant>,
    pause: Duration,
    /// The number of sites when names were last looked up.
    sites: usize,
}

impl Default for SiteNames {
    fn default() -> SiteNames {
        SiteNames { symbols: HashMap::new(), next: None, pause: PAUSE, sites: 0 }
    }
}

impl SiteNames {
    /// Looks names up if there are new sites, and the last look was long enough ago.
    pub fn learn(&mut self, sites: &[SiteRow], now: Instant, look: impl FnOnce() -> Vec<SiteRow>) {
        if sites.len() == self.sites || self.next.is_some_and(|next| now < next) {
            return;
        }
        self.sites = sites.len();
        for row in look() {
            let key = site_key(&row);
            if let Some(symbol) = row.symbol {
                self.symbols.insert(key, symbol);
            }
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.next = Some(Instant::now() + self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::Width;

    #[test]
    fn rows_are_sorted_by_change_and_a_reset_counts_from_zero() {
        let rows = |counter: &mut Counter, counts: &[(u16, u64)]| {
            let key = |row: &(u16, u64)| Key::Port(row.0, true, Width::Byte.into());
            let changed = counter.rows(counts, key, |row| row.1, |row| json!({ "port": row.0 }));
            (serde_json::to_string(&changed.rows).unwrap(), changed.change, changed.left_out)
        };
        let mut counter = Counter { before: None, now: HashMap::new(), rows: 2 };
        let first = rows(&mut counter, &[(1, 10), (2, 50), (3, 1)]);
        assert_eq!(first.1, 0, "what was before the subscription is no change");
        assert_eq!(first.2, 1);
        let mut counter = Counter { before: Some(counter.now), now: HashMap::new(), rows: 2 };
        let second = rows(&mut counter, &[(1, 20), (2, 5), (3, 4)]);
        assert_eq!(
            second,
            (
                r#"[{"accesses":20,"change":10,"port":1},{"accesses":5,"change":5,"port":2}]"#
                    .into(),
                18,
                1
            )
        );
    }

    #[test]
    fn wrong_subscriptions_are_refused() {
        assert!(Subscription::new(Some(0), None).is_err());
        assert!(Subscription::new(None, Some(MAX_ROWS + 1)).is_err());
        assert!(Subscription::new(None, None).is_ok());
    }
}
