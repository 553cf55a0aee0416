//! ELF files of the test guests.

use std::path::{Path, PathBuf};

use pvio::stats::{SectionRow, SiteRow, Snapshot};
use pvio_tests::{Host, assert_consistent, guest, on_both_qemus};

use super::elf_code::ElfCode;
use super::run_forms;

on_both_qemus! {
    elf_file_names_every_site_that_it_covers
    file_of_another_guest_names_no_site
    debug_file_names_the_same_sites_as_the_whole_file
    relocated_file_names_sites_at_its_load_address
}

fn elf_file_names_every_site_that_it_covers(host: &Host) {
    // A guest in assembly, whose symbols are labels, and a guest in C, whose symbols have sizes.
    for name in ["forms", "around-stream"] {
        let elf = guest(&format!("{name}.elf"));
        let symbols = format!("symbols={}", elf.display());
        let device = "device=latch@0x300";
        let machine = host.machine().plugin(&[&symbols, device]);
        let ended = machine.bare_guest(&guest(&format!("{name}.bin"))).run().unwrap();
        let stats = ended.stats().unwrap();
        assert_consistent(stats);
        assert!(stats.sites.len() > 5);
        let elf = ElfCode::read(&elf);
        stats.sites.iter().for_each(|site| elf.check(site));
    }
}

/// A label in the guest `forms` contains the form and the mode: `rep_insw_32.plain`.
#[test]
fn label_is_at_the_instruction_that_it_describes() {
    let symbols = format!("symbols={}", guest("forms.elf").display());
    let machine = Host::NEWEST.machine().plugin(&[&symbols]).bare_guest(&guest("forms.bin"));
    let ended = machine.run().unwrap();
    let is_plain = |site: &&SiteRow| site.symbol.as_deref().unwrap().ends_with(".plain");
    let plain: Vec<_> = ended.stats().unwrap().sites.iter().filter(is_plain).collect();
    assert_eq!(plain.len(), 24 * 3);
    for site in plain {
        let form = site.form.to_string().replace([' ', ','], "_");
        let mode = site.mode.expect("a mode").bits();
        assert_eq!(site.symbol, Some(format!("{form}_{mode}.plain")), "{site:?}");
    }
}

fn file_of_another_guest_names_no_site(host: &Host) {
    // When most sites do not match the wrong file, it names none of them, not even those that match.
    let other = format!("symbols={}", guest("around-stream.elf").display());
    let right = format!("symbols={}", guest("forms.elf").display());
    let ended = run_forms(host, &[&other, &right]);
    let stats = ended.stats().unwrap();
    let problem = stats.symbol_files[0].problem.as_deref().expect("what is wrong");
    assert!(problem.contains("so its names are not used"), "{problem}");
    assert!(ended.stderr.contains(&format!("option \"{other}\": {problem}\n")), "{}", ended.stderr);
    assert_eq!(stats.symbol_files[1].problem, None);
    let elf = ElfCode::read(&guest("forms.elf"));
    stats.sites.iter().for_each(|site| elf.check(site));
}

/// The symbol of each site.
fn symbols_of(stats: &Snapshot) -> Vec<Option<&str>> {
    stats.sites.iter().map(|site| site.symbol.as_deref()).collect()
}

/// Name, start and end of each section, and whether instructions were counted in it.
fn sections_of(stats: &Snapshot) -> Vec<(&str, &str, &str, bool)> {
    let has_run = |section: &SectionRow| {
        let counts = &section.instructions;
        counts.instructions.or(counts.instructions_unverified) > Some(0)
    };
    let sections = stats.sections.iter();
    sections.map(|row| (&*row.name, &*row.start, &*row.end, has_run(row))).collect()
}

/// Makes a copy of the ELF file of the guest `forms` with `objcopy`.
fn objcopy(directory: &Path, options: &[&str]) -> PathBuf {
    let copy = directory.join("copy");
    let mut command = std::process::Command::new("objcopy");
    command.args(options).arg(guest("forms.elf")).arg(&copy);
    assert!(command.status().unwrap().success());
    copy
}

fn debug_file_names_the_same_sites_as_the_whole_file(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let debug = objcopy(directory.path(), &["--only-keep-debug"]);
    let whole = guest("forms.elf");
    let named_by = |path: &Path| {
        let symbols = format!("symbols={}", path.display());
        let insns = format!("insns={}", path.display());
        run_forms(host, &[&symbols, &insns]).stats().unwrap().clone()
    };
    let (by_debug, by_whole) = (named_by(&debug), named_by(&whole));
    assert!(by_whole.sites.iter().all(|site| site.symbol.is_some()));
    assert_eq!(symbols_of(&by_debug), symbols_of(&by_whole));
    assert_eq!(sections_of(&by_debug), sections_of(&by_whole));
}

fn relocated_file_names_sites_at_its_load_address(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let moved = objcopy(directory.path(), &["--change-addresses=-0x1000"]);
    let mut bytes = std::fs::read(&moved).unwrap();
    // The file's type, e_type: ET_DYN, which may be loaded anywhere.
    bytes[0x10] = 3;
    std::fs::write(&moved, bytes).unwrap();
    let moved = moved.display().to_string();
    for key in ["symbols", "insns"] {
        let ended = run_forms(host, &[&format!("{key}={moved}")]);
        assert!(!ended.status.success(), "QEMU started: {}", ended.stderr);
        let right = format!("write {key}={moved}@ADDRESS");
        assert!(ended.stderr.contains(&right), "{}", ended.stderr);
    }
    let whole = guest("forms.elf").display().to_string();
    let named_by = |file: &str| {
        let options = [format!("symbols={file}"), format!("insns={file}")];
        run_forms(host, &options.each_ref().map(|option| &**option)).stats().unwrap().clone()
    };
    let (by_moved, by_whole) = (named_by(&format!("{moved}@0x1000")), named_by(&whole));
    assert_eq!(symbols_of(&by_moved), symbols_of(&by_whole));
    assert_eq!(sections_of(&by_moved), sections_of(&by_whole));
    assert!(by_whole.sites.iter().all(|site| site.symbol.is_some()));
    // At a wrong address the code does not match.
    let by_wrong = named_by(&format!("{moved}@4"));
    assert!(by_wrong.sites.iter().all(|site| site.symbol.is_none()));
}
