//! Call chains of guests whose functions call one another in known ways.

use std::collections::{BTreeMap, BTreeSet};

use object::{Object, ObjectSymbol};
use pvio::stats::{CallerRow, ChainEnd, Snapshot};
use pvio_tests::{Host, guest, on_both_qemus, run_guest, without_modules};

on_both_qemus! {
    chains_of_16_32_and_64_bit_code_are_known
    elements_that_pvio_moves_itself_have_their_chain
    chains_are_cut_at_a_depth
    callers_are_named_by_a_file_of_symbols
    each_access_of_any_guest_has_one_chain
    chains_are_not_counted_unless_asked_for
}

without_modules! {
    ; needs "the guest's memory":
    chains_of_16_32_and_64_bit_code_are_known
    elements_that_pvio_moves_itself_have_their_chain
    chains_are_cut_at_a_depth
    callers_are_named_by_a_file_of_symbols
    each_access_of_any_guest_has_one_chain
    chains_are_not_counted_unless_asked_for
}

/// The addresses of the guest's labels, without those of macros.
fn labels() -> BTreeMap<String, u64> {
    let elf = std::fs::read(guest("callers.elf")).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    let symbol =
        |symbol: object::Symbol<'_, '_>| Some((symbol.name().ok()?.to_owned(), symbol.address()));
    file.symbols().filter_map(symbol).collect()
}

fn run(host: &Host, options: &[&str]) -> Snapshot {
    run_guest(host.machine().plugin(options), "callers").stats().clone()
}

/// A chain: the label of the site, those of its callers, its end.
type Chain = (String, Vec<String>, ChainEnd);

/// The chains of the guest's functions and how often each made an access.
fn counted(stats: &Snapshot) -> BTreeMap<Chain, u64> {
    let names: BTreeMap<String, String> = labels()
        .into_iter()
        .filter(|(name, _)| name.ends_with("_r") || name.ends_with("_io"))
        .map(|(name, address)| (format!("{address:#x}"), name))
        .collect();
    let name = |pc: &String| names.get(pc).unwrap_or(pc).clone();
    let of_functions = stats.callers.iter().filter(|row| names.contains_key(&row.pc));
    let chain = |row: &CallerRow| {
        assert!(row.frames.iter().all(|frame| !frame.interrupted));
        let frames = row.frames.iter().map(|frame| name(&frame.pc)).collect();
        ((name(&row.pc), frames, row.end), row.accesses)
    };
    let rows: Vec<(Chain, u64)> = of_functions.map(chain).collect();
    let chains: BTreeMap<Chain, u64> = rows.iter().cloned().collect();
    assert_eq!(chains.len(), rows.len(), "each chain has one row: {rows:?}");
    chains
}

/// Returns the chains of `tests/guests/callers.S`, cut to `depth` frames, and their accesses.
fn expected(depth: usize) -> BTreeMap<Chain, u64> {
    const STRING: u64 = 20;
    let mut chains = BTreeMap::new();
    for mode in [16, 32, 64] {
        let long = [
            format!("middle_inner_{mode}_r"),
            format!("outer_middle_{mode}_r"),
            format!("top_outer_{mode}_r"),
        ];
        let short = [format!("middle_inner_{mode}_r"), format!("top_middle_{mode}_r")];
        for (site, accesses) in [("inner_out", 1), ("inner_rep", STRING)] {
            for (frames, times) in [(&long[..], 3), (&short[..], 1)] {
                let end = if frames.len() > depth { ChainEnd::Depth } else { ChainEnd::Bottom };
                let frames = frames.iter().take(depth).cloned().collect();
                let chain = (format!("{site}_{mode}_io"), frames, end);
                *chains.entry(chain).or_default() += times * accesses;
            }
        }
        // A function without a frame has callers that cannot be known.
        let leaf = (format!("leaf_in_{mode}_io"), Vec::new(), ChainEnd::Unknown);
        chains.insert(leaf, 2);
    }
    chains
}

fn chains_of_16_32_and_64_bit_code_are_known(host: &Host) {
    assert_eq!(counted(&run(host, &["callers=on"])), expected(64));
}

fn elements_that_pvio_moves_itself_have_their_chain(host: &Host) {
    let stats = run(host, &["callers=on", "device=null@0x5000"]);
    assert_eq!(counted(&stats), expected(64));
}

fn chains_are_cut_at_a_depth(host: &Host) {
    for depth in [1, 2, 3] {
        let stats = run(host, &[&format!("callers={depth}")]);
        assert_eq!(counted(&stats), expected(depth), "{depth}");
    }
}

fn callers_are_named_by_a_file_of_symbols(host: &Host) {
    let symbols = format!("symbols={}", guest("callers.elf").display());
    let stats = run(host, &["callers=on", &symbols]);
    assert_eq!(counted(&stats), expected(64));
    let labels = labels();
    let functions = ["top", "outer", "middle"];
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for row in stats.callers.iter().filter(|row| row.end == ChainEnd::Bottom) {
        for frame in &row.frames {
            let symbol = frame.symbol.as_ref().unwrap_or_else(|| panic!("{frame:?}"));
            let (name, offset) = symbol.split_once("+0x").unwrap();
            let offset = u64::from_str_radix(offset, 16).unwrap();
            assert_eq!(format!("{:#x}", labels[name] + offset), frame.pc, "{symbol}");
            // A call is in the label before it, not in that to which it returns.
            assert!(offset > 0, "{symbol}");
            named.extend(functions.into_iter().find(|function| name.starts_with(function)));
        }
    }
    assert_eq!(named.len(), functions.len(), "{named:?}");
}

/// Faults, interrupts, hypervisors, several vCPUs, code at several addresses: every dump adds up.
fn each_access_of_any_guest_has_one_chain(host: &Host) {
    let guests = [
        ("forms", &["-smp", "4"][..]),
        ("forms-aliases", &["-smp", "2"]),
        ("irq-rep", &[]),
        ("around-privilege", &["-device", "pc-testdev"]),
        ("around-interrupts", &["-device", "pc-testdev"]),
        ("around-svm", &["-device", "pc-testdev", "-cpu", "max,+svm"]),
        ("svm-smp", &["-cpu", "max,+svm", "-smp", "2"]),
        ("svm-smp", &["-cpu", "max,+svm", "-smp", "2", "-accel", "tcg,thread=single"]),
    ];
    for (name, arguments) in guests {
        let machine = host.machine().plugin(&["callers=on"]).args(arguments);
        let stats = run_guest(machine, name).stats().clone();
        let mut by_site: BTreeMap<_, u64> = BTreeMap::new();
        for row in &stats.callers {
            *by_site.entry((&*row.pc, row.mode, &*row.bytes)).or_default() += row.accesses;
        }
        for site in stats.sites.iter().filter(|site| site.counts.accesses > 0) {
            let accesses = by_site.remove(&(&*site.pc, site.mode, &*site.bytes));
            assert_eq!(accesses, Some(site.counts.accesses), "{name}: {site:?}");
        }
        assert!(by_site.is_empty(), "{name}: {by_site:?}");
    }
}

fn chains_are_not_counted_unless_asked_for(host: &Host) {
    for options in [&[][..], &["callers=off"]] {
        assert_eq!(run(host, options).callers, []);
    }
}
