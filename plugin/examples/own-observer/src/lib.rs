//! A QEMU plugin with a custom observer: `transcript`, which writes each access to a file.
//!
//! ```text
//! cargo build --release
//! qemu-system-x86_64 -plugin target/release/libown_observer.so,device=transcript@0x3f8-0x3ff:out=com1.txt ...
//! ```
//!
//! QEMU's serial port at these ports has its accesses as before.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use pvio::devices::{DeviceError, ObservedAccess, Observer, ObserverKind, Settings};

/// A line for each access: direction, offset, size in bytes, value.
struct Transcript {
    file: BufWriter<File>,
    /// The first error. Later lines are lost.
    failed: Option<io::Error>,
}

impl Observer for Transcript {
    fn access(&mut self, access: &ObservedAccess) {
        let ObservedAccess { direction, offset, size, .. } = access;
        let value = access.value.map_or("-".to_owned(), |value| format!("{value:#x}"));
        if self.failed.is_none() {
            let written = writeln!(self.file, "{direction} {offset} {size} {value}");
            self.failed = written.err();
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        let finished = self.file.flush();
        self.failed.take().map_or(finished, Err)
    }
}

fn build(settings: &mut Settings<'_>) -> Result<Box<dyn Observer>, DeviceError> {
    let path =
        settings.take("out").ok_or_else(|| DeviceError::other("transcript needs out=FILE"))?;
    let file = File::create(&path).map_err(|source| DeviceError::Output {
        key: "out".to_owned(),
        path,
        source,
    })?;
    Ok(Box::new(Transcript { file: BufWriter::new(file), failed: None }))
}

pvio::plugin!(ObserverKind { name: "transcript", ports: 1, build });
