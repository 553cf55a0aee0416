//! Command lines of Cargo, which starts `pvio test PROGRAM ARGUMENT...`.
//!
//! All that follows the program is the guest's. It need not look like options that this program knows, so it is made into
//! values of `--append` before clap reads the command line.

use std::ffi::OsString;

use clap::ValueEnum;
use pvio_cli::guest_test;

use super::test;

/// The place of the guest on a command line of `pvio test`.
struct Found {
    /// Its index.
    guest: usize,
    /// The value of `--runner` before it.
    runner: test::When,
}

/// Finds the first guest. Returns `None` if there is none, or if an option before it is wrong.
fn find(arguments: &[OsString]) -> Option<Found> {
    let command = <test::Arguments as clap::Args>::augment_args(clap::Command::new("test"));
    let mut runner = test::When::Auto;
    let mut index = 0;
    loop {
        let argument = arguments.get(index)?;
        index += 1;
        let Some(text) = argument.to_str() else {
            return Some(Found { guest: index - 1, runner });
        };
        let Some(option) = text.strip_prefix("--") else {
            match text.starts_with('-') && text != "-" {
                true => continue,
                false => return Some(Found { guest: index - 1, runner }),
            }
        };
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        // The end of the options, or an option that clap will refuse.
        let known = command.get_arguments().find(|known| known.get_long() == Some(name));
        if name == "runner" {
            runner = test::When::from_str(value.unwrap_or("always"), false).ok()?;
        } else if name != "help" && known?.get_action().takes_values() && value.is_none() {
            index += 1;
        }
    }
}

/// Makes a command line of Cargo into one that clap can read. Others stay as they are.
pub fn rewrite(arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_none_or(|command| command != "test") {
        return arguments;
    }
    let Some(Found { guest, runner }) = find(&arguments[2..]) else { return arguments };
    let (before, after) = arguments.split_at(guest + 3);
    let guest = &before[guest + 2];
    let dashes = after.iter().position(|argument| argument == "--").unwrap_or(after.len());
    let (own, qemu) = after.split_at(dashes);
    match runner {
        test::When::Never => return arguments,
        test::When::Auto if !guest_test::is_started_by_cargo(guest, own) => return arguments,
        test::When::Auto | test::When::Always => {}
    }
    let append = own.iter().map(|argument| {
        let mut option = OsString::from("--append=");
        option.push(guest_test::quoted(argument));
        option
    });
    let mut all = before.to_vec();
    all.push("--runner=always".into());
    all.extend(append);
    all.extend(qemu.iter().cloned());
    all
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn rewritten(line: &str) -> String {
        let words = line.split(' ').map(|word| OsString::from(word.replace('_', " ")));
        let all = rewrite(words.collect());
        all.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn what_follows_the_guest_is_for_the_guest() {
        for (line, expected) in [
            (
                "pvio test --runner --timeout 9 guest --nocapture NAME a_b",
                "pvio test --runner --timeout 9 guest --runner=always --append=--nocapture --append=NAME --append=\"a b\"",
            ),
            (
                "pvio test --option a=b --runner=always --keep=x guest -- -m 64",
                "pvio test --option a=b --runner=always --keep=x guest --runner=always -- -m 64",
            ),
            // An option's value is no guest, and --fail-fast has no value.
            (
                "pvio test --runner --append -v --fail-fast guest --jobs",
                "pvio test --runner --append -v --fail-fast guest --runner=always --append=--jobs",
            ),
        ] {
            assert_eq!(rewritten(line), expected);
        }
    }

    #[test]
    fn other_command_lines_stay_as_they_are() {
        for line in [
            "pvio",
            "pvio show --runner a b",
            "pvio test a b --jobs 2 -- -m 64",
            "pvio test --runner=never a b",
            "pvio test --runner=sometimes a b",
            "pvio test --runner --unknown a b",
            "pvio test --runner -- a",
            "pvio test --runner --timeout",
        ] {
            assert_eq!(rewritten(line), line);
        }
    }
}
