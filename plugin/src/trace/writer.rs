//! The thread that writes chunks.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use super::{Streams, lock};
use crate::files::OutputFile;
use crate::qemu::report::say;

/// How many full chunks may wait: about 4 MiB. With more, vCPUs wait.
const MOST: usize = 64;

/// How long events may wait in a chunk that is not full.
const LATENCY: Duration = Duration::from_millis(500);

/// The file, before and after the thread takes it over.
///
/// The thread starts with the first event and not earlier, because QEMU may fork before it runs.
pub(super) struct Writer {
    chunks: Mutex<Option<SyncSender<Vec<u8>>>>,
    job: Mutex<Option<Job>>,
    thread: OnceCell<Mutex<Option<JoinHandle<io::Result<()>>>>>,
}

struct Job {
    path: PathBuf,
    file: OutputFile,
    /// The first chunk.
    head: Vec<u8>,
    chunks: Receiver<Vec<u8>>,
    streams: Streams,
}

impl Writer {
    pub fn new(path: PathBuf, file: OutputFile, head: Vec<u8>, streams: Streams) -> Writer {
        let (sender, chunks) = sync_channel(MOST);
        let job = Job { path, file, head, chunks, streams };
        Writer {
            chunks: Mutex::new(Some(sender)),
            job: Mutex::new(Some(job)),
            thread: OnceCell::new(),
        }
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

    /// Adds a chunk. Waits while there is no room. Drops the chunk after an error or the end.
    pub fn push(&self, chunk: Vec<u8>) {
        self.started();
        // Cloned, so that vCPUs that wait do not hold each other up.
        let chunks = lock(&self.chunks).clone();
        if let Some(chunks) = chunks {
            // If the thread has failed, it has reported that.
            let _ = chunks.send(chunk);
        }
    }

    /// Waits until all chunks are written.
    ///
    /// # Errors
    ///
    /// The first write error.
    pub fn finish(&self) -> io::Result<()> {
        lock(&self.chunks).take();
        let thread = lock(self.started()).take();
        thread.map_or(Ok(()), |thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))
        })
    }
}

impl Job {
    fn run(mut self) -> io::Result<()> {
        let result = self.write_all();
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::TimedOut
        {
            // Of a reader that has stopped, the file has told already.
            say(format_args!(
                "{} cannot be written: the trace is incomplete from here on",
                self.path.display()
            ));
        }
        // What receives chunks is dropped, so that the guest does not wait for them.
        result
    }

    fn write_all(&mut self) -> io::Result<()> {
        self.file.write_all(&std::mem::take(&mut self.head))?;
        let mut looked = Instant::now();
        loop {
            match self.chunks.recv_timeout(LATENCY) {
                Ok(chunk) => self.file.write_all(&chunk)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if looked.elapsed() >= LATENCY {
                self.take_from_streams()?;
                looked = Instant::now();
            }
        }
    }

    /// Writes the events of chunks that are not full.
    fn take_from_streams(&mut self) -> io::Result<()> {
        let vcpus = lock(&self.streams.vcpus).clone();
        for vcpu in vcpus {
            let Some(chunk) = vcpu.try_take() else { continue };
            // Earlier chunks of the vCPU were pushed before.
            while let Ok(earlier) = self.chunks.try_recv() {
                self.file.write_all(&earlier)?;
            }
            self.file.write_all(&chunk)?;
        }
        if let Some(chunk) = self.streams.requests.take() {
            self.file.write_all(&chunk)?;
        }
        Ok(())
    }
}
