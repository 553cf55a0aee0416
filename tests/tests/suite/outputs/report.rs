//! The page that `pvio report` makes from a dump, as text and in a browser.

use std::path::Path;
use std::process::Command;

use pvio_cli::report;
use pvio_stats::text_table::number;
use pvio_tests::{Host, on_both_qemus, run_guest};

on_both_qemus! {
    page_shows_the_totals_and_all_forms
    browser_sorts_and_filters_the_tables
}

fn page(host: &Host) -> (String, u64) {
    let run = run_guest(host.machine().plugin(&["summary=off"]), "forms");
    let accesses = run.stats().forms.iter().map(|row| row.accesses).sum();
    (report::render(run.stats(), &["forms.json".to_owned()]), accesses)
}

fn page_shows_the_totals_and_all_forms(host: &Host) {
    let (page, accesses) = page(host);
    assert!(page.contains(&format!("<h1>{} port accesses: ", number(accesses))), "{page}");
    for form in pvio::x86::PortForm::ALL {
        assert!(page.contains(&format!("<td>{form}</td>")), "{form}");
    }
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

/// Clicks and types as a user would. The result is in the attribute `lang` of the page.
const USE: &str = r#"<script>
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
    Array.from(document.querySelectorAll("svg")).every(svg => svg.getBoundingClientRect().height > 30),
    document.documentElement.scrollWidth <= innerWidth,
].join(", ");
</script>"#;

/// Needs Chromium. Without it, the test prints that it was skipped.
fn browser_sorts_and_filters_the_tables(host: &Host) {
    if Command::new("chromium").arg("--version").output().is_err() {
        println!("skipped: chromium is not installed");
        return;
    }
    let (page, _) = page(host);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.html");
    std::fs::write(&file, page.replace("</body>", &format!("{USE}</body>"))).unwrap();
    for width in [1280, 500] {
        let (dom, log) = open(&file, width, directory.path());
        let lang = dom.split_once("<html lang=\"").expect("a page").1;
        let found = lang.split('"').next().unwrap();
        assert_eq!(found, "3 of 24 rows, 1, true, true, true", "{width} pixels: {log}");
        assert!(!log.contains("CONSOLE"), "{log}");
    }
    // The browser does log errors of scripts.
    std::fs::write(&file, page.replace("</body>", "<script>missing();</script></body>")).unwrap();
    let (_, log) = open(&file, 1280, directory.path());
    assert!(log.contains("missing is not defined"), "{log}");
}

/// The document after its scripts have run, and what the browser logged.
fn open(page: &Path, width: u32, directory: &Path) -> (String, String) {
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", directory.join("profile").display()))
        .arg(format!("--window-size={width},1000"))
        .arg("--dump-dom")
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (stdout, stderr)
}
