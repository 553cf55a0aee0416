//! Cost of a real guest's port I/O by each mechanism.
//!
//! It is the sum of a dump's counts times the costs of operations.

use std::collections::BTreeMap;

use crate::stats::Snapshot;
use pvio_x86::{Port, PortForm, PortSource, Width};
use serde::Serialize;

use super::metrics::{AllMetrics, Metrics};
use super::{Cell, Mechanism, STRING};

/// Executions and elements of one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The form.
    pub form: PortForm,
    /// Executions.
    pub executions: u64,
    /// Elements moved.
    pub accesses: u64,
}

/// A port and the cost of its accesses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortUse {
    /// The port.
    pub port: Port,
    /// Name of a PC's device at the port.
    pub name: Option<String>,
    /// Accesses.
    pub accesses: u64,
    /// The monitor's instructions, one access at a time, by each mechanism of [`COMPLETE`].
    pub monitor: BTreeMap<Mechanism, u64>,
}

/// Cost of the whole workload by one mechanism.
#[derive(Clone, Debug, Serialize)]
pub struct Price {
    /// Instructions of the monitor.
    pub monitor: u64,
    /// Instructions of guest and monitor.
    pub total: u64,
    /// Cycles; `None` if operations were not timed.
    pub cycles: Option<f64>,
}

/// A guest's port I/O and its cost by each mechanism.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    /// Description of the dump's origin.
    pub source: String,
    /// The forms that were used.
    pub uses: Vec<Use>,
    /// The busiest ports.
    pub ports: Vec<PortUse>,
    /// Cost by each mechanism of [`COMPLETE`].
    pub prices: BTreeMap<Mechanism, Price>,
}

/// Maximum number of ports.
const MAX_PORTS: usize = 6;

/// Mechanisms that support all forms.
pub const COMPLETE: [Mechanism; 9] = [
    Mechanism::Native,
    Mechanism::TrapChecked,
    Mechanism::Trap,
    Mechanism::Int,
    Mechanism::Pvio,
    Mechanism::Direct,
    Mechanism::Ve,
    Mechanism::Vc,
    Mechanism::TrapUser,
];

/// Those of 2007, without today's.
pub const CLASSIC: [Mechanism; 4] =
    [Mechanism::TrapChecked, Mechanism::Trap, Mechanism::Int, Mechanism::Pvio];

impl Workload {
    /// Computes the cost of a dump's port I/O.
    pub fn of(source: String, dump: &Snapshot, metrics: &AllMetrics) -> Workload {
        let uses: Vec<Use> = dump
            .forms
            .iter()
            .filter(|row| row.executions > 0)
            .map(|row| Use { form: row.form, executions: row.executions, accesses: row.accesses })
            .collect();
        let measured =
            |mechanism: &Mechanism| metrics.0.iter().any(|row| row.mechanism == *mechanism);
        let ways: Vec<Mechanism> = COMPLETE.into_iter().filter(measured).collect();
        let prices = ways.iter().map(|&way| (way, price(way, &uses, metrics))).collect();
        let mut ports: BTreeMap<Port, PortUse> = BTreeMap::new();
        for row in &dump.ports {
            let accesses = row.device + row.qemu;
            let entry = ports.entry(row.port).or_insert_with(|| PortUse {
                port: row.port,
                name: row.name.as_deref().map(str::to_owned),
                accesses: 0,
                monitor: BTreeMap::new(),
            });
            entry.accesses += accesses;
            // An access of unknown size has 2 or 4 bytes.
            let size = row.size.0.unwrap_or(Width::Dword);
            let form = PortForm::new(row.dir, PortSource::Dx, size);
            for &way in &ways {
                let each =
                    metrics.get(way, Cell { form, elements: 1 }).map_or(0, |row| row.monitor);
                *entry.monitor.entry(way).or_default() += each * accesses;
            }
        }
        let mut ports: Vec<PortUse> = ports.into_values().collect();
        ports.sort_by_key(|port| std::cmp::Reverse(port.accesses));
        ports.truncate(MAX_PORTS);
        Workload { source, uses, ports, prices }
    }
}

fn price(mechanism: Mechanism, uses: &[Use], metrics: &AllMetrics) -> Price {
    let sum = |metric: &dyn Fn(&Metrics) -> f64| -> f64 {
        uses.iter().map(|used| cost(*used, mechanism, metrics, metric)).sum()
    };
    let timed = metrics.0.iter().all(|row| row.cycles.is_some());
    Price {
        monitor: sum(&|row| row.each(row.monitor)).round() as u64,
        total: sum(&|row| row.each(row.total)).round() as u64,
        cycles: timed.then(|| sum(&|row| row.cycles.unwrap_or(0.0))),
    }
}

/// Computes the cost of a form's executions.
///
/// A `rep` is interpolated linearly between the costs of 1 and of [`STRING`] elements.
fn cost(
    used: Use,
    mechanism: Mechanism,
    metrics: &AllMetrics,
    metric: &dyn Fn(&Metrics) -> f64,
) -> f64 {
    let of = |elements| metrics.get(mechanism, Cell { form: used.form, elements }).map(metric);
    let one = of(1).unwrap_or(0.0);
    let executions = used.executions as f64;
    if used.form.source() != PortSource::RepString {
        return executions * one;
    }
    let more = (of(STRING).unwrap_or(one) - one) / f64::from(STRING - 1);
    executions * one + (used.accesses as f64 - executions) * more
}

/// Lists the four forms with the most accesses and their shares.
pub fn describe_mix(uses: &[Use]) -> String {
    let all: u64 = uses.iter().map(|used| used.accesses).sum();
    let mut uses = uses.to_vec();
    uses.sort_by_key(|used| std::cmp::Reverse(used.accesses));
    let share = |used: &Use| {
        let percent = 100.0 * used.accesses as f64 / all.max(1) as f64;
        format!("{} {percent:.0} %", used.form)
    };
    uses.iter().take(4).map(share).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_of_a_string_is_interpolated() {
        let row = |form, elements, monitor| Metrics {
            mechanism: Mechanism::Int,
            cell: Cell { form, elements },
            operations: 1,
            monitor,
            parts: BTreeMap::new(),
            total: monitor + 2,
            time: None,
            cycles: None,
        };
        let metrics = AllMetrics(vec![
            row(PortForm::RepInsw, 1, 100),
            row(PortForm::RepInsw, STRING, 100 + 511 * 40),
            row(PortForm::OutDxAl, 1, 70),
        ]);
        let uses = [
            Use { form: PortForm::RepInsw, executions: 2, accesses: 258 },
            Use { form: PortForm::OutDxAl, executions: 10, accesses: 10 },
        ];
        let price = price(Mechanism::Int, &uses, &metrics);
        assert_eq!(price.monitor, 200 + 256 * 40 + 700);
        assert_eq!((price.total, price.cycles), (price.monitor + 4 + 20, None));
    }
}
