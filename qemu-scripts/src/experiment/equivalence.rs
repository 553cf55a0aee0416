//! Checks that all mechanisms had the same effects on the device and on the guest's memory.

use anyhow::{Context, Result, ensure};

use super::guest::{Access, Loop, Run};
use super::{Cell, Mechanism};

/// Compares a run with logs. Returns the number of accesses of each mechanism.
///
/// # Errors
///
/// Names the first access that differs between two mechanisms.
pub fn check_logs(run: &Run) -> Result<usize> {
    let mut plugin = run.access_log.iter().copied();
    let mut accesses = 0;
    for round in &run.rounds {
        for cell in Cell::all() {
            let mut reference: Option<Vec<Access>> = None;
            for done in loops_of(round, cell) {
                let expected = done.repeats as usize * cell.elements as usize;
                let log = match done.mechanism.reaches_plugin() {
                    true => plugin.by_ref().take(expected).collect(),
                    false => done.log.clone(),
                };
                let name = done.mechanism;
                ensure!(
                    log.len() == expected,
                    "{cell} by {name}: {} accesses instead of {expected}",
                    log.len()
                );
                let Some(reference) = &reference else {
                    accesses += log.len();
                    reference = Some(log);
                    continue;
                };
                if let Some(index) = (0..expected).find(|&index| log[index] != reference[index]) {
                    let (one, other) = (log[index], reference[index]);
                    anyhow::bail!(
                        "{cell} by {name}: access {index} is {one:?}, natively {other:?}"
                    );
                }
            }
        }
    }
    ensure!(plugin.next().is_none(), "the plugin's device had more accesses than expected");
    check_digests(run)?;
    Ok(accesses)
}

/// Compares a run without logs, by digests.
///
/// # Errors
///
/// Names the first operation whose digests differ between two mechanisms.
pub fn check_digests(run: &Run) -> Result<()> {
    for round in &run.rounds {
        for cell in Cell::all() {
            let mut loops = loops_of(round, cell);
            let first = loops.next().with_context(|| format!("{cell} was not run"))?;
            let mut device: Option<(Mechanism, u32, u32)> = None;
            for done in loops {
                let name = done.mechanism;
                ensure!(
                    done.memory == first.memory,
                    "{cell} by {name}: the guest's memory differs from that by {}",
                    first.mechanism
                );
                if name.reaches_plugin() {
                    continue;
                }
                let (other, accesses, digest) =
                    *device.get_or_insert((name, done.accesses, done.log_digest));
                ensure!(
                    (done.accesses, done.log_digest) == (accesses, digest),
                    "{cell} by {name}: the device log differs from that by {other}"
                );
            }
        }
    }
    Ok(())
}

fn loops_of(round: &[Loop], cell: Cell) -> impl Iterator<Item = &Loop> {
    round.iter().filter(move |done| done.cell == Some(cell))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pvio_x86::PortForm;

    const ACCESS: Access = Access { is_out: true, size: 1, port: 0xe0, value: 1 };

    /// A run in which three mechanisms did each operation once and alike.
    fn run() -> Run {
        let done = |mechanism: Mechanism, cell: Cell| Loop {
            mechanism,
            cell: Some(cell),
            repeats: 1,
            cycles: 0,
            accesses: cell.elements,
            log_digest: 5,
            memory: 6,
            log: match mechanism.reaches_plugin() {
                true => Vec::new(),
                false => vec![ACCESS; cell.elements as usize],
            },
        };
        let ways = [Mechanism::Native, Mechanism::Trap, Mechanism::Int];
        let round: Vec<Loop> =
            Cell::all().flat_map(|cell| ways.map(|way| done(way, cell))).collect();
        let all: u32 = Cell::all().map(|cell| cell.elements).sum();
        let stats = serde_json::json!({
            "schema": "pvio.stats/1", "pvio": "", "ended": "", "vcpus": [], "forms": [], "ports": [],
            "qemu": {"version": null, "plugin_api": 7, "target": "x86_64"}, "sites": [],
            "sites_dropped": 0, "hypercalls": [], "windows": [],
            "sites_dropped_counts": {"executions": 0, "accesses": 0, "unverified": 0},
        });
        Run {
            rounds: vec![round],
            access_log: vec![ACCESS; all as usize],
            stats: serde_json::from_value(stats).unwrap(),
        }
    }

    fn complaint(spoil: impl FnOnce(&mut Run)) -> String {
        let mut run = run();
        spoil(&mut run);
        check_logs(&run).unwrap_err().to_string()
    }

    #[test]
    fn equal_accesses_and_memory_pass() {
        assert_eq!(check_logs(&run()).unwrap(), 24 + 12 * 512);
    }

    #[test]
    fn first_difference_is_named() {
        let index = 1 + 3 * Cell { form: PortForm::RepOutsb, elements: 512 }.number();
        let text = complaint(|run| run.rounds[0][index].log[300].value = 2);
        assert!(text.starts_with("rep outsb x 512 by trap: access 300 is"), "{text}");
        let text = complaint(|run| run.rounds[0][index].log.truncate(511));
        assert_eq!(text, "rep outsb x 512 by trap: 511 accesses instead of 512");
        let text = complaint(|run| run.rounds[0][index].memory = 7);
        assert!(text.ends_with("the guest's memory differs from that by native"), "{text}");
        let text = complaint(|run| run.rounds[0][index + 1].log_digest = 7);
        assert!(text.ends_with("the device log differs from that by trap"), "{text}");
        let text = complaint(|run| run.access_log.push(ACCESS));
        assert!(text.contains("more accesses than expected"), "{text}");
    }
}
