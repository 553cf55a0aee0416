//! The command `pvio` on a terminal: completion by the shell, manual pages, the pager.

use std::path::Path;
use std::process::{Command, Output};

use pvio_cli::stats::test_data::snapshot;

const PVIO: &str = env!("CARGO_BIN_EXE_pvio");

/// Runs a command on a terminal of its own. Returns what the terminal shows.
fn on_terminal(directory: &Path, command: &str, variables: &[(&str, &str)]) -> String {
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", command, "/dev/null"]);
    script.current_dir(directory).env_remove("LESS").env_remove("PVIO_PAGER");
    let output = script.envs(variables.iter().copied()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tables_go_through_the_pager_on_a_terminal_only() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.json"), snapshot(1000).to_json()).unwrap();
    let show = format!("{PVIO} show a.json");
    let upper = ("PAGER", "tr a-z A-Z");

    let paged = on_terminal(directory.path(), &show, &[upper]);
    assert!(paged.contains("PORT ACCESSES"), "{paged}");
    for none in [("PVIO_PAGER", ""), ("PVIO_PAGER", "cat"), ("PAGER", "no-such-pager")] {
        let unpaged = on_terminal(directory.path(), &show, &[upper, none]);
        assert!(unpaged.contains("port accesses"), "{none:?}: {unpaged}");
    }
    let mut piped = Command::new(PVIO);
    piped.args(["show", "a.json"]).current_dir(&directory).env("PAGER", "tr a-z A-Z");
    let piped = succeeded(piped.output().unwrap());
    assert!(piped.contains("port accesses"), "{piped}");
}

#[test]
fn colours_are_only_on_a_terminal_that_wants_them() {
    let directory = tempfile::tempdir().unwrap();
    for (name, accesses) in [("a.json", 1000), ("b.json", 1100)] {
        std::fs::write(directory.path().join(name), snapshot(accesses).to_json()).unwrap();
    }
    let plain = [("PAGER", "cat"), ("TERM", "xterm"), ("NO_COLOR", "")];
    let diff = format!("{PVIO} diff a.json b.json");
    let shown =
        |more: &[(&str, &str)]| on_terminal(directory.path(), &diff, &[&plain, more].concat());
    // Growth is red.
    assert!(shown(&[]).contains("\x1b[31m  accesses"), "{}", shown(&[]));
    for none in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = shown(&[none]);
        assert!(text.contains("  accesses") && !text.contains('\x1b'), "{none:?}: {text:?}");
    }
    let into_file = format!("{diff} -o out; cat out");
    let text = on_terminal(directory.path(), &into_file, &plain);
    assert!(text.contains("  accesses") && !text.contains('\x1b'), "{text:?}");
}

/// As with git: when the user leaves the pager, it closes the pipe, which is not an error.
#[test]
fn leaving_the_pager_ends_the_command_silently() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.json"), snapshot(1000).to_json()).unwrap();
    let shown = on_terminal(
        directory.path(),
        &format!("{PVIO} show a.json; echo status $?"),
        &[("PAGER", "exec true")],
    );
    let last = shown.trim_end();
    assert!(last == "status 0" || last == "status 141", "{shown}");
}

#[test]
fn shells_complete_commands_and_options() {
    let code = r#"
        source <("$1" completions bash)
        complete_with() { COMP_WORDS=(pvio "$@"); COMP_CWORD=$#; _pvio pvio "${*: -1}" pvio; echo "${COMPREPLY[@]}"; }
        complete_with sh; complete_with show --po"#;
    let output = Command::new("bash").args(["-c", code, "bash", PVIO]).output().unwrap();
    assert_eq!(succeeded(output), "show\n--port\n");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let output = Command::new(PVIO).args(["completions", shell]).output().unwrap();
        assert!(succeeded(output).contains("pvio"), "{shell}");
    }
}

#[test]
fn each_command_has_a_manual_page_with_the_text_of_its_help() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(PVIO).arg("man").arg(directory.path()).output().unwrap();
    assert_eq!(succeeded(output), "");
    let helps = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/help")).unwrap();
    for help in helps.map(|help| help.unwrap().path()) {
        let name = help.file_stem().unwrap().to_str().unwrap().to_owned();
        let page = directory.path().join(format!("pvio-{name}.1"));
        let page = std::fs::read_to_string(&page).unwrap();
        let page = page.replace(r"\*(Aq", "'").replace('\\', "");
        let help = std::fs::read_to_string(help).unwrap();
        let about = help.lines().next().unwrap().trim_end_matches('.');
        assert!(page.contains(about), "{name}: {about}\n{page}");
    }
    let output = Command::new(PVIO).args(["man", "/nonexistent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("man: cannot write pages to /nonexistent: "), "{stderr}");
}
