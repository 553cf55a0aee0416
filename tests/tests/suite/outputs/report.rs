//! The pages that `pvio report` and `pvio diff --html` make, as text and in a browser.

use pvio_cli::diff::to_html;
use pvio_cli::{report, trace};
use pvio_stats::text_table::number;
use pvio_stats::{Diff, Snapshot};
use pvio_tests::browser::{View, print_to_pdf, run_script, violations};
use pvio_tests::{Host, guest, on_both_qemus, run_guest};

on_both_qemus! {
    page_shows_the_totals_and_all_forms
    page_of_a_trace_counts_every_access_in_its_lanes
}

fn forms_page(host: &Host) -> (String, u64) {
    let run = run_guest(host.machine().plugin(&["summary=off"]), "forms");
    let accesses = run.stats().forms.iter().map(|row| row.accesses).sum();
    (report::render(run.stats(), None, &["forms.json".to_owned()]), accesses)
}

fn page_shows_the_totals_and_all_forms(host: &Host) {
    let (page, accesses) = forms_page(host);
    assert!(page.contains(&format!("<h1>{} port accesses: ", number(accesses))), "{page}");
    for form in pvio::x86::PortForm::ALL {
        assert!(page.contains(&format!("<td>{form}</td>")), "{form}");
    }
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

/// A run of the guest `driver`, which has two windows, or of `forms`: its dump, with values, and the page of its trace.
fn traced(host: &Host) -> (Snapshot, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("driver.trace");
    let option = format!("trace={}", file.display());
    let options = ["summary=off", &option, "callers=on", "values=0x2f8", "values=0x2fd"];
    let machine =
        host.machine().plugin(&options).args(["-device", "isa-serial,iobase=0x2f8,irq=3"]);
    // The driver ends by hypercall in registers, which an older QEMU does not hear.
    let image = if host.reports_exceptions() { "driver.bin" } else { "forms.bin" };
    let ended = machine.bare_guest(&guest(image)).run().unwrap();
    let dump = ended.stats().unwrap().clone();
    let (sum, timeline) = trace::load_timeline("report", &file).unwrap();
    assert_eq!(sum.accesses(), dump.accesses());
    (dump, report::render(&sum, Some(&timeline), &["driver.trace".to_owned()]))
}

fn page_of_a_trace_counts_every_access_in_its_lanes(host: &Host) {
    let (dump, page) = traced(host);
    let (_, lanes) = page.split_once("aria-label=\"Accesses over time: ").expect("a chart");
    let described = lanes.split('"').next().unwrap();
    let total = |lane: &str| {
        let (name_and_total, _) = lane.split_once(", at most ").expect("a lane has a highest step");
        let count = name_and_total.rsplit(' ').next().unwrap();
        count.replace(',', "").parse::<u64>().unwrap()
    };
    assert_eq!(described.split("; ").map(total).sum::<u64>(), dump.accesses(), "{described}");
    assert!(page.contains("<h2>Values over time</h2>"));
    if host.reports_exceptions() {
        for part in
            ["window native: ", "window paravirt: ", "<h2>Windows side by side, by port</h2>"]
        {
            assert!(page.contains(part), "{part}");
        }
    }
}

/// Clicks and types as a user would. The result is in the attribute `lang` of the page.
const USE: &str = r#"
const section = Array.from(document.querySelectorAll(".table"))
    .find(section => section.querySelector("h2").textContent === "The 24 forms");
section.querySelectorAll("th button")[0].click();
section.querySelectorAll("th button")[3].click();
const input = section.querySelector("input");
input.value = "REP ins";
input.dispatchEvent(new Event("input"));
const shown = Array.from(section.querySelectorAll("tbody tr")).filter(row => !row.hidden);
const counts = shown.map(row => Number(row.cells[3].textContent.replaceAll(",", "")));
document.documentElement.lang = [
    section.querySelector("output").textContent,
    section.querySelectorAll("th[aria-sort=descending]").length,
    counts.length === 3 && counts[0] >= counts[1] && counts[1] >= counts[2],
].join(", ");
"#;

/// Finds what a user would see to be wrong. axe-core does not check the text of pictures.
const LOOK: &str = r#"
const wrong = [];
if (document.documentElement.scrollWidth > innerWidth) wrong.push("the page is wider than the window");
for (const svg of document.querySelectorAll("section > svg, .values svg[role]")) {
    if (svg.getBoundingClientRect().height < 25) wrong.push(`a chart is flat: ${svg.getAttribute("aria-label")}`);
}
const colour = text => (text.match(/[\d.]+/g) ?? ["0", "0", "0"]).map(Number);
const light = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map(part => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, other) => {
    const [more, less] = [light(one), light(other)].sort((a, b) => b - a);
    return (more + 0.05) / (less + 0.05);
};
const page = colour(getComputedStyle(document.body).backgroundColor);
const blended = (over, opacity) => over.slice(0, 3).map((part, index) => part * opacity + page[index] * (1 - opacity));
for (const text of document.querySelectorAll("svg text")) {
    const cell = text.closest(".cell")?.querySelector("rect");
    const under = cell ? blended(colour(getComputedStyle(cell).fill), Number(getComputedStyle(cell).fillOpacity)) : page;
    if (contrast(colour(getComputedStyle(text).fill), under) < 4.5) wrong.push(`low contrast: ${text.textContent}`);
}
for (const bar of document.querySelectorAll("svg [class^=s]")) {
    if (contrast(colour(getComputedStyle(bar).fill), page) < 3) wrong.push(`a pale bar: ${bar.getAttribute("class")}`);
}
for (const link of document.querySelectorAll("td a")) {
    if (!document.getElementById(link.hash.slice(1))) wrong.push(`a link to nothing: ${link.hash}`);
}
for (const cell of document.querySelectorAll(".cell")) {
    if (cell.tabIndex !== 0 || !cell.querySelector("text")) wrong.push("a cell without keyboard or text");
}
document.documentElement.lang = `${document.querySelectorAll("svg[role=img]").length} charts: ${wrong.slice(0, 5).join("; ")}`;
"#;

/// The pages that the browser shows, each with the number of its charts.
fn pages(host: &Host) -> [(&'static str, String, usize); 3] {
    let (dump, of_trace) = traced(host);
    let of_dump = report::render(&dump, None, &["driver.json".to_owned()]);
    let other = run_guest(host.machine().plugin(&["summary=off"]), "forms").stats().clone();
    let both = [&dump, &other];
    let diff = to_html(both, ["a.json", "b.json"], &Diff::new(&dump, &other), &[]);
    [("trace", of_trace, 12), ("dump", of_dump, 9), ("diff", diff, 2)]
}

#[test]
fn browser_shows_every_chart_on_desktop_and_phone_light_and_dark() {
    for (name, page, charts) in pages(&Host::NEWEST) {
        for view in View::ALL {
            let (found, log) = run_script(&page, LOOK, view);
            assert_eq!(found, format!("{charts} charts: "), "{name}, {view:?}");
            assert!(!log.contains("CONSOLE"), "{log}");
        }
    }
}

#[test]
fn axe_core_finds_no_violation() {
    for (name, page, _) in pages(&Host::NEWEST) {
        for view in View::ALL {
            assert_eq!(violations(&page, view), "", "{name}, {view:?}");
        }
    }
    // It does find some.
    let (page, _) = forms_page(&Host::NEWEST);
    let pale = page.replace("--muted: #555a64", "--muted: #bbbbbb");
    assert!(violations(&pale, View::ALL[0]).contains("color-contrast: "), "contrast");
    let nameless = page.replace(" role=\"img\" aria-label=\"", " role=\"img\" data-label=\"");
    assert!(violations(&nameless, View::ALL[0]).contains("svg-img-alt: "), "labels");
}

#[test]
fn browser_sorts_and_filters_the_tables() {
    let (page, _) = forms_page(&Host::NEWEST);
    for view in View::ALL {
        let (found, log) = run_script(&page, USE, view);
        assert_eq!(found, "3 of 24 rows, 1, true", "{view:?}: {log}");
        assert!(!log.contains("CONSOLE"), "{log}");
    }
    // The browser does log errors of scripts.
    let (_, log) = run_script(&page, "missing();", View::ALL[0]);
    assert!(log.contains("missing is not defined"), "{log}");
}

#[test]
fn page_of_a_million_sites_opens_and_prints() {
    let run = run_guest(Host::NEWEST.machine().plugin(&["summary=off"]), "forms");
    let mut dump = run.stats().clone();
    let site = dump.tables.sites[0].clone();
    dump.tables.accesses.clear();
    dump.tables.sites = (0..1_000_000_u64)
        .map(|index| {
            let mut site = site.clone();
            site.pc = format!("{:#x}", 0x10_0000 + index);
            site.symbol = Some(format!("function_{}+0x{index:x}", index % 5000));
            site.counts.accesses = index;
            site
        })
        .collect();
    // Through the file, as the command reads it.
    let json = dump.to_json();
    let dump = Snapshot::from_json(&json).unwrap();
    let page = report::render(&dump, None, &["million.json".to_owned()]);
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    let script = "document.documentElement.lang = Array.from(document.querySelectorAll('td'), cell => cell.textContent)
        .filter(text => text === 'function_4999+0xf423f').length;";
    assert_eq!(run_script(&page, script, View::ALL[0]).0, "1");
    let pdf = print_to_pdf(&page);
    assert!(pdf.starts_with(b"%PDF") && pdf.len() > 20_000, "{} bytes", pdf.len());
}
