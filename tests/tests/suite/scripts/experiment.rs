//! The experiment of `tests/guests/experiment` on a small scale: every operation by every mechanism.

use std::process::Command;

use pvio::stats::Snapshot;
use pvio_cli::experiment::metrics::AllMetrics;
use pvio_cli::experiment::part::Part;
use pvio_cli::experiment::plots::plots;
use pvio_cli::experiment::report::{Plan, Report, measure};
use pvio_cli::experiment::{Cell, Mechanism};
use pvio_cli::paths;
use pvio_tests::Host;

fn report(workload: Option<&Snapshot>) -> Report {
    let qemu = Host::NEWEST.program("qemu-system-x86_64");
    let workload = workload.map(|dump| ("A guest".to_owned(), dump));
    measure(&qemu, Plan::COUNTS, workload, |_| ()).unwrap()
}

fn monitor(all: &AllMetrics, mechanism: Mechanism, cell: Cell) -> u64 {
    all.get(mechanism, cell).unwrap_or_else(|| panic!("{cell} by {mechanism}")).monitor
}

/// The compiler of the quoted numbers. Another one may count otherwise.
const COMPILER: &str = "12.2";

/// Returns true if the guest was built by [`COMPILER`].
fn is_compiler_of_the_document() -> bool {
    let compiler = std::env::var("CC").unwrap_or("cc".into());
    let output = Command::new(compiler).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().next().is_some_and(|line| line.contains(&format!(" {COMPILER}.")))
}

/// [`measure`] fails unless every mechanism did the same and two runs count the same.
#[test]
fn every_way_does_the_same_at_its_own_price() {
    use Mechanism::{
        Batch, Coalesced, Direct, Int, Native, Pvio, PvioMailbox, SvmIoio, SvmVmmcall, Sysenter,
        Trap, TrapChecked, TrapUser, Vc, Ve,
    };

    let dump = dump_of_the_forms();
    let report = report(Some(&dump));
    let all = &report.metrics;
    let few = Cell::all().filter(|&cell| Sysenter.has(cell)).count();
    let one = Cell::all().filter(|&cell| PvioMailbox.has(cell)).count();
    assert_eq!((one, all.0.len()), (12, 5 * 36 + 12 + 3 * few + 4 * 36 + 24 + 18));
    assert_eq!(report.accesses_compared, 24 * 16 + 12 * 512 * 2);

    for cell in Cell::all() {
        let total = |mechanism| all.get(mechanism, cell).unwrap().total;
        let native = if cell.is_one_instruction() { 1 } else { 3 * u64::from(cell.elements) };
        assert_eq!(total(Native), native, "{cell}");
        assert_eq!((monitor(all, Native, cell), monitor(all, Pvio, cell)), (0, 0), "{cell}");
        let order = [Native, Int, Trap, TrapChecked].map(|mechanism| monitor(all, mechanism, cell));
        assert!(order.is_sorted_by(|a, b| a < b), "{cell}: {order:?}");
        let order = [Int, Trap, TrapChecked].map(total);
        assert!(order.is_sorted_by(|a, b| a < b), "{cell}: {order:?}");
        assert!(total(Trap) < total(TrapUser), "{cell}");
        if cell.elements == 1 {
            let order = [Int, Direct, Ve, Vc].map(total);
            assert!(order.is_sorted_by(|a, b| a < b), "{cell}: {order:?}");
        }
        let device = all.get(Trap, cell).unwrap().part(Part::Device);
        for row in all.0.iter().filter(|row| row.cell == cell) {
            let way = row.mechanism;
            let name = format!("{cell} by {way}");
            // The device's own work is the same for every caller; only one mechanism walks page tables.
            let expected =
                if way.reaches_plugin() { 0 } else { device * u64::from(row.operations) };
            assert_eq!(row.part(Part::Device), expected, "{name}");
            assert_eq!(row.part(Part::Walk) > 0, way == TrapChecked, "{name}");
            let decodes = matches!(way, Trap | TrapChecked | TrapUser | Coalesced)
                || way == SvmIoio && cell.form.is_string();
            assert_eq!(row.part(Part::Decode) > 0, decodes, "{name}");
            // What the guest does itself, and what a processor would do.
            assert_eq!(row.part(Part::GuestDecode) > 0, way == Vc, "{name}");
            assert_eq!(row.part(Part::Handler) > 0, matches!(way, Ve | Vc), "{name}");
            assert_eq!(row.part(Part::Call) > 0, matches!(way, Direct | Ve), "{name}");
            assert_eq!(row.part(Part::Processor) > 0, matches!(way, Ve | Vc), "{name}");
            assert_eq!(row.part(Part::User) > 0, matches!(way, TrapUser | Coalesced), "{name}");
        }
        if SvmIoio.has(cell) {
            assert!(monitor(all, SvmIoio, cell) >= monitor(all, SvmVmmcall, cell), "{cell}");
        }
        let each = |way| all.get(way, cell).map(|row| row.each(row.total));
        if let Some(posted) = each(Coalesced).filter(|_| cell.elements == 1) {
            assert!(each(Trap).unwrap() < posted && posted < each(TrapUser).unwrap(), "{cell}");
        }
        if let Some(batch) = each(Batch) {
            assert!(batch < each(Direct).unwrap(), "{cell}");
        }
    }

    let workload = report.workload.as_ref().unwrap();
    assert_eq!(workload.uses.len(), 24);
    assert!(workload.prices[&Int].monitor < workload.prices[&TrapChecked].monitor);
    assert!(workload.prices[&Direct].total < workload.prices[&Vc].total);
    let text = report.render(false);
    assert!(text.contains("Conclusions") && text.contains("rep outsd x 512"), "{text}");
    assert!(report.render(true).contains("| out dx,al |"));
    assert_eq!(report.conclusions.words.len(), 14, "{:#?}", report.conclusions.words);
    check_plots(&report);
}

/// The pictures are well-formed, name every mechanism, and say what the tables say.
fn check_plots(report: &Report) {
    let plots = plots(report);
    let names: Vec<&str> = plots.iter().map(|plot| plot.name).collect();
    assert_eq!(names, ["experiment-parts.svg", "experiment-decode.svg", "experiment-workload.svg"]);
    for plot in &plots {
        let mut reader = quick_xml::Reader::from_str(&plot.svg);
        let mut rectangles = 0;
        loop {
            match reader.read_event().unwrap_or_else(|error| panic!("{}: {error}", plot.name)) {
                quick_xml::events::Event::Start(tag) if tag.name().as_ref() == "rect" => {
                    rectangles += 1;
                }
                quick_xml::events::Event::Eof => break,
                _ => {}
            }
        }
        assert!(plot.svg.starts_with("<svg xmlns=") && rectangles >= 4, "{}", plot.svg);
        assert!(!plot.svg.contains("NaN") && !plot.svg.contains("inf"), "{}", plot.svg);
    }
    let out = Cell { form: pvio::x86::PortForm::OutDxAl, elements: 1 };
    let vc = report.metrics.get(Mechanism::Vc, out).unwrap();
    assert!(
        plots[0].svg.contains(&format!("vc, decode and fetch: {}<", vc.part(Part::GuestDecode)))
    );
    for way in [Mechanism::Ve, Mechanism::Direct, Mechanism::Coalesced] {
        assert!(plots[0].svg.contains(&format!(">{way}<")), "{way}");
    }
}

/// docs/experiment.md quotes the counts that the program prints, and its pictures are those that the program draws.
#[test]
fn the_document_quotes_the_program() {
    let report = report(None);
    let read = |path: &str| std::fs::read_to_string(paths::repository().join(path)).unwrap();
    let writes = std::env::var_os("PVIO_WRITE_PICTURES").is_some();
    for plot in plots(&report) {
        let path = format!("docs/pictures/{}", plot.name);
        if writes {
            std::fs::write(paths::repository().join(&path), &plot.svg).unwrap();
        }
        let same = !is_compiler_of_the_document() || read(&path) == plot.svg;
        assert!(same, "{path} differs: PVIO_WRITE_PICTURES=1 writes it");
    }
    // The workload's is of a Linux boot, which is never like another; its form is checked above.
    assert!(read("docs/pictures/experiment-workload.svg").starts_with("<svg xmlns="));
    let document = read("docs/experiment.md");
    assert!(document.contains(&format!("gcc {COMPILER}")));
    if !is_compiler_of_the_document() {
        return;
    }
    let printed = report.render(true);
    for line in printed.lines() {
        assert!(document.contains(line), "docs/experiment.md has no line {line:?}");
    }
}

#[test]
fn a_qemu_that_reports_no_exceptions_is_refused() {
    let qemu = Host::STABLE.program("qemu-system-x86_64");
    let error = measure(&qemu, Plan::COUNTS, None, |_| ()).unwrap_err().to_string();
    assert!(error.ends_with("use QEMU 11.0 or newer"), "{error}");
}

/// The statistics of a guest that uses all forms.
fn dump_of_the_forms() -> Snapshot {
    let guest = paths::guest("forms.bin").unwrap();
    let ended = Host::NEWEST.machine().plugin(&[]).bare_guest(&guest).run().unwrap();
    ended.stats().unwrap().clone()
}

/// Without pvio's answers, SVM, SYSENTER and NX, the other mechanisms are measured.
#[test]
fn the_guest_does_without_what_is_not_there() {
    let said = tempfile::NamedTempFile::new().unwrap();
    let ended = Host::STABLE
        .machine()
        .args(["-machine", "pc", "-cpu", "qemu32,-sep,-nx,-svm", "-m", "64", "-display", "none"])
        .args(["-nodefaults", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .args(["-debugcon", &format!("file:{}", said.path().display())])
        .args(["-kernel", &paths::guest("experiment.elf").unwrap().display().to_string()])
        .args(["-append", "scalars=16 strings=1 rounds=1"])
        .run()
        .unwrap();
    let said = std::fs::read_to_string(said.path()).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("monitor checked") && said.ends_with("end\n"), "{said}");
    let ways =
        |name: &str| said.lines().filter(|line| line.starts_with(&format!("cell {name} "))).count();
    assert_eq!(["native", "trap-checked", "trap", "int"].map(ways), [36; 4]);
    assert_eq!(["pvio", "sysenter", "svm-ioio", "svm-vmmcall"].map(ways), [0; 4]);
    assert_eq!(["direct", "ve", "vc", "trap-user"].map(ways), [36; 4]);
    assert_eq!(["batch", "coalesced"].map(ways), [24, 18]);
}
