use std::collections::BTreeSet;

use super::*;
use crate::stats::test_data::snapshot;
use crate::stats::trace::{Code, Event, InsnEvent, Stage, What};
use crate::stats::{
    AccessCounts, Call, CallAccessRow, CallAt, CallCounts, CallSiteRow, CallerRow, ChainEnd,
    FrameRow, HypercallRow, ValueMoment, ValueRow, WindowRow,
};
use pvio_x86::{Direction, Mode, Port, PortForm, Width};

fn page(dump: &Snapshot) -> String {
    render(dump, None, &["boot.json".to_owned()])
}

/// Returns the names of all elements. Panics unless they nest.
fn elements(page: &str) -> Vec<String> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let tag = &rest[start + 1..];
        let end = tag.find('>').expect("a tag ends");
        let name = tag[..end].split_whitespace().next().unwrap();
        rest = &tag[end + 1..];
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{:?}", &rest[..rest.len().min(80)]);
        } else if !["!DOCTYPE", "meta", "input", "wbr"].contains(&name) {
            open.push(name.to_owned());
            all.push(name.to_owned());
        }
        // The contents of these are not markup.
        if let "script" | "style" = name {
            rest = &rest[rest.find("</").expect("it ends")..];
        }
    }
    assert_eq!(open, [NOTHING; 0]);
    all
}

const NOTHING: &str = "";

fn window(name: &str) -> WindowRow {
    let tables = snapshot(500).tables;
    WindowRow { name: name.to_owned(), entries: 1, open: false, rows_dropped: false, tables }
}

#[test]
fn page_opens_with_count_busiest_port_and_busiest_function() {
    let answer = "70,000 port accesses: 100.0 % went to COM1, port 0x03f8 and 100.0 % came from io_serial_out.";
    let page = page(&snapshot(70_000));
    assert!(page.contains(&format!("<h1>{}</h1>", answer.replace('_', "_<wbr>"))), "{page}");
    assert!(page.contains(&format!("<title>pvio: {answer}</title>")), "{page}");
    assert!(render(&snapshot(0), None, &[]).contains("<h1>The guest made no port access.</h1>"));
}

#[test]
fn charts_and_tables_without_data_are_left_out() {
    let mut dump = snapshot(70_000);
    let plain = elements(&page(&dump));
    let count = |elements: &[String], name: &str| elements.iter().filter(|n| *n == name).count();
    assert_eq!((count(&plain, "svg"), count(&plain, "table")), (3, 4));

    dump.windows.push(window("disk"));
    let calls = HypercallRow {
        call: Call::Outsb,
        count: 2,
        bytes: 30_000,
        declined: 0,
        denied: 0,
        errors: 0,
    };
    dump.tables.hypercalls.push(calls);
    dump.tables.ports[0].hypercall = 30_000;
    let page = page(&dump);
    let more = elements(&page);
    assert_eq!((count(&more, "svg"), count(&more, "table")), (5, 6));
    assert!(page.contains("2 hypercalls made 30,000 accesses, 30.0 % of the total."), "{page}");
    assert!(page.contains("by instruction: 70,000, by hypercall: 30,000"), "{page}");
}

#[test]
fn guest_text_never_becomes_markup() {
    let evil = "</title></style></script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&\0\x1b[31m";
    let mut dump = snapshot(1000);
    let clean: BTreeSet<String> = elements(&page(&dump)).into_iter().collect();
    dump.pvio = evil.into();
    dump.ended = evil.into();
    dump.qemu.version = Some(evil.to_owned());
    dump.qemu.target = evil.to_owned();
    dump.vcpus_omitted = Some(evil.into());
    dump.windows.push(window(evil));
    let (site, port) = (&mut dump.tables.sites[0], &mut dump.tables.ports[0]);
    (site.symbol, site.insn, site.pc) = (Some(evil.to_owned()), evil.to_owned(), evil.to_owned());
    port.name = Some(evil.into());
    let mut evil_chain = chain(&[evil, evil], ChainEnd::Bottom, 5);
    evil_chain.frames[0].symbol = Some(evil.to_owned());
    dump.tables.callers.push(evil_chain);
    dump.symbol_files.push(crate::stats::SymbolFileRow {
        file: evil.to_owned(),
        problem: Some(evil.to_owned()),
    });
    let page = render(&dump, None, &[evil.to_owned()]);
    let found: BTreeSet<String> = elements(&page).into_iter().collect();
    let added: Vec<_> =
        found.difference(&clean).filter(|name| !["ul", "li"].contains(&name.as_str())).collect();
    assert!(added.is_empty(), "{added:?}");
    assert!(!page.contains("<img") && !page.contains("<script>alert"), "{page}");
    assert!(!page.contains(['\0', '\x1b']));
    assert_eq!(elements(&page).iter().filter(|name| *name == "script").count(), 1);
    // A guest's quotation mark cannot end an attribute.
    assert!(!page.contains("script>\"'>") && page.contains("&lt;/script&gt;&quot;'&gt;"), "{page}");
}

/// A chain of functions, the innermost first, with these accesses.
fn chain(functions: &[&str], end: ChainEnd, accesses: u64) -> CallerRow {
    let frame = |function: &&str| FrameRow {
        pc: "0x1000".to_owned(),
        symbol: Some(format!("{function}+0x12")),
        interrupted: false,
    };
    let site = snapshot(1).tables.sites[0].clone();
    CallerRow {
        pc: site.pc,
        mode: site.mode,
        bytes: site.bytes,
        symbol: Some(format!("{}+0x1", functions[0])),
        frames: functions[1..].iter().map(frame).collect(),
        end,
        accesses,
    }
}

/// Each cell of the flame graph: its title, and where it begins and how wide it is in percent.
fn cells(page: &str) -> Vec<(String, String, String)> {
    let cells = page.split("<svg class=\"cell").skip(1);
    let between = |text: &str, start: &str, end: &str| {
        let (_, rest) = text.split_once(start).unwrap();
        rest.split_once(end).unwrap().0.to_owned()
    };
    let cell = |cell: &str| {
        let title = between(cell, "<title>", ":");
        (title, between(cell, " x=\"", "%"), between(cell, " width=\"", "%"))
    };
    cells.map(cell).collect()
}

#[test]
fn a_flame_graph_has_callers_above_what_they_called() {
    let mut dump = snapshot(4000);
    dump.tables.callers = vec![
        chain(&["outb", "puts", "main"], ChainEnd::Bottom, 2000),
        chain(&["inb", "puts", "main"], ChainEnd::Bottom, 1000),
        chain(&["outb", "write"], ChainEnd::Unknown, 1000),
        // Too narrow.
        chain(&["outb", "rarely"], ChainEnd::Bottom, 0),
    ];
    let page = page(&dump);
    let expected = [
        ("all accesses", "0.000", "100.000"),
        ("?", "0.000", "25.000"),
        ("write", "0.000", "25.000"),
        ("outb", "0.000", "25.000"),
        ("main", "25.000", "75.000"),
        ("puts", "25.000", "75.000"),
        ("inb", "25.000", "25.000"),
        ("outb", "50.000", "50.000"),
    ];
    let expected = expected.map(|(name, x, width)| (name.into(), x.into(), width.into()));
    assert_eq!(cells(&page), expected);
    elements(&page);
    assert!(page.contains("<td>puts+0x12 &lt; main+0x12</td>"), "{page}");
    assert!(cells(&self::page(&snapshot(5))).is_empty());
}

#[test]
fn a_chain_of_any_length_makes_a_page() {
    let mut dump = snapshot(10);
    let functions = vec!["again"; 100_000];
    dump.tables.callers = vec![chain(&functions, ChainEnd::Bottom, 10)];
    assert!(cells(&page(&dump)).len() < 100);
}

#[test]
fn page_of_counts_beyond_64_bits_saturates() {
    let mut dump = snapshot(u64::MAX);
    let calls = HypercallRow {
        call: Call::Outsb,
        count: 1,
        bytes: u64::MAX,
        declined: 0,
        denied: 0,
        errors: 0,
    };
    dump.tables.hypercalls.push(calls);
    let page = page(&dump);
    assert!(page.contains("<h1>18,446,744,073,709,551,615 port accesses: "), "{page}");
    assert!(page.contains("all ports: 18,446,744,073,709,551,615 · 100.0 % "), "{page}");
}

#[test]
fn page_loads_nothing() {
    let page = page(&snapshot(1000));
    assert!(page.contains("content=\"default-src 'none'; "), "{page}");
    for loading in ["src=\"", "url(", "@import", "fetch(", "http:", "https:"] {
        assert!(!page.contains(loading), "{loading}");
    }
    // Links lead to the page itself.
    assert_eq!(page.matches("href=").count(), page.matches("href=\"#").count());
}

#[test]
fn table_of_100_000_sites_shows_the_busiest_2_000() {
    let mut dump = snapshot(1000);
    let site = dump.tables.sites[0].clone();
    dump.tables.sites = (0..100_000_u64)
        .map(|index| {
            let mut site = site.clone();
            site.pc = format!("{:#x}", 0x1000 + index);
            (site.symbol, site.counts.accesses) = (None, index);
            site
        })
        .collect();
    let page = page(&dump);
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    assert!(page.contains("The busiest 2,000; 98,000 more are in the dump."));
    assert!(page.contains("<td>0x1969f</td>"), "the busiest");
    assert!(!page.contains("<td>0x1000</td>"), "the least busy");
}

#[test]
fn ports_and_sites_link_to_each_other() {
    let page = page(&snapshot(70_000));
    for part in [
        "<tr id=\"port-0\">",
        "<td><a href=\"#site-0\">io_serial_out+0x1 (70,000)</a></td>",
        "<tr id=\"site-0\">",
        "<td><a href=\"#port-0\">0x03f8 (70,000)</a></td>",
    ] {
        assert_eq!(page.matches(part).count(), 1, "{part}");
    }
}

/// Adds a call site with this many calls of one access each to COM1.
fn add_call_site(dump: &mut Snapshot, symbol: Option<&str>, accesses: u64) {
    let (port, dir, size) = (dump.ports[0].port, dump.ports[0].dir, dump.ports[0].size);
    let site = dump.call_sites.len();
    dump.tables.call_sites.push(CallSiteRow {
        pc: format!("{:#x}", 0x2000 + site),
        at: CallAt::Return,
        mode: Some(Mode::Bits64),
        symbol: symbol.map(str::to_owned),
        named_by: None,
        source: None,
        call: Call::Outb,
        counts: CallCounts { calls: accesses, accesses, ..CallCounts::default() },
    });
    dump.tables.call_accesses.push(CallAccessRow { site, port, dir, size, accesses });
    dump.tables.ports[0].hypercall += accesses;
    dump.tables.hypercalls.push(HypercallRow {
        call: Call::Outb,
        count: accesses,
        bytes: accesses,
        declined: 0,
        denied: 0,
        errors: 0,
    });
}

#[test]
fn ports_and_call_sites_link_to_each_other() {
    let mut dump = snapshot(70_000);
    add_call_site(&mut dump, Some("io_serial_out+0x9"), 80_000);
    add_call_site(&mut dump, None, 5);
    let text = |page: String| {
        elements(&page);
        for (part, count) in [
            ("<tr id=\"port-0\">", 1),
            ("<tr id=\"call-site-0\">", 1),
            ("<tr id=\"call-site-1\">", 1),
            ("<td><a href=\"#port-0\">0x03f8 (80,000)</a></td>", 1),
            ("<td><a href=\"#port-0\">0x03f8 (5)</a></td>", 1),
        ] {
            assert_eq!(page.matches(part).count(), count, "{part}: {page}");
        }
        page
    };
    let calls = "<a href=\"#call-site-0\">io_serial_out+0x9 (80,000 by hypercall)</a>";
    let last = "<a href=\"#call-site-1\">0x2001 (5 by hypercall)</a>";
    let with_sites =
        format!("<td>{calls}, <a href=\"#site-0\">io_serial_out+0x1 (70,000)</a>, {last}</td>");
    let page = text(page(&dump));
    assert!(page.contains(&with_sites), "{page}");
    // A guest that makes all its accesses by hypercall.
    (dump.tables.sites, dump.tables.accesses) = (Vec::new(), Vec::new());
    let page = text(self::page(&dump));
    assert!(page.contains(&format!("<td>{calls}, {last}</td>")), "{page}");
}

#[test]
fn row_that_is_left_out_has_no_link() {
    let mut dump = snapshot(1);
    for _ in 0..=2000 {
        add_call_site(&mut dump, None, 10);
    }
    // The table of call sites has those with the most calls.
    dump.tables.call_sites[7].counts.calls = 1;
    dump.tables.call_accesses[7].accesses = 500;
    let page = page(&dump);
    assert!(page.contains("The busiest 2,000; 1 more are in the dump."), "{page}");
    assert!(page.contains("<td>0x2007 (500 by hypercall), <a href=\"#call-site-0\">"), "{page}");
    assert!(!page.contains("\"#call-site-7\"") && !page.contains("id=\"call-site-7\""), "{page}");
}

#[test]
fn accesses_of_a_function_are_those_by_instruction_and_by_hypercall() {
    let mut dump = snapshot(1000);
    add_call_site(&mut dump, Some("io_serial_out+0x9"), 2000);
    add_call_site(&mut dump, None, 1000);
    let page = page(&dump);
    assert!(page.contains(" and 75.0 % came from io_<wbr>serial_<wbr>out.</h1>"), "{page}");
    let chart = "aria-label=\"Accesses by function: io_serial_out 3,000, 75.0 %; outb at 0x2001 1,000, 25.0 %\"";
    assert!(page.contains(chart), "{page}");
}

/// A dump of a port that this many sites accessed.
fn many_sites(count: usize) -> Snapshot {
    let mut dump = snapshot(70_000);
    let (site, access) = (dump.tables.sites[0].clone(), dump.tables.accesses[0].clone());
    for index in 1..count {
        let mut site = site.clone();
        (site.pc, site.symbol) = (format!("{:#x}", 0x1000 + index), Some(format!("f{index}+0x1")));
        dump.tables.sites.push(site);
        let mut access = access.clone();
        access.site = index;
        dump.tables.accesses.push(access);
    }
    dump
}

#[test]
fn links_of_a_busy_port_appear_on_request_and_are_bounded() {
    let links = |count| page(&many_sites(count)).matches("href=\"#site-").count();
    let page = page(&many_sites(20));
    assert_eq!(links(20), 20);
    assert!(page.contains("<details><summary>and 14 more</summary><a href="), "{page}");
    elements(&page);
    assert_eq!(links(200), 106);
    assert!(self::page(&many_sites(200)).contains("</a> and 94 more</details>"));
}

#[test]
fn windows_stand_side_by_side() {
    let mut dump = snapshot(1000);
    dump.windows = (0..8).map(|index| window(&format!("w{index}"))).collect();
    for (index, window) in dump.windows.iter_mut().enumerate() {
        window.tables = snapshot(100 * (1 + index as u64)).tables;
    }
    let page = page(&dump);
    elements(&page);
    let described = "aria-label=\"Windows side by side, by port. COM1: w2 300, w3 400, w4 500, w5 600, w6 700, w7 800\"";
    assert!(page.contains(described), "{page}");
    assert!(page.contains("The busiest 6 of 8 windows."), "{page}");
    dump.windows.truncate(1);
    assert!(!self::page(&dump).contains("side by side"));
}

/// A row of values at port 0x80: a value, and the times of its first and last access in milliseconds.
fn value(value: u32, first: u64, last: u64) -> ValueRow {
    let moment = |time: u64| Some(ValueMoment { time_ns: time * 1_000_000, accesses: time });
    ValueRow {
        port: Port(0x80),
        dir: Direction::Out,
        size: Width::Byte.into(),
        value: Some(value),
        counts: AccessCounts { accesses: 1, unverified: 0 },
        first: moment(first),
        last: moment(last),
    }
}

#[test]
fn values_of_a_dump_are_drawn_at_their_times() {
    let mut dump = snapshot(1000);
    dump.values_clock = Some("guest".into());
    dump.values = vec![value(0x10, 100, 300), value(0x20, 200, 500), value(0x18, 300, 300)];
    let page = page(&dump);
    elements(&page);
    let described =
        "aria-label=\"0x0080 out: values from 0x10 to 0x20, 3 accesses, from 0.100 s to 0.500 s\"";
    assert!(page.contains(described), "{page}");
    // The lowest value is at the bottom, the highest at the top, and the one in the middle between them.
    for line in [
        "<line x1=\"0.00%\" x2=\"50.00%\" y1=\"123.0\" y2=\"123.0\">",
        "<line x1=\"25.00%\" x2=\"100.00%\" y1=\"43.0\" y2=\"43.0\">",
        "<line x1=\"50.00%\" x2=\"50.00%\" y1=\"83.0\" y2=\"83.0\">",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    // A merged dump has no times.
    dump.values.iter_mut().for_each(|row| (row.first, row.last) = (None, None));
    assert!(!self::page(&dump).contains("Values over time"));
}

#[test]
fn headline_says_how_much_could_be_avoided() {
    let mut dump = snapshot(1000);
    dump.tables.ports[0].served = Some(false);
    let page = page(&dump);
    assert!(page.contains(" At least 100.0 % could be avoided.</h1>"), "{page}");
    assert!(page.contains("<p>1,000 accesses went to ports that no device serves.</p>"), "{page}");
}

#[test]
fn busiest_port_is_that_of_both_directions() {
    let mut dump = snapshot(2100);
    let [com1] = &mut dump.tables.ports[..] else { panic!("the dump has one port") };
    com1.qemu = 1000;
    let mut other = com1.clone();
    (other.port, other.name, other.dir, other.qemu) = (Port(0x61), None, Direction::In, 600);
    dump.tables.ports.insert(0, other.clone());
    (other.dir, other.qemu) = (Direction::Out, 500);
    dump.tables.ports.insert(1, other);
    let page = page(&dump);
    assert!(page.contains("<h1>2,100 port accesses: 52.4 % went to port 0x0061 and "), "{page}");
    let chart = "<title>0x0061: 1,100 · 52.4 % (in: 600, out: 500)";
    assert!(page.contains(chart), "{page}");
}

/// A timeline of reads of COM1 by one instruction, without another access in between.
fn polls(reads: u64) -> Timeline {
    let mut timeline = Timeline::default();
    for host in 0..reads {
        let read = InsnEvent {
            stage: Stage::Executed,
            code: Code::Site(0),
            form: PortForm::InAlDx.into(),
            port: Some(Port(0x3f8)),
            value: Some(0),
            stack: None,
            process: None,
        };
        timeline.add(&Event { host, guest: None, what: What::Insn(read) }, 0);
    }
    timeline
}

#[test]
fn polling_of_a_port_that_no_device_serves_is_avoidable_once() {
    let mut dump = snapshot(1000);
    let page = |dump: &Snapshot| render(dump, Some(&polls(101)), &[]);
    let served = page(&dump);
    assert!(served.contains(" At least 10.0 % could be avoided.</h1>"), "{served}");
    assert!(served.contains("<p>100 reads repeated the one before, "), "{served}");
    dump.tables.ports[0].served = Some(false);
    let unserved = page(&dump);
    assert!(unserved.contains(" At least 100.0 % could be avoided.</h1>"), "{unserved}");
    assert!(!unserved.contains("repeated the one before"), "{unserved}");
}

#[test]
fn share_of_a_call_chain_is_of_all_accesses() {
    let mut dump = snapshot(1000);
    add_call_site(&mut dump, Some("io_serial_out+0x9"), 3000);
    dump.tables.callers = vec![chain(&["outb", "puts"], ChainEnd::Bottom, 1000)];
    let row = "<td>outb+0x1</td><td class=\"n\">1,000</td><td class=\"n\">25.0</td>";
    assert!(page(&dump).contains(row));
}

#[test]
fn only_the_500_busiest_call_chains_are_listed() {
    let mut dump = snapshot(2000);
    dump.tables.callers =
        (0..600).map(|i| chain(&["outb", &format!("f{i}")], ChainEnd::Bottom, i)).collect();
    let page = page(&dump);
    assert!(page.contains("The busiest 500; 100 more are in the dump."), "{page}");
    assert!(page.contains("<td>f100+0x12</td>") && !page.contains("<td>f99+0x12</td>"), "{page}");
}

#[test]
fn sites_have_the_file_and_line_of_their_source() {
    let mut dump = snapshot(70_000);
    let site = &mut dump.tables.sites[0];
    site.named_by = Some("/images/vmlinux".to_owned());
    site.source = Some("drivers/<serial>.c:407".to_owned());
    let page = page(&dump);
    elements(&page);
    assert!(page.contains("<p>Names of sites: vmlinux 1 site.</p>"), "{page}");
    assert!(page.contains("<td>io_serial_out+0x1 (&lt;serial&gt;.c:407)</td>"), "{page}");
    dump.tables.sites[0].named_by = None;
    dump.tables.sites[0].source = None;
    let page = self::page(&dump);
    assert!(!page.contains("Names of sites") && !page.contains(".c:407"), "{page}");
}
