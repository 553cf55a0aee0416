//! The commands of the book and of the README run, page by page, or are listed below with the reason why not.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use pvio_cli::paths;
use pvio_tests::Host;
use tempfile::TempDir;

use super::{Document, book, programs};
use crate::promises;

/// Why a command does not run here.
enum Why {
    /// This test, or module of tests, does what the command does.
    Test(&'static str),
    Because(&'static str),
}
use Why::{Because, Test};

/// Commands that do not run: the page, their beginning, and the reason.
static LEFT_OUT: [(&str, &str, Why); 47] = [
    ("README.md", "qemu-scripts/test", Because("it runs this test")),
    ("docs/control.md", "qemu-scripts/run control=", Test("live::document")),
    ("docs/control.md", "pvio snapshot", Test("live::document")),
    ("docs/control.md", "pvio top", Test("live::document")),
    ("docs/control.md", "qemu-scripts/run break=", Test("live::document")),
    ("docs/experiment.md", "qemu-scripts/experiment", Test("scripts::experiment")),
    ("docs/experiment.md", "qemu-system-x86_64 -accel kvm", Because("it needs /dev/kvm")),
    ("docs/fleet.md", "parallel ", Because("it needs other machines")),
    ("docs/fleet.md", "sbatch ", Because("it needs a cluster")),
    ("docs/guest-tests.md", "cd guest-shim/examples", Test("scripts::guest_test_cargo")),
    ("docs/guest-tests.md", "cargo ", Test("scripts::guest_test_cargo")),
    ("docs/guest-tests.md", "pvio test --unittests", Test("scripts::guest_test_unittests")),
    ("docs/install.md", "qemu-scripts/install", Test("scripts::install")),
    ("docs/install.md", "qemu-system-x86_64", Test("scripts::install")),
    ("docs/install.md", "qemu-scripts/package-deb", Because("a long part does it")),
    ("docs/paravirt-linux.md", "qemu-scripts/paravirt-linux", Test("scripts::paravirt_linux")),
    ("docs/paravirt-linux.md", "qemu-scripts/paravirt-seabios", Test("guest_shim::seabios")),
    ("docs/performance.md", "qemu-scripts/bench", Test("scripts::bench")),
    ("docs/performance.md", "PVIO_QEMU=... qemu-scripts/bench", Test("scripts::bench")),
    ("docs/performance.md", "perf ", Because("perf may be missing, or not permitted")),
    (
        "docs/socket-device.md",
        "plugin/examples/socket-device/alarm.py",
        Test("devices::socket::python"),
    ),
    ("docs/socket-device.md", "qemu-scripts/run device=socket", Test("devices::socket::python")),
    ("guest-shim/README.md", "PVIO_WRITE_ABI=1", Because("it writes files of the repository")),
    ("guest-shim/examples/README.md", "cd guest-shim/examples", Test("scripts::guest_test_cargo")),
    ("guest-shim/examples/README.md", "cargo ", Test("scripts::guest_test_cargo")),
    ("guest-shim/examples/README.md", "rustup ", Because("it installs a target")),
    ("guest-shim/linux/README.md", "pvio patch-linux", Test("scripts::paravirt_linux")),
    ("guest-shim/linux/README.md", "cd linux-6.12", Test("scripts::paravirt_linux")),
    ("guest-shim/linux/README.md", "make", Test("scripts::paravirt_linux")),
    ("guest-shim/seabios/README.md", "pvio patch-seabios", Test("guest_shim::seabios")),
    ("guest-shim/seabios/README.md", "make -C", Test("guest_shim::seabios")),
    ("guest-shim/seabios/README.md", "qemu-scripts/run", Test("guest_shim::seabios")),
    ("docs/boot-costs.md", "qemu-scripts/survey", Test("scripts::survey")),
    ("CONTRIBUTING.md", "qemu-scripts/setup --tests", Because("these tests run after it")),
    ("CONTRIBUTING.md", "qemu-scripts/test", Because("it runs this test")),
    ("CONTRIBUTING.md", ".ci/run", Because("it runs this test")),
    ("CONTRIBUTING.md", "qemu-scripts/run summary=on", Because("it waits for a debugger")),
    ("CONTRIBUTING.md", "gdb ", Because("gdb waits for its user")),
    ("CONTRIBUTING.md", "PVIO_TEST_SEED=7", Test("counting::differential")),
    ("tests/README.md", "qemu-scripts/test", Because("it runs this test")),
    ("tests/README.md", "cargo test", Because("it runs this test")),
    ("tests/README.md", "tests/guests/build", Because("the guests are built before the tests")),
    ("tests/README.md", "qemu-scripts/run summary=on", Test("counting::forms")),
    ("tests/README.md", "gdb ", Because("gdb waits for its user")),
    ("tests/README.md", "PVIO_TEST_SEED=7", Test("counting::differential")),
    (
        "tests/guests/README.md",
        "tests/guests/build",
        Because("the guests are built before the tests"),
    ),
    ("tests/guests/README.md", "qemu-system-x86_64", Test("counting::forms")),
];

/// The page's path in the repository.
fn name(page: &Document) -> String {
    let path = page.path.strip_prefix(paths::repository()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The commands in the blocks of a page that are for a shell. A command may have several lines.
fn commands(page: &Document) -> Vec<String> {
    let blocks = page.text.split("```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.strip_prefix("sh\n"));
    blocks.flat_map(commands_of_block).collect()
}

fn commands_of_block(block: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut end: Option<String> = None;
    let mut is_open = false;
    for line in block.lines() {
        if is_open {
            let command = commands.last_mut().unwrap();
            command.push('\n');
            command.push_str(line);
        } else if line.is_empty() || line.starts_with('#') {
            continue;
        } else {
            commands.push(line.to_owned());
            let mark = line.split_once("<<'").and_then(|(_, rest)| rest.split('\'').next());
            end = mark.map(str::to_owned);
        }
        is_open = match &end {
            Some(mark) => line != mark,
            None => line.ends_with('\\'),
        };
    }
    assert!(!is_open, "{block}");
    commands
}

fn reason(page: &str, command: &str) -> Option<&'static (&'static str, &'static str, Why)> {
    LEFT_OUT.iter().find(|(of, start, _)| *of == page && command.starts_with(start))
}

#[test]
fn commands_are_found_in_blocks() {
    let block = "a 'b' \\\n  c\n\n# no command\ncat > x <<'END'\nd\nEND\ne # f\n";
    assert_eq!(commands_of_block(block), ["a 'b' \\\n  c", "cat > x <<'END'\nd\nEND", "e # f"]);
}

#[test]
fn each_reason_is_of_a_command_and_names_a_test() {
    let pages = book::pages();
    let tests = promises::names();
    let mut used = BTreeSet::new();
    let mut run = 0;
    for page in &pages {
        let name = name(page);
        for command in commands(page) {
            match reason(&name, &command) {
                Some((of, start, _)) => drop(used.insert((*of, *start))),
                None => run += 1,
            }
        }
    }
    assert!(run > 25, "only {run} commands run");
    for (page, start, why) in &LEFT_OUT {
        assert!(used.contains(&(*page, *start)), "{page} has no command {start:?}");
        match why {
            Test(test) => assert!(tests.contains(*test), "{page}, {start:?}: no test {test}"),
            Because(reason) => println!("{page}: {start:?} does not run: {reason}"),
        }
    }
}

/// A boot sector that writes to some ports, and turns the machine off.
fn boot_sector() -> Vec<u8> {
    let mut code = vec![
        0xb0, b'x', // mov al, 'x'
        0xba, 0xf8, 0x03, 0xee, // mov dx, 0x3f8; out dx, al
        0xe6, 0xe9, // out 0xe9, al
        0xb0, 0, 0xe6, 0xf4, // mov al, 0; out 0xf4, al
        0xba, 0x04, 0x06, 0xb8, 0, 0x20, 0xef, // mov dx, 0x604; mov ax, 0x2000; out dx, ax
        0xf4, // hlt
    ];
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code
}

/// A directory that looks like the repository, with the files that a reader has.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for folder in ["docs", "guest-shim", "plugin", "qemu-scripts", "tests", "target"] {
        symlink(paths::repository().join(folder), path.join(folder)).unwrap();
    }
    std::fs::create_dir(path.join("bin")).unwrap();
    let qemu = Host::NEWEST.program("qemu-system-x86_64");
    symlink(qemu, path.join("bin/qemu-system-x86_64")).unwrap();
    std::fs::write(path.join("disk.img"), boot_sector()).unwrap();
    directory
}

/// A shell in the directory.
fn shell(directory: &Path, script: &str) -> Command {
    let programs = programs();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}/bin:{}:{path}", directory.display(), programs.display());
    let mut shell = Command::new("timeout");
    shell.args(["300", "bash", "-e", "-c", script]).current_dir(directory);
    shell.env("PATH", path).env("PVIO_QEMU", Host::NEWEST.program("qemu-system-x86_64"));
    shell.env("XDG_RUNTIME_DIR", directory).env_remove("PVIO_CONTROL").env_remove("BASH_ENV");
    shell.stdin(Stdio::null());
    shell
}

/// The commands of one page run in one shell, one after the other, as those of a reader do.
#[test]
fn every_command_of_a_page_succeeds() {
    for page in book::pages() {
        let name = name(&page);
        let all = commands(&page);
        let run: Vec<_> = all.iter().filter(|command| reason(&name, command).is_none()).collect();
        if run.is_empty() {
            continue;
        }
        let directory = directory();
        let mut script = String::new();
        if name == "docs/report.md" {
            // Two boots may differ by more than the page's limit: SeaBIOS waits for timers in loops.
            script += "qemu-scripts/run stats=before.json -- -display none disk.img\n";
            script += "cp before.json after.json\n";
        }
        for (number, command) in run.iter().enumerate() {
            script += &format!("echo '{number}' >running\n{command}\n");
        }
        let output = shell(directory.path(), &script).output().unwrap();
        if !output.status.success() {
            let running = std::fs::read_to_string(directory.path().join("running"));
            let running = running.ok().and_then(|number| number.trim().parse::<usize>().ok());
            let command = running.map(|number| run[number]);
            panic!("{name}: {command:?}: {output:?}");
        }
    }
}
