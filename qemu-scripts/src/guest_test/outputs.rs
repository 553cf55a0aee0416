//! Files that the plugin writes: each guest has its own.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::{Result, bail};

/// What stands for a guest in an option, or in an argument of QEMU's.
const GUEST: &str = "%g";

/// An option with a guest's label in it.
pub(super) fn option_of(label: &str, option: &str) -> String {
    option.replace(GUEST, label)
}

/// An argument of QEMU's with a guest's label in it. One that is no UTF-8 stays as it is.
pub(super) fn argument_of(label: &str, argument: &OsStr) -> OsString {
    argument.to_str().map_or_else(|| argument.to_owned(), |text| option_of(label, text).into())
}

/// A guest's label: its place among the guests, and its file's name with nothing in it that an option,
/// a path or a shell would take for its own.
pub(super) fn label(number: usize, file_name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name = file_name.chars().map(|c| if is_plain(c) { c } else { '_' });
    format!("{number}-{}", name.collect::<String>())
}

/// Refuses an option that has several guests write one file in turn: only the last one's would be left.
pub(super) fn refuse_shared(option: &str, guests: usize) -> Result<()> {
    match outputs(option).into_iter().find(|path| is_file(path) && !path.contains(GUEST)) {
        Some(path) if guests > 1 => bail!(
            "option {option:?}: {guests} guests would write {path} in turn; name a file for each, such \
             as {path}.{GUEST}, where {GUEST} stands for the guest"
        ),
        _ => Ok(()),
    }
}

/// The files that an option of the plugin's has it write, but for those that are guest-test's own.
fn outputs(option: &str) -> Vec<String> {
    // A colon within a file's name is doubled.
    let parts = |value: &str| -> Vec<String> {
        value.replace("::", "\0").split(':').map(|part| part.replace('\0', ":")).collect()
    };
    match option.split_once('=') {
        Some(("access-log", value)) => parts(value).into_iter().take(1).collect(),
        Some(("device", value)) => {
            let settings = parts(value);
            let settings = settings.iter().skip(1).filter_map(|setting| setting.split_once('='));
            let outputs = settings.filter(|(key, _)| matches!(*key, "file" | "out"));
            outputs.map(|(_, path)| path.to_owned()).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether it is a file, or would be: a device such as `/dev/null` is not, nor is what a process has open.
fn is_file(path: &str) -> bool {
    let path = Path::new(path);
    !path.starts_with("/dev")
        && !path.starts_with("/proc")
        && path.metadata().map_or(true, |there| there.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_that_writes_a_file_is_known() {
        for (option, files) in [
            ("access-log=a::b:0x60:0x64", &["a:b"][..]),
            ("device=console@0xe9:file=F", &["F"]),
            ("device=stream@0x300:in=I:out=O", &["O"]),
            ("device=uart16550@0x2f8:irq=3:file=F", &["F"]),
            ("device=latch@0x300", &[]),
            ("insns=F", &[]),
            ("symbols=F", &[]),
        ] {
            assert_eq!(outputs(option), files, "{option}");
        }
    }

    #[test]
    fn a_file_is_refused_to_several_guests() {
        let refused = |option: &str, guests| refuse_shared(option, guests).is_err();
        assert!(refused("access-log=F", 2) && !refused("access-log=F", 1));
        assert!(!refused("access-log=%g", 2) && !refused("access-log=/dev/null", 2));
        assert!(!refused("insns=F", 2));
    }

    #[test]
    fn a_label_is_one_word() {
        assert_eq!(label(3, "a:b, c/\n%g.bin"), "3-a_b__c___g.bin");
        assert_eq!(argument_of("1-a", OsStr::new("file:%g.txt")), "file:1-a.txt");
    }
}
