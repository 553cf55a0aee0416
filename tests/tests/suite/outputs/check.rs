//! `pvio check` finds what guests do that a policy denies: which code, from where, on whose behalf.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use pvio::stats::{SiteRow, Snapshot};
use pvio_cli::check::Phase;
use pvio_cli::machine::Machine;
use pvio_stats::Privilege;
use pvio_tests::{Host, LinuxGuest, assert_consistent, guest, on_both_qemus, run_guest, site_pc};
use serde_json::Value;
use tempfile::TempDir;

use super::uefi::with_ovmf;
use crate::live;

on_both_qemus! {
    privilege_of_a_site_is_that_of_its_code
    offences_of_linux_have_rule_symbol_callers_and_process
    offences_are_the_same_of_a_dump_and_of_a_trace
    only_what_the_earlier_run_did_not_do_is_an_offence
    every_access_of_uefi_and_linux_has_its_phase
}

/// Runs `pvio check` in a directory. Returns its status and stdout.
fn check(directory: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(live::program());
    let output = command.current_dir(directory).arg("check").args(arguments).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "", "{arguments:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Runs `pvio check --json`. Returns its status and the result.
fn check_json(directory: &Path, arguments: &[&str]) -> (i32, Value) {
    let (status, json) = check(directory, &[arguments, &["--json"]].concat());
    (status, serde_json::from_str(&json).unwrap())
}

fn offences(result: &Value) -> &[Value] {
    result["offences"].as_array().unwrap()
}

/// The accesses of `tests/guests/linux/ioperm.c`: 200 writes and reads of a byte, a long, a word, two strings.
const PROGRAM: u64 = 200 + 200 + 1 + 1 + 50 + 50;

fn is_of_program(offence: &&Value) -> bool {
    (0x300..0x304).contains(&offence["port"].as_u64().unwrap())
}

/// Accesses, also those that may have faulted.
fn all_accesses(value: &Value) -> u64 {
    value["accesses"].as_u64().unwrap() + value["unverified"].as_u64().unwrap()
}

/// A directory with files of a policy that denies everything, and of one that denies the ports of the program.
fn policies() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("nothing.toml"), "default = \"deny\"").unwrap();
    let dongle = "default = \"allow\"\n[[rule]]\nname = \"dongle\"\naction = \"deny\"\nports = \"0x300-0x303\"\n";
    std::fs::write(path("dongle.toml"), dongle).unwrap();
    directory
}

/// Linux that runs `tests/guests/linux/ioperm.c`, which accesses the ports from 0x300 on, or does not.
fn linux(runs_program: bool) -> LinuxGuest {
    let script = if runs_program { "/ioperm grant; echo \"status $?\"" } else { "echo" };
    LinuxGuest::new(script, &[("ioperm", &std::fs::read(guest("ioperm")).unwrap())]).unwrap()
}

/// Boots Linux with these options. Returns the dump.
fn boot(host: &Host, runs_program: bool, options: &[&str]) -> Snapshot {
    let options = [options, &["device=latch@0x300"]].concat();
    let ended = linux(runs_program).on(host.machine().plugin(&options)).run().unwrap();
    assert!(!runs_program || ended.stdout.contains("status 0"), "{}", ended.stdout);
    assert_consistent(ended.stats().unwrap());
    ended.stats().unwrap().clone()
}

fn trace_option(directory: &TempDir) -> (String, PathBuf) {
    let path = directory.path().join("trace");
    (format!("trace={}", path.display()), path)
}

/// The guest's own code, in ROM, is ring 0. What it writes into RAM to run there is ring 3.
fn privilege_of_a_site_is_that_of_its_code(host: &Host) {
    let run = run_guest(host.machine().plugin(&["device=latch@0xe0-0xe3"]), "around-privilege");
    let in_rom = |site: &&SiteRow| site_pc(site) >= 0xf_0000;
    let (rom, ram): (Vec<_>, Vec<_>) = run.stats().sites.iter().partition(in_rom);
    assert!(rom.len() > 3 && ram.len() > 20, "{} {}", rom.len(), ram.len());
    for site in rom {
        assert_eq!(site.privilege, Some(Privilege::Supervisor), "{site:?}");
        assert_eq!(Phase::of_site(site), Phase::Firmware, "{site:?}");
    }
    for site in ram {
        assert_eq!(site.privilege, Some(Privilege::User), "{site:?}");
        assert_eq!(Phase::of_site(site), Phase::User, "{site:?}");
    }
}

fn offences_of_linux_have_rule_symbol_callers_and_process(host: &Host) {
    let directory = policies();
    let (trace, _) = trace_option(&directory);
    let stats = boot(host, true, &[&trace, "callers=on", "processes=on"]);
    let (status, result) = check_json(directory.path(), &["trace", "--policy", "tdx"]);
    assert_eq!((status, &result["clean"], &result["unknown"]), (1, &false.into(), &0.into()));
    let mut ports: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    for offence in offences(&result) {
        ports.entry(offence["port"].as_u64().unwrap()).or_default().push(offence);
    }
    // PIC, PIT, keyboard, speaker and serial port.
    for port in [0x20, 0x21, 0x40, 0x42, 0x43, 0x61, 0x64, 0x3f8, 0x3fd] {
        assert!(ports.contains_key(&port), "{port:#x}");
    }
    for allowed in [0x70, 0x71, 0xcf8, 0xcfc, 0x604, 0x608] {
        assert!(!ports.contains_key(&allowed), "{allowed:#x}: {:?}", ports[&allowed]);
    }
    for offence in offences(&result) {
        let is = |field: &str, value: &str| offence[field] == value;
        assert!(!is("phase", "firmware"), "{offence}");
        assert_eq!(offence["is_input"], is("dir", "in"), "{offence}");
        if is("phase", "kernel") {
            assert!(offence["symbol"].is_string() && is("privilege", "supervisor"), "{offence}");
            let chains = offence["callers"].as_array().unwrap();
            assert!(chains.iter().all(|chain| chain["end"] != "unknown"), "{offence}");
        }
        for origins in ["callers", "processes"] {
            let origins = offence[origins].as_array().unwrap().iter();
            let sum: u64 = origins.map(|origin| origin["accesses"].as_u64().unwrap()).sum();
            assert_eq!(sum, all_accesses(offence), "{offence}");
        }
    }
    let program = offences(&result).iter().filter(is_of_program);
    let mut made = 0;
    for offence in program {
        made += all_accesses(offence);
        assert_eq!(offence["rule"], "user code", "{offence}");
        assert_eq!(offence["file"], "/ioperm", "{offence}");
        let process = offence["processes"][0]["process"].as_str().unwrap();
        assert!(process.ends_with("/ioperm"), "{offence}");
    }
    assert_eq!(made, PROGRAM);
    let all: u64 = stats.accesses.iter().map(|row| row.counts.accesses).sum();
    assert_eq!(result["checked"]["accesses"], all);
    let (_, text) = check(directory.path(), &["trace", "--policy", "tdx", "--all"]);
    assert!(text.contains("start_kernel+0x") && text.contains("/ioperm\n"), "{text}");
}

fn offences_are_the_same_of_a_dump_and_of_a_trace(host: &Host) {
    let directory = policies();
    let (trace, _) = trace_option(&directory);
    let stats = boot(host, true, &[&trace, "callers=on"]);
    std::fs::write(directory.path().join("dump.json"), stats.to_json()).unwrap();
    let result = |input| check_json(directory.path(), &[input, "--policy", "nothing.toml"]).1;
    let [dump, trace] = ["dump.json", "trace"].map(result);
    assert!(offences(&dump).len() > 100);
    assert_eq!(offences(&dump).len(), offences(&trace).len());
    for (one, other) in offences(&dump).iter().zip(offences(&trace)) {
        for field in ["port", "dir", "size", "accesses", "unverified", "pc", "phase", "privilege"] {
            assert_eq!(one[field], other[field], "{field}: {one} {other}");
        }
        assert_eq!(
            (&one["callers_of_all_ports"], &other["callers_of_all_ports"]),
            (&true.into(), &false.into())
        );
    }
    assert_eq!(dump["checked"], trace["checked"]);
}

fn only_what_the_earlier_run_did_not_do_is_an_offence(host: &Host) {
    let directory = policies();
    for (name, runs_program) in [("old.json", false), ("new.json", true)] {
        let stats = boot(host, runs_program, &[]);
        std::fs::write(directory.path().join(name), stats.to_json()).unwrap();
    }
    let run = |arguments: &[&str]| check_json(directory.path(), arguments);
    assert_eq!(run(&["new.json", "--baseline", "new.json"]).0, 0);
    let (status, result) = run(&["new.json", "--baseline", "old.json", "--by", "port"]);
    assert_eq!((status, result["baseline"].as_str()), (1, Some("port")));
    let of_program = offences(&result).iter().filter(is_of_program);
    assert_eq!(of_program.map(all_accesses).sum::<u64>(), PROGRAM);
    let policy = ["--policy", "dongle.toml"];
    let (status, result) = run(&[&["new.json", "--baseline", "old.json"], &policy[..]].concat());
    assert_eq!((status, offences(&result).iter().map(all_accesses).sum()), (1, PROGRAM));
    assert!(offences(&result).iter().all(|offence| is_of_program(&offence)), "{result}");
    let arguments = ["new.json", "--baseline", "new.json", "--policy", "dongle.toml"];
    let (status, result) = run(&arguments);
    assert_eq!((status, all_accesses(&result["known"])), (0, PROGRAM));
    assert_eq!(run(&["old.json", "--policy", "dongle.toml"]).0, 0);
}

fn every_access_of_uefi_and_linux_has_its_phase(host: &Host) {
    let directory = policies();
    let (trace, _) = trace_option(&directory);
    let mut linux = linux(false);
    *linux.argument("-machine") = "q35".to_owned();
    let machine: Machine = host.machine().plugin(&[&trace, "callers=on", "processes=on"]);
    let machine = with_ovmf(linux.on(machine), 64, directory.path());
    let ended = machine.args(["-net", "none"]).run().unwrap();
    assert!(ended.stdout.contains("efi: EFI v2"), "{}", ended.stdout);
    let (_, result) = check_json(directory.path(), &["trace", "--policy", "nothing.toml"]);
    let mut phases: BTreeMap<&str, u64> = BTreeMap::new();
    for offence in offences(&result) {
        *phases.entry(offence["phase"].as_str().unwrap()).or_default() += 1;
        if offence["phase"] == "kernel" {
            assert!(offence["symbol"].is_string(), "{offence}");
            let chains = offence["callers"].as_array().unwrap();
            assert!(chains.iter().all(|chain| chain["end"] != "unknown"), "{offence}");
        }
    }
    assert!(phases["firmware"] > 60 && phases["kernel"] > 60, "{phases:?}");
    assert_eq!(phases.len(), 2, "{phases:?}");
    let (status, result) = check_json(directory.path(), &["trace", "--policy", "snp"]);
    assert_eq!((status, offences(&result).len()), (0, 0), "{result}");
    let (status, result) = check_json(directory.path(), &["trace", "--policy", "tdx"]);
    assert_eq!(status, 1);
    assert!(offences(&result).iter().all(|offence| offence["phase"] == "kernel"), "{result}");
    assert_eq!(ended.stats().unwrap().accesses_dropped.accesses, 0);
}
