//! `FILE[@ADDRESS]`: a file that describes guest code, and the offset at which the guest runs it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An error in the name of a guest file, or in opening it.
#[derive(Debug, thiserror::Error)]
pub enum GuestFileError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}; {hint}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
        /// The remedy.
        hint: &'static str,
    },
    /// The file is a pipe, a device or a directory.
    #[error("{0} is not a regular file; {1}")]
    NotRegular(PathBuf, &'static str),
    /// The text after `@` is not an address, and no file has the whole text as its name.
    #[error("{0:?} is not an address; write FILE@0x12345000 or FILE@305418240")]
    Address(String),
}

/// A file of guest code or its symbols, as an option names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// The option's value, for messages.
    pub text: String,
    /// The file.
    pub path: PathBuf,
    /// The load offset in bytes, added to each address in the file; `None` if not given.
    pub load_offset: Option<u64>,
}

impl GuestFile {
    /// Parses `FILE` or `FILE@ADDRESS`. The address is decimal, or hexadecimal with `0x`.
    ///
    /// A doubled `@` belongs to the file's name: `a@@12` is the file `a@12`.
    ///
    /// # Errors
    ///
    /// [`GuestFileError::Address`] if the address is malformed.
    pub fn parse(text: &str) -> Result<GuestFile, GuestFileError> {
        let guest_file = |path: &str, load_offset| GuestFile {
            text: text.to_owned(),
            path: PathBuf::from(path),
            load_offset,
        };
        let whole = || guest_file(text, None);
        let Some((path, end)) = text.rsplit_once('@') else { return Ok(whole()) };
        let address = match end.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => end.parse(),
        };
        match (address, path.strip_suffix('@')) {
            _ if end.starts_with('+') || end.starts_with("0x+") => Ok(whole()),
            (Ok(_), Some(name)) => Ok(guest_file(&format!("{name}@{end}"), None)),
            (Ok(address), None) if !path.is_empty() => Ok(guest_file(path, Some(address))),
            (Err(_), _)
                if end.starts_with(|first: char| first.is_ascii_digit())
                    && !Path::new(text).exists() =>
            {
                Err(GuestFileError::Address(end.to_owned()))
            }
            _ => Ok(whole()),
        }
    }

    /// Opens the file for reading. `hint` is the remedy that an error names. Never blocks on a pipe.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is not a regular file.
    pub fn open(&self, hint: &'static str) -> Result<File, GuestFileError> {
        let read_error = |source| GuestFileError::Read { path: self.path.clone(), source, hint };
        let not_regular = || GuestFileError::NotRegular(self.path.clone(), hint);
        // Opening a device may have side effects, so check first.
        if !self.path.metadata().map_err(read_error)?.is_file() {
            return Err(not_regular());
        }
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&self.path);
        let file = file.map_err(read_error)?;
        match file.metadata().map_err(read_error)?.is_file() {
            true => Ok(file),
            false => Err(not_regular()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_at_sign_separates_the_address() {
        let parse = |text| {
            let GuestFile { path, load_offset, .. } = GuestFile::parse(text).unwrap();
            (path.to_str().unwrap().to_owned(), load_offset)
        };
        assert_eq!(parse("a"), ("a".into(), None));
        assert_eq!(parse("a@0x10"), ("a".into(), Some(16)));
        assert_eq!(parse("a@10"), ("a".into(), Some(10)));
        assert_eq!(parse("a@0xffffffff81000000").1, Some(0xffff_ffff_8100_0000));
        assert_eq!(parse("a@host"), ("a@host".into(), None));
        assert_eq!(parse("a@host@0"), ("a@host".into(), Some(0)));
        assert_eq!(parse("a@@12"), ("a@12".into(), None));
        assert_eq!(parse("a@12@0x10"), ("a@12".into(), Some(16)));
        assert_eq!(parse("@12"), ("@12".into(), None));
        assert_eq!(parse("a@+5"), ("a@+5".into(), None));
        for wrong in ["a@0x", "a@12z", "a@0x10000000000000000"] {
            let error = GuestFile::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("is not an address; write FILE@0x"), "{error}");
        }
    }
}
