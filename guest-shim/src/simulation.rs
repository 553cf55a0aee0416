//! A machine for tests: a host that answers as configured, and devices that log their accesses.
//!
//! Memory is this process's own: a linear address, less the segment's base, is a pointer. Pages are
//! identified by linear addresses.

use core::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::vec::Vec;

use crate::abi::{
    self, CallWord, CompactRecord, FileRequest, LargeMailbox, RECORD_PENDING, Record, Status, call,
    status,
};
use crate::machine::{Machine, MailboxMachine};
use crate::port_io::PortIo;
use crate::simulated_files::SimulatedFiles;

/// The way in which an access was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Instruction,
    Call,
    Mailbox,
    Batch,
    CompactBatch,
}

/// One element moved: the way, the number of the scalar call, the port, the value.
pub(crate) type Access = (By, u8, u16, u32);

/// A machine.
#[derive(Debug, Default)]
pub(crate) struct Simulation {
    /// True if there is a host.
    pub(crate) heard: bool,
    /// The status of every call, if it is not to be carried out.
    pub(crate) refusal: Option<u8>,
    /// Ports that the host declines.
    pub(crate) declined: Vec<u16>,
    /// The status of records for a port.
    pub(crate) wrong: Option<(u16, u8)>,
    /// Maximum number of elements that a call moves.
    pub(crate) elements_max: usize,
    /// True if the first use of each page is answered by PAGE.
    pub(crate) pages: bool,
    /// True if a page is still missing after it was touched.
    pub(crate) stubborn: bool,
    pub(crate) segment_base: usize,
    /// True if the host runs compact batches.
    pub(crate) has_compact_batches: bool,
    /// True if mailboxes can be registered.
    pub(crate) has_mailboxes: bool,
    /// True if they can also be large.
    pub(crate) has_large_mailboxes: bool,
    /// The linear address and the key of the CPU's mailbox.
    pub(crate) mailbox: Cell<Option<(usize, u64)>>,
    /// True if the CPU's mailbox is a large one.
    pub(crate) is_large: Cell<bool>,
    pub(crate) diary: RefCell<Diary>,
    pub(crate) files: RefCell<SimulatedFiles>,
}

/// A record of accesses, calls and touches.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    pub(crate) accesses: Vec<Access>,
    pub(crate) calls: usize,
    touched: HashSet<usize>,
    next_input: u32,
}

/// A size of element, and its scalar call.
fn element(call_number: u8) -> (usize, u8) {
    match call_number {
        call::INSB => (1, call::INB),
        call::INSW => (2, call::INW),
        call::INSL => (4, call::INL),
        call::OUTSB => (1, call::OUTB),
        call::OUTSW => (2, call::OUTW),
        call::OUTSL => (4, call::OUTL),
        scalar => (0, scalar),
    }
}

fn mask(scalar: u8) -> u32 {
    match scalar {
        call::INB | call::OUTB => 0xff,
        call::INW | call::OUTW => 0xffff,
        _ => u32::MAX,
    }
}

impl Simulation {
    /// A host that carries out every call.
    pub(crate) fn host() -> Simulation {
        Simulation {
            heard: true,
            elements_max: 65_536,
            has_compact_batches: true,
            has_mailboxes: true,
            has_large_mailboxes: true,
            ..Simulation::default()
        }
    }

    pub(crate) fn accesses(&self) -> Vec<Access> {
        self.diary.borrow().accesses.clone()
    }

    /// All values written, in any way.
    pub(crate) fn written(&self) -> Vec<u32> {
        let is_write = |access: &Access| (call::OUTB..=call::OUTL).contains(&access.1);
        self.accesses().into_iter().filter(is_write).map(|access| access.3).collect()
    }

    /// The ways of the accesses, without repetitions.
    pub(crate) fn ways(&self) -> Vec<By> {
        let mut ways: Vec<By> = self.accesses().into_iter().map(|access| access.0).collect();
        ways.dedup();
        ways
    }

    /// The device's part of an access: reads return 1, 2, 3...
    fn device(&self, by: By, scalar: u8, port: u16, value: u32) -> u32 {
        let mut diary = self.diary.borrow_mut();
        let is_read = (call::INB..=call::INL).contains(&scalar);
        if is_read {
            diary.next_input += 1;
        }
        let value = if is_read { diary.next_input } else { value } & mask(scalar);
        diary.accesses.push((by, scalar, port, value));
        value
    }

    /// Returns true if the host can judge the memory.
    fn is_judged(&self, linear: usize, size: usize) -> bool {
        let mut diary = self.diary.borrow_mut();
        let pages = [linear >> 12, (linear + size - 1) >> 12];
        let known = pages.iter().all(|page| diary.touched.contains(page));
        if !self.stubborn {
            diary.touched.extend(pages);
        }
        !self.pages || known
    }

    /// Moves elements as far as possible. Returns the status and the number of elements left.
    fn string(&self, by: By, number: u8, port: u16, linear: usize, count: usize) -> (u8, usize) {
        let (size, scalar) = element(number);
        for done in 0..count.min(self.elements_max) {
            let at = linear + done * size;
            if !self.is_judged(at, size) {
                return (status::PAGE, count - done);
            }
            let pointer = core::ptr::with_exposed_provenance_mut::<u8>(at - self.segment_base);
            let mut bytes = [0; 4];
            // SAFETY: the address is one that the shim gave for this.
            unsafe { pointer.copy_to(bytes.as_mut_ptr(), size) };
            let value = self.device(by, scalar, port, u32::from_le_bytes(bytes));
            if number < call::OUTSB {
                // SAFETY: as above.
                unsafe { pointer.copy_from(value.to_le_bytes().as_ptr(), size) };
            }
        }
        (status::OK, count - count.min(self.elements_max))
    }

    /// Executes one record. Returns its status.
    fn record(&self, record: &mut Record) -> u8 {
        assert_eq!(record.status, RECORD_PENDING);
        let (size, scalar) = element(record.call);
        record.status = if self.declined.contains(&record.port) {
            status::DECLINED
        } else if let Some((port, code)) = self.wrong
            && port == record.port
        {
            code
        } else if size == 0 {
            let value = self.device(By::Batch, scalar, record.port, record.value);
            record.value = value;
            status::OK
        } else {
            let (linear, count) = (record.address as usize, record.value as usize);
            let (code, left) = self.string(By::Batch, record.call, record.port, linear, count);
            record.address += ((count - left) * size) as u64;
            record.value = left as u32;
            if code == status::OK && left != 0 { RECORD_PENDING } else { code }
        };
        record.status
    }

    /// The mailbox at a linear address.
    fn mailbox_at(&self, linear: usize) -> *mut LargeMailbox {
        core::ptr::with_exposed_provenance_mut(linear - self.segment_base)
    }

    /// Forgets the unfinished files, as a reset does.
    pub(crate) fn forget_unfinished_files(&self) {
        self.files.borrow_mut().forget_unfinished();
    }

    /// A call for a file: each page of its memory is judged.
    fn file(&self, number: u8, linear: usize) -> Status {
        let request = core::ptr::with_exposed_provenance_mut::<FileRequest>(linear);
        // SAFETY: the address is one that the shim gave for this.
        let request = unsafe { &mut *request };
        let count = (request.count as usize).min(self.elements_max);
        // Up to the end of the buffer's first page.
        let count =
            if self.pages { count.min(4096 - request.address as usize % 4096) } else { count };
        let is_judged = self.is_judged(linear, size_of::<FileRequest>())
            && self.is_judged(request.name as usize, request.name_len as usize)
            && (count == 0 || self.is_judged(request.address as usize, count));
        match is_judged {
            // SAFETY: as above.
            true => unsafe { self.files.borrow_mut().run(number, request, count) },
            false => Status::new(status::PAGE, 0),
        }
    }

    fn batch(&self, edx: &mut usize, ecx: &mut usize) -> Status {
        while *ecx != 0 {
            if !self.is_judged(*edx, size_of::<Record>()) {
                return Status::new(status::PAGE, 0);
            }
            let pointer = core::ptr::with_exposed_provenance_mut(*edx - self.segment_base);
            // SAFETY: the address is one that the shim gave for this.
            let code = self.record(unsafe { &mut *pointer });
            match code {
                status::OK => (),
                RECORD_PENDING => return Status::new(status::OK, 0),
                code => return Status::new(code, 0),
            }
            *edx += size_of::<Record>();
            *ecx -= 1;
        }
        Status::new(status::OK, 0)
    }

    /// Runs compact records. After some progress an error is left to the next call.
    fn compact_batch(&self, edx: &mut usize, ecx: &mut usize) -> Status {
        for done in 0..(*ecx).min(self.elements_max) {
            let code = self.compact_record(*edx);
            match code {
                status::OK => {}
                status::PAGE | status::DECLINED => return Status::new(code, 0),
                code => return Status::new(if done == 0 { code } else { status::OK }, 0),
            }
            *edx += size_of::<CompactRecord>();
            *ecx -= 1;
        }
        Status::new(status::OK, 0)
    }

    /// Executes the compact record at a linear address. Returns its status.
    fn compact_record(&self, linear: usize) -> u8 {
        if !self.is_judged(linear, size_of::<CompactRecord>()) {
            return status::PAGE;
        }
        let pointer =
            core::ptr::with_exposed_provenance_mut::<CompactRecord>(linear - self.segment_base);
        // SAFETY: the address is one that the shim gave for this.
        let record = unsafe { &mut *pointer };
        assert_eq!(record.reserved, 0);
        if self.declined.contains(&record.port) {
            return status::DECLINED;
        }
        if let Some((port, code)) = self.wrong
            && port == record.port
        {
            return code;
        }
        let value = self.device(By::CompactBatch, record.call, record.port, record.value);
        if (call::INB..=call::INL).contains(&record.call) {
            record.value = value;
        }
        status::OK
    }
}

impl Machine for Simulation {
    type Instructions = Simulation;

    unsafe fn call(&self, word: CallWord, edx: &mut usize, ecx: &mut usize) -> Status {
        self.diary.borrow_mut().calls += 1;
        let (number, port) = (word.call().unwrap(), word.port());
        if !self.heard {
            return Status(word.0);
        }
        if let Some(code) = self.refusal {
            return Status::new(code, 0);
        }
        if self.declined.contains(&port) {
            return Status::new(status::DECLINED, 0);
        }
        match number {
            call::INB | call::INW => {
                Status::new(status::OK, self.device(By::Call, number, port, 0))
            }
            call::INL => {
                *edx = self.device(By::Call, number, port, 0) as usize;
                Status::new(status::OK, 0)
            }
            call::OUTB => {
                self.device(By::Call, number, port, word.operand().into());
                Status::new(status::OK, 0)
            }
            call::OUTW | call::OUTL => {
                self.device(By::Call, number, port, *edx as u32);
                Status::new(status::OK, 0)
            }
            call::INSB..=call::OUTSL => {
                let (code, left) = self.string(By::Call, number, port, *edx, *ecx);
                *edx += (*ecx - left) * element(number).0;
                *ecx = left;
                Status::new(code, 0)
            }
            call::BATCH => self.batch(edx, ecx),
            call::BATCH_COMPACT if self.has_compact_batches => self.compact_batch(edx, ecx),
            call::FILE_READ..=call::FILE_FINISH => self.file(number, *edx),
            _ => Status::new(status::UNKNOWN, 0),
        }
    }

    fn instructions(&self) -> &Simulation {
        self
    }
}

impl MailboxMachine for Simulation {
    unsafe fn register_mailbox(&self, mailbox: usize) {
        let place = self.mailbox_at(mailbox);
        // SAFETY: the address is one that the shim gave for this.
        let mut contents = unsafe { place.read_volatile() };
        let is_large = contents.word == CallWord::new(call::REGISTER_LARGE, 0, 0).0;
        let is_small = contents.word == CallWord::new(call::REGISTER, 0, 0).0;
        if !self.heard || !(is_small || is_large && self.has_large_mailboxes) {
            return;
        }
        assert_eq!(contents.reserved, [0; 3]);
        if self.has_mailboxes {
            contents.word = Status::new(status::OK, abi::VERSION).0;
            contents.value = abi::feature::MAILBOX;
            self.mailbox.set(Some((mailbox, contents.key)));
            self.is_large.set(is_large);
        } else {
            contents.word = Status::new(status::DECLINED, 0).0;
        }
        // SAFETY: as above.
        unsafe { place.write_volatile(contents) };
    }

    unsafe fn ring_doorbell(&self) {
        let Some((linear, key)) = self.mailbox.get() else { return };
        let place = self.mailbox_at(linear);
        // SAFETY: the address is one that the shim gave for this.
        let mut mailbox = unsafe { place.read_volatile() };
        let word = CallWord(mailbox.word);
        let Some(number) = word.call().filter(|_| self.heard && key == mailbox.key) else {
            return;
        };
        let port = word.port();
        let answer = |scalar, value| self.device(By::Mailbox, scalar, port, value);
        let (code, data) = match number {
            call::INSB..=call::OUTSL if !self.is_large.get() => (status::UNKNOWN, 0),
            _ if self.refusal.is_some() => (self.refusal.unwrap(), 0),
            _ if self.declined.contains(&port) => (status::DECLINED, 0),
            call::INB | call::INW => (status::OK, answer(number, 0)),
            call::INL => {
                mailbox.value = answer(number, 0);
                (status::OK, 0)
            }
            call::OUTB => {
                answer(number, word.operand().into());
                (status::OK, 0)
            }
            call::OUTW | call::OUTL => {
                answer(number, mailbox.value);
                (status::OK, 0)
            }
            call::INSB..=call::OUTSL => {
                let (address, count) = (mailbox.address as usize, mailbox.count as usize);
                let (code, left) = self.string(By::Mailbox, number, port, address, count);
                mailbox.address += ((count - left) * element(number).0) as u64;
                mailbox.count = left as u64;
                (code, 0)
            }
            call::RELEASE => {
                self.mailbox.set(None);
                (status::OK, 0)
            }
            _ => (status::UNKNOWN, 0),
        };
        mailbox.word = Status::new(code, data).0;
        // SAFETY: as above.
        unsafe { place.write_volatile(mailbox) };
    }
}

macro_rules! instructions {
    ($($in:ident $out:ident $ins:ident $outs:ident $type:ident $in_call:ident $out_call:ident;)*) => {
        impl PortIo for Simulation {
            $(
                unsafe fn $in(&self, port: u16) -> $type {
                    self.device(By::Instruction, call::$in_call, port, 0) as $type
                }

                unsafe fn $out(&self, value: $type, port: u16) {
                    self.device(By::Instruction, call::$out_call, port, value.into());
                }

                unsafe fn $ins(&self, port: u16, buffer: &mut [$type]) {
                    // SAFETY: nothing can go wrong in a simulation.
                    buffer.iter_mut().for_each(|value| *value = unsafe { self.$in(port) });
                }

                unsafe fn $outs(&self, port: u16, buffer: &[$type]) {
                    // SAFETY: nothing can go wrong in a simulation.
                    buffer.iter().for_each(|value| unsafe { self.$out(*value, port) });
                }
            )*
        }
    };
}

instructions! {
    inb outb insb outsb u8 INB OUTB;
    inw outw insw outsw u16 INW OUTW;
    inl outl insl outsl u32 INL OUTL;
}
