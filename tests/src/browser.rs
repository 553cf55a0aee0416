//! Pages in a headless browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use pvio_cli::paths;

/// A view of a page.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Width of the window, in pixels.
    pub width: u32,
    /// True for the system's dark setting.
    pub is_dark: bool,
}

impl View {
    /// A desktop's and a phone's window, light and dark.
    pub const ALL: [View; 4] = [
        View { width: 1280, is_dark: false },
        View { width: 1280, is_dark: true },
        View { width: 390, is_dark: false },
        View { width: 390, is_dark: true },
    ];
}

/// Opens a page, with a script at its end. Returns what the script leaves as text in `document.documentElement.lang`, and
/// what the browser logged.
///
/// # Panics
///
/// Panics if the browser fails.
pub fn run_script(page: &str, script: &str, view: View) -> (String, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("page.html");
    let (start, end) = page.rsplit_once("</body>").expect("a page has a body");
    std::fs::write(&file, format!("{start}<script>{script}</script></body>{end}")).unwrap();
    let (dom, log) = dump(&file, view, &["--dump-dom"], directory.path());
    let lang = dom.split_once("<html lang=\"").expect("a page").1;
    let lang = lang.split('"').next().unwrap();
    let lang = lang.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
    (lang.replace("&amp;", "&"), log)
}

/// Prints a page, and returns the PDF.
///
/// # Panics
///
/// Panics if the browser fails.
pub fn print_to_pdf(page: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let (file, pdf) = (directory.path().join("page.html"), directory.path().join("page.pdf"));
    std::fs::write(&file, page).unwrap();
    let option = format!("--print-to-pdf={}", pdf.display());
    dump(&file, View::ALL[0], &[&option], directory.path());
    std::fs::read(pdf).unwrap()
}

/// Runs axe-core on a page. Returns a line for each violation of its rules about labels, contrast and structure.
///
/// # Panics
///
/// Panics if the browser fails, or if axe-core checked no contrast.
pub fn violations(page: &str, view: View) -> String {
    let axe = std::fs::read_to_string(axe_core()).unwrap();
    let script = format!("{axe}\n{AXE}");
    let (found, log) = run_script(page, &script, view);
    let lines = found.strip_prefix("checked\n");
    lines.unwrap_or_else(|| panic!("axe-core did not finish: {found}\n{log}")).to_owned()
}

/// Checks all rules. Its own result lists what could not be decided, such as text over a picture: that is no violation.
const AXE: &str = r#"
axe.run(document, { resultTypes: ["violations"] }).then(result => {
    const checked = result.passes.some(rule => rule.id === "color-contrast")
        || result.violations.some(rule => rule.id === "color-contrast");
    document.documentElement.lang = (checked ? "checked\n" : "nothing checked\n")
        + result.violations.map(rule => `${rule.id}: ${rule.nodes.slice(0, 3).map(node => node.html.slice(0, 200)).join(" | ")}`).join("\n");
});
"#;

fn axe_core() -> PathBuf {
    let python = paths::python().unwrap();
    python.with_file_name("packages/axe_playwright_python/axe.min.js")
}

/// Runs the browser. Returns its stdout and its log.
fn dump(page: &Path, view: View, options: &[&str], directory: &Path) -> (String, String) {
    let scheme = if view.is_dark { 0 } else { 1 };
    let output = Command::new("chromium-headless-shell")
        .args(["--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars"])
        // Without this, it tries to reach the network.
        .args(["--disable-background-networking", "--disable-component-update"])
        // Waits for the page's scripts.
        .arg("--virtual-time-budget=20000")
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("--user-data-dir={}", directory.join("profile").display()))
        .arg(format!("--window-size={},1000", view.width))
        .args(options)
        .arg(format!("file://{}", page.display()))
        .output()
        .expect(
            "run qemu-scripts/setup --tests, or install Debian's package chromium-headless-shell",
        );
    assert!(output.status.success(), "{output:?}");
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (stdout, stderr)
}
