//! The option `share=DIRECTORY[:KEY=VALUE...]`.

use std::path::Path;

use super::{HypercallAccess, OptionError};
use crate::access_filter::split_at_single_colons;
use crate::qemu::CommandLine;
use crate::share::{Share, ShareLimits};

/// Returns the directory that the option names.
pub(super) fn directory(text: &str) -> String {
    split_at_single_colons(text).swap_remove(0)
}

/// Opens the shared directory, if the options let the guest use it.
pub(super) fn open(
    value: &str,
    hypercall: HypercallAccess,
    command_line: &CommandLine,
) -> Result<Share, OptionError> {
    match command_line.confined_by {
        _ if hypercall == HypercallAccess::Off => {
            Err(OptionError::ShareWithoutHypercalls(value.to_owned()))
        }
        Some(option) => Err(OptionError::ShareConfined(value.to_owned(), option)),
        None => open_directory(value),
    }
}

/// Parses the option's value, and opens the directory. A colon within the path is doubled.
fn open_directory(text: &str) -> Result<Share, OptionError> {
    let error = |why: String| OptionError::Share { option: text.to_owned(), why };
    let parts = split_at_single_colons(text);
    let (mut limits, mut seen) = (ShareLimits::default(), Vec::new());
    for part in &parts[1..] {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if seen.contains(&key) {
            return Err(error(format!("{key:?} is given twice; give it once")));
        }
        seen.push(key);
        let bytes = || {
            let why =
                format!("{value:?} is not a size; write bytes, such as {key}=65536, or {key}=64M");
            size(value).ok_or_else(|| error(why))
        };
        match (key, value) {
            ("file-limit", _) => limits.file = bytes()?,
            ("total-limit", _) => limits.total = bytes()?,
            ("overwrite", "on" | "off") => limits.overwrite = value == "on",
            ("overwrite", _) => return Err(error("write overwrite=on or overwrite=off".into())),
            _ => {
                let why =
                    "write DIRECTORY, then :file-limit=SIZE, :total-limit=SIZE or :overwrite=on";
                return Err(error(format!("there is no setting {key:?}; {why}")));
            }
        }
    }
    Share::open(Path::new(&parts[0]), limits).map_err(|source| error(source.to_string()))
}

/// A number of bytes: `4096`, `64K`, `64M`, `1G`.
fn size(text: &str) -> Option<u64> {
    let unit = |letter: char| text.strip_suffix([letter, letter.to_ascii_lowercase()]);
    let (digits, shift) = [('K', 10), ('M', 20), ('G', 30)]
        .into_iter()
        .find_map(|(letter, shift)| Some((unit(letter)?, shift)))
        .unwrap_or((text, 0));
    // `parse` would accept a sign.
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let sizes = ["0", "4096", "2k", "3M", "1G", "17179869183G"].map(size);
        let bytes = [0, 4096, 2 << 10, 3 << 20, 1 << 30, u64::MAX - (1 << 30) + 1];
        assert_eq!(sizes, bytes.map(Some));
        for wrong in ["", "K", "+1", "-1", "1.5M", "1T", " 1", "17179869184G", "0x10"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
