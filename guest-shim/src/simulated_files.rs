//! The files of a simulated host.

use std::collections::BTreeMap;
use std::vec::Vec;

use crate::abi::{FileRequest, Status, call, status};

/// The shared directory of a simulated host.
#[derive(Debug, Default)]
pub(crate) struct SimulatedFiles {
    files: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The unfinished files by tag, each with its name.
    unfinished: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    last_tag: u64,
}

impl SimulatedFiles {
    pub(crate) fn forget_unfinished(&mut self) {
        self.unfinished.clear();
    }

    /// Runs a call, which moves `count` bytes at most.
    ///
    /// # Safety
    ///
    /// Name and buffer of the request must be memory of this process.
    pub(crate) unsafe fn run(
        &mut self,
        number: u8,
        request: &mut FileRequest,
        count: usize,
    ) -> Status {
        let pointer = |address: u64| core::ptr::with_exposed_provenance_mut::<u8>(address as usize);
        let name_len = request.name_len as usize;
        // SAFETY: the caller says that this is memory.
        let name = unsafe { core::slice::from_raw_parts(pointer(request.name), name_len) };
        let fail = |code: u8| Status::new(code, 0);
        let tag = request.tag;
        let offset = request.offset as usize;
        match number {
            call::FILE_READ => {
                let Some(file) = self.files.get(name) else { return fail(status::MISSING) };
                let part = &file[offset..];
                let part = &part[..count.min(part.len())];
                // SAFETY: as above.
                unsafe { pointer(request.address).copy_from(part.as_ptr(), part.len()) };
                advance(request, part.len());
                Status::new(status::OK, (request.offset as usize == file.len()).into())
            }
            call::FILE_WRITE => {
                if tag == 0 {
                    if self.files.contains_key(name) {
                        return fail(status::EXISTS);
                    }
                    self.last_tag += 1;
                    request.tag = self.last_tag;
                    self.unfinished.insert(request.tag, (name.to_vec(), Vec::new()));
                }
                match self.unfinished.get_mut(&request.tag) {
                    Some((of, bytes)) if of == name && bytes.len() == offset => {
                        let start = pointer(request.address);
                        // SAFETY: as above.
                        bytes.extend_from_slice(unsafe {
                            core::slice::from_raw_parts(start, count)
                        });
                        advance(request, count);
                        Status::new(status::OK, 0)
                    }
                    _ => fail(status::STALE),
                }
            }
            _ => match self.unfinished.remove(&tag) {
                Some((of, bytes)) if of == name && bytes.len() == offset => {
                    self.files.insert(of, bytes);
                    Status::new(status::OK, 0)
                }
                _ => fail(status::STALE),
            },
        }
    }
}

fn advance(request: &mut FileRequest, count: usize) {
    request.offset += count as u64;
    request.address += count as u64;
    request.count -= count as u64;
}
