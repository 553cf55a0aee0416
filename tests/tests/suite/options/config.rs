//! `config=FILE`, and `pvio config check`.

use std::path::Path;
use std::process::{Command, Output};

use pvio::x86::{Direction, Port};
use pvio_cli::machine::read_stats;
use pvio_cli::stats::trace::{Trace, statistics};
use pvio_tests::{Host, file_names, guest, on_both_qemus, refusal};

use crate::devices::script::documented_script;
use crate::live::program;

on_both_qemus! {
    file_is_the_same_as_options_on_the_command_line
    command_line_wins_over_the_file
    mistakes_keep_qemu_from_starting
    check_says_whether_qemu_would_start
    check_leaves_all_files_as_they_were
}

/// A directory with a configuration file.
struct Config(tempfile::TempDir);

impl Config {
    fn new(text: &str) -> Config {
        let config = Config(tempfile::tempdir().unwrap());
        std::fs::write(config.path("pvio.toml"), text).unwrap();
        config
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn option(&self) -> String {
        format!("config={}", self.path("pvio.toml").display())
    }

    fn names(&self) -> Vec<String> {
        file_names(self.0.path())
    }
}

const FULL: &str = r#"
summary = "tables.txt"
stats = "run.json"
values = [0x379, "0x80"]
callers = true
hypercall = "any"
trace = { file = "run.trace", filter = ["0x378-0x37a", "out"] }

[[device]]
kind = "script"
ports = "0x378-0x37a"
file = "dongle.rhai"

[[device]]
kind = "debug-exit"
ports = 0xf4
"#;

const DONGLE: &str = "
fn write(offset, size, value) { this.last = value; }
fn read(offset, size) { this.last ^ 0xff }
";

fn file_is_the_same_as_options_on_the_command_line(host: &Host) {
    // Before API 5 no code but a kernel's can call.
    let text = match host.api >= 5 {
        true => FULL.to_owned(),
        false => FULL.replace("\"any\"", "\"off\""),
    };
    let config = Config::new(&text);
    std::fs::write(config.path("dongle.rhai"), documented_script()).unwrap();
    let mut command = host.bare_guest_command(&config.option(), "dongle");
    assert_eq!(command.status().unwrap().code(), Some(42));
    let by_file = read_stats(&config.path("run.json")).unwrap();
    let names = ["dongle.rhai", "pvio.toml", "run.json", "run.trace", "tables.txt"];
    assert_eq!(config.names(), names);
    let hypercall = if host.api >= 5 { "any" } else { "off" };
    let file = |name: &str| config.path(name).display().to_string();
    let options = format!(
        "summary=off,stats={},values=0x379:0x80,callers=on,hypercall={hypercall},trace={}:0x378-0x37a:out,\
         device=script@0x378-0x37a:file={},device=debug-exit@0xf4",
        file("other.json"),
        file("other.trace"),
        file("dongle.rhai"),
    );
    host.bare_guest_command(&options, "dongle").status().unwrap();
    let by_options = read_stats(&config.path("other.json")).unwrap();
    assert!(by_file.ports.iter().any(|row| row.port == Port(0x379) && row.device > 0));
    assert_eq!(by_file.tables.ports, by_options.tables.ports);
    assert_eq!(by_file.tables.sites, by_options.tables.sites);
    assert_eq!(by_file.tables.callers, by_options.tables.callers);
    let values = |stats: &pvio::stats::Snapshot| -> Vec<(u16, Direction, Option<u32>, u64)> {
        stats
            .values
            .iter()
            .map(|row| (row.port.0, row.dir, row.value, row.counts.accesses))
            .collect()
    };
    assert!(!values(&by_file).is_empty());
    assert_eq!(values(&by_file), values(&by_options));
    // Not the events: QEMU may interrupt a string, which is then two.
    let events = ["run.trace", "other.trace"].map(|name| {
        let (stats, problems) = statistics(&mut Trace::open(&config.path(name)).unwrap());
        assert!(problems.iter().all(|problem| problem.starts_with("is filtered")), "{problems:?}");
        stats.tables.ports
    });
    assert!(!events[0].is_empty() && events[0] == events[1], "{events:?}");
}

fn command_line_wins_over_the_file(host: &Host) {
    let config = Config::new(
        "stats = \"file.json\"
         summary = \"tables.txt\"
         [[device]]
         kind = \"null\"
         ports = \"0x300-0x303\"
         [[device]]
         kind = \"latch\"
         ports = 0x310",
    );
    let stats = config.path("line.json");
    let options =
        format!("{},summary=off,stats={},device=ones@0x302", config.option(), stats.display());
    let status = host.bare_guest_command(&options, "poweroff").status().unwrap();
    assert!(status.success());
    assert_eq!(config.names(), ["line.json", "pvio.toml"]);
    let mut monitor = pvio_tests::Monitor::start_stopped(host.machine().plugin(&[
        "summary=off",
        &config.option(),
        "device=ones@0x302",
    ]));
    // The file's device at these ports is gone, the other is there.
    assert_eq!(monitor.read(0x302, 1), 0xff);
    monitor.write(0x310, 4, 0x1234_5678);
    assert_eq!(monitor.read(0x310, 4), 0x1234_5678);
    monitor.quit();
}

/// Files with one mistake each, and what is said of it after the file's name.
const MISTAKES: [(&str, &str); 8] = [
    ("stats = [", ":1:10: "),
    ("sumary = \"off\"", ":1:1: unknown key \"sumary\"; did you mean \"summary\"?"),
    (
        "# comment\nhypercall = \"maybe\"",
        ":2:13: option \"hypercall=maybe\": write hypercall=kernel for supervisor code",
    ),
    ("log = \"/nonexistent/log\"", ":1:7: option \"log=/nonexistent/log\": "),
    (
        "[[device]]\nkind = \"latsch\"\nports = 0x300",
        ":1:1: option \"device=latsch@768\": there is no kind \"latsch\"; did you mean \"latch\"?",
    ),
    (
        "[[device]]\nkind = \"latch\"\nports = \"0x300-0x2ff\"",
        ":1:1: option \"device=latch@0x300-0x2ff\": ",
    ),
    ("values = [0x80, \"com1\"]", ":1:17: option \"values=com1\": "),
    ("callers = 65", ":1:11: option \"callers=65\": write callers=on"),
];

fn mistakes_keep_qemu_from_starting(host: &Host) {
    let refused = |options: &[&str]| {
        let machine = host.machine().plugin(options).bare_guest(&guest("poweroff.bin"));
        refusal(&machine.run().unwrap())
    };
    for (text, expected) in MISTAKES {
        let config = Config::new(text);
        let line = refused(&[&config.option()]);
        let named = format!("{}{expected}", config.path("pvio.toml").display());
        assert!(line.contains(&named), "{text}: {line}");
        assert_eq!(config.names(), ["pvio.toml"]);
    }
    let config = Config::new("[[device]]\nkind = \"latch\"\nports = 0x300\nirk = 5");
    let line = refused(&[&config.option()]);
    let expected = "pvio: option \"device\": latch at 0x0300-0x0303: this kind has no setting \"irk\"; it has no settings";
    assert_eq!(line, expected);
    let line = refused(&[&config.option(), &config.option()]);
    assert_eq!(line, "pvio: option \"config\" is given twice; give it once");
    let line = refused(&["config=/nonexistent.toml"]);
    assert!(line.contains("\"config=/nonexistent.toml\": cannot read it: No such file"), "{line}");
    let line = refused(&["config=/dev"]);
    assert!(line.contains("\"config=/dev\": cannot read it: it is not a regular file"), "{line}");
}

fn check(host: &Host, file: &Path) -> Output {
    let mut command = Command::new(program());
    let qemu = host.program("qemu-system-x86_64");
    command.args(["config", "check"]).arg(file).arg("--qemu").arg(qemu).output().unwrap()
}

fn check_says_whether_qemu_would_start(host: &Host) {
    for (text, expected) in MISTAKES {
        let config = Config::new(text);
        let output = check(host, &config.path("pvio.toml"));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]), "{stderr}");
        assert!(stderr.starts_with("config: ") && stderr.contains(expected), "{text}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    // What only the device knows.
    let config = Config::new("[[device]]\nkind = \"script\"\nports = 0x300\nfile = \"x.rhai\"");
    std::fs::write(config.path("x.rhai"), "fn read(offset, size) { 1 + }").unwrap();
    let output = check(host, &config.path("pvio.toml"));
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("x.rhai:1:29: "), "{stderr}");
    std::fs::write(config.path("x.rhai"), DONGLE).unwrap();
    let output = check(host, &config.path("pvio.toml"));
    let expected = format!("{}: no mistakes\n", config.path("pvio.toml").display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
    let missing = check(host, Path::new("/nonexistent.toml"));
    assert_eq!(missing.status.code(), Some(1));
}

fn check_leaves_all_files_as_they_were(host: &Host) {
    let config = Config::new(
        "stats = \"stats.json\"
         summary = \"tables.txt\"
         log = \"guest.log\"
         trace = \"old.trace\"
         access-log = \"new.log\"
         control = \"socket\"
         [[device]]
         kind = \"console\"
         ports = 0xe9
         file = \"console.txt\"
         [[device]]
         kind = \"uart16550\"
         ports = 0x2f8
         file = \"old.txt\"",
    );
    for name in ["old.trace", "old.txt", "stats.json"] {
        std::fs::write(config.path(name), "precious").unwrap();
    }
    let output = check(host, &config.path("pvio.toml"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(config.names(), ["old.trace", "old.txt", "pvio.toml", "stats.json"]);
    for name in ["old.trace", "old.txt", "stats.json"] {
        assert_eq!(std::fs::read(config.path(name)).unwrap(), b"precious");
    }
}
