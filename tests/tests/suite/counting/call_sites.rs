//! The code that makes hypercalls, of a guest that makes them from known places.

use std::collections::{BTreeMap, BTreeSet};

use object::{Object, ObjectSymbol};
use pvio::stats::{Call, CallAt, ChainEnd, MAX_CALL_SITES, Snapshot};
use pvio_cli::machine::Machine;
use pvio_stats::trace::{CallCode, CallEvent, Trace, What};
use pvio_tests::{
    GuestTest, Host, Monitor, guest, on_both_qemus, parse_hex, run_guest, wait_until,
    without_modules,
};
use qapi::qmp::RunState;

on_both_qemus! {
    calls_are_counted_by_site_in_every_mode
    call_chains_begin_at_the_function_of_the_site
    call_sites_are_named_by_a_file_of_symbols
    calls_of_more_sites_than_have_rows_are_said
    trace_has_site_chain_and_process_of_each_call
    access_log_has_the_site_and_its_symbol
    breakpoint_says_the_site
}

without_modules! {
    ; needs "the guest's memory":
    calls_are_counted_by_site_in_every_mode
    call_chains_begin_at_the_function_of_the_site
    call_sites_are_named_by_a_file_of_symbols
    calls_of_more_sites_than_have_rows_are_said
    trace_has_site_chain_and_process_of_each_call
    access_log_has_the_site_and_its_symbol
    breakpoint_says_the_site
}

const STRING: u64 = 20;
const PORT: u16 = 0x5000;
const ALIAS: u64 = 0x20_0000;

/// The addresses of the guest's labels.
fn labels() -> BTreeMap<String, u64> {
    let elf = std::fs::read(guest("call-sites.elf")).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    let symbol =
        |symbol: object::Symbol<'_, '_>| Some((symbol.name().ok()?.to_owned(), symbol.address()));
    file.symbols().filter_map(symbol).collect()
}

/// The names of sites and return addresses. A site that runs at its other address has a star.
fn names() -> BTreeMap<u64, String> {
    let labels = labels().into_iter();
    let labels = labels.filter(|(name, _)| name.ends_with("_r") || name.ends_with("_io"));
    labels
        .flat_map(|(name, address)| [(address + ALIAS, format!("{name}*")), (address, name)])
        .collect()
}

/// Returns true if calls by registers are answered.
fn answers_registers(host: &Host) -> bool {
    host.reports_exceptions()
}

fn run(host: &Host, options: &[&str]) -> Snapshot {
    run_guest(host.machine().plugin(options), "call-sites").stats().clone()
}

/// A row: the label of the site, what it is, the call.
type Site = (String, CallAt, Call);

/// Calls, accesses and bytes of each row, and the accesses by port.
type Counted = BTreeMap<Site, ([u64; 3], Vec<(u16, u64)>)>;

fn counted(stats: &Snapshot) -> Counted {
    let names = names();
    let mut rows = Counted::new();
    for row in &stats.call_sites {
        let counts = [row.counts.calls, row.counts.accesses, row.counts.bytes];
        let name = names.get(&row.address().unwrap()).unwrap_or(&row.pc).clone();
        let mode = row.mode.unwrap().bits();
        assert!(name.contains(&mode.to_string()) || name == "register_io", "{row:?}");
        assert!(rows.insert((name, row.at, row.call), (counts, Vec::new())).is_none(), "{row:?}");
    }
    for row in &stats.call_accesses {
        let site = &stats.call_sites[row.site];
        let name = names.get(&site.address().unwrap()).unwrap_or(&site.pc).clone();
        let (dir, width) = site.call.port_io().unwrap();
        assert_eq!((row.dir, row.size), (dir, width.into()));
        let (_, ports) = rows.get_mut(&(name, site.at, site.call)).unwrap();
        ports.push((row.port.0, row.accesses));
    }
    rows
}

/// The calls that `tests/guests/call-sites.S` makes.
fn expected(host: &Host) -> Counted {
    let mut rows = Counted::new();
    let mut put = |label: String, at, call, counts: [u64; 3], port: Option<u16>| {
        let ports = port.into_iter().map(|port| (port, counts[1])).collect();
        rows.insert((label, at, call), (counts, ports));
    };
    let at = CallAt::Instruction;
    put("register_io".into(), at, Call::RegisterLarge, [1, 0, 0], None);
    for mode in [16, 32, 64] {
        let site = format!("driver_out_{mode}_r");
        put(site, CallAt::Return, Call::Outb, [3, 3, 3], Some(PORT));
        let mut write = vec![(String::new(), 2)];
        if mode == 64 {
            write.push(("*".into(), 4));
        }
        for (star, calls) in write {
            let counts = [calls; 3];
            put(format!("write_bell_{mode}_io{star}"), at, Call::Outb, counts, Some(PORT));
            if answers_registers(host) {
                put(format!("write_register_{mode}_io{star}"), at, Call::Outb, counts, Some(PORT));
            }
        }
        let string = format!("bulk_string_{mode}_io");
        put(string, at, Call::Outsb, [1, STRING, STRING], Some(PORT));
        let batch = format!("bulk_batch_{mode}_io");
        put(batch.clone(), at, Call::Batch, [1, 0, 0], None);
        put(batch.clone(), at, Call::Outb, [2, 2, 2], Some(PORT));
        put(batch, at, Call::Inb, [1, 1, 1], Some(0x80));
    }
    rows
}

fn calls_are_counted_by_site_in_every_mode(host: &Host) {
    for options in [&[][..], &["callers=on"], &["processes=on"]] {
        let stats = run(host, options);
        assert_eq!(counted(&stats), expected(host), "{options:?}");
        let by_process: u64 = stats.processes.iter().map(|row| row.hypercall).sum();
        let calls: u64 = stats.ports.iter().map(|row| row.hypercall).sum();
        let counts_processes = options == ["processes=on"];
        assert_eq!(by_process, if counts_processes { calls } else { 0 });
        // Of the processes of this guest, some have paging and some do not.
        let with_calls = stats.processes.iter().filter(|row| row.hypercall > 0).count();
        assert_eq!(with_calls, if counts_processes { 2 } else { 0 });
    }
}

/// A chain: the labels of the site and of its callers.
type Chain = (String, Vec<String>);

fn call_chains_begin_at_the_function_of_the_site(host: &Host) {
    let stats = run(host, &["callers=on"]);
    let names = names();
    let name = |pc: &str| names.get(&parse_hex(pc)).cloned().unwrap_or(pc.into());
    let mut chains: BTreeMap<Chain, u64> = BTreeMap::new();
    for row in &stats.call_callers {
        assert_eq!(row.end, ChainEnd::Bottom, "{row:?}");
        let frames = row.frames.iter().map(|frame| name(&frame.pc)).collect();
        assert!(chains.insert((name(&row.pc), frames), row.accesses).is_none(), "{row:?}");
    }
    let mut expected = BTreeMap::new();
    for mode in [16, 32, 64] {
        let frames = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("{name}_{mode}_r")).collect()
        };
        // The function that rings the doorbell is no caller.
        expected.insert((format!("driver_out_{mode}_r"), frames(&["top_driver"])), 3);
        let mut sites = vec![format!("write_bell_{mode}_io")];
        if answers_registers(host) {
            sites.push(format!("write_register_{mode}_io"));
        }
        for site in sites {
            expected.insert((site.clone(), frames(&["top_write"])), 1);
            expected.insert((site.clone(), frames(&["top_write_again"])), 1);
            if mode == 64 {
                expected.insert((format!("{site}*"), frames(&["top_alias"])), 4);
            }
        }
        expected.insert((format!("bulk_string_{mode}_io"), frames(&["top_bulk"])), STRING);
        expected.insert((format!("bulk_batch_{mode}_io"), frames(&["top_bulk"])), 3);
    }
    assert_eq!(chains, expected);
}

fn call_sites_are_named_by_a_file_of_symbols(host: &Host) {
    let symbols = format!("symbols={}", guest("call-sites.elf").display());
    let stats = run(host, &["callers=on", &symbols]);
    let labels = labels();
    let mut named = BTreeSet::new();
    for row in &stats.call_sites {
        let Some(symbol) = &row.symbol else {
            // The file does not describe the code at its other address.
            assert!(row.address().unwrap() >= ALIAS, "{row:?}");
            continue;
        };
        assert!(row.named_by.as_deref().unwrap().ends_with("call-sites.elf"));
        let (name, offset) = symbol.split_once("+0x").unwrap_or((symbol, "0"));
        let offset = u64::from_str_radix(offset, 16).unwrap();
        assert_eq!(labels[name] + offset, row.address().unwrap(), "{symbol}");
        // A call is in the label before its return address.
        assert_eq!(offset > 0, row.at == CallAt::Return, "{symbol}");
        named.insert(row.at.name());
    }
    assert_eq!(named.len(), 2);
    for row in stats.call_callers.iter().filter(|row| row.at == CallAt::Return) {
        assert!(row.function().starts_with("driver_"), "{row:?}");
    }
}

/// A machine whose guest makes calls from this number of sites.
fn many_sites(host: &Host, sites: usize) -> Machine {
    host.machine().args(["-device", &format!("loader,addr=0x600,data={sites},data-len=4")])
}

fn calls_of_more_sites_than_have_rows_are_said(host: &Host) {
    // The registration of the mailbox has a site, too.
    let more = 1000;
    let sites = MAX_CALL_SITES - 1 + more;
    for options in [&[][..], &["callers=on"]] {
        let machine = many_sites(host, sites).plugin(options);
        let run = GuestTest::new(machine, "many-call-sites").run();
        let stats = run.stats();
        assert_eq!(stats.call_sites.len(), MAX_CALL_SITES);
        let dropped = stats.call_sites_dropped_counts;
        assert_eq!([dropped.calls, dropped.accesses, dropped.bytes], [more as u64; 3]);
        assert_eq!(stats.call_accesses_dropped, more as u64);
        let outb = stats.hypercalls.iter().find(|row| row.call == Call::Outb).unwrap();
        assert_eq!(outb.count, sites as u64);
        let text = pvio_stats::render(stats, false);
        assert!(text.contains("1,000 hypercalls more came from call sites"), "{text}");
    }
}

fn trace_has_site_chain_and_process_of_each_call(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    let option = format!("trace={}", path.display());
    let stats = run(host, &["callers=on", "processes=on", &option]);
    let mut trace = Trace::open(&path).unwrap();
    let mut sites: BTreeMap<u64, u64> = BTreeMap::new();
    trace.read(|event, (stream, _), definitions| {
        if let What::Call(CallEvent::Access { code, stack, process, .. }) = &event.what {
            let CallCode::Site(site) = *code else { panic!("{event:?}") };
            *sites.entry(definitions.call_site(site).unwrap().pc).or_default() += 1;
            let stack = definitions.stack(stream, stack.unwrap()).unwrap();
            assert!(!stack.frames.is_empty() && process.unwrap().number.is_some(), "{event:?}");
        }
        true
    });
    let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
    for row in stats.call_sites.iter().filter(|row| row.counts.accesses > 0) {
        *expected.entry(row.address().unwrap()).or_default() += row.counts.accesses;
    }
    assert_eq!(sites, expected);
}

fn access_log_has_the_site_and_its_symbol(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let symbols = format!("symbols={}", guest("call-sites.elf").display());
    run(host, &[&symbols, &format!("access-log={}:0x5000:symbol=driver_*", path.display())]);
    let log = std::fs::read_to_string(&path).unwrap();
    let labels = labels();
    let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with('#')).collect();
    let mut expected = Vec::new();
    for mode in [16, 32, 64] {
        let pc = labels[&format!("driver_out_{mode}_r")];
        let offset = pc - labels[&format!("driver_{mode}")];
        let text = format!(" {pc:#x} out 0x5000 1 0x64\tdriver_{mode}+{offset:#x}\t");
        expected.extend(std::iter::repeat_n(text, 3));
    }
    assert_eq!(lines.len(), expected.len(), "{log}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(&expected), "{line:?} lacks {expected:?}");
    }
}

fn breakpoint_says_the_site(host: &Host) {
    let labels = labels();
    let pc = labels["driver_out_64_r"];
    let symbols = format!("symbols={}", guest("call-sites.elf").display());
    let stop = format!("break=0x5000:site={pc:#x}:count=2");
    let machine = host.machine().args(["-S"]).plugin(&["summary=off", &symbols, &stop]);
    let mut monitor = Monitor::start(machine.bare_guest(&guest("call-sites.bin")));
    monitor.cont();
    wait_until(|| monitor.status() == RunState::debug, || "the machine has not stopped".into());
    let ended = monitor.quit();
    let offset = pc - labels["driver_64"];
    let start = format!(
        "pvio: break 1: out 0x5000 1 0x64 at {pc:#x} driver_64+{offset:#x} by hypercall, called by top_"
    );
    let mut lines = ended.stderr.lines();
    let is_it = |line: &str| line.starts_with(&start) && line.contains("hit 2;");
    assert!(lines.any(is_it), "{start}: {}", ended.stderr);
}
