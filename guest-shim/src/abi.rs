//! The hypercall ABI in numbers: the instructions, the calls, what is in which register, the answers.
//!
//! The page `guest-shim/ABI.md` says in words what these mean. The host takes them from here, and
//! `include/pvio.h` is compared with them by a test. Nothing here executes anything.

/// The version of the ABI, which a probe answers with. One with the same number means the same by
/// everything that it defines; calls and features may be added to it.
pub const VERSION: u32 = 1;

/// The instruction in 16-bit code: `nop dword ptr [eax + disp32]`, by an address-size prefix.
///
/// The displacement's bytes are `P`, the mode, and two that are NOPs by themselves: a processor that is
/// in another mode than the code thinks may take them for instructions.
pub const MAGIC_16: [u8; 8] = [0x67, 0x0f, 0x1f, 0x80, b'P', 0x16, 0x90, 0x90];
/// The instruction in 32-bit code: `nop dword ptr [eax + disp32]`.
pub const MAGIC_32: [u8; 7] = [0x0f, 0x1f, 0x80, b'P', 0x32, 0x90, 0x90];
/// The instruction in 64-bit code: `nop dword ptr [rax + disp32]`.
pub const MAGIC_64: [u8; 7] = [0x0f, 0x1f, 0x80, b'P', 0x64, 0x90, 0x90];

/// The instruction that rings: what is in the processor's mailbox is to be carried out. In 16-bit code.
pub const DOORBELL_16: [u8; 8] = [0x67, 0x0f, 0x1f, 0x80, b'Q', 0x16, 0x90, 0x90];
/// The same in 32-bit code.
pub const DOORBELL_32: [u8; 7] = [0x0f, 0x1f, 0x80, b'Q', 0x32, 0x90, 0x90];
/// The same in 64-bit code.
pub const DOORBELL_64: [u8; 7] = [0x0f, 0x1f, 0x80, b'Q', 0x64, 0x90, 0x90];

/// The instruction that makes the [`Mailbox`] at RDX or EDX the processor's. In 16-bit code.
pub const REGISTER_MAILBOX_16: [u8; 8] = [0x67, 0x0f, 0x1f, 0x80, b'R', 0x16, 0x90, 0x90];
/// The same in 32-bit code.
pub const REGISTER_MAILBOX_32: [u8; 7] = [0x0f, 0x1f, 0x80, b'R', 0x32, 0x90, 0x90];
/// The same in 64-bit code.
pub const REGISTER_MAILBOX_64: [u8; 7] = [0x0f, 0x1f, 0x80, b'R', 0x64, 0x90, 0x90];

/// In EAX before the instruction, or in a mailbox: a call, and the mark of one that nobody has heard.
///
/// | bits | |
/// | --- | --- |
/// | 31 | 1 |
/// | 24-30 | the call, see [`call`] |
/// | 16-23 | its operand: what `outb` writes, the exit code, the level of a line; else 0 |
/// | 0-15 | the port of port I/O; else 0 |
///
/// A host that hears it puts a [`Status`] there, of which bit 31 is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallWord(pub u32);

/// Bit 31 of EAX: nobody has answered (yet).
pub const UNHEARD: u32 = 1 << 31;
/// Where a call's number stands in EAX, and a status.
pub const CALL_SHIFT: u32 = 24;
/// Where a call's operand stands in EAX.
pub const OPERAND_SHIFT: u32 = 16;
/// The part of a status that is data: the low 24 bits.
pub const DATA_MASK: u32 = 0x00ff_ffff;

impl CallWord {
    /// A call by its number, with its operand and port.
    #[inline]
    pub const fn new(call: u8, operand: u8, port: u16) -> CallWord {
        let call = (call as u32) << CALL_SHIFT;
        CallWord(UNHEARD | call | (operand as u32) << OPERAND_SHIFT | port as u32)
    }

    /// The call's number; `None` where this is no call.
    pub const fn call(self) -> Option<u8> {
        if self.0 & UNHEARD == 0 { None } else { Some((self.0 >> CALL_SHIFT & 0x7f) as u8) }
    }

    /// The operand.
    pub const fn operand(self) -> u8 {
        (self.0 >> OPERAND_SHIFT) as u8
    }

    /// The port.
    pub const fn port(self) -> u16 {
        self.0 as u16
    }
}

/// The numbers of the calls.
///
/// "Address" is RDX or EDX, "count" is RCX or ECX; both are left as `rep` leaves its own: behind what
/// was moved, and what is left to be moved.
pub mod call {
    /// Is anybody there? Data: [`VERSION`](super::VERSION); EDX: the [`feature`](super::feature)s.
    pub const PROBE: u8 = 0;
    /// Reads a byte; data: what was read.
    pub const INB: u8 = 1;
    /// Reads 16 bits; data: what was read.
    pub const INW: u8 = 2;
    /// Reads 32 bits; EDX: what was read.
    pub const INL: u8 = 3;
    /// Writes the operand.
    pub const OUTB: u8 = 4;
    /// Writes the low 16 bits of EDX.
    pub const OUTW: u8 = 5;
    /// Writes EDX.
    pub const OUTL: u8 = 6;
    /// Reads count bytes into memory.
    pub const INSB: u8 = 7;
    /// Reads count times 16 bits into memory.
    pub const INSW: u8 = 8;
    /// Reads count times 32 bits into memory.
    pub const INSL: u8 = 9;
    /// Writes count bytes from memory.
    pub const OUTSB: u8 = 10;
    /// Writes count times 16 bits from memory.
    pub const OUTSW: u8 = 11;
    /// Writes count times 32 bits from memory.
    pub const OUTSL: u8 = 12;
    /// Runs count [`Record`](super::Record)s in order, until one is not OK.
    pub const BATCH: u8 = 13;
    /// In a mailbox when it is registered. Data: [`VERSION`](super::VERSION); value: the
    /// [`feature`](super::feature)s.
    pub const REGISTER: u8 = 14;
    /// By a mailbox: it is one no more.
    pub const RELEASE: u8 = 15;
    /// Ends the machine; the operand is the exit status.
    pub const EXIT: u8 = 16;
    /// Logs count bytes of text; the operand is the [`level`](super::level).
    pub const LOG: u8 = 17;
    /// Begins a window of the statistics, whose name is count bytes.
    pub const BEGIN: u8 = 18;
    /// Ends a window.
    pub const END: u8 = 19;
    /// Sets all counts to zero, also those of open windows.
    pub const RESET: u8 = 20;
    /// Writes the statistics as they stand.
    pub const DUMP: u8 = 21;
}

/// What a probe tells of the host, in EDX.
pub mod feature {
    /// Calls reach every port, not only those that the host's own devices serve.
    pub const EVERY_PORT: u32 = 1 << 0;
    /// Calls that read or write memory are carried out, not declined.
    pub const MEMORY: u32 = 1 << 1;
    /// A mailbox can be registered.
    pub const MAILBOX: u32 = 1 << 2;
}

/// The levels of a logged line.
pub mod level {
    /// Something went wrong.
    pub const ERROR: u8 = 0;
    /// Something may be wrong.
    pub const WARNING: u8 = 1;
    /// Something to know.
    pub const INFO: u8 = 2;
    /// Something for whoever looks into it.
    pub const DEBUG: u8 = 3;
}

/// In EAX after the instruction.
///
/// | bits | |
/// | --- | --- |
/// | 31 | 0; 1 where nobody has answered: then it is the call, as it was |
/// | 24-30 | how it went, see [`status`] |
/// | 0-23 | data, as the call defines |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// An answer.
    pub const fn new(code: u8, data: u32) -> Status {
        Status((code as u32) << CALL_SHIFT | data & DATA_MASK)
    }

    /// How it went; `None` where nobody has answered.
    #[inline]
    pub const fn code(self) -> Option<u8> {
        if self.0 & UNHEARD == 0 { Some((self.0 >> CALL_SHIFT) as u8) } else { None }
    }

    /// Whether the call was carried out.
    #[inline]
    pub const fn is_ok(self) -> bool {
        self.0 >> CALL_SHIFT == status::OK as u32
    }

    /// The data.
    #[inline]
    pub const fn data(self) -> u32 {
        self.0 & DATA_MASK
    }
}

/// How a call went. With all but `OK`, `PAGE` and `DECLINED`, the call itself has done nothing (a record
/// of a batch says how it went by itself).
pub mod status {
    /// It was carried out; a string or batch with a count left wants to be called again.
    pub const OK: u8 = 0;
    /// Not the host's: execute the real instruction, for what is left.
    pub const DECLINED: u8 = 1;
    /// The page at the address must be touched first (read, or written where the call writes; of an
    /// element or text in two pages, both); then call again for what is left. Of a text nothing is done.
    pub const PAGE: u8 = 2;
    /// This ring may not make hypercalls.
    pub const DENIED: u8 = 3;
    /// There is no such call.
    pub const UNKNOWN: u8 = 4;
    /// The memory cannot be what is meant: it wraps around, is not canonical, is a device, or ROM where
    /// the call writes, or (records) is not aligned.
    pub const ADDRESS: u8 = 5;
    /// A field that must be zero is not, or an operand is none that there is.
    pub const ARGUMENT: u8 = 6;
    /// A text or name is longer than it may be, or a name empty.
    pub const LENGTH: u8 = 7;
    /// The window to begin is open, or the one to end is not.
    pub const STATE: u8 = 8;
    /// There are as many windows, or have been as many dumps, as there may be.
    pub const FULL: u8 = 9;
    /// The host could not do it: its file cannot be written.
    pub const FAILED: u8 = 10;
}

/// The longest text of a logged line, in bytes.
pub const LOG_MAX: usize = 1024;
/// The longest name of a window, in bytes.
pub const NAME_MAX: usize = 64;
/// How many windows there may be.
pub const WINDOWS_MAX: usize = 256;
/// How many dumps a guest may ask for.
pub const DUMPS_MAX: usize = 100;
/// How many elements and records one call moves at most; it leaves the others in its count.
pub const ELEMENTS_MAX: usize = 65_536;

/// One operation of a batch: 16 bytes, little-endian, aligned to 16, the same for callers of all modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Record {
    /// One of the twelve calls of port I/O.
    pub call: u8,
    /// How it went; [`RECORD_PENDING`] until then.
    pub status: u8,
    /// The port.
    pub port: u16,
    /// What is written, or was read, in the low bits; of a string, how many elements are left.
    pub value: u32,
    /// Of a string, the address of the next element; else 0.
    pub address: u64,
}

/// The status of a record that nobody has answered: bit 31 of a call, as a byte.
pub const RECORD_PENDING: u8 = 0x80;

const _: () = assert!(size_of::<Record>() == 16 && align_of::<Record>() == 16);

/// Where a processor leaves calls and finds answers, without a register: 16 bytes, little-endian,
/// aligned to 16, the same for callers of all modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Mailbox {
    /// A [`CallWord`], and then a [`Status`].
    pub word: u32,
    /// What calls take and give in EDX.
    pub value: u32,
    /// What the host knows the mailbox by: not 0, and not by chance elsewhere in memory.
    pub key: u64,
}

const _: () = assert!(size_of::<Mailbox>() == 16 && align_of::<Mailbox>() == 16);
