//! Configuration files, right and wrong.

use super::*;
use crate::devices::built_in_kinds;

fn read_text(text: &str) -> Result<Vec<Argument>, ConfigError> {
    Config { file: TomlFile { name: "dir/pvio.toml", text } }.arguments()
}

/// The options as they would be on the command line.
fn arguments(text: &str) -> Vec<String> {
    let arguments = read_text(text).unwrap();
    arguments.iter().map(|Argument { key, value, .. }| format!("{key}={value}")).collect()
}

fn mistake(text: &str) -> String {
    read_text(text).unwrap_err().to_string()
}

#[test]
fn options_are_those_of_the_command_line_in_their_order() {
    let text = r#"
        values = [0x80, "0x70-0x71"]
        stats = "run.json"
        summary = false
        symbols = ["guest", "vmlinux@0x1000", "/debug"]
        hypercall = "any"
        callers = 8
        processes = true
        insns = "a.elf"
        control = "/run/pvio.sock"
        break = "0x3f8:out:value=0x41"
        log = "a:b.log"
        access-log = { file = "a:b", filter = ["0x3f8-0x3ff", "out"] }
        trace = "boot.trace:0x70-0x71"

        [share]
        directory = "files:1"
        overwrite = true
        file-limit = "64K"
        total-limit = 1048576

        [[device]]
        kind = "uart16550"
        ports = 0x2f8
        irq = 3
        file = "x:y"

        [[device]]
        ports = "0x300-0x30f"
        kind = "latch"
    "#;
    let expected = [
        "values=128",
        "values=0x70-0x71",
        "stats=dir/run.json",
        "summary=off",
        "symbols=guest",
        "symbols=dir/vmlinux@0x1000",
        "symbols=/debug",
        "hypercall=any",
        "callers=8",
        "processes=on",
        "insns=dir/a.elf",
        "control=/run/pvio.sock",
        "break=0x3f8:out:value=0x41",
        "log=dir/a:b.log",
        "access-log=dir/a::b:0x3f8-0x3ff:out",
        "trace=dir/boot.trace:0x70-0x71",
        "share=dir/files::1:overwrite=on:file-limit=64K:total-limit=1048576",
        "device=uart16550@760:irq=3:file=dir/x::y",
        "device=latch@0x300-0x30f",
    ];
    assert_eq!(arguments(text), expected);
    let config = Config { file: TomlFile { name: "pvio.toml", text: "stats = \"run.json\"" } };
    assert_eq!(config.arguments().unwrap()[0].value, "run.json");
}

#[test]
fn mistakes_have_their_place() {
    let cases = [
        ("stats = ", "1:9: "),
        ("\n  sumary = \"off\"", "2:3: unknown key \"sumary\"; did you mean \"summary\"?"),
        ("frobnicate = 1", "1:1: unknown key \"frobnicate\"; the keys are stats, summary, "),
        ("config = \"a\"", "1:1: unknown key \"config\"; the keys are "),
        ("stats = 5", "1:9: stats is an integer; write a string"),
        ("hypercall = true", "1:13: hypercall is a boolean; write a string"),
        ("values = []", "1:10: values is empty; remove it"),
        ("values = [1.5]", "1:11: values is a float; write a string, an integer, true or false"),
        ("values = 99999999999999999999", "1:10: values is too large"),
        ("trace = 1", "1:9: trace is an integer; write a string, or a table: trace = { file = "),
        ("[trace]\nfilter = \"in\"", "1:1: trace has no file; add file = \"FILE\""),
        (
            "[trace]\nfile = \"a\"\nfilters = \"in\"",
            "3:1: trace has no key \"filters\"; did you mean \"filter\"?",
        ),
        (
            "[share]\nlimit = 1",
            "2:1: share has no key \"limit\"; its keys are directory, file-limit",
        ),
        ("[share]\noverwrite = true", "1:1: share has no directory"),
        ("device = \"latch@0x300\"", "1:10: device is a string; write a table: [[device]]"),
        ("[[device]]\nkind = \"latch\"", "1:1: a device has no ports; add ports = \"0x300-0x303\""),
        ("[[device]]\nports = 1", "1:1: a device has no kind; add kind = \"latch\""),
        ("[[device]]\nkind = \"a@b\"\nports = 1", "1:1: device.kind has '@'"),
        ("[[device]]\nkind = \"latch\"\nports = 1\nirq = [1]", "4:7: device.irq is an array"),
    ];
    for (text, expected) in cases {
        let line = mistake(text);
        let expected = format!("dir/pvio.toml:{expected}");
        assert!(line.starts_with(&expected), "{text}: {line}");
        assert_eq!(line.lines().count(), 1);
    }
}

#[test]
fn the_command_line_wins() {
    let argument = |text: &str| Argument::from_command_line(text).unwrap();
    let merged = |file: &[&str], command_line: &[&str]| -> Vec<String> {
        let [file, command_line] =
            [file, command_line].map(|texts| texts.iter().map(|text| argument(text)).collect());
        let merged = merge(file, command_line, &built_in_kinds());
        merged.iter().map(|Argument { key, value, .. }| format!("{key}={value}")).collect()
    };
    assert_eq!(merged(&["stats=a", "log=b"], &["stats=c"]), ["log=b", "stats=c"]);
    // What may be repeated adds up.
    assert_eq!(merged(&["values=1"], &["values=2"]), ["values=1", "values=2"]);
    assert_eq!(
        merged(&["symbols=a", "symbols=off"], &["symbols=b", "symbols=guest"]),
        ["symbols=a", "symbols=b", "symbols=guest"]
    );
    // A latch has four ports.
    let file = ["device=latch@0x300", "device=null@0x310"];
    assert_eq!(merged(&file, &["device=null@0x303"]), ["device=null@0x310", "device=null@0x303"]);
    assert_eq!(merged(&file, &["device=null@0x304"]).len(), 3);
    // Observers share ports, but one of the same kind is the same one.
    let file = ["device=post@0x300", "device=latch@0x300"];
    assert_eq!(merged(&file, &["device=observe@0x300:file=x"]).len(), 3);
    assert_eq!(merged(&file, &["device=post@0x300"]), ["device=latch@0x300", "device=post@0x300"]);
}
