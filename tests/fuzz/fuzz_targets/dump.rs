#![no_main]
//! Dumps: they are read, checked, shown, written, merged and compared.

use fuzz::{assert_message, assert_text};
use libfuzzer_sys::fuzz_target;
use pvio_stats::{Diff, Snapshot, merge, render, render_port, timeline};

fuzz_target!(|data: &[u8]| {
    let snapshot = match Snapshot::from_json(data) {
        Ok(snapshot) => snapshot,
        Err(problem) => return assert_message(&problem),
    };
    for discrepancy in snapshot.discrepancies() {
        assert_message(&discrepancy);
    }
    assert_text(&render(&snapshot, false));
    render(&snapshot, true);
    for row in snapshot.tables.ports.iter().take(3) {
        assert_text(&render_port(&snapshot, row.port));
    }
    timeline(&snapshot.values);
    let again = Snapshot::from_json(&snapshot.to_json());
    assert_eq!(again.expect("what was written can be read"), snapshot);
    assert!(Diff::new(&snapshot, &snapshot).is_empty(), "a dump does not differ from itself");
    match merge(&[snapshot.clone(), snapshot]) {
        Ok(merged) => {
            let again = Snapshot::from_json(&merged.to_json());
            assert_eq!(again.expect("a merged dump can be read"), merged);
        }
        Err(error) => assert_message(&error),
    }
});
