//! Cargo as the starter: `runner = "pvio test"` in a `.cargo/config.toml`.
//!
//! Cargo calls `pvio test PROGRAM ARGUMENT...`: what the user wrote after `cargo run --` or `cargo test --` follows the
//! program. Users call `pvio test GUEST... [-- QEMU-ARGUMENT...]`, and a program that Cargo started may do so as well.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The file by which backup programs know a cache. Cargo writes it into its target directory.
const TAG: &str = "CACHEDIR.TAG";

/// The beginning of that file.
const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Returns true if a file is in a target directory of Cargo, or will be.
fn is_in_target(file: &Path) -> bool {
    let Ok(file) = std::path::absolute(file) else { return false };
    file.ancestors().skip(1).any(|directory| {
        let mut start = [0; SIGNATURE.len()];
        let tag = File::open(directory.join(TAG));
        tag.is_ok_and(|mut tag| tag.read_exact(&mut start).is_ok() && start == SIGNATURE)
    })
}

/// Returns true if this command line looks like one of Cargo as the starter, with `arguments` after the guest.
///
/// A list of several files in the target directory is one of a user's program.
pub fn is_started_by_cargo(guest: &OsStr, arguments: &[OsString]) -> bool {
    std::env::var_os("CARGO_PKG_NAME").is_some()
        && is_in_target(Path::new(guest))
        && !arguments.iter().map(Path::new).any(|path| path.is_file() && is_in_target(path))
}

/// Returns a file name of Cargo's without the hash: `boot` of `boot-0123456789abcdef`.
///
/// An extension stays. A name without a hash stays as it is.
pub(super) fn without_hash(name: &str) -> Cow<'_, str> {
    const DIGITS: usize = 16;
    let (stem, extension) = match name.rfind('.') {
        Some(dot) => name.split_at(dot),
        None => (name, ""),
    };
    let is_hash = |text: &str| {
        text.len() == DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    match stem.rsplit_once('-') {
        Some((name, hash)) if !name.is_empty() && is_hash(hash) => {
            Cow::Owned(format!("{name}{extension}"))
        }
        _ => Cow::Borrowed(name),
    }
}

/// Quotes an argument for a kernel's command line, as Linux reads it: in double quotes if it has spaces.
pub fn quoted(argument: &OsStr) -> OsString {
    let has_space = argument.as_encoded_bytes().iter().any(u8::is_ascii_whitespace);
    if !has_space && !argument.is_empty() {
        return argument.to_owned();
    }
    let mut quoted = OsString::from("\"");
    quoted.push(argument);
    quoted.push("\"");
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_no_part_of_the_name() {
        for (name, expected) in [
            ("boot-0123456789abcdef", "boot"),
            ("bootimage-basic_boot-0123456789abcdef.bin", "bootimage-basic_boot.bin"),
            ("a-b-0123456789abcdef.efi", "a-b.efi"),
            ("boot-0123456789abcdeF", "boot-0123456789abcdeF"),
            ("boot-0123456789abcde", "boot-0123456789abcde"),
            ("-0123456789abcdef", "-0123456789abcdef"),
            ("boot.bin", "boot.bin"),
        ] {
            assert_eq!(without_hash(name), expected);
        }
    }

    #[test]
    fn argument_with_spaces_stays_one() {
        for (argument, expected) in [("a", "a"), ("a b", "\"a b\""), ("", "\"\"")] {
            assert_eq!(quoted(OsStr::new(argument)), expected);
        }
    }

    #[test]
    fn target_directory_is_known_by_its_tag() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        std::fs::create_dir_all(target.join("debug/deps")).unwrap();
        let program = target.join("debug/deps/boot");
        assert!(!is_in_target(&program));
        std::fs::write(target.join(TAG), "another file").unwrap();
        assert!(!is_in_target(&program));
        std::fs::write(target.join(TAG), [SIGNATURE, b"\n# by cargo"].concat()).unwrap();
        assert!(is_in_target(&program));
        assert!(!is_in_target(&directory.path().join("boot")));
    }
}
