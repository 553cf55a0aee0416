//! Privilege: whether code may do port I/O (SDM vol. 1, 19.5), and whether it is supervisor code.

use super::{Cr0, Rflags};

/// Returns true if code may do port I/O whatever the TSS says.
///
/// It may in real mode, and where CPL <= IOPL. In virtual-8086 mode the TSS bitmap alone decides. `cs` is the selector,
/// whose low two bits are the CPL. `cr0` is called only if the other two do not settle it.
///
/// ```
/// use pvio_x86::{Cr0, Rflags, may_do_port_io_unconditionally};
///
/// let protected = || Cr0::PROTECTION_ENABLE;
/// assert!(may_do_port_io_unconditionally(Rflags::empty(), 0x08, protected));
/// assert!(!may_do_port_io_unconditionally(Rflags::empty(), 0x1b, protected));
/// assert!(may_do_port_io_unconditionally(Rflags::IOPL, 0x1b, protected));
/// ```
pub fn may_do_port_io_unconditionally(rflags: Rflags, cs: u64, cr0: impl FnOnce() -> Cr0) -> bool {
    let cpl = (cs & 3) as u8;
    !rflags.contains(Rflags::VIRTUAL_8086)
        && (cpl <= rflags.iopl() || !cr0().contains(Cr0::PROTECTION_ENABLE))
}

/// The privilege of code, as paging defines it (SDM vol. 3, "Access Rights").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// CPL 0 to 2. Real mode is CPL 0.
    Yes,
    /// CPL 3. Virtual-8086 mode is CPL 3.
    No,
}

impl Supervisor {
    /// Decides by the registers. `cr0` is called only if the other two do not settle it.
    pub fn of(rflags: Rflags, cs: u64, cr0: impl FnOnce() -> Cr0) -> Supervisor {
        let is_user = rflags.contains(Rflags::VIRTUAL_8086)
            || (cs & 3 == 3 && cr0().contains(Cr0::PROTECTION_ENABLE));
        if is_user { Supervisor::No } else { Supervisor::Yes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTECTED: Cr0 = Cr0::PROTECTION_ENABLE;
    const REAL: Cr0 = Cr0::empty();
    const IOPL_1: Rflags = Rflags::from_bits_retain(1 << 12);
    const IOPL_2: Rflags = Rflags::from_bits_retain(2 << 12);

    #[test]
    fn rings_0_to_2_and_real_mode_are_supervisor_code() {
        let of = |rflags, cs, cr0| Supervisor::of(rflags, cs, || cr0);
        for ring in 0..3 {
            assert_eq!(of(Rflags::empty(), 0x18 | ring, PROTECTED), Supervisor::Yes, "ring {ring}");
        }
        assert_eq!(of(Rflags::IOPL, 0x1b, PROTECTED), Supervisor::No, "IOPL does not matter");
        assert_eq!(of(Rflags::empty(), 0xf003, REAL), Supervisor::Yes, "real mode");
        assert_eq!(of(Rflags::VIRTUAL_8086, 0xf000, PROTECTED), Supervisor::No, "virtual-8086");
    }

    fn unconditional(rflags: Rflags, cs: u64, cr0: Cr0) -> bool {
        may_do_port_io_unconditionally(rflags, cs, || cr0)
    }

    #[test]
    fn cpl_is_compared_with_iopl() {
        assert!(unconditional(Rflags::empty(), 0x08, PROTECTED), "ring 0");
        assert!(!unconditional(Rflags::empty(), 0x1b, PROTECTED), "ring 3, IOPL 0");
        assert!(!unconditional(IOPL_2, 0x1b, PROTECTED), "ring 3, IOPL 2");
        assert!(unconditional(Rflags::IOPL, 0x1b, PROTECTED), "ring 3, IOPL 3");
        assert!(unconditional(IOPL_1, 0x09, PROTECTED), "ring 1, IOPL 1");
    }

    #[test]
    fn real_mode_always_may_and_virtual_8086_mode_depends_on_the_tss() {
        assert!(unconditional(Rflags::empty(), 0xf003, REAL));
        assert!(!unconditional(Rflags::VIRTUAL_8086 | Rflags::IOPL, 0x1000, PROTECTED));
    }
}
