//! The reasons why a symbol file cannot be used.

use std::io;
use std::path::PathBuf;

use crate::elf::ElfError;
use crate::guest_file::GuestFileError;

/// A file that has no usable symbols.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    /// The file cannot be opened.
    #[error("{0}")]
    File(#[from] GuestFileError),
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}; name an ELF file or a System.map")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The ELF file is unusable.
    #[error("{path} {source}")]
    Elf {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: ElfError,
    },
    /// The ELF file has no symbols of code.
    #[error("{0} is an ELF file without symbols of code; name one that was not stripped")]
    Stripped(PathBuf),
    /// The ELF file has no symbols of code, and no directory has its debug file.
    #[error(
        "{0} is an ELF file without symbols of code, and no directory of symbols= has its debug file, by build id or \
         .gnu_debuglink; name the directory that has it, or a file that was not stripped"
    )]
    NoDebugFile(PathBuf),
    /// The debug file belongs to another file.
    #[error(
        "{debug} is not the debug file of {path}: its build id or CRC differs, so its names are not used; replace it by the right file"
    )]
    OtherDebugFile {
        /// The file without symbols.
        path: PathBuf,
        /// The file with the name of its debug file.
        debug: PathBuf,
    },
    /// The file is position independent, and no address is given.
    #[error(
        "{0} is position independent; write symbols={0}@ADDRESS, with the address at which it is loaded, or, if it is \
         a program of a Linux guest, processes=on"
    )]
    NeedsAddress(String),
    /// The addresses are hidden: `/proc/kallsyms` shows them only to root.
    #[error("all addresses in {0} are 0; read it as root")]
    Hidden(PathBuf),
    /// The format is unknown.
    #[error(
        "{0} is neither an ELF file nor a System.map (lines of address, type and name); \
         for a Linux kernel, name vmlinux or its System.map, not vmlinuz"
    )]
    Unknown(PathBuf),
}
