//! A comparison as JSON, schema `pvio.diff/1`.

use serde::Serialize;
use serde_json::{Value, json};

use crate::diff::{Total, Verdict};
use crate::stats::{Change, Diff, Snapshot, TablesDiff, WindowDiff};

/// Renders a comparison as JSON, with a newline at the end.
///
/// `docs/report.md` defines the fields.
pub fn to_json(dumps: [&Snapshot; 2], diff: &Diff, verdicts: &[Verdict<'_>]) -> String {
    let totals = Total::ALL.map(|total| {
        let [before, after] = dumps.map(|dump| total.count(dump));
        json!({ "total": total.name, "before": before, "after": after })
    });
    let verdicts = verdicts.iter().map(|verdict| {
        let [before, after] = verdict.counts;
        let condition = verdict.condition.to_string();
        json!({ "condition": condition, "holds": verdict.holds, "before": before, "after": after })
    });
    let mut value = tables(&diff.tables);
    value["schema"] = "pvio.diff/1".into();
    value["totals"] = totals.to_vec().into();
    value["values"] = changes(&diff.values);
    value["windows"] = diff.windows.iter().map(window).collect();
    value["conditions"] = verdicts.collect();
    format!("{value:#}\n")
}

fn window(diff: &WindowDiff) -> Value {
    let mut value = tables(&diff.tables);
    let [before, after] = diff.entries;
    value["name"] = diff.name.as_str().into();
    value["entries"] = json!({ "before": before, "after": after });
    value
}

fn tables(diff: &TablesDiff) -> Value {
    let [before, after] = diff.accesses;
    json!({
        "accesses": { "before": before, "after": after },
        "forms": changes(&diff.forms),
        "forms_undecided": changes(&diff.forms_undecided),
        "ports": changes(&diff.ports),
        "sites": changes(&diff.sites),
        "accesses_by_site": changes(&diff.accesses_by_site),
        "callers": changes(&diff.callers),
        "hypercalls": changes(&diff.hypercalls),
        "call_sites": changes(&diff.call_sites),
        "accesses_by_call_site": changes(&diff.accesses_by_call_site),
        "call_callers": changes(&diff.call_callers),
    })
}

fn changes<R: Serialize>(changes: &[Change<R>]) -> Value {
    let rows =
        changes.iter().map(|change| json!({ "before": change.before, "after": change.after }));
    rows.collect()
}
