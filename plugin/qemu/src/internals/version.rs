//! QEMU's version, as QEMU reports it.

use std::ffi::{c_int, c_void};

use super::symbols::VersionQuery;
use crate::symbol::NotExported;
use crate::version::QemuVersion;

/// The text before the version in the output of `--version`.
const BANNER: &[u8] = b"QEMU emulator version ";

impl QemuVersion {
    /// Returns the version of this process's QEMU.
    ///
    /// A QEMU without loadable modules does not export the query. Then the version is found in its program, in
    /// the text that it prints for `--version`. `None` if that is not found either.
    pub fn of_this_process() -> Option<QemuVersion> {
        QemuVersion::ask().ok().or_else(of_program)
    }

    pub(super) fn ask() -> Result<QemuVersion, NotExported> {
        let query = VersionQuery::find()?;
        // SAFETY: the function allows a null `errp`. It allocates the result and its `qemu` (GLib aborts
        // where it cannot), and nobody frees them: pvio asks once or twice in a process.
        let version = unsafe { &*(*(query.qmp_query_version)(std::ptr::null_mut())).qemu };
        Ok(QemuVersion { major: version.major, minor: version.minor, micro: version.micro })
    }
}

/// Finds the version in the text of this process's program.
fn of_program() -> Option<QemuVersion> {
    let mut found = None;
    let data = (&raw mut found).cast();
    // SAFETY: the callback gets `found`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), data) };
    found
}

/// Searches the first object, which is the program, and ends the iteration.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
    // SAFETY: the loader's description of the program, whose segments are mapped as long as the process lives; those
    // that are not writable never change.
    unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
        let constant = |header: &&libc::Elf64_Phdr| {
            header.p_type == libc::PT_LOAD
                && header.p_flags & (libc::PF_R | libc::PF_W) == libc::PF_R
        };
        for header in headers.iter().filter(constant) {
            let start = (info.dlpi_addr + header.p_vaddr) as *const u8;
            let bytes = std::slice::from_raw_parts(start, header.p_memsz as usize);
            if let Some(version) = in_text(bytes) {
                *found.cast::<Option<QemuVersion>>() = Some(version);
                break;
            }
        }
    }
    1
}

/// Finds the version after the first banner.
fn in_text(bytes: &[u8]) -> Option<QemuVersion> {
    let (first, rest) = BANNER.split_first()?;
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| byte == first)? + 1;
        if let Some(text) = bytes[at..].strip_prefix(rest) {
            return parse(text);
        }
    }
}

/// Parses a version at the start of a text, such as `10.2.2 (Debian 1:10.2.2)`.
fn parse(text: &[u8]) -> Option<QemuVersion> {
    let end = text.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'.'))?;
    let mut numbers = str::from_utf8(&text[..end]).ok()?.split('.').map(str::parse::<i64>);
    let mut next = || numbers.next()?.ok();
    Some(QemuVersion { major: next()?, minor: next()?, micro: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_after_the_banner() {
        let version = |text: &[u8]| in_text(text).map(|version| version.to_string());
        let text = b"QQEMU \0QEMU emulator version 10.2.2 (Debian 1:10.2.2+ds-1)\n\0more";
        assert_eq!(version(text).as_deref(), Some("10.2.2"));
        assert_eq!(version(b"QEMU emulator version 11.1.3\n").as_deref(), Some("11.1.3"));
        assert_eq!(version(b"QEMU emulator version 11\n"), None);
        assert_eq!(version(b"QEMU emulator version "), None);
        assert_eq!(version(b""), None);
    }
}
