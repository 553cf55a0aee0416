//! Reads dumps and traces for the commands, and writes their output files.

use std::cell::Cell;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::stats::{Snapshot, merge, output_path, without_path};
use crate::{status, trace};

/// Reads a dump, or makes one of a trace.
///
/// Warns on stderr if tables do not add up to the same totals, and if parts of a trace are missing.
///
/// # Errors
///
/// Fails if the file is neither a complete dump of this schema nor a trace.
pub fn load(program: &str, path: &Path) -> Result<Snapshot> {
    if trace::is_trace(path) {
        return trace::load_statistics(program, path);
    }
    let snapshot = Snapshot::load(path)?;
    for discrepancy in snapshot.discrepancies() {
        status::warn(program, &format!("{}: {discrepancy}", path.display()));
    }
    Ok(snapshot)
}

/// Reads dumps and adds them up. Warns like [`load`].
///
/// # Errors
///
/// Fails if a file is neither a complete dump nor a trace, or if a sum does not fit in 64 bits.
pub fn load_sum(program: &str, paths: &[PathBuf]) -> Result<Snapshot> {
    let dumps = paths.iter().map(|path| load(program, path)).collect::<Result<Vec<_>>>()?;
    Ok(merge(&dumps)?)
}

/// Writes a new file and renames it, so the output is never incomplete.
///
/// A device such as `/dev/null` is written directly.
///
/// # Errors
///
/// Fails if the output is one of the inputs, or if it cannot be written.
pub fn write(output: &Path, contents: &[u8], inputs: &[PathBuf]) -> Result<()> {
    write_with(output, inputs, |out| Ok(out.write_all(contents)?))
}

/// Writes an output file like [`write()`]; `put` writes its contents.
///
/// # Errors
///
/// The same as for [`write()`]. Also fails if `put` fails.
pub fn write_with(
    output: &Path,
    inputs: &[PathBuf],
    put: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    for input in inputs {
        ensure!(
            !is_same_file(input, output),
            "{}: this file is also an input; name another file for the output",
            output.display()
        );
    }
    replace(output, put)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

fn replace(output: &Path, put: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let named = || format!("{}: cannot be written", output.display());
    if output.metadata().is_ok_and(|file| !file.is_file()) {
        let mut file =
            BufWriter::new(File::options().write(true).open(output).with_context(named)?);
        put(&mut file).with_context(named)?;
        return file.flush().with_context(named);
    }
    // A symbolic link stays: its target is replaced.
    let output = output_path(output).with_context(named)?;
    let directory = match output.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    // The umask applies to this mode.
    let mode = Permissions::from_mode(0o666);
    let file = tempfile::Builder::new().permissions(mode).tempfile_in(directory);
    let file = file.map_err(without_path).with_context(named)?;
    write_buffered(file.as_file(), put).with_context(named)??;
    file.persist(&output).map_err(|error| error.error).with_context(named)?;
    Ok(())
}

/// Writes to an output through a buffer; `put` writes its contents. Returns the result of `put`.
///
/// # Errors
///
/// Fails with the output's own error, which other libraries would wrap in their types, if it cannot be written.
pub fn write_buffered(
    out: impl Write,
    put: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> io::Result<Result<()>> {
    let failed = Cell::new(None);
    let mut out = BufWriter::with_capacity(1 << 16, KeptError { out, failed: &failed });
    let result = put(&mut out).and_then(|()| Ok(out.flush()?));
    // Discards the buffer: after an error it cannot be written either.
    let _ = out.into_parts();
    match failed.take() {
        Some(error) => Err(error),
        None => Ok(result),
    }
}

/// An output that keeps its last error.
struct KeptError<'a, W> {
    out: W,
    failed: &'a Cell<Option<io::Error>>,
}

impl<W: Write> Write for KeptError<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).map_err(|error| {
            let kind = error.kind();
            // Whoever writes tries again.
            if kind != ErrorKind::Interrupted {
                self.failed.set(Some(error));
            }
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_replaces_a_file_and_keeps_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        std::fs::write(path("old"), "old").unwrap();
        std::os::unix::fs::symlink("old", path("link")).unwrap();
        write(&path("link"), b"new", &[]).unwrap();
        assert!(path("link").is_symlink());
        assert_eq!(std::fs::read(path("old")).unwrap(), b"new");
        write(&path("other"), b"new", &[path("old")]).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3, "no file is left over");
    }

    #[test]
    fn output_that_is_an_input_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let input = directory.path().join("a.json");
        std::fs::write(&input, "dump").unwrap();
        let link = directory.path().join("hard-link");
        std::fs::hard_link(&input, &link).unwrap();
        for output in [&input, &directory.path().join("./a.json"), &link] {
            let error = write(output, b"new", std::slice::from_ref(&input)).unwrap_err();
            assert!(error.to_string().contains("is also an input"), "{error}");
        }
        assert_eq!(std::fs::read(&input).unwrap(), b"dump");
    }

    #[test]
    fn output_that_cannot_be_written_is_named() {
        for path in ["/nonexistent/out.json", "/dev/full"] {
            let error = format!("{:#}", write(Path::new(path), b"new", &[]).unwrap_err());
            assert!(error.starts_with(&format!("{path}: cannot be written: ")), "{error}");
        }
    }
}
