//! `qemu_plugin_version`: the plugin API that the library declares.
//!
//! QEMU refuses a library whose number is outside its own range, and no fixed number suits all of 9.2
//! (4) to 11.1 (only 7). It reads the number after the library's constructors have run, so a constructor
//! recognizes QEMU and sets the number.

use std::sync::atomic::{AtomicI32, Ordering};

use super::symbols::{ReadMemory, RegisterList, SetPc, WriteRegisterLength};
use crate::version::{ApiLevel, QemuVersion};

/// The variable `qemu_plugin_version`, which QEMU reads as a C `int`.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct DeclaredVersion(AtomicI32);

impl DeclaredVersion {
    /// Creates the variable. It declares no API yet.
    pub const fn new() -> DeclaredVersion {
        DeclaredVersion(AtomicI32::new(0))
    }

    /// Declares an API that this QEMU accepts, even if QEMU is too old for pvio, so that
    /// [`install`](super::install) can report the problem.
    pub fn declare(&self) {
        let exported = Exported {
            registers: RegisterList::find().is_ok(),
            memory: ReadMemory::find().is_ok(),
            write_register: WriteRegisterLength::find().is_ok(),
            set_pc: SetPc::find().is_ok(),
        };
        let level = level(exported, QemuVersion::of_this_process);
        // Relaxed: QEMU reads it on this thread, when the constructors have returned.
        self.0.store(level.0, Ordering::Relaxed);
    }
}

/// True for each function that this QEMU exports, oldest function first.
#[derive(Clone, Copy, Default)]
struct Exported {
    registers: bool,
    memory: bool,
    write_register: bool,
    set_pc: bool,
}

fn level(exported: Exported, version: impl Fn() -> Option<QemuVersion>) -> ApiLevel {
    if exported.set_pc {
        // 11.0 and 11.1 export the same functions with different types. If the version is not told, the
        // newer is the better guess; QEMU refuses a wrong one. Release candidates of 11.1 call
        // themselves 11.0.9x.
        let candidate = QemuVersion { major: 11, minor: 0, micro: 90 };
        match version() {
            Some(version) if version < candidate => ApiLevel(6),
            _ => ApiLevel(7),
        }
    } else if exported.write_register {
        ApiLevel(5)
    } else if exported.memory {
        ApiLevel(4)
    } else if exported.registers {
        ApiLevel(2)
    } else {
        ApiLevel(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_api_is_recognised_by_what_qemu_exports() {
        let of = |exported, minor: Option<i64>| {
            let version = minor.map(|minor| QemuVersion { major: 11, minor, micro: 0 });
            level(exported, || version).0
        };
        let none = Exported::default();
        let registers = Exported { registers: true, ..none };
        let memory = Exported { memory: true, ..registers };
        let write_register = Exported { write_register: true, ..memory };
        let set_pc = Exported { set_pc: true, ..write_register };
        assert_eq!(of(none, None), 1);
        assert_eq!(of(registers, None), 2);
        assert_eq!(of(memory, None), 4);
        assert_eq!(of(write_register, None), 5);
        assert_eq!(of(set_pc, Some(0)), 6);
        assert_eq!(of(set_pc, Some(1)), 7);
        assert_eq!(of(set_pc, None), 7);
    }
}
