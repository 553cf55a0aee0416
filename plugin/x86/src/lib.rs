#![forbid(unsafe_code)]
//! What this crate knows of x86: the 24 port I/O operations, how they are encoded in 16, 32 and
//! 64-bit code, how QEMU's own words (a register dump, a disassembly) tell which of the three a
//! piece of code is, who runs it, how its addresses are translated, and how a hypervisor enters and
//! leaves its guests. It knows nothing of QEMU's API, of devices or of counting.

mod decode;
mod flow;
mod form;
mod mode;
mod paging;
mod privilege;
mod range;
mod string;
mod svm;

pub use decode::{AddressSize, Decoded, MAX_INSN_LEN, Opcode, decode};
pub use flow::Flow;
pub use form::{Direction, Port, PortForm, PortSource, Width};
pub use mode::{Mode, decode_by_text, is_privileged_in_dump, mode_in_dump, supervisor_in_dump};
pub use paging::{Access, KeyRights, NeedsFault, PAGE, Paging, PhysicalMemory};
pub use privilege::{RFLAGS_AC, RFLAGS_RF, RFLAGS_TF, Supervisor, may_do_port_io_unconditionally};
pub use range::{PortRange, PortRangeError};
pub use string::{Run, Segment, StringWalk, string_segment};
pub use svm::{GuestExit, Vmcb, is_vmrun};

use iced_x86::Formatter;

/// The instruction in Intel syntax, as a person reads it in a table: `out dx,al`, `rep insw [di],dx`.
///
/// Bytes that iced cannot decode in `mode` come back as iced's own `(bad)`.
pub fn intel_syntax(bytes: &[u8], mode: Mode, pc: u64) -> String {
    let mut decoder = iced_x86::Decoder::with_ip(mode.bits(), bytes, pc, 0);
    let mut text = String::new();
    let mut formatter = iced_x86::IntelFormatter::new();
    formatter.options_mut().set_uppercase_hex(false);
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    formatter.options_mut().set_small_hex_numbers_in_decimal(false);
    formatter.format(&decoder.decode(), &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_a_person_expects() {
        assert_eq!(intel_syntax(&[0xee], Mode::Bits32, 0), "out dx,al");
        assert_eq!(intel_syntax(&[0xe6, 0x80], Mode::Bits16, 0), "out 0x80,al");
        assert_eq!(intel_syntax(&[0xf3, 0x6d], Mode::Bits16, 0), "rep insw [di],dx");
        assert_eq!(intel_syntax(&[0xf3, 0x6f], Mode::Bits64, 0), "rep outsd dx,[rsi]");
    }
}
