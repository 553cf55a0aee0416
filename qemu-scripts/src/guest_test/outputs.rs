//! Gives each guest its own output files of the plugin.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::{Result, bail};

/// Placeholder for the guest's label in options and in QEMU's arguments.
const GUEST: &str = "%g";

/// Replaces the placeholder in an option.
pub(super) fn option_of(label: &str, option: &str) -> String {
    option.replace(GUEST, label)
}

/// Replaces the placeholder in an argument of QEMU. An argument that is not UTF-8 stays as it is.
pub(super) fn argument_of(label: &str, argument: &OsStr) -> OsString {
    argument.to_str().map_or_else(|| argument.to_owned(), |text| option_of(label, text).into())
}

/// Makes a guest's label: its number, and its file name.
///
/// Characters that are special in options, paths or shells become `_`.
pub(super) fn label(number: &str, file_name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name = file_name.chars().map(|c| if is_plain(c) { c } else { '_' });
    format!("{number}-{}", name.collect::<String>())
}

/// Refuses an option that makes several guests overwrite one file.
pub(super) fn refuse_shared(option: &str, guests: usize) -> Result<()> {
    match outputs(option).into_iter().find(|path| is_file(path) && !path.contains(GUEST)) {
        Some(path) if guests > 1 => bail!(
            "option {option:?}: {guests} guests would overwrite {path}; name a file for each, such as \
             {path}.{GUEST}, where {GUEST} stands for the guest"
        ),
        _ => Ok(()),
    }
}

/// Returns the files that the plugin writes for an option that users may set.
fn outputs(option: &str) -> Vec<String> {
    // A colon within a file's name is doubled.
    let parts = |value: &str| -> Vec<String> {
        value.replace("::", "\0").split(':').map(|part| part.replace('\0', ":")).collect()
    };
    match option.split_once('=') {
        Some(("access-log", value)) => parts(value).into_iter().take(1).collect(),
        Some(("device", value)) => {
            let settings = parts(value);
            // A script is read.
            let is_script = value.starts_with("script@");
            let settings = settings.iter().skip(1).filter_map(|setting| setting.split_once('='));
            let outputs = settings.filter(|(key, _)| matches!(*key, "file" | "out") && !is_script);
            outputs.map(|(_, path)| path.to_owned()).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns true for a regular file, or a path that would become one.
///
/// Devices such as `/dev/null` and files in `/proc` are not.
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
    fn outputs_of_options_are_found() {
        for (option, files) in [
            ("access-log=a::b:0x60:0x64", &["a:b"][..]),
            ("device=console@0xe9:file=F", &["F"]),
            ("device=stream@0x300:in=I:out=O", &["O"]),
            ("device=uart16550@0x2f8:irq=3:file=F", &["F"]),
            ("device=latch@0x300", &[]),
            ("device=script@0x300:file=F", &[]),
            ("insns=F", &[]),
            ("symbols=F", &[]),
        ] {
            assert_eq!(outputs(option), files, "{option}");
        }
    }

    #[test]
    fn shared_output_of_several_guests_is_refused() {
        let refused = |option: &str, guests| refuse_shared(option, guests).is_err();
        assert!(refused("access-log=F", 2) && !refused("access-log=F", 1));
        assert!(!refused("access-log=%g", 2) && !refused("access-log=/dev/null", 2));
        assert!(!refused("insns=F", 2));
    }

    #[test]
    fn label_has_no_special_characters() {
        assert_eq!(label("3", "a:b, c/\n%g.bin"), "3-a_b__c___g.bin");
        assert_eq!(argument_of("1-a", OsStr::new("file:%g.txt")), "file:1-a.txt");
    }
}
