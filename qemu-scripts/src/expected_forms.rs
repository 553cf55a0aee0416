//! The exact counts of the guest `tests/guests/forms.S`, which uses every form in every mode.
//!
//! The numbers are from its source, not from a run.

use std::collections::BTreeMap;

use crate::stats::Snapshot;
use pvio_x86::{Direction, Mode, Port, PortForm, PortSource, Width};

/// QEMU's exit status if the guest's own checks pass: isa-debug-exit turns 0 into 1.
pub const PASSED: i32 = 1;

/// Port of the forms with an immediate operand.
const IMMEDIATE_PORT: Port = Port(0xec);

/// Executions of a form in code of a mode, by each vCPU.
pub fn executions(form: PortForm, mode: Mode) -> u64 {
    let base = match mode {
        Mode::Bits16 => 100,
        Mode::Bits32 => 200,
        Mode::Bits64 => 300,
    };
    base + form.index() as u64
}

/// Elements that these executions move.
pub fn accesses(form: PortForm, mode: Mode) -> u64 {
    match form.source() {
        // One execution has count 0 and moves nothing.
        PortSource::RepString => (executions(form, mode) - 1) * (form.index() as u64 - 14),
        _ => executions(form, mode),
    }
}

fn port(form: PortForm) -> Port {
    match form.source() {
        PortSource::Immediate => IMMEDIATE_PORT,
        _ => Port(0x5000 + 0x10 * form.index() as u16),
    }
}

/// Accesses outside the loops, all on the first vCPU.
///
/// The guest asks fw_cfg for the number of vCPUs, and ends QEMU in its last mode.
fn once(last: Mode) -> [(PortForm, Mode, u64, Port); 3] {
    [
        (PortForm::OutDxAx, Mode::Bits16, 1, Port(0x510)),
        (PortForm::InAlDx, Mode::Bits16, 2, Port(0x511)),
        (PortForm::OutImmAl, last, 1, Port(0xf4)),
    ]
}

/// Expected counts of a run.
#[derive(Debug, Default)]
struct Expected {
    /// Executions and accesses.
    by_form: [(u64, u64); 24],
    /// Accesses.
    by_port: BTreeMap<(Port, Direction, Width), u64>,
    /// Executions.
    by_mode: BTreeMap<(Mode, PortForm), u64>,
    /// Executions of the first vCPU and of each other vCPU.
    by_vcpu: (u64, u64),
}

impl Expected {
    fn of(vcpus: u64, modes: &[Mode]) -> Expected {
        let mut all = Expected::default();
        for (&mode, form) in modes.iter().flat_map(|mode| PortForm::ALL.map(|form| (mode, form))) {
            let executions = executions(form, mode);
            all.add(form, mode, vcpus * executions, vcpus * accesses(form, mode), port(form));
            all.by_vcpu.0 += executions;
            all.by_vcpu.1 += executions;
        }
        for (form, mode, count, port) in once(*modes.last().expect("the guest runs in a mode")) {
            all.add(form, mode, count, count, port);
            all.by_vcpu.0 += count;
        }
        all
    }

    fn add(&mut self, form: PortForm, mode: Mode, executions: u64, accesses: u64, port: Port) {
        self.by_form[form.index()].0 += executions;
        self.by_form[form.index()].1 += accesses;
        *self.by_port.entry((port, form.direction(), form.width())).or_default() += accesses;
        *self.by_mode.entry((mode, form)).or_default() += executions;
    }
}

/// Returns every count of a dump that contradicts the program, for a QEMU on which the mode of code may be unknown.
///
/// Undecided counts must make up exactly for the missing ones: nothing may be counted as another form, size or mode.
pub fn contradictions(stats: &Snapshot, vcpus: u64, modes: &[Mode]) -> Vec<String> {
    let mut contradictions = Vec::new();
    let mut require = |holds: bool, what: String, counted: u64, expected: u64| {
        if !holds {
            contradictions.push(format!("{what}: {counted} counted, {expected} in the program"));
        }
    };
    let expected = Expected::of(vcpus, modes);
    for (row, (executions, accesses)) in stats.forms.iter().zip(&expected.by_form) {
        let form = row.form;
        for (what, counted, expected) in [
            ("attempts at", row.attempts, *executions),
            ("executions of", row.executions, *executions),
            ("accesses by", row.accesses, *accesses),
        ] {
            require(counted <= expected, format!("{what} {form}"), counted, expected);
        }
    }
    let [counted, in_program] = [
        stats.form_counts().fold((0, 0), |sum, row| (sum.0 + row.executions, sum.1 + row.accesses)),
        expected.by_form.iter().fold((0, 0), |sum, form| (sum.0 + form.0, sum.1 + form.1)),
    ];
    require(counted.0 == in_program.0, "all executions".into(), counted.0, in_program.0);
    require(counted.1 == in_program.1, "all accesses".into(), counted.1, in_program.1);

    let mut left: BTreeMap<(Port, Direction), u64> = BTreeMap::new();
    for (&(port, dir, _), expected) in &expected.by_port {
        *left.entry((port, dir)).or_default() += expected;
    }
    for row in &stats.ports {
        let counted = row.qemu + row.device;
        let left = left.entry((row.port, row.dir)).or_default();
        let known = row.size.0.map(|width| (row.port, row.dir, width));
        let expected = known.map_or(*left, |key| expected.by_port.get(&key).copied().unwrap_or(0));
        let what = format!("{} {} {}", row.dir, row.size, row.port);
        require(counted <= expected.min(*left), what, counted, expected);
        *left = left.saturating_sub(counted);
    }
    for ((port, dir), left) in left {
        require(left == 0, format!("{dir} {port}, missing"), 0, left);
    }

    let mut by_mode = BTreeMap::new();
    for site in &stats.sites {
        if let Some(key) = site.mode.zip(site.form.decided()) {
            *by_mode.entry(key).or_insert(0) += site.counts.executions;
        }
    }
    for ((mode, form), counted) in by_mode {
        let expected = expected.by_mode.get(&(mode, form)).copied().unwrap_or(0);
        let what = format!("executions of {form} at sites of {mode:?}");
        require(counted <= expected, what, counted, expected);
    }
    contradictions
}

/// Returns every difference between a dump and the expected counts.
///
/// The dump is of a run on `vcpus` vCPUs in these modes.
pub fn differences(stats: &Snapshot, vcpus: u64, modes: &[Mode]) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |what: String, counted: u64, expected: u64| {
        if counted != expected {
            differences.push(format!("{what}: {counted} counted, {expected} in the program"));
        }
    };
    let expected = Expected::of(vcpus, modes);

    for (row, (executions, accesses)) in stats.forms.iter().zip(expected.by_form) {
        let form = row.form;
        compare(format!("attempts at {form}"), row.attempts, executions);
        compare(format!("executions of {form}"), row.executions, executions);
        compare(format!("accesses by {form}"), row.accesses, accesses);
        compare(format!("bytes by {form}"), row.bytes, accesses * u64::from(form.width().bytes()));
        compare(format!("faults of {form}"), row.faults.unwrap_or(0), 0);
        compare(format!("unverified {form}"), row.unverified, 0);
    }

    let mut by_port = expected.by_port;
    for row in &stats.ports {
        let width = row.size.0;
        let expected = width.and_then(|width| by_port.remove(&(row.port, row.dir, width)));
        let expected = expected.unwrap_or(0);
        compare(format!("{} {} {}", row.dir, row.size, row.port), row.qemu + row.device, expected);
    }
    for ((port, dir, size), expected) in by_port {
        compare(format!("{dir} {} {port}", size.bytes()), 0, expected);
    }

    let mut by_mode = expected.by_mode;
    let mut counted = BTreeMap::new();
    for site in &stats.sites {
        *counted.entry((site.mode, site.form)).or_insert(0) += site.counts.executions;
    }
    for ((mode, form), counted) in counted {
        let key = mode.zip(form.decided());
        let expected = key.and_then(|key| by_mode.remove(&key)).unwrap_or(0);
        compare(format!("executions of {form} at sites of {mode:?}"), counted, expected);
    }
    for ((mode, form), expected) in by_mode {
        compare(format!("executions of {form} at sites of {mode:?}"), 0, expected);
    }

    for row in &stats.forms_undecided {
        compare(format!("undecided executions of {}", row.form), row.executions, 0);
    }

    for row in &stats.vcpus {
        let expected = if row.vcpu == 0 { expected.by_vcpu.0 } else { expected.by_vcpu.1 };
        compare(format!("executions on vCPU {}", row.vcpu), row.executions, expected);
    }
    if stats.vcpus_omitted.is_none() {
        compare("vCPUs".into(), stats.vcpus.len() as u64, vcpus);
    }
    differences
}
