//! The plugin's decoding compared with QEMU's disassembler (`-d in_asm`) while real guests run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;

use pvio::stats::{SiteRow, Snapshot};
use pvio::x86::{Direction, PortForm, PortSource, Width};
use pvio_cli::machine::{Ended, Machine};
use pvio_tests::{Host, boot_linux, on_packaged_qemus, parse_hex, run_guest, run_seabios, site_pc};

// They need QEMU's disassembler, which one that is built for the tests lacks.
on_packaged_qemus! {
    every_form_in_every_mode_is_what_qemu_disassembles
    seabios_is_what_qemu_disassembles
    linux_is_what_qemu_disassembles
}

/// A port instruction as QEMU logged it: linear address and bytes in hexadecimal, and its form.
type Logged = BTreeMap<(u64, String), BTreeSet<PortForm>>;

/// Reads lines such as `0x000f0a11:  f3 66 6d   rep insw %dx, (%rdi)`.
fn read_log(path: &Path) -> Logged {
    let mut logged = Logged::new();
    for line in BufReader::new(std::fs::File::open(path).unwrap()).lines() {
        let line = line.unwrap();
        let Some((address, rest)) = line.split_once(':') else { continue };
        let Some(address) = address.strip_prefix("0x") else { continue };
        let address = parse_hex(address);
        let is_byte = |word: &&str| word.len() == 2 && u8::from_str_radix(word, 16).is_ok();
        let words: Vec<&str> = rest.split_whitespace().collect();
        let bytes = words.iter().take_while(|word| is_byte(word)).count();
        if let Some(form) = form_of_text(&words[bytes..]) {
            logged.entry((address, words[..bytes].concat())).or_default().insert(form);
        }
    }
    logged
}

/// Returns the form that an AT&T disassembly names, from the words of the text.
fn form_of_text(words: &[&str]) -> Option<PortForm> {
    let is_prefix = |word: &&&str| {
        matches!(
            **word,
            "rep" | "repe" | "repz" | "repne" | "repnz" | "data16" | "addr16" | "addr32"
        ) || word.starts_with("rex")
    };
    let prefixes = words.iter().take_while(is_prefix).count();
    let repeats = words[..prefixes].iter().any(|word| word.starts_with("rep"));
    let mnemonic = words.get(prefixes)?;
    let (stem, suffix) = mnemonic.split_at(mnemonic.len() - 1);
    let width = match suffix {
        "b" => Width::Byte,
        "w" => Width::Word,
        "l" => Width::Dword,
        _ => return None,
    };
    let has_immediate = words[prefixes + 1..].iter().any(|word| word.starts_with('$'));
    let (direction, source) = match (stem, has_immediate, repeats) {
        ("in", true, _) => (Direction::In, PortSource::Immediate),
        ("in", false, _) => (Direction::In, PortSource::Dx),
        ("out", true, _) => (Direction::Out, PortSource::Immediate),
        ("out", false, _) => (Direction::Out, PortSource::Dx),
        ("ins", _, false) => (Direction::In, PortSource::String),
        ("ins", _, true) => (Direction::In, PortSource::RepString),
        ("outs", _, false) => (Direction::Out, PortSource::String),
        ("outs", _, true) => (Direction::Out, PortSource::RepString),
        _ => return None,
    };
    Some(PortForm::new(direction, source, width))
}

/// Capstone applies prefix 66 although REX.W outranks it. QEMU, iced and CPUs do not (SDM vol. 2, 2.2.1.2).
fn capstone_is_wrong_about(bytes: &str) -> bool {
    let bytes: Vec<&str> = (0..bytes.len() / 2).map(|at| &bytes[at * 2..at * 2 + 2]).collect();
    let rex_w = bytes.len() > 1
        && matches!(bytes[bytes.len() - 2], "48" | "49" | "4a" | "4b" | "4c" | "4d" | "4e" | "4f");
    let rex_w_before_immediate = bytes.len() > 2
        && matches!(bytes[bytes.len() - 3], "48" | "49" | "4a" | "4b" | "4c" | "4d" | "4e" | "4f");
    bytes.contains(&"66") && (rex_w || rex_w_before_immediate)
}

/// Runs a machine with QEMU's log. Returns the end of the run, and the log.
fn run_logged(machine: Machine, run: impl FnOnce(Machine) -> Ended) -> (Ended, Logged) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("in_asm");
    let machine = machine.plugin(&["summary=off"]);
    let ended = run(machine.args(["-d", "in_asm", "-D", log.to_str().unwrap()]));
    (ended, read_log(&log))
}

/// Fails unless QEMU logged every site with the same form.
fn assert_sites_are_logged(stats: &Snapshot, logged: &Logged) {
    assert!(!stats.sites.is_empty());
    for site in &stats.sites {
        let forms = logged
            .get(&key(site))
            .unwrap_or_else(|| panic!("QEMU logged no port instruction there: {site:?}"));
        if !capstone_is_wrong_about(&site.bytes) {
            assert!(
                site.form.decided().is_some_and(|form| forms.contains(&form)),
                "QEMU logged {forms:?}: {site:?}"
            );
        }
    }
}

fn key(site: &SiteRow) -> (u64, String) {
    (site_pc(site), site.bytes.clone())
}

fn every_form_in_every_mode_is_what_qemu_disassembles(host: &Host) {
    let (ended, logged) = run_logged(host.machine(), |machine| run_guest(machine, "forms").ended);
    let stats = ended.stats().unwrap();
    assert_sites_are_logged(stats, &logged);
    // This guest runs all code that QEMU translates, so every logged instruction is a site.
    let sites: BTreeSet<_> = stats.sites.iter().map(key).collect();
    let missing: Vec<_> = logged.keys().filter(|key| !sites.contains(*key)).collect();
    assert!(missing.is_empty(), "not counted: {missing:x?}");
    assert_eq!(sites.len(), 522);
}

fn seabios_is_what_qemu_disassembles(host: &Host) {
    let (ended, logged) = run_logged(host.machine(), run_seabios);
    let stats = ended.stats().unwrap();
    assert_sites_are_logged(stats, &logged);
    assert!(stats.sites.len() > 100, "{}", stats.sites.len());
}

fn linux_is_what_qemu_disassembles(host: &Host) {
    let (ended, logged) = run_logged(host.machine(), boot_linux);
    let stats = ended.stats().unwrap();
    assert_sites_are_logged(stats, &logged);
    assert!(stats.sites.len() > 200, "{}", stats.sites.len());
}
