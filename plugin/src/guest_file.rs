//! `FILE[@ADDRESS]`: a file that describes the guest's code, and how far the guest has moved that code.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that an option names and that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum GuestFileError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}; {hint}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
        /// What would be right.
        hint: &'static str,
    },
    /// It is a pipe, a device or a directory.
    #[error("{0} is not a regular file; {1}")]
    NotRegular(PathBuf, &'static str),
    /// What follows the `@` is neither an address nor a part of the file's name.
    #[error("{0:?} is not an address; write FILE@0x12345000 or FILE@305418240")]
    Address(String),
}

/// What an option says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// The file.
    pub path: PathBuf,
    /// What is added to each address in it, if that was said.
    pub moved: Option<u64>,
}

impl GuestFile {
    /// Splits off an address: hexadecimal with `0x`, or decimal.
    ///
    /// Where the name itself ends like that, one of two `@` is dropped: `a@@12` is the file `a@12`.
    pub fn parse(text: &str) -> Result<GuestFile, GuestFileError> {
        let whole = || GuestFile { path: PathBuf::from(text), moved: None };
        let Some((path, end)) = text.rsplit_once('@') else { return Ok(whole()) };
        let address = match end.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => end.parse(),
        };
        match (address, path.strip_suffix('@')) {
            _ if end.starts_with('+') || end.starts_with("0x+") => Ok(whole()),
            (Ok(_), Some(name)) => {
                Ok(GuestFile { path: PathBuf::from(format!("{name}@{end}")), moved: None })
            }
            (Ok(address), None) if !path.is_empty() => {
                Ok(GuestFile { path: PathBuf::from(path), moved: Some(address) })
            }
            (Err(_), _)
                if end.starts_with(|first: char| first.is_ascii_digit())
                    && !Path::new(text).exists() =>
            {
                Err(GuestFileError::Address(end.to_owned()))
            }
            _ => Ok(whole()),
        }
    }

    /// Opens the file, which must be a regular one. Never waits for the other end of a pipe.
    pub fn open(&self, hint: &'static str) -> Result<File, GuestFileError> {
        let read_error = |source| GuestFileError::Read { path: self.path.clone(), source, hint };
        let not_regular = || GuestFileError::NotRegular(self.path.clone(), hint);
        // To open a device may have effects.
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
    fn an_address_follows_the_last_at_sign() {
        let parse = |text| {
            let GuestFile { path, moved } = GuestFile::parse(text).unwrap();
            (path.to_str().unwrap().to_owned(), moved)
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
