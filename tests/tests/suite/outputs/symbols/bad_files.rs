//! Files that cannot be used, or only in part.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use pvio::guest_file::GuestFile;
use pvio::sections::Sections;
use pvio::symbols::Symbols;
use pvio_tests::{Host, guest, site_pc};

use super::run_forms;

/// The last symbol ends at the end of its page, or where the file says so: what follows is not in the file.
#[test]
fn site_after_the_last_symbol_has_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let map = directory.path().join("map");
    let bare = run_forms(&Host::NEWEST, &[]);
    let sites = &bare.stats().unwrap().sites;
    let last = site_pc(sites.last().unwrap());
    let page = last & !0xfff;
    for (text, is_named) in [
        (format!("{page:x} T in_the_page\n"), true),
        (format!("{:x} T before_the_page\n", page - 1), false),
        (format!("{page:x} T in_the_page\n{last:x} T _etext\n"), false),
        (format!("{page:x} T in_the_page\n{last:x} t of_a_module [module]\n"), false),
    ] {
        std::fs::write(&map, &text).unwrap();
        let ended = run_forms(&Host::NEWEST, &[&format!("symbols={}", map.display())]);
        let sites = &ended.stats().unwrap().sites;
        let symbol = sites.iter().find(|site| site_pc(site) == last).unwrap().symbol.as_deref();
        let name = format!("in_the_page+{:#x}", last - page);
        assert_eq!(symbol, is_named.then_some(&*name), "{text}");
    }
}

/// Damaged files cause no panic and take bounded time.
#[test]
fn damaged_file_is_read_or_refused_with_one_line() {
    let whole = std::fs::read(guest("forms.elf")).unwrap();
    let sections = u64::from_le_bytes(whole[0x28..0x30].try_into().unwrap()) as usize;
    let file = tempfile::NamedTempFile::new().unwrap();
    let name = format!("{}@0", file.path().display());
    let mut random = fastrand::Rng::with_seed(1);
    let (mut read, mut refused) = (0, 0);
    let start = Instant::now();
    for _ in 0..2000 {
        let mut damaged = whole.clone();
        for _ in 0..random.usize(1..4) {
            let part = if random.bool() { 0..0x40 } else { sections..whole.len() };
            let value = [0, 1, 0x7f, 0xff, random.u8(..)][random.usize(..5)];
            damaged[random.usize(part)] = value;
        }
        damaged.truncate(if random.bool() { whole.len() } else { random.usize(..whole.len()) });
        std::fs::write(&file, &damaged).unwrap();
        let guest_file = GuestFile::parse(&name).unwrap();
        let _ = Sections::load(&guest_file);
        match Symbols::load(&[guest_file], &[], false) {
            Ok(symbols) => {
                read += 1;
                let sites: Vec<(u64, &[u8])> =
                    (0..64).map(|n| (0xf_0000 + n * 7, &b"\xee"[..])).collect();
                let names = symbols.judge(&sites);
                sites.iter().for_each(|(pc, bytes)| drop(names.name(*pc, bytes)));
            }
            Err(error) => {
                refused += 1;
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
            }
        }
    }
    assert!(read > 100 && refused > 100, "{read} {refused}");
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

/// A FIFO without a writer would make QEMU wait, and a device would never end.
#[test]
fn file_that_is_not_regular_keeps_qemu_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let files = [
        (&*fifo, "is a FIFO; name a regular file"),
        (Path::new("/dev/zero"), "is a character device; name a regular file"),
    ];
    for (path, why) in files {
        for key in ["symbols", "insns"] {
            let ended = run_forms(&Host::NEWEST, &[&format!("{key}={}", path.display())]);
            assert!(!ended.status.success(), "QEMU started: {}", ended.stderr);
            let line = format!("option \"{key}\": {} {why}", path.display());
            assert!(ended.stderr.contains(&line), "{}", ended.stderr);
        }
    }
    let ended = run_forms(&Host::NEWEST, &[&format!("insns={}", directory.path().display())]);
    assert!(ended.stderr.contains("is a directory; name a file in it"), "{}", ended.stderr);
}
