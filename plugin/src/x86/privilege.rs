//! Whether a port instruction can fault for want of privilege (SDM vol. 1, 19.5).

/// EFLAGS.TF: a debug trap follows each instruction, and each element of a `rep`.
pub const RFLAGS_TF: u64 = 1 << 8;

/// EFLAGS.RF: set in what a fault handler returns to, and while a `rep` goes on (SDM vol. 3,
/// 19.3.1.1). QEMU also sets it in what most interrupt handlers return to.
pub const RFLAGS_RF: u64 = 1 << 16;

const RFLAGS_VM: u64 = 1 << 17;
const RFLAGS_IOPL_SHIFT: u32 = 12;
const CR0_PE: u64 = 1;

/// Whether port I/O is allowed whatever the TSS says: CPL <= IOPL, or real mode.
///
/// In virtual-8086 mode the TSS bitmap decides alone, IOPL or not. `cr0` is asked for only where the
/// other two do not settle it.
pub fn may_do_port_io_unconditionally(rflags: u64, cs: u64, cr0: impl FnOnce() -> u64) -> bool {
    let iopl = rflags >> RFLAGS_IOPL_SHIFT & 3;
    let cpl = cs & 3;
    rflags & RFLAGS_VM == 0 && (cpl <= iopl || cr0() & CR0_PE == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unconditional(rflags: u64, cs: u64, cr0: u64) -> bool {
        may_do_port_io_unconditionally(rflags, cs, || cr0)
    }

    #[test]
    fn cpl_is_held_against_iopl() {
        assert!(unconditional(0x0002, 0x08, 1), "ring 0");
        assert!(!unconditional(0x0002, 0x1b, 1), "ring 3, IOPL 0");
        assert!(!unconditional(0x2002, 0x1b, 1), "ring 3, IOPL 2");
        assert!(unconditional(0x3002, 0x1b, 1), "ring 3, IOPL 3");
        assert!(unconditional(0x1002, 0x09, 1), "ring 1, IOPL 1");
    }

    #[test]
    fn real_mode_always_may_and_virtual_8086_never_surely() {
        assert!(unconditional(0x0002, 0xf003, 0));
        assert!(!unconditional(RFLAGS_VM | 0x3002, 0x1000, 1));
    }
}
