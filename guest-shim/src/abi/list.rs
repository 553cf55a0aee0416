//! The list of the ABI: instructions, calls, features, levels, statuses, limits.
//!
//! Everything else is generated from it: the constants of [`abi`](super), pvio's own list of calls (with
//! `for_each_call`), and the blocks of `include/pvio.h` and `ABI.md` between the marks `generated`,
//! which `tests/abi_list.rs` compares and, with `PVIO_WRITE_ABI=1`, writes.

/// A constant of the ABI, with its text for other languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    /// The name in this crate, in its module.
    pub name: &'static str,
    /// The value.
    pub value: u64,
    /// The value as the list has it, in decimal or hexadecimal; digits may be grouped by `_`.
    pub literal: &'static str,
    /// Its meaning, without a full stop.
    pub about: &'static str,
}

/// A call of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The number in the call word.
    pub number: u8,
    /// The name, in lower case.
    pub name: &'static str,
    /// Its effect, without a full stop.
    pub about: &'static str,
    /// Its arguments; empty if it has none.
    pub takes: &'static str,
    /// Its results apart from the status; empty if it has none.
    pub gives: &'static str,
}

/// An instruction of the ABI, in the encodings of the three modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The name of its constants, without the mode.
    pub name: &'static str,
    /// Its effect, without a full stop.
    pub about: &'static str,
    /// The encoding in 16-bit code.
    pub bytes_16: [u8; 8],
    /// The encoding in 32-bit code.
    pub bytes_32: [u8; 7],
    /// The encoding in 64-bit code.
    pub bytes_64: [u8; 7],
}

/// Passes every call of the ABI to a macro, in the order of their numbers: the name as a Rust variant,
/// as a constant and in lower case; the number; what the call does, takes and gives.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_call {
    ($callback:ident) => {
        $callback! {
            Probe PROBE "probe" 0 "Asks for a host", "", "data: the version; EDX: features";
            Inb INB "inb" 1 "Reads a byte", "port", "data: the byte";
            Inw INW "inw" 2 "Reads 16 bits", "port", "data: 16 bits";
            Inl INL "inl" 3 "Reads 32 bits", "port", "EDX: 32 bits";
            Outb OUTB "outb" 4 "Writes a byte", "port; operand: the byte", "";
            Outw OUTW "outw" 5 "Writes 16 bits", "port; EDX: its low 16 bits", "";
            Outl OUTL "outl" 6 "Writes 32 bits", "port; EDX", "";
            Insb INSB "insb" 7 "Reads bytes into memory", "port; address; count", "address; count";
            Insw INSW "insw" 8 "Reads 16-bit elements into memory", "port; address; count", "address; count";
            Insl INSL "insl" 9 "Reads 32-bit elements into memory", "port; address; count", "address; count";
            Outsb OUTSB "outsb" 10 "Writes bytes from memory", "port; address; count", "address; count";
            Outsw OUTSW "outsw" 11 "Writes 16-bit elements from memory", "port; address; count", "address; count";
            Outsl OUTSL "outsl" 12 "Writes 32-bit elements from memory", "port; address; count", "address; count";
            Batch BATCH "batch" 13 "Runs records in order, until one is not OK", "address and count of records", "address; count";
            Register REGISTER "register" 14 "Registers a mailbox; in the mailbox only", "", "data: the version; value: features";
            Release RELEASE "release" 15 "Releases the mailbox; through the mailbox only", "", "";
            Exit EXIT "exit" 16 "Ends the machine", "operand: the exit status", "";
            Log LOG "log" 17 "Logs a line of text", "operand: the level; address; count", "";
            Begin BEGIN "begin" 18 "Opens a window of the statistics", "address and count of its name", "";
            End END "end" 19 "Closes a window", "address and count of its name", "";
            Reset RESET "reset" 20 "Sets all counts to zero, also those of open windows; forgets closed windows", "", "";
            Dump DUMP "dump" 21 "Writes the statistics so far", "", "";
            RegisterLarge REGISTER_LARGE "register_large" 22 "Registers a large mailbox; in the mailbox only", "", "data: the version; value: features";
            BatchCompact BATCH_COMPACT "batch_compact" 23 "Runs compact records in order, until one fails", "address and count of records", "address; count";
            FileRead FILE_READ "file_read" 24 "Reads a part of a file of the host", "address of a file request", "data: 1 if this is the end of the file; the request";
            FileWrite FILE_WRITE "file_write" 25 "Begins a file of the host, or appends to one that is unfinished", "address of a file request", "the request";
            FileFinish FILE_FINISH "file_finish" 26 "Gives a file that is complete its name", "address of a file request", "";
        }
    };
}

macro_rules! calls {
    ($($variant:ident $constant:ident $name:literal $number:literal
       $about:literal, $takes:literal, $gives:literal;)*) => {
        /// The numbers of the calls.
        ///
        /// "Address" is RDX or EDX, "count" is RCX or ECX. After the call, as after a `rep`, they are the
        /// address after the last element moved, and the number of elements left.
        pub mod call {
            $(#[doc = concat!($about, ".")] pub const $constant: u8 = $number;)*
        }

        /// All calls, in the order of their numbers.
        pub const CALLS: &[Call] = &[$(Call {
            number: $number, name: $name, about: $about, takes: $takes, gives: $gives,
        },)*];
    };
}

macro_rules! constants {
    ($(#[doc = $doc:literal])* $module:ident: $type:ident;
     $($name:ident = $value:literal, $about:literal;)*) => {
        $(#[doc = $doc])*
        pub mod $module {
            $(#[doc = concat!($about, ".")] pub const $name: $type = $value;)*

            /// All of them.
            pub const ALL: &[super::Constant] = &[$(super::Constant {
                name: stringify!($name), value: $value, literal: stringify!($value), about: $about,
            },)*];
        }
    };
}

macro_rules! numbers {
    ($($name:ident: $type:ident = $value:literal, $about:literal;)*) => {
        $(#[doc = concat!($about, ".")] pub const $name: $type = $value;)*

        /// The constants outside the modules.
        pub const NUMBERS: &[Constant] = &[$(Constant {
            name: stringify!($name), value: $value, literal: stringify!($value), about: $about,
        },)*];
    };
}

macro_rules! instructions {
    ($($name:literal $letter:literal $bits_16:ident $bits_32:ident $bits_64:ident $about:literal;)*) => {
        $(
            #[doc = concat!($about, ", in 16-bit code.")]
            pub const $bits_16: [u8; 8] = [0x67, 0x0f, 0x1f, 0x80, $letter, 0x16, 0x90, 0x90];
            #[doc = concat!($about, ", in 32-bit code.")]
            pub const $bits_32: [u8; 7] = [0x0f, 0x1f, 0x80, $letter, 0x32, 0x90, 0x90];
            #[doc = concat!($about, ", in 64-bit code.")]
            pub const $bits_64: [u8; 7] = [0x0f, 0x1f, 0x80, $letter, 0x64, 0x90, 0x90];
        )*

        /// The instructions: `nop dword ptr [eax + disp32]`, or `[rax + disp32]`.
        ///
        /// The bytes of the displacement are a letter, the mode in hexadecimal, and two one-byte NOPs, because
        /// a processor in another mode than the code assumes may execute these two as instructions.
        pub const INSTRUCTIONS: &[Instruction] = &[$(Instruction {
            name: $name, about: $about, bytes_16: $bits_16, bytes_32: $bits_32, bytes_64: $bits_64,
        },)*];
    };
}

instructions! {
    "MAGIC" b'P' MAGIC_16 MAGIC_32 MAGIC_64 "Makes the call in EAX";
    "DOORBELL" b'Q' DOORBELL_16 DOORBELL_32 DOORBELL_64 "Makes the call in this CPU's mailbox";
    "REGISTER_MAILBOX" b'R' REGISTER_MAILBOX_16 REGISTER_MAILBOX_32 REGISTER_MAILBOX_64
        "Registers the mailbox at EDX or RDX for this CPU";
}

numbers! {
    VERSION: u32 = 1, "The version of the ABI, which a probe returns";
    UNANSWERED: u32 = 0x8000_0000, "Bit 31 of EAX: no host has answered (yet)";
    CALL_SHIFT: u32 = 24, "The position in EAX of a call's number, and of a status";
    OPERAND_SHIFT: u32 = 16, "The position in EAX of a call's operand";
    DATA_MASK: u32 = 0x00ff_ffff, "The bits of an answer that are data";
    LOG_MAX: usize = 1024, "The longest line of the log, in bytes";
    NAME_MAX: usize = 64, "The longest name of a window, in bytes";
    WINDOWS_MAX: usize = 256, "The maximum number of windows in a run";
    DUMPS_MAX: usize = 100, "The maximum number of dumps in a run";
    ELEMENTS_MAX: usize = 65536, "The maximum number of elements and records, or of a file's bytes, that one call moves";
    FILE_NAME_MAX: usize = 255, "The longest name of a file, in bytes";
    UNFINISHED_FILES_MAX: usize = 16, "The maximum number of unfinished files; one more replaces that of the oldest call";
    RECORD_PENDING: u8 = 0x80, "The status of a record that no host has run: bit 31 of a call, as a byte";
}

for_each_call!(calls);

constants! {
    /// The features of a host: the bits of EDX after a probe.
    feature: u32;
    EVERY_PORT = 0x1, "Calls reach every port. Without it, only those that the host's own devices serve";
    MEMORY = 0x2, "Calls with an address work. Without it, they may be DECLINED";
    MAILBOX = 0x4, "A mailbox can be registered";
    LARGE_MAILBOX = 0x8, "A large mailbox can be registered";
    COMPACT_BATCH = 0x10, "The call for batches of compact records works";
    FILES = 0x20, "The host shares a directory. Without it, calls for files are DECLINED";
}

constants! {
    /// The levels of a logged line.
    level: u8;
    ERROR = 0, "An error";
    WARNING = 1, "Something that may be an error";
    INFO = 2, "An event of interest";
    DEBUG = 3, "A detail for debugging";
}

constants! {
    /// The result of a call. With all but `OK`, `PAGE` and `DECLINED`, the call has done nothing; each
    /// record of a batch has its own status.
    status: u8;
    OK = 0, "Done. With a count left: call again";
    DECLINED = 1, "The host does not handle this: execute the real instruction for the rest";
    PAGE = 2, "Touch the page at the address, then call again for the rest";
    DENIED = 3, "This ring may not make hypercalls";
    UNKNOWN = 4, "No call has this number";
    ADDRESS = 5, "The memory cannot be a buffer";
    ARGUMENT = 6, "An operand is out of range, or a field that must be 0 is not";
    LENGTH = 7, "A line or name is too long, or a name is empty";
    STATE = 8, "The window to begin is open, or the window to end is not";
    FULL = 9, "The maximum number of windows, or of dumps, is reached";
    FAILED = 10, "The host failed: it cannot write its file, for example";
    MISSING = 11, "No file has this name, or its directory does not exist";
    NAME = 12, "The name cannot be that of a regular file in the host's directory";
    EXISTS = 13, "A file has this name already, and the host keeps it";
    LIMIT = 14, "The file, or all files together, would be larger than the host allows";
    STALE = 15, "The unfinished file is gone, or the file has changed since the first part was read";
}
