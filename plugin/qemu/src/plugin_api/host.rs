//! The queries that callbacks make of the running QEMU.

use once_cell::sync::OnceCell;

use super::api::Api;
use super::register_file::{RegisterFile, RipHandle};
use crate::internals::{CpuLayout, Direct, RegisterDump, Translations};
use crate::register::Register;

/// The running QEMU.
pub(super) struct Host {
    pub api: Api,
    pub register_dump: RegisterDump,
    pub translations: Translations,
    /// The offsets of registers, if QEMU exports them.
    pub layout: Option<CpuLayout>,
    /// The handle of RIP; set when the first vCPU has started.
    rip: OnceCell<RipHandle>,
}

impl Host {
    pub fn new(api: Api) -> Host {
        Host {
            api,
            register_dump: RegisterDump::find(),
            translations: Translations::find(),
            layout: CpuLayout::of_this_process(),
            rip: OnceCell::new(),
        }
    }

    /// A vCPU has begun: RIP has the same handle on all of them.
    pub fn learn_rip(&self, file: &RegisterFile) {
        self.rip.get_or_init(|| file.rip_handle());
    }

    /// Returns RIP or EIP of the block that is being translated.
    ///
    /// QEMU translates a block when the vCPU of this thread is about to run it, and has it in its state.
    pub fn rip_at_translation(&self) -> u64 {
        match self.current_vcpu().and_then(|direct| direct.read(Register::Rip)) {
            Some(rip) => rip,
            None => self.rip.get().map_or(0, |handle| handle.read(&self.api)),
        }
    }

    /// Returns true if the block that is being translated is a nested guest's; `None` if QEMU does not
    /// tell.
    pub fn translates_for_nested_guest(&self) -> Option<bool> {
        self.current_vcpu()?.is_in_nested_guest()
    }

    fn current_vcpu(&self) -> Option<Direct> {
        Direct::of_this_thread(self.layout?)
    }
}
