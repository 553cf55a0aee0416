//! Parts of the guest, of the monitor and of user space.

use serde::Serialize;

/// A part: a section of the ELF file (`link.ld`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The guest's own handler of #VE and #VC, and its entry.
    Handler,
    /// Decodes the instruction in the guest.
    GuestDecode,
    /// The guest's function that makes a hypercall.
    Call,
    /// Enters and leaves the monitor, and calls the other parts.
    Entry,
    /// Walks the page tables.
    Walk,
    /// Fetches the instruction.
    Fetch,
    /// Decodes the instruction and finds its segment.
    Decode,
    /// Reads and writes the guest's registers and memory.
    Emulate,
    /// The virtual device.
    Device,
    /// The way to a device in user space and back, and the ring of posted writes.
    User,
    /// Stands for a processor with TDX or SEV-ES: from the instruction to the guest's handler. Not software.
    Processor,
}

impl Part {
    /// All parts.
    pub const ALL: [Part; 11] = [
        Part::Handler,
        Part::GuestDecode,
        Part::Call,
        Part::Entry,
        Part::Walk,
        Part::Fetch,
        Part::Decode,
        Part::Emulate,
        Part::Device,
        Part::User,
        Part::Processor,
    ];

    /// The parts that mechanisms without a handler in the guest have.
    pub const OF_MONITOR: [Part; 6] =
        [Part::Entry, Part::Walk, Part::Fetch, Part::Decode, Part::Emulate, Part::Device];

    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Handler => "handler",
            Part::GuestDecode => "guest decode",
            Part::Call => "call",
            Part::Entry => "entry",
            Part::Walk => "walk",
            Part::Fetch => "fetch",
            Part::Decode => "decode",
            Part::Emulate => "emulate",
            Part::Device => "device",
            Part::User => "user",
            Part::Processor => "processor",
        }
    }

    /// The section's name.
    pub const fn section(self) -> &'static str {
        match self {
            Part::GuestDecode => "guest_decode",
            _ => self.name(),
        }
    }

    /// Returns true for the monitor and for user space, which is the monitor's.
    pub const fn is_monitors(self) -> bool {
        !matches!(self, Part::Handler | Part::GuestDecode | Part::Call | Part::Processor)
    }
}
