//! `pvio cost` from the shell: models, mistakes, measured models, the document's list of models.

use std::path::Path;
use std::process::{Command, Output};

fn pvio(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pvio"));
    command.arg("cost").args(arguments).env("PVIO_PAGER", "cat").output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = pvio(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The one line of an error.
fn refused(arguments: &[&str]) -> String {
    let output = pvio(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[test]
fn mistakes_are_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let wrong = file("wrong.toml", "schema = \"pvio.model/1\"\nnam = \"x\"\n");
    let log = file("serial.log", "boot\r\n");
    let cases: [(&[&str], &str); 8] = [
        (&["a.json"], "cost: which hypervisor? Add --model kvm-intel, for example; --list-models"),
        (&["-m", "kvm-intel"], "cost: no dump is named; give files that stats=FILE or trace=FILE"),
        (
            &["-m", "kvm-intl", "x"],
            "cost: --model: no model is named \"kvm-intl\"; did you mean \"kvm-intel\"?",
        ),
        (
            &["-m", "vmware", "x"],
            "cost: --model: no model is named \"vmware\"; there are kvm-intel, ",
        ),
        (
            &["-m", "./none.toml", "x"],
            "cost: --model: ./none.toml: cannot be read; name a TOML file: No such",
        ),
        (
            &["-m", &wrong, "x"],
            &format!("cost: {wrong}:2:1: a model has no key \"nam\"; did you mean \"name\"?"),
        ),
        (
            &["--measure", &log, "x"],
            &format!("cost: --measure: {log}: has no line \"# pvio.model begin\"; name"),
        ),
        (&["-m", "tdx", "/nonexistent.json"], "cost: /nonexistent.json: "),
    ];
    for (arguments, expected) in cases {
        let line = refused(arguments);
        assert!(line.starts_with(expected), "{line}{expected}");
    }
    let output = pvio(&["-m", "xen", "--mhz", "fast", "x"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("is not a number above 0; write, for example, 2400"), "{stderr}");
}

#[test]
fn model_of_a_serial_log_is_used_and_saved() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let model = "schema = \"pvio.model/1\"\nname = \"my-pc\"\ntitle = \"my PC\"\nmhz = 3000\n\
                 strings = \"element\"\n[costs.in]\ncycles = 1234.5\nsource = \"measured\"\n";
    let lines = model.replace('\n', "\r\n");
    let log = format!("GRUB\r\n# pvio.model begin\r\n{lines}# pvio.model end\r\nhalted\r\n");
    std::fs::write(path("log"), log).unwrap();
    stdout(&["--measure", &path("log"), "--write-model", &path("saved.toml")]);
    assert_eq!(std::fs::read_to_string(path("saved.toml")).unwrap(), model);
    let listed = stdout(&["--list-models", "-m", &path("saved.toml")]);
    assert!(
        listed.contains("my-pc  in    measured") && listed.contains("1,234.5 cycles"),
        "{listed}"
    );
    assert_eq!(stdout(&["--list-models", "--measure", &path("log")]), listed);
    // A mistake has its line in the log.
    let broken =
        format!("GRUB\n# pvio.model begin\n{}# pvio.model end\n", model.replace("mhz", "mzh"));
    std::fs::write(path("log"), broken).unwrap();
    let line = refused(&["--measure", &path("log"), "--write-model", &path("other.toml")]);
    assert!(line.contains("log:6:1: a model has no key \"mzh\"; did you mean \"mhz\"?"), "{line}");
    assert!(!Path::new(&path("other.toml")).exists());
}

#[test]
fn model_can_be_printed_and_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snp.toml");
    let file = file.to_str().unwrap();
    stdout(&["--print-model", "sev-snp", "-o", file]);
    let listed = |name| stdout(&["--list-models", "--json", "-m", name]);
    assert_eq!(listed(file), listed("sev-snp"));
}

/// The table of figures in the document is made by this program.
#[test]
fn document_has_the_list_of_models() {
    let document = include_str!("../../docs/cost.md");
    let list = stdout(&["--list-models", "--markdown"]);
    // The document's headings are one level lower.
    let list = list.replace("## ", "### ");
    assert!(
        document.contains(&list),
        "docs/cost.md has another list; make it again: pvio cost --list-models --markdown"
    );
}
