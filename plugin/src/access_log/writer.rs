//! The thread that formats and writes records.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use once_cell::sync::OnceCell;

use super::LATENCY;
use super::code_names::CodeNames;
use super::queue::Queue;
use crate::files::OutputFile;
use crate::qemu::report::say;

/// The first line of the file.
const HEADER: &[u8] = b"# seconds vcpu pc direction port size value\tsymbol\tprocess\n";

/// About how many bytes are written at once. Each write ends with a line.
const PIECE: usize = 64 * 1024;

/// The file, before and after the thread takes it over.
///
/// The thread starts with the first record and not earlier, because QEMU may fork before it runs.
pub(super) struct Writer {
    job: Mutex<Option<Job>>,
    thread: OnceCell<Mutex<Option<JoinHandle<io::Result<()>>>>>,
}

struct Job {
    path: PathBuf,
    file: OutputFile,
    queue: Arc<Queue>,
    names: Arc<CodeNames>,
}

impl Writer {
    pub fn new(
        path: PathBuf,
        file: OutputFile,
        queue: Arc<Queue>,
        names: Arc<CodeNames>,
    ) -> Writer {
        let job = Job { path, file, queue, names };
        Writer { job: Mutex::new(Some(job)), thread: OnceCell::new() }
    }

    /// Starts the thread, unless it was started.
    pub fn start(&self) {
        self.started();
    }

    fn started(&self) -> &Mutex<Option<JoinHandle<io::Result<()>>>> {
        self.thread.get_or_init(|| {
            let job = lock(&self.job).take();
            Mutex::new(job.map(|job| std::thread::spawn(move || job.run())))
        })
    }

    /// Waits until the closed queue is written.
    ///
    /// # Errors
    ///
    /// The first write error.
    pub fn finish(&self) -> io::Result<()> {
        let thread = lock(self.started()).take();
        thread.map_or(Ok(()), |thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Job {
    fn run(mut self) -> io::Result<()> {
        let result = self.write_all();
        if let Err(error) = &result {
            // The file has already reported a reader that has stopped.
            if error.kind() != io::ErrorKind::TimedOut {
                say(format_args!(
                    "{} cannot be written: the access log is incomplete from here on",
                    self.path.display()
                ));
            }
            // The guest must not wait for records to be written.
            self.queue.close();
        }
        result
    }

    fn write_all(&mut self) -> io::Result<()> {
        self.file.write_all(HEADER)?;
        let (mut records, mut text) = (Vec::new(), Vec::new());
        while self.queue.take(&mut records, LATENCY) {
            for record in records.drain(..) {
                record.write(&mut text, &self.names)?;
                if text.len() >= PIECE {
                    self.file.write_all(&text)?;
                    text.clear();
                }
            }
            self.file.write_all(&text)?;
            text.clear();
        }
        Ok(())
    }
}
