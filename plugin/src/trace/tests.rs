use std::path::Path;

use pvio_stats::QemuRow;
use pvio_stats::trace::{Event, InsnEvent, Stage, Trace as Reader, What};

use super::*;
use crate::access_filter::{FilterLimits, parse_filters};
use crate::qemu::VcpuIndex;
use crate::stats::{CallerId, SiteId, SiteKey, Sites};
use crate::symbols::{LiveNames, Symbols};
use crate::x86::{Direction, Port, PortForm};

const LIMITS: FilterLimits = FilterLimits { has_symbols: false, has_processes: false };

/// A trace with one vCPU.
struct Traced {
    directory: tempfile::TempDir,
    trace: Arc<Trace>,
    vcpu: Arc<VcpuTrace>,
    statistics: Arc<Statistics>,
}

fn filter(text: &str) -> AccessFilter {
    parse_filters(text).unwrap()
}

fn path(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("trace")
}

impl Traced {
    fn new(text: &str) -> Traced {
        let directory = tempfile::tempdir().unwrap();
        let statistics = Arc::new(Statistics::default());
        let names = LiveNames::new(Arc::new(Symbols::default()));
        let output = TraceOutput {
            file: OutputFile::open(&path(&directory)).unwrap(),
            path: path(&directory),
            filter: LiveFilter::new(filter(text), Some(LIMITS)),
            names: CodeNames::new(Arc::new(Sites::default()), names, None),
            processes: None,
        };
        let head = Head {
            pvio: "".into(),
            qemu: QemuRow { version: None, plugin_api: 7, target: "x86_64".to_owned() },
            began: 0,
            reports_exceptions: true,
            reads_memory: true,
            callers: false,
            processes: false,
            filter: text.to_owned(),
            irqs: false,
            devices: Vec::new(),
        };
        let trace = Arc::new(Trace::new(output, &head, Arc::clone(&statistics), None));
        let vcpu = trace.vcpu(&statistics.counters(VcpuIndex(0)));
        Traced { directory, trace, vcpu, statistics }
    }

    /// The site of a form.
    fn site(&self, form: PortForm) -> SiteId {
        let pc = 0x1000 + form as u64;
        let key = SiteKey { pc, mode: None, bytes: [0xec][..].try_into().unwrap() };
        self.statistics.sites.enter(key, None, form).unwrap()
    }

    fn insn(&self, form: PortForm) -> TracedInsn {
        TracedInsn { form: form.into(), site: Some(self.site(form)), pc: 0, process: None }
    }

    /// Starts an `in`, by the path of a vCPU that has other listeners.
    fn start_read(&self, port: Port) -> bool {
        let access = (Some(port), CallerId::default(), None);
        self.vcpu.unobserved(&self.insn(PortForm::InAlDx), Stage::Executed, access, false)
    }

    /// Ends the trace. Returns its accesses: how each ended, its direction, port and value.
    fn accesses(self) -> Vec<(Stage, Direction, u16, Option<u32>)> {
        self.trace.finish(End::default()).unwrap();
        read(&path(&self.directory))
    }
}

fn read(path: &Path) -> Vec<(Stage, Direction, u16, Option<u32>)> {
    let mut found = Vec::new();
    Reader::open(path).unwrap().read(|Event { what, .. }, _, _| {
        if let What::Insn(InsnEvent { stage, form, port, value, .. }) = *what {
            found.push((stage, form.direction(), port.unwrap().0, value));
        }
        true
    });
    found
}

#[test]
fn read_is_written_when_it_has_retired_without_another_event() {
    let traced = Traced::new("");
    for value in [7, 8] {
        traced.vcpu.scalar(PortForm::InAlDx, traced.site(PortForm::InAlDx), Port(0x60), None);
        assert_eq!(traced.vcpu.try_take(), None, "its outcome may change");
        traced.vcpu.retire(|| 0xffff_ff00 | value);
        let chunk = traced.vcpu.try_take().expect("it is final");
        traced.trace.writer.push(chunk);
        assert_eq!(traced.vcpu.try_take(), None);
    }
    let read = |value| (Stage::Executed, Direction::In, 0x60, Some(value));
    assert_eq!(traced.accesses(), [read(7), read(8)]);
}

#[test]
fn both_paths_of_a_scalar_make_the_same_events() {
    let traced = Traced::new("");
    let vcpu = &traced.vcpu;
    vcpu.scalar(PortForm::InAxDx, traced.site(PortForm::InAxDx), Port(0x60), None);
    vcpu.retire(|| 0x1234_5678);
    vcpu.scalar(PortForm::OutDxAl, traced.site(PortForm::OutDxAl), Port(0x61), Some(0x1234));
    vcpu.scalar(PortForm::InEaxDx, traced.site(PortForm::InEaxDx), Port(0x62), None);
    let started = [
        (PortForm::InAxDx, 0x60, None),
        (PortForm::OutDxAl, 0x61, Some(0x1234)),
        (PortForm::InEaxDx, 0x62, None),
    ];
    for (form, port, written) in started {
        let access = (Some(Port(port)), CallerId::default(), written);
        let is_final = written.is_some();
        assert!(vcpu.unobserved(&traced.insn(form), Stage::Executed, access, is_final));
        if port == 0x60 {
            vcpu.retire(|| 0x1234_5678);
        }
    }
    let events = [
        (Stage::Executed, Direction::In, 0x60, Some(0x5678)),
        (Stage::Executed, Direction::Out, 0x61, Some(0x34)),
        (Stage::Executed, Direction::In, 0x62, None),
    ];
    assert_eq!(traced.accesses(), [events, events].concat());
}

#[test]
fn filter_that_changes_after_a_read_does_not_judge_it() {
    let traced = Traced::new("");
    let change = |text| traced.trace.change_filter(Some((text, filter(text))), None).unwrap();
    assert!(traced.start_read(Port(0x60)));
    traced.vcpu.retire(|| 7);
    change("0x60:value=8");
    for value in [7, 8] {
        assert!(traced.start_read(Port(0x60)));
        traced.vcpu.retire(|| value);
    }
    change("0x60:value=9");
    assert!(traced.start_read(Port(0x60)));
    change("");
    traced.vcpu.retire(|| 10);
    change("0x61");
    assert!(!traced.start_read(Port(0x60)));
    let read = |value| (Stage::Executed, Direction::In, 0x60, Some(value));
    assert_eq!(traced.accesses(), [read(7), read(8), read(10)]);
}

#[test]
fn outcome_of_a_pending_read_may_change_after_its_value_is_known() {
    let traced = Traced::new("");
    assert!(traced.start_read(Port(0x60)));
    traced.vcpu.note_value(|| 7);
    let changed = (Some(Port(0x60)), CallerId::default());
    traced.vcpu.changed(&traced.insn(PortForm::InAlDx), Change::ExecutedToExit, changed);
    traced.vcpu.settled();
    assert!(traced.start_read(Port(0x60)));
    traced.vcpu.retire(|| 8);
    let chunk = traced.vcpu.try_take().expect("both are final");
    traced.trace.writer.push(chunk);
    traced.vcpu.changed(&traced.insn(PortForm::InAlDx), Change::ExecutedToExit, changed);
    let event = |stage, value| (stage, Direction::In, 0x60, value);
    assert_eq!(
        traced.accesses(),
        [
            event(Stage::Exited, Some(7)),
            event(Stage::Executed, Some(8)),
            event(Stage::ExecutedBecomesExit, None),
        ]
    );
}
