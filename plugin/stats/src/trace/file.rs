//! Reads a trace: finds its chunks, and merges the events of its vCPUs into one order.
//!
//! A damaged or truncated file is read up to the damage, which is reported.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::chunk::{ChunkHeader, ChunkKind, HEADER, MAGIC, REQUESTS, ReadHeader};
use super::decode::{Damage, Decoder, Definitions};
use super::describe::{End, Head};
use super::event::Event;

/// A file that cannot be read as a trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The file has no contents.
    #[error("{}: is empty; pvio writes a trace with the option trace=FILE", .0.display())]
    Empty(PathBuf),
    /// The file does not begin as a trace.
    #[error("{}: is not a trace of pvio; name a file that the option trace=FILE wrote", .0.display())]
    Foreign(PathBuf),
    /// The file begins like a trace, but its first chunk is incomplete.
    #[error("{}: is damaged or cut off in its first chunk: {damage}", path.display())]
    Head {
        /// The file.
        path: PathBuf,
        /// The damage.
        damage: Damage,
    },
}

/// A chunk of events in the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    header: ReadHeader,
}

/// A trace that was opened.
#[derive(Debug)]
pub struct Trace {
    file: File,
    path: PathBuf,
    head: Head,
    end: Option<End>,
    /// The chunks of each stream, in their order.
    streams: BTreeMap<u32, Vec<Place>>,
    /// Lines about missing parts.
    problems: Vec<String>,
}

/// The events of one stream that were not read yet.
struct Stream {
    /// The number of the stream, and QEMU's index of its vCPU.
    vcpu: (u32, u32),
    places: std::vec::IntoIter<Place>,
    decoder: Decoder,
    /// The next event.
    next: Option<Event>,
}

impl Stream {
    /// Whose events they are, for messages.
    fn owner(&self) -> String {
        match self.vcpu {
            (REQUESTS, _) => "requests".to_owned(),
            (_, vcpu) => format!("vCPU {vcpu}"),
        }
    }

    /// Reads the next event. Damage ends the stream.
    fn advance(&mut self, file: &File, definitions: &mut Definitions) -> Result<(), String> {
        self.next = None;
        loop {
            match self.decoder.next(definitions) {
                Ok(Some(event)) => {
                    self.next = Some(event);
                    return Ok(());
                }
                Ok(None) => {}
                Err(damage) => {
                    self.places = Vec::new().into_iter();
                    let owner = self.owner();
                    return Err(format!("is damaged ({damage}): events of {owner} are missing"));
                }
            }
            let Some(Place { offset, header }) = self.places.next() else { return Ok(()) };
            match read_contents(file, offset, &header) {
                Ok(contents) => {
                    self.decoder = Decoder::new(self.vcpu.0, header.header.start, contents);
                }
                Err(damage) => {
                    self.places = Vec::new().into_iter();
                    let owner = self.owner();
                    return Err(format!(
                        "is damaged at byte {offset} ({damage}): all later events of {owner} are missing"
                    ));
                }
            }
        }
    }
}

impl Trace {
    /// Opens a trace and finds its chunks.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or if it has no head. What is damaged after it is in
    /// [`Trace::problems`].
    pub fn open(path: &Path) -> Result<Trace, TraceError> {
        let io = |error| TraceError::Io { path: path.to_owned(), error };
        let head = |damage| TraceError::Head { path: path.to_owned(), damage };
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        if len == 0 {
            return Err(TraceError::Empty(path.to_owned()));
        }
        let mut magic = [0; 4];
        let is_trace = file.read_exact_at(&mut magic, 0).is_ok() && magic == MAGIC;
        if !is_trace {
            return Err(TraceError::Foreign(path.to_owned()));
        }
        let header = read_header(&file, 0, len).map_err(head)?;
        let contents = read_contents(&file, 0, &header).map_err(head)?;
        if header.header.kind != ChunkKind::Head {
            return Err(TraceError::Foreign(path.to_owned()));
        }
        let parsed = serde_json::from_slice(&contents)
            .map_err(|_| head(Damage("this version of pvio cannot read it")))?;
        let mut trace = Trace {
            file,
            path: path.to_owned(),
            head: parsed,
            end: None,
            streams: BTreeMap::new(),
            problems: Vec::new(),
        };
        trace.find_chunks((HEADER + header.len) as u64, len);
        Ok(trace)
    }

    /// Finds the chunks after the first. Damage ends the search.
    fn find_chunks(&mut self, mut offset: u64, len: u64) {
        while offset < len {
            let header = match read_header(&self.file, offset, len) {
                Ok(header) => header,
                Err(damage) => return self.is_cut(offset, damage),
            };
            let place = Place { offset, header };
            offset += (HEADER + header.len) as u64;
            let ChunkHeader { kind, stream, sequence, .. } = header.header;
            match kind {
                ChunkKind::Events => {
                    let places = self.streams.entry(stream).or_default();
                    if places.len() as u64 != u64::from(sequence) {
                        let missing = "an earlier chunk of its vCPU is missing";
                        return self.is_cut(place.offset, Damage(missing));
                    }
                    places.push(place);
                }
                ChunkKind::End => {
                    let end = read_contents(&self.file, place.offset, &header);
                    let end = end.and_then(|contents| {
                        let wrong = Damage("this version of pvio cannot read the last chunk");
                        serde_json::from_slice(&contents).map_err(|_| wrong)
                    });
                    match end {
                        Ok(end) => self.end = Some(end),
                        Err(damage) => return self.is_cut(place.offset, damage),
                    }
                }
                ChunkKind::Head => {
                    return self.is_cut(place.offset, Damage("another trace begins here"));
                }
            }
        }
        match &self.end {
            None => self.problems.push(
                "has no end: QEMU was killed or is still running, or the file is cut off; its events have addresses, \
                 but no names"
                    .to_owned(),
            ),
            Some(end) => {
                let has = |stream| self.streams.get(&stream).map_or(0, |places| places.len() as u64);
                let lacks = end.streams.iter().any(|s| has(s.stream) != u64::from(s.chunks));
                if lacks {
                    self.problems.push("lacks chunks, so some events are missing".to_owned());
                }
            }
        }
    }

    fn is_cut(&mut self, offset: u64, damage: Damage) {
        self.problems.push(format!(
            "is damaged or cut off at byte {offset} ({damage}); only the data before that is used"
        ));
        if self.end.is_none() {
            self.problems.push("has no end, so its events have addresses, but no names".to_owned());
        }
    }

    /// Returns the head, which describes the machine.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the end, with names and totals; `None` if the trace is cut off.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns lines about missing parts, which continue the name of the file. [`Trace::read`] may find more.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The vCPUs' numbers among those that count, each with QEMU's index.
    pub fn vcpus(&self) -> impl Iterator<Item = (u32, u32)> {
        let of_vcpus = self.streams.iter().filter(|&(&stream, _)| stream != REQUESTS);
        of_vcpus.filter_map(|(&stream, places)| {
            places.first().map(|place| (stream, place.header.header.vcpu))
        })
    }

    /// Returns the number of events, according to the headers of the chunks.
    pub fn events(&self) -> u64 {
        let places = self.streams.values().flatten();
        places.map(|place| u64::from(place.header.header.events)).sum()
    }

    /// Calls `visit` with each event, in the order of time, until it returns false.
    ///
    /// Besides the event it gets the number of the stream ([`REQUESTS`] for requests from outside the guest), QEMU's
    /// index of the vCPU, and the definitions so far.
    /// Returns all definitions.
    pub fn read(
        &mut self,
        mut visit: impl FnMut(&Event, (u32, u32), &Definitions) -> bool,
    ) -> Definitions {
        let mut definitions = Definitions::default();
        let mut problems = Vec::new();
        let mut streams: Vec<Stream> = self
            .streams
            .iter()
            .map(|(&stream, places)| Stream {
                vcpu: (stream, places.first().map_or(0, |place| place.header.header.vcpu)),
                places: places.clone().into_iter(),
                decoder: Decoder::new(stream, 0, Vec::new()),
                next: None,
            })
            .collect();
        // The streams that have an event, by its time.
        let mut order = BinaryHeap::new();
        for (index, stream) in streams.iter_mut().enumerate() {
            problems.extend(stream.advance(&self.file, &mut definitions).err());
            order.extend(stream.next.as_ref().map(|event| Reverse((event.host, index))));
        }
        while let Some(mut first) = order.peek_mut() {
            let Reverse((_, index)) = *first;
            let stream = &mut streams[index];
            let event = stream.next.take().expect("a stream in the order has an event");
            if !visit(&event, stream.vcpu, &definitions) {
                break;
            }
            problems.extend(stream.advance(&self.file, &mut definitions).err());
            match &stream.next {
                Some(next) => *first = Reverse((next.host, index)),
                None => drop(PeekMut::pop(first)),
            }
        }
        for problem in problems {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
        definitions
    }
}

/// Reads the header of a chunk of a file of this length.
fn read_header(file: &File, offset: u64, len: u64) -> Result<ReadHeader, Damage> {
    let mut bytes = [0; HEADER];
    file.read_exact_at(&mut bytes, offset).map_err(|_| Damage("the file ends within a chunk"))?;
    let header = ReadHeader::parse(bytes)?;
    match offset + (HEADER + header.len) as u64 <= len {
        true => Ok(header),
        false => Err(Damage("the file ends within a chunk")),
    }
}

/// Reads the contents of a chunk, and checks them.
fn read_contents(file: &File, offset: u64, header: &ReadHeader) -> Result<Vec<u8>, Damage> {
    let mut contents = vec![0; header.len];
    file.read_exact_at(&mut contents, offset + HEADER as u64)
        .map_err(|_| Damage("the file ends within a chunk"))?;
    header.check(&contents)?;
    Ok(contents)
}
