//! Who is running: whether a port instruction can fault for want of privilege (SDM vol. 1, 19.5), and
//! whether code is a supervisor's.

/// EFLAGS.TF: a debug trap follows each instruction, and each element of a `rep`.
pub const RFLAGS_TF: u64 = 1 << 8;

/// EFLAGS.RF: set in what a fault handler returns to, and while a `rep` goes on (SDM vol. 3,
/// 19.3.1.1). QEMU also sets it in what most interrupt handlers return to.
pub const RFLAGS_RF: u64 = 1 << 16;

/// EFLAGS.AC: in supervisor code, SMAP is suspended.
pub const RFLAGS_AC: u64 = 1 << 18;

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

/// Whether code is a supervisor's as paging means it: CPL 0 to 2 (SDM vol. 3, "Access Rights").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// CPL 0 to 2. Real mode is CPL 0.
    Yes,
    /// CPL 3. Virtual-8086 mode is CPL 3.
    No,
}

impl Supervisor {
    /// By the registers; `cr0` is asked for only where the other two do not settle it.
    pub fn of(rflags: u64, cs: u64, cr0: impl FnOnce() -> u64) -> Supervisor {
        let is_user = rflags & RFLAGS_VM != 0 || (cs & 3 == 3 && cr0() & CR0_PE != 0);
        if is_user { Supervisor::No } else { Supervisor::Yes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_0_to_2_and_real_mode_are_supervisors() {
        let of = |rflags, cs, cr0| Supervisor::of(rflags, cs, || cr0);
        for ring in 0..3 {
            assert_eq!(of(2, 0x18 | ring, 1), Supervisor::Yes, "ring {ring}");
        }
        assert_eq!(of(0x3002, 0x1b, 1), Supervisor::No, "IOPL is no matter");
        assert_eq!(of(2, 0xf003, 0), Supervisor::Yes, "real mode");
        assert_eq!(of(RFLAGS_VM | 2, 0xf000, 1), Supervisor::No, "virtual-8086");
    }

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
