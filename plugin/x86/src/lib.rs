#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod address_size;
mod code_len;
mod decode;
#[cfg(any(test, fuzzing))]
mod decoded_by_iced;
mod flags;
mod flow;
mod form;
mod insn_form;
#[cfg(feature = "intel-syntax")]
mod intel;
mod mode;
mod paging;
mod prefix;
mod privilege;
mod range;
mod string;
mod svm;

pub use address_size::AddressSize;
pub use code_len::is_whole_instruction;
pub use decode::{
    Decoded, MAX_INSN_LEN, Opcode, decode, loads_control_register, pushes_return_address,
};
#[cfg(any(test, fuzzing))]
pub use decoded_by_iced::decoded_by_iced;
pub use flags::{Cr0, Cr4, Efer, EntryFlags, Rflags};
pub use flow::{Flow, branch_displacement};
pub use form::{Direction, Port, PortForm, PortSource, Width};
pub use insn_form::{AccessSize, InsnForm};
#[cfg(feature = "intel-syntax")]
pub use intel::intel_syntax;
pub use mode::Mode;
pub use paging::{Access, KeyRights, NeedsFault, PAGE, Paging, PhysicalMemory};
pub use prefix::{Prefix, Segment};
pub use privilege::{Supervisor, may_do_port_io_unconditionally};
pub use range::{PortRange, PortRangeError};
pub use string::{Run, StringWalk, ignores_segment, string_segment};
pub use svm::{GuestExit, Vmcb, is_vmrun, vmrun_address_size};
