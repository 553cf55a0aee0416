//! Names of Rust are demangled, as `c++filt` of binutils does.

use std::process::Command;

use object::{Object, ObjectSymbol};
use pvio_tests::{Host, guest, on_both_qemus, site_pc, split_symbol};

on_both_qemus! {
    names_of_rust_are_demangled
}

fn demangled(name: &str) -> String {
    let output = Command::new("c++filt").arg(name).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let name = String::from_utf8(output.stdout).unwrap().trim_end().to_owned();
    // `c++filt` leaves the hash of an older kind of name.
    let is_hash =
        |hash: &str| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    match name.rsplit_once("::h") {
        Some((path, hash)) if is_hash(hash) => path.to_owned(),
        _ => name,
    }
}

fn names_of_rust_are_demangled(host: &Host) {
    let elf = guest("shim-rust.elf");
    let symbols = format!("symbols={}", elf.display());
    let machine =
        host.machine().plugin(&[&symbols, "device=latch@0x5000"]).args(["-serial", "null"]);
    let ended = machine.bare_guest(&guest("shim-rust.bin")).run().unwrap();
    let stats = ended.stats().unwrap();
    let contents = std::fs::read(elf).unwrap();
    let file = object::File::parse(&*contents).unwrap();
    let mut mangled = 0;
    for site in stats.sites.iter().filter(|site| site.symbol.is_some()) {
        let (name, offset) = split_symbol(site.symbol.as_deref().unwrap());
        let start = site_pc(site) - offset;
        let of_site = file.symbols().filter(|symbol| symbol.address() == start);
        let raw: Vec<&str> = of_site.map(|symbol| symbol.name().unwrap()).collect();
        assert!(raw.iter().any(|raw| demangled(raw) == name), "{site:?}: {raw:?}");
        mangled += usize::from(raw.iter().all(|raw| *raw != name));
        assert!(!name.starts_with("_R") && !name.starts_with("_ZN"), "{site:?}");
    }
    assert!(mangled > 0, "{:#?}", stats.sites);
    let all = stats.sites.len();
    let named = stats.sites.iter().filter(|site| site.symbol.is_some()).count();
    let without =
        if named < all { format!(", without a name {}", all - named) } else { String::new() };
    let line = format!("names: shim-rust.elf {named} sites{without}\n");
    assert!(pvio::stats::render(stats, false).contains(&line), "{line}");
}
