//! The list of options that `libpvio.so,help` prints.

use std::fmt::Write as _;

use pvio_stats::nearest::suggestion_or;

use crate::devices::Kind;

/// Each option with its values, and its meaning. `docs/count.md` has the same options.
pub(super) const OPTIONS: [(&str, &str, &str); 17] = [
    ("stats", "FILE", "write all counts as JSON"),
    ("summary", "on|off|FILE", "write the tables as text, to stderr or to a file"),
    (
        "symbols",
        "guest|off|FILE[@ADDRESS]|DIRECTORY",
        "take names of code from the guest or from files",
    ),
    ("device", "KIND@PORT[-PORT][:KEY=VALUE...]", "serve these ports by a device of pvio"),
    ("access-log", "FILE[:FILTER...]", "write a line for each access"),
    ("trace", "FILE[:FILTER...]", "record every access and hypercall in a compact file"),
    ("hypercall", "kernel|any|off", "choose the code that may make hypercalls"),
    ("log", "FILE", "write the guest's log to a file"),
    ("share", "DIRECTORY[:KEY=VALUE...]", "let the guest read and write files in a directory"),
    ("values", "PORT[-PORT][:PORT[-PORT]...]", "count the values at these ports"),
    ("callers", "on|off|DEPTH", "count accesses by call chain"),
    ("insns", "on|off|FILE[@ADDRESS]", "count instructions of every kind"),
    ("processes", "on|off", "count accesses by process"),
    ("control", "PATH", "make a socket for requests while the guest runs"),
    ("break", "PORT[-PORT][:CONDITION...]", "stop the machine after an access"),
    ("config", "FILE", "take further options from a TOML file"),
    ("check", "on|off", "check all options and end QEMU, without a machine"),
];

/// Returns the text for `libpvio.so,help`. `kinds` lists the available devices.
pub(super) fn text(kinds: &[Kind]) -> String {
    let mut text = String::from("libpvio.so options:\n");
    let option = |(name, values, _): &(&str, &str, &str)| format!("{name}={values}");
    let width = OPTIONS.iter().map(|row| option(row).len()).max().unwrap_or(0);
    for row in &OPTIONS {
        let _ = writeln!(text, "  {:width$}  {}", option(row), row.2);
    }
    let (observers, devices): (Vec<&Kind>, Vec<&Kind>) =
        kinds.iter().partition(|kind| matches!(kind, Kind::Observer(_)));
    for (what, kinds) in [("devices", devices), ("observers", observers)] {
        let names: Vec<&str> = kinds.into_iter().map(Kind::name).collect();
        let _ = writeln!(text, "kinds of {what}: {}", names.join(", "));
    }
    let _ = writeln!(
        text,
        "A comma within a value is written twice. Several options are separated by commas."
    );
    text
}

/// Returns the end of the message about an unknown option: the one that may be meant, or all.
pub(super) fn instead_of(unknown: &str) -> String {
    suggestion_or(unknown, OPTIONS.map(|(name, ..)| name), || {
        let options = OPTIONS.map(|(name, values, _)| format!("{name}={values}"));
        format!("; the options are {}", options.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::built_in_kinds;

    #[test]
    fn help_lists_each_option_of_the_documentation_and_each_device() {
        let page = include_str!("../../../docs/count.md");
        let table = page.split("## Options\n").nth(1).unwrap();
        let rows = table.lines().skip_while(|line| !line.starts_with("| --- ")).skip(1);
        let rows = rows.take_while(|line| line.starts_with('|'));
        let mut documented: Vec<&str> =
            rows.map(|row| row.split(['`', '=']).nth(1).unwrap()).collect();
        let mut listed: Vec<&str> = OPTIONS.iter().map(|(name, ..)| *name).collect();
        documented.sort_unstable();
        listed.sort_unstable();
        assert_eq!(documented, listed);
        let kinds = built_in_kinds();
        let text = text(&kinds);
        assert!(kinds.iter().all(|kind| text.contains(kind.name())), "{text}");
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
    }
}
