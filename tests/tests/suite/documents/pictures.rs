//! The pictures of the book: made of a real run, and made again by each run of the suite.
//!
//! `PVIO_WRITE_PICTURES=1` makes the test replace the pictures in `docs/pictures`.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use pvio_cli::paths;
use pvio_tests::{Host, LinuxGuest, Terminal, boot_linux, wait_until};

/// The pictures of the experiment: `scripts::experiment` makes them.
const PLOTS: [&str; 3] =
    ["experiment-decode.svg", "experiment-parts.svg", "experiment-workload.svg"];

/// The largest picture, in bytes.
const LIMIT: u64 = 150 * 1024;

/// The pictures of pages: the name, and the size of the browser's window.
const PAGES: [(&str, [u32; 2]); 2] = [("report", [1000, 785]), ("flamegraph", [1200, 640])];

/// The picture of a terminal.
const SCREEN: &str = "top.svg";

fn pictures() -> PathBuf {
    paths::repository().join("docs/pictures")
}

fn is_writing() -> bool {
    std::env::var_os("PVIO_WRITE_PICTURES").is_some()
}

fn pvio() -> PathBuf {
    super::programs().join("pvio")
}

/// Makes the page of each picture, of a Linux boot.
fn make_pages(directory: &Path) -> HashMap<&'static str, PathBuf> {
    let ended = boot_linux(Host::NEWEST.machine().plugin(&["summary=off", "callers=on"]));
    std::fs::write(directory.join("boot.json"), ended.stats().unwrap().to_json()).unwrap();
    let make = |arguments: &[&str], page: &str| {
        let mut command = Command::new(pvio());
        command.args(arguments).args(["boot.json", "-o", page]).current_dir(directory);
        assert!(command.status().unwrap().success(), "{command:?}");
        directory.join(page)
    };
    let graph = make(&["export", "--format", "flamegraph"], "flamegraph.svg");
    HashMap::from([("report", make(&["report"], "report.html")), ("flamegraph", graph)])
}

/// Takes a picture of a page in a browser.
fn photograph(page: &Path, [width, height]: [u32; 2], picture: &Path) {
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Command::new("chromium-headless-shell");
    browser.args(["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
    // Without this, it tries to reach the network.
    browser.args(["--disable-background-networking", "--disable-component-update"]);
    browser.arg("--blink-settings=preferredColorScheme=1");
    browser.arg(format!("--user-data-dir={}", profile.path().display()));
    browser.arg(format!("--window-size={width},{height}"));
    browser.arg(format!("--screenshot={}", picture.display()));
    browser.arg(format!("file://{}", page.display()));
    let output = browser.output();
    let output = output.expect(
        "install Debian's package chromium-headless-shell, or run qemu-scripts/setup --tests",
    );
    assert!(output.status.success(), "{output:?}");
}

/// Width and height, and the part of the pixels that are not of the most frequent colour.
fn size_and_contents(picture: &Path) -> ([u32; 2], f64) {
    let file = File::open(picture).unwrap_or_else(|error| panic!("{}: {error}", picture.display()));
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    let mut colours = HashMap::<&[u8], u32>::new();
    for pixel in pixels.chunks(frame.line_size / frame.width as usize) {
        *colours.entry(pixel).or_default() += 1;
    }
    let most = *colours.values().max().unwrap();
    let all = frame.width * frame.height;
    ([frame.width, frame.height], f64::from(all - most) / f64::from(all))
}

#[test]
fn pictures_are_those_of_a_run() {
    let directory = tempfile::tempdir().unwrap();
    let pages = make_pages(directory.path());
    for (name, window) in PAGES {
        let made = directory.path().join(format!("{name}.png"));
        photograph(&pages[name], window, &made);
        let kept = pictures().join(format!("{name}.png"));
        if is_writing() {
            std::fs::copy(&made, &kept).unwrap();
        }
        let (size, contents) = size_and_contents(&made);
        let (kept_size, kept_contents) = size_and_contents(&kept);
        assert_eq!((size, kept_size), (window, window), "{name}");
        // A boot is never like another, but each has about as much ink.
        let least = contents.min(kept_contents);
        assert!(least > 0.05, "{name}: {contents}, {kept_contents}");
        assert!(contents.max(kept_contents) < 3.0 * least, "{name}: {contents}, {kept_contents}");
        assert!(std::fs::metadata(&kept).unwrap().len() <= LIMIT, "{name} is too large");
    }
}

/// A screen of text as a picture.
fn draw(screen: &str) -> String {
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 660 400\" width=\"660\" height=\"400\">\n\
         <rect width=\"660\" height=\"400\" rx=\"6\" fill=\"#16181d\"/>\n\
         <g font-family=\"monospace\" font-size=\"13\" fill=\"#e6e6e6\">\n",
    );
    for (row, line) in screen.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        // Browsers join several plain spaces.
        let text = line
            .replace(' ', "\u{a0}")
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let y = 20 + 16 * row;
        // Whatever font the viewer has, 80 columns fill the width.
        let width = 8 * line.chars().count();
        svg += &format!("<text x=\"10\" y=\"{y}\" textLength=\"{width}\">{text}</text>\n");
    }
    svg + "</g>\n</svg>\n"
}

/// `pvio top`, of a Linux guest that reads its clock again and again.
fn top() -> String {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("pvio.sock");
    let linux = LinuxGuest::new("echo begins; while :; do hwclock; done", &[]).unwrap();
    let control = format!("control={}", socket.display());
    let machine = Host::NEWEST.machine().plugin(&["summary=off", &control]);
    let mut running = linux.on(machine).start().unwrap();
    running.wait_for("begins").unwrap();
    let terminal = Terminal::start();
    terminal.type_(&[&format!("{} top {}", pvio().display(), socket.display()), "Enter"]);
    // Names of ports, and rates of the clock.
    let is_running = |screen: &str| {
        let row = screen.lines().skip(3).take(8).find(|line| line.contains("CMOS"));
        row.is_some_and(|row| !row.split_whitespace().any(|word| word == "0"))
    };
    wait_until(|| is_running(&terminal.screen()), || terminal.screen());
    let screen = terminal.screen();
    running.signal(libc::SIGTERM).unwrap();
    running.wait().unwrap();
    screen
}

#[test]
fn picture_of_a_terminal_is_that_of_a_run() {
    let made = draw(&top());
    let kept = pictures().join(SCREEN);
    if is_writing() {
        std::fs::write(&kept, &made).unwrap();
    }
    let kept = std::fs::read_to_string(kept).unwrap();
    let size = |svg: &str| svg.lines().next().map(str::to_owned);
    assert_eq!(size(&made), size(&kept));
    for svg in [&made, &kept] {
        assert!(svg.matches("<text").count() > 10 && svg.contains("RATE/s"), "{svg}");
    }
}

#[test]
fn each_picture_is_made_here_and_shown_by_a_page() {
    let (_, documents) = super::repository();
    for entry in std::fs::read_dir(pictures()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let is_made = PAGES.iter().any(|(name, _)| format!("{name}.png") == file);
        let is_made = is_made || file == SCREEN || PLOTS.contains(&&*file);
        assert!(is_made, "docs/pictures/{file}: no test makes it");
        let is_shown = |page: &super::Document| page.text.contains(&format!("pictures/{file})"));
        assert!(documents.iter().any(is_shown), "docs/pictures/{file}: no page shows it");
    }
    let readme = super::Document::read(paths::repository().join("README.md"));
    let (opening, _) = readme.text.split_once("\n## ").unwrap();
    assert!(opening.contains("](docs/pictures/report.png)"), "the README opens without a picture");
}
