use std::collections::BTreeSet;

use super::*;
use crate::stats::test_data::snapshot;
use crate::stats::{Call, CallerRow, ChainEnd, FrameRow, HypercallRow, WindowRow};

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
