//! The images of `qemu-scripts/experiment-image`, booted as on a PC: from a USB stick, and over the network.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use pvio_cli::machine::Machine;
use pvio_cli::paths;
use pvio_tests::{Host, Monitor, wait_for};
use tempfile::TempDir;

/// What the images run: all of it, a few times.
const ARGUMENTS: &str = "scalars=16 strings=1 rounds=1";

fn script(arguments: &[&str]) -> Output {
    let script = paths::repository().join("qemu-scripts/experiment-image");
    Command::new(script).args(arguments).output().unwrap()
}

fn images() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let output = script(&["--output", path, "--arguments", ARGUMENTS]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = ["img", "pxe"].map(|kind| format!("{path}/experiment.{kind}\n")).concat();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    directory
}

fn pc(serial: &Path) -> Machine {
    Host::NEWEST
        .machine()
        .args(["-m", "256", "-display", "none", "-nodefaults", "-no-reboot"])
        .args(["-serial", &format!("file:{}", serial.display())])
        .args(["-rtc", "base=2031-04-05"])
        .time_limit(Duration::from_secs(300))
}

fn with_exit(machine: Machine) -> Machine {
    machine.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
}

fn with_stick(machine: Machine, images: &TempDir) -> Machine {
    let drive = format!(
        "if=none,id=stick,format=raw,readonly=on,file={}",
        images.path().join("experiment.img").display()
    );
    machine
        .args(["-device", "qemu-xhci", "-drive", &drive])
        .args(["-device", "usb-storage,drive=stick,bootindex=0"])
}

/// Runs an image that ends by isa-debug-exit, and checks all that it prints.
fn passes(machine: Machine, serial: &Path) {
    let ended = with_exit(machine).run().unwrap();
    let said = String::from_utf8_lossy(&std::fs::read(serial).unwrap()).replace('\r', "");
    assert_eq!(ended.status.code(), Some(1), "{said}{}", ended.stderr);
    assert!(said.contains("monitor checked\n") && said.ends_with("\nend\n"), "{said}");
    assert_eq!(said.matches("\ncell vc ").count(), 36, "{said}");
    check_model(&said);
    check_table(&said);
}

/// The model is TOML, has what an emulator can measure, and says that it is one.
fn check_model(said: &str) {
    let (_, rest) = said.split_once("# pvio.model begin\n").unwrap();
    let (model, _) = rest.split_once("# pvio.model end\n").unwrap();
    let model: toml::Table = model.parse().unwrap_or_else(|error| panic!("{error}\n{model}"));
    assert_eq!(model["schema"].as_str(), Some("pvio.model/1"));
    let title = model["title"].as_str().unwrap();
    assert!(title.ends_with(", TCGTCGTCGTCG (an emulator: not the costs of a machine)"), "{title}");
    assert!((100..20_000).contains(&model["mhz"].as_integer().unwrap()), "{model:?}");
    assert_eq!(model["strings"].as_str(), Some("element"));
    assert_eq!(model["sources"]["measured"]["date"].as_str(), Some("2031-04-05"));
    let costs = model["costs"].as_table().unwrap();
    // An emulator has no kernel that serves ports, and nobody whom a hypercall could reach.
    assert_eq!(costs.keys().collect::<Vec<_>>(), ["in", "out", "string-element"]);
    for cost in costs.values() {
        assert!(cost["cycles"].as_integer().unwrap() > 0, "{model:?}");
        assert_eq!(cost["source"].as_str(), Some("measured"));
    }
}

/// The table for a person: a row for each mechanism, in columns.
fn check_table(said: &str) {
    let (_, table) = said.split_once("\nCycles of one operation").unwrap();
    let rows: Vec<&str> =
        table.lines().skip(1).take_while(|line| !line.trim_end().is_empty()).collect();
    assert!(rows[0].starts_with("mechanism  "), "{table}");
    let names = rows[1..].iter().map(|row| row.split(' ').next().unwrap());
    let names: Vec<&str> = names.collect();
    for name in ["native", "trap", "int", "direct", "ve", "vc", "batch", "trap-user", "coalesced"] {
        assert!(names.contains(&name), "{table}");
    }
    for row in &rows {
        assert_eq!(row.len(), rows[0].len(), "{table}");
        assert!(row.len() < 80, "{table}");
    }
}

#[test]
fn stick_boots_under_bios() {
    let images = images();
    let serial = images.path().join("serial");
    passes(with_stick(pc(&serial).args(["-machine", "pc"]), &images), &serial);
}

#[test]
fn stick_boots_under_uefi() {
    let images = images();
    let serial = images.path().join("serial");
    let [code, variables] = paths::uefi_firmware(64).unwrap();
    let own = images.path().join("variables.fd");
    std::fs::copy(variables, &own).unwrap();
    let flash = |unit: u32, more: &str, path: &Path| {
        format!("if=pflash,format=raw,unit={unit}{more},file={}", path.display())
    };
    let machine = pc(&serial).args(["-machine", "q35"]).args([
        "-drive",
        &flash(0, ",readonly=on", &code),
        "-drive",
        &flash(1, "", &own),
    ]);
    passes(with_stick(machine, &images), &serial);
}

#[test]
fn program_boots_by_pxe() {
    let images = images();
    let serial = images.path().join("serial");
    let network =
        format!("user,id=n,tftp={},bootfile=experiment.pxe,restrict=on", images.path().display());
    let machine = pc(&serial)
        .args(["-machine", "pc", "-netdev", &network])
        .args(["-device", "e1000,netdev=n,bootindex=0"]);
    passes(machine, &serial);
}

/// The end of the table stays on the screen of a PC.
#[test]
fn results_stay_on_the_screen() {
    let images = images();
    let serial = images.path().join("none");
    let machine = pc(&serial).args(["-machine", "pc", "-device", "VGA"]);
    let mut monitor = Monitor::start(with_stick(machine, &images));
    let memory = images.path().join("screen");
    let screen = wait_for(|| {
        let _ = std::fs::remove_file(&memory);
        monitor.ask(&format!("pmemsave 0xb8000 4000 \"{}\"", memory.display()));
        let cells = std::fs::read(&memory).unwrap();
        let lines = cells.chunks(160).map(|line| {
            let text: String = line.iter().step_by(2).map(|&byte| char::from(byte)).collect();
            text.trim_end().to_owned()
        });
        let screen = lines.collect::<Vec<_>>().join("\n");
        if screen.contains("\nend") { Ok(screen) } else { Err(screen) }
    });
    assert!(screen.contains("Cycles of one operation, the least of 1 rounds"), "{screen}");
    assert!(screen.contains("\ncoalesced  "), "{screen}");
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    for (arguments, complaint) in [
        (&["--output"][..], "--output needs a directory, such as --output /tmp/images"),
        (&["--arguments", "scalars=16 loops=2"], "--arguments: \"loops=2\" is not an argument"),
        (&["--arguments", "scalars="], "--arguments: \"scalars=\" is not an argument"),
        (&["--usb"], "\"--usb\" is not an option of experiment-image: see --help"),
    ] {
        let output = script(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{text}");
        assert!(text.starts_with(&format!("experiment-image: {complaint}")), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
