//! The calls for files of the shared directory.
//!
//! Each call has a request in the guest's memory: name, offset and buffer. The host keeps no file open between calls,
//! except those that are being written.

use std::mem::offset_of;

use arrayvec::ArrayVec;
use pvio_guest::abi::{ELEMENTS_MAX, FILE_NAME_MAX, FileRequest, status};
use vm_memory::VolatileSlice;

use super::VcpuCalls;
use super::arguments::Arguments;
use super::memory::{check, check_aligned, read_text};
use super::refusal::{Refusal, must_be_zero};
use crate::guest_memory::{LinearMemory, left_in_page};
use crate::share::{Share, ShareError};
use crate::stats::{Call, CallOrigin};
use crate::x86::PAGE;

const REQUEST: usize = size_of::<FileRequest>();

/// The fields that calls change: tag, offset, address and count.
const CHANGED: std::ops::Range<usize> =
    offset_of!(FileRequest, tag)..offset_of!(FileRequest, reserved_too);

impl From<ShareError> for Refusal {
    fn from(error: ShareError) -> Refusal {
        Refusal(match error {
            ShareError::Missing => status::MISSING,
            ShareError::Name => status::NAME,
            ShareError::Exists => status::EXISTS,
            ShareError::Limit => status::LIMIT,
            ShareError::Stale => status::STALE,
            ShareError::Failed => status::FAILED,
        })
    }
}

/// One call.
struct FileCall<'a> {
    share: &'a Share,
    memory: &'a LinearMemory<'a>,
    /// Bytes on their way between memory and a file.
    buffer: &'a mut [u8; PAGE as usize],
    request: FileRequest,
    name: ArrayVec<u8, FILE_NAME_MAX>,
}

impl VcpuCalls {
    /// Runs a call for a file.
    pub(super) fn file(
        &mut self,
        call: Call,
        origin: CallOrigin,
        arguments: &mut impl Arguments,
    ) -> Result<u32, Refusal> {
        self.counters.calls_by(origin.site);
        let share = self.hypercalls.share.as_ref().ok_or(Refusal(status::DECLINED))?;
        let address = arguments.transfer().address;
        let memory = arguments.memory(&self.hypercalls, self.pages.as_ref())?;
        check_aligned(&memory, address, 1, REQUEST)?;
        let buffer = &mut self.buffer;
        // The request's page stays writable until the answer is in it.
        let (data, moved) = memory.with_mut(address, REQUEST, |place| {
            let request = load(&place)?;
            let name = file_name(&memory, &request)?;
            let mut call_of_file = FileCall { share, memory: &memory, buffer, request, name };
            let data = match call {
                Call::FileRead => call_of_file.read()?,
                Call::FileWrite => call_of_file.write()?,
                _ => call_of_file.finish()?,
            };
            store(&place, &call_of_file.request);
            Ok::<_, Refusal>((data, request.count - call_of_file.request.count))
        })??;
        self.recorder(origin).moved_bytes(call, moved);
        Ok(data)
    }
}

/// Reads a request, each field once.
fn load(place: &VolatileSlice<'_>) -> Result<FileRequest, Refusal> {
    let mut bytes = [0; REQUEST];
    place.copy_to(&mut bytes[..]);
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let length = word(offset_of!(FileRequest, name_len));
    must_be_zero(length >> 32)?;
    let reserved = offset_of!(FileRequest, reserved_too);
    must_be_zero(word(reserved) | word(reserved + 8))?;
    Ok(FileRequest {
        name: word(offset_of!(FileRequest, name)),
        name_len: length as u32,
        tag: word(offset_of!(FileRequest, tag)),
        offset: word(offset_of!(FileRequest, offset)),
        address: word(offset_of!(FileRequest, address)),
        count: word(offset_of!(FileRequest, count)),
        ..FileRequest::default()
    })
}

/// Writes the fields that calls change.
fn store(place: &VolatileSlice<'_>, request: &FileRequest) {
    let FileRequest { tag, offset, address, count, .. } = *request;
    let mut bytes = [0; CHANGED.end - CHANGED.start];
    for (place, field) in bytes.chunks_exact_mut(8).zip([tag, offset, address, count]) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    let fields = place.subslice(CHANGED.start, bytes.len());
    fields.expect("fields are inside of the request").copy_from(&bytes);
}

/// Reads the name.
fn file_name(
    memory: &LinearMemory<'_>,
    request: &FileRequest,
) -> Result<ArrayVec<u8, FILE_NAME_MAX>, Refusal> {
    if request.name_len == 0 {
        return Err(Refusal(status::LENGTH));
    }
    read_text(memory, request.name, request.name_len.into())
}

impl FileCall<'_> {
    /// Reads until the buffer is full, the file ends, or the call has moved enough. Returns 1 at the end of the file.
    fn read(&mut self) -> Result<u32, Refusal> {
        check(self.memory, self.request.address, self.request.count, 1)?;
        let file = self.share.read(&self.name)?;
        if self.request.tag != 0 && self.request.tag != file.tag {
            return Err(Refusal(status::STALE));
        }
        let start = self.request.offset;
        let mut budget = self.budget().min(file.size.saturating_sub(start));
        let result = loop {
            let count = self.next_part(budget);
            if count == 0 {
                break Ok(());
            }
            let bytes = &mut self.buffer[..count];
            let moved = file.read_at(bytes, self.request.offset).map_err(Refusal::from);
            let moved = moved.and_then(|()| {
                self.memory.with_mut(self.request.address, count, |to| to.copy_from(bytes))?;
                Ok(())
            });
            if moved.is_err() {
                break moved;
            }
            self.advance(count);
            budget -= count as u64;
        };
        self.request.tag = file.tag;
        self.unless_progress(result, start)?;
        Ok((self.request.offset >= file.size).into())
    }

    /// Begins a file, or takes the unfinished one, and appends to it.
    fn write(&mut self) -> Result<u32, Refusal> {
        check(self.memory, self.request.address, self.request.count, 1)?;
        let FileRequest { tag, offset, .. } = self.request;
        let is_new = tag == 0;
        let mut upload = match is_new {
            true => {
                must_be_zero(offset)?;
                self.share.begin(&self.name)?
            }
            false => self.share.take(&self.name, tag, offset)?,
        };
        let mut budget = self.budget();
        let result = loop {
            let count = self.next_part(budget);
            if count == 0 {
                break Ok(());
            }
            let bytes = &mut self.buffer[..count];
            let moved = self.memory.read(self.request.address, bytes).map_err(Refusal::from);
            if let Err(error) = moved.and_then(|()| Ok(upload.append(bytes)?)) {
                break Err(error);
            }
            self.advance(count);
            budget -= count as u64;
        };
        let result = self.unless_progress(result, offset);
        self.request.tag = upload.tag();
        // A call that fails has not begun a file. One that cannot go on gives its room back.
        let is_kept = match result {
            Ok(()) => true,
            Err(Refusal(status::LIMIT | status::FAILED)) => false,
            Err(_) => !is_new,
        };
        if is_kept {
            self.share.keep(upload);
        }
        result.map(|()| 0)
    }

    /// Gives an unfinished file of this size its name.
    fn finish(&mut self) -> Result<u32, Refusal> {
        let FileRequest { tag, offset, .. } = self.request;
        self.share.take(&self.name, tag, offset)?.publish()?;
        Ok(0)
    }

    /// The bytes that this call moves at most.
    fn budget(&self) -> u64 {
        self.request.count.min(ELEMENTS_MAX as u64)
    }

    /// The bytes up to the end of the page in memory, within the budget.
    fn next_part(&self, budget: u64) -> usize {
        left_in_page(self.request.address).min(budget as usize)
    }

    fn advance(&mut self, count: usize) {
        let count = count as u64;
        self.request.offset += count;
        self.request.address = self.request.address.wrapping_add(count);
        self.request.count -= count;
    }

    /// The result, unless there was some progress: then the next call meets the error at its start.
    fn unless_progress(&self, result: Result<(), Refusal>, start: u64) -> Result<(), Refusal> {
        if self.request.offset > start { Ok(()) } else { result }
    }
}
