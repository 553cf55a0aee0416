//! `source` of a site: its file and line, compared with what `addr2line` of binutils says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use pvio::stats::Snapshot;
use pvio_cli::paths;
use pvio_tests::{Host, guest, on_both_qemus, path_str, site_pc};

on_both_qemus! {
    every_site_has_the_line_of_its_source
}

/// Builds guests again with debug information. The others are those that are there.
fn build(directory: &Path, names: &[&str]) {
    for entry in guest("forms.bin").parent().unwrap().read_dir().unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let stem = Path::new(&name).file_stem().unwrap();
        if entry.file_type().unwrap().is_file() && !names.iter().any(|name| *name == stem) {
            std::fs::copy(entry.path(), directory.join(&name)).unwrap();
        }
    }
    let mut build = Command::new(paths::repository().join("tests/guests/build"));
    // The other guests have 32-bit code in 64-bit objects, where the assembler takes no unwinding directives.
    build.arg(directory).env("CC", "cc -g -fno-dwarf2-cfi-asm");
    let output = build.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The file and the line of each address, without directories.
fn lines_of(elf: &Path, stats: &Snapshot) -> HashMap<u64, Option<String>> {
    let addresses: Vec<u64> = stats.sites.iter().map(site_pc).collect();
    let mut command = Command::new("addr2line");
    command.arg("-e").arg(elf).args(addresses.iter().map(|address| format!("{address:#x}")));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let place = line.split(' ').next().unwrap().rsplit('/').next().unwrap();
        (!place.starts_with('?') && !place.ends_with('?')).then(|| place.to_owned())
    };
    addresses.into_iter().zip(text.lines().map(line)).collect()
}

fn every_site_has_the_line_of_its_source(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { directory.path().join(name) };
    // In assembly and in C.
    let names = ["forms", "calls-rings64"];
    build(directory.path(), &names);
    std::fs::create_dir(path("debug")).unwrap();
    for name in names {
        let (elf, image) = (path(&format!("{name}.elf")), path(&format!("{name}.bin")));
        let run = |symbols: &[&str]| {
            let machine = host.machine().plugin(symbols).plugin(&["device=latch@0x300"]);
            machine.bare_guest(&image).run().unwrap()
        };
        let whole = format!("symbols={}", elf.display());
        let ended = run(&[&whole]);
        let stats = ended.stats().unwrap();
        let lines = lines_of(&elf, stats);
        assert!(lines.values().flatten().count() > 5, "{lines:?}");
        for site in &stats.sites {
            let source = site.source.as_deref();
            let place = source.map(|source| source.rsplit('/').next().unwrap().to_owned());
            assert_eq!(place, lines[&site_pc(site)], "{site:?}");
        }
        let first = stats.sites.iter().max_by_key(|site| site.counts.accesses).unwrap();
        let shown = first.label_with_source().unwrap();
        assert!(shown.ends_with(&format!(" ({})", lines[&site_pc(first)].as_ref().unwrap())));
        let tables = pvio::stats::render(stats, false);
        assert!(tables.contains(&*shown), "{tables}");
        // From a compressed separate debug file, too.
        let (debug, stripped) = (path(&format!("debug/{name}.debug")), path("stripped"));
        let objcopy = |options: &[&str], to: &Path| {
            let status = Command::new("objcopy").args(options).args([&*elf, to]).status();
            assert!(status.unwrap().success());
        };
        objcopy(&["--only-keep-debug", "--compress-debug-sections=zlib"], &debug);
        let link = format!("--add-gnu-debuglink={}", debug.display());
        objcopy(&["--strip-all", &link], &stripped);
        let by_file = format!("symbols={}", path_str(&stripped));
        let by_directory = format!("symbols={}", path_str(&path("debug")));
        let ended = run(&[&by_file, &by_directory]);
        let sources = |stats: &Snapshot| -> Vec<Option<String>> {
            stats.sites.iter().map(|site| site.source.clone()).collect()
        };
        assert_eq!(sources(ended.stats().unwrap()), sources(stats));
        // Without debug information there is none.
        objcopy(&["--strip-debug"], &stripped);
        assert!(sources(run(&[&by_file]).stats().unwrap()).iter().all(Option::is_none));
    }
}
