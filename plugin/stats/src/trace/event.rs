//! The events of a trace.

use std::fmt;

use pvio_x86::{InsnForm, Mode, Port};

use crate::access_filter::FilteredProcess;
use crate::{Call, CallAt, Privilege};

/// One event of a vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Host nanoseconds since the trace began.
    pub host: u64,
    /// Nanoseconds of the guest's clock; `None` if it cannot be read.
    pub guest: Option<u64>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A step of a port instruction.
    Insn(InsnEvent),
    /// An access by hypercall, or the end of one or several hypercalls.
    Call(CallEvent),
    /// A window of the statistics, or their reset. It has the code of the hypercall that changed it; `None` for a
    /// request from outside the guest.
    Window(WindowEvent, Option<CallCode>),
    /// The filter that applies from here on: the trace has only the accesses that it covers. Empty without a filter.
    Filter(Box<str>),
    /// The trace has nothing from here on, until a filter follows.
    Off,
    /// The level of an interrupt line of the ISA bus has changed.
    Irq {
        /// The line, from 0 to 15.
        line: u8,
        /// The level from here on.
        level: bool,
    },
}

/// A step of an attempt at a port instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsnEvent {
    /// The outcome of the attempt so far.
    pub stage: Stage,
    /// The instruction.
    pub code: Code,
    /// Its form.
    pub form: InsnForm,
    /// The port of the access; `None` if it made none.
    pub port: Option<Port>,
    /// What was read or written; `None` if it is not known.
    pub value: Option<u32>,
    /// The vCPU's number of the stack; `None` if there was none, or no room for it.
    pub stack: Option<u32>,
    /// The process that made it; `None` if processes are not traced.
    pub process: Option<Process>,
}

/// The outcome of an attempt so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It started, and nothing more is known yet.
    Started,
    /// It started and retired. With a port it made its access.
    Executed,
    /// It started, and retired or faulted; QEMU does not report which.
    Unverified,
    /// It started and faulted.
    Faulted,
    /// It started, and a hypervisor in the guest intercepted it.
    Exited,
    /// An attempt that had faulted has resumed, and retired.
    ResumedAndExecuted,
    /// An attempt that had faulted has resumed, and faulted again.
    ResumedAndFaulted,
    /// An attempt that had faulted has resumed, and was intercepted.
    ResumedAndExited,
    /// An attempt that had faulted has resumed, and retired or faulted; QEMU does not report which.
    ResumedAndUnverified,
    /// A string instruction that had faulted has resumed.
    Resumed,
    /// A string instruction has moved an element.
    Element {
        /// True if the attempt started with it.
        starts: bool,
        /// True if the attempt retired with it.
        ends: bool,
    },
    /// A string instruction has faulted.
    StringFaulted,
    /// A hypervisor in the guest has intercepted a string instruction.
    StringExited,
    /// An executed attempt is unverified after all.
    ExecutedBecomesUnverified,
    /// An unverified attempt was executed after all.
    UnverifiedBecomesExecuted,
    /// An unverified attempt has faulted.
    UnverifiedBecomesFault,
    /// An executed attempt was intercepted.
    ExecutedBecomesExit,
    /// An unverified attempt was intercepted.
    UnverifiedBecomesExit,
}

/// The instruction of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The number of a site.
    Site(u32),
    /// The linear address of an instruction without a row among the sites.
    Dropped(u64),
}

/// The process of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The process's number in the trace; `None` if it has no row among the processes.
    pub number: Option<u32>,
    /// True if user code made the access.
    pub is_user: bool,
}

/// The definition of a site's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteDefinition {
    /// The linear address.
    pub pc: u64,
    /// The mode of the code, if it is known.
    pub mode: Option<Mode>,
    /// The form.
    pub form: InsnForm,
    /// The boot of the kernel that runs it.
    pub boot: u32,
    /// The privilege of the code so far, if it is known.
    pub privilege: Option<Privilege>,
    /// The bytes of the instruction.
    pub bytes: Vec<u8>,
    /// The position of the code in a file, if that identifies the site.
    pub place: Option<FileOffset>,
}

/// A place in a file that guest code is mapped from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileOffset {
    /// The path in the guest.
    pub path: String,
    /// The offset in bytes.
    pub offset: u64,
}

/// The owner of accesses: a process or an address space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A process of Linux.
    Process {
        /// Its number.
        pid: u32,
        /// The name of the thread, fit for a terminal.
        comm: String,
    },
    /// The address space of this page table.
    AddressSpace(u64),
    /// Code without paging.
    Unpaged,
}

impl FilteredProcess for Owner {
    fn pid(&self) -> Option<u32> {
        match self {
            Owner::Process { pid, .. } => Some(*pid),
            Owner::AddressSpace(_) | Owner::Unpaged => None,
        }
    }

    fn comm(&self) -> Option<String> {
        match self {
            Owner::Process { comm, .. } => Some(comm.clone()),
            Owner::AddressSpace(_) | Owner::Unpaged => None,
        }
    }

    fn page_table(&self) -> Option<u64> {
        match self {
            Owner::AddressSpace(table) => Some(*table),
            Owner::Process { .. } | Owner::Unpaged => None,
        }
    }
}

/// Prints `PID/COMM`, the address of the page table, or `unpaged`.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Process { pid, comm } => write!(f, "{pid}/{comm}"),
            Owner::AddressSpace(table) => write!(f, "{table:#x}"),
            Owner::Unpaged => f.write_str("unpaged"),
        }
    }
}

/// The definition of a process's number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessDefinition {
    /// The number of kernels that ran before.
    pub boot: u32,
    /// The process or address space.
    pub owner: Owner,
}

/// The definition of a vCPU's number of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackDefinition {
    /// The callers, the innermost first: addresses, and whether the frame was interrupted.
    pub frames: Vec<(u64, bool)>,
    /// The reason why there are no more; `None` if the stack was not unwound yet.
    pub end: Option<crate::ChainEnd>,
}

/// A step of a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEvent {
    /// It accessed a port.
    Access {
        /// The call.
        call: Call,
        /// The port.
        port: Port,
        /// What was read or written.
        value: u32,
        /// The code that made the call.
        code: CallCode,
        /// The vCPU's number of the stack; `None` if there was none, or no room for it.
        stack: Option<u32>,
        /// The process that made it; `None` if processes are not traced.
        process: Option<Process>,
        /// True if the call was of one element, and succeeded with this access.
        completes: bool,
    },
    /// Calls have ended.
    Ended {
        /// The call.
        call: Call,
        /// How they ended.
        outcome: CallOutcome,
        /// How many.
        count: u64,
        /// Bytes that they moved, in addition to those of accesses.
        bytes: u64,
        /// The code that made them.
        code: CallCode,
    },
}

/// The code that made a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallCode {
    /// The number of a call site.
    Site(u32),
    /// The linear address of a call site without a row.
    Dropped(u64),
}

/// The definition of a call site's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSiteDefinition {
    /// The linear address.
    pub pc: u64,
    /// The meaning of the address.
    pub at: CallAt,
    /// The mode of the code.
    pub mode: Mode,
    /// The boot of the kernel that runs it.
    pub boot: u32,
}

/// How a hypercall ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// It succeeded.
    Ok,
    /// The guest must execute the instruction itself.
    Declined,
    /// The caller's ring is not allowed to make it.
    Denied,
    /// It was invalid, or the host failed.
    Error,
}

impl CallOutcome {
    /// All outcomes.
    pub(super) const ALL: [CallOutcome; 4] =
        [CallOutcome::Ok, CallOutcome::Declined, CallOutcome::Denied, CallOutcome::Error];
}

/// A change of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowEvent {
    /// It has begun.
    Began(Box<str>),
    /// It has ended.
    Ended(Box<str>),
    /// All counts start anew.
    Reset,
}
