//! The thread that formats and writes records.

use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::record::Record;
use crate::files::OutputFile;

/// The number of batches that may wait for the thread.
const QUEUE: usize = 4;

/// The first line of the file.
const HEADER: &[u8] = b"# seconds vcpu pc direction port size value\n";

/// The file, before and after the thread takes it over.
///
/// The thread starts with the first batch and not earlier, because QEMU may fork before it runs.
pub(super) enum Writer {
    Idle(BufWriter<OutputFile>),
    Running(SyncSender<Vec<Record>>, JoinHandle<io::Result<BufWriter<OutputFile>>>),
    /// The thread has stopped with an error that is still to be reported at the end.
    Failed(JoinHandle<io::Result<BufWriter<OutputFile>>>),
    Finished,
}

impl Writer {
    pub fn new(file: OutputFile) -> Writer {
        Writer::Idle(BufWriter::new(file))
    }

    /// Sends a batch to the thread, and waits while its queue is full.
    ///
    /// # Errors
    ///
    /// The thread has stopped after a write error. Later batches are dropped without an error.
    pub fn send(&mut self, batch: Vec<Record>) -> Result<(), Stopped> {
        *self = match std::mem::replace(self, Writer::Finished) {
            Writer::Idle(file) => {
                let (batches, receiver) = sync_channel::<Vec<Record>>(QUEUE);
                Writer::Running(batches, std::thread::spawn(move || write_all(file, receiver)))
            }
            other => other,
        };
        let Writer::Running(batches, _) = self else { return Ok(()) };
        if batches.send(batch).is_ok() {
            return Ok(());
        }
        if let Writer::Running(_, thread) = std::mem::replace(self, Writer::Finished) {
            *self = Writer::Failed(thread);
        }
        Err(Stopped)
    }

    /// Writes the last records and closes the file.
    pub fn finish(&mut self, records: Vec<Record>) -> io::Result<()> {
        let mut file = match std::mem::replace(self, Writer::Finished) {
            Writer::Idle(mut file) => {
                file.write_all(HEADER)?;
                file
            }
            Writer::Running(batches, thread) => {
                drop(batches);
                join(thread)?
            }
            Writer::Failed(thread) => join(thread)?,
            Writer::Finished => return Ok(()),
        };
        records.iter().try_for_each(|record| record.write(&mut file))?;
        file.flush()
    }
}

/// The thread has stopped after a write error.
#[derive(Debug)]
pub(super) struct Stopped;

fn write_all(
    mut file: BufWriter<OutputFile>,
    batches: impl IntoIterator<Item = Vec<Record>>,
) -> io::Result<BufWriter<OutputFile>> {
    file.write_all(HEADER)?;
    for batch in batches {
        batch.iter().try_for_each(|record| record.write(&mut file))?;
    }
    Ok(file)
}

fn join(
    thread: JoinHandle<io::Result<BufWriter<OutputFile>>>,
) -> io::Result<BufWriter<OutputFile>> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))
}
