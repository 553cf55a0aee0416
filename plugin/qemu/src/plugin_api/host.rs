//! Queries to the running QEMU from callbacks.

use once_cell::sync::OnceCell;

use super::api::Api;
use super::register_file::{RegisterFile, RegisterHandles};
use crate::internals::{CpuLayout, Direct, RegisterDump, Translations};
use crate::register::Register;

/// The running QEMU.
pub(super) struct Host {
    pub api: Api,
    pub register_dump: RegisterDump,
    pub translations: Translations,
    /// The offsets of registers, if QEMU exports them.
    pub layout: Option<CpuLayout>,
    /// The handles of registers, once a vCPU has begun.
    handles: OnceCell<RegisterHandles>,
}

impl Host {
    pub fn new(api: Api) -> Host {
        Host {
            api,
            register_dump: RegisterDump::find(),
            translations: Translations::find(),
            layout: CpuLayout::of_this_process(),
            handles: OnceCell::new(),
        }
    }

    /// A vCPU has begun: registers have the same handles on all of them.
    pub fn learn_registers(&self, file: &RegisterFile) {
        self.handles.get_or_init(|| file.handles());
    }

    /// Returns RIP or EIP of the block that is being translated.
    ///
    /// QEMU translates a block when the vCPU of this thread is about to run it, and has it in its state.
    pub fn rip_at_translation(&self) -> u64 {
        match self.current_vcpu().and_then(|direct| direct.read(Register::Rip)) {
            Some(rip) => rip,
            None => self.register_at_translation(Register::Rip).unwrap_or(0),
        }
    }

    /// Returns a register of the vCPU that translates, by the plugin API; `None` before a vCPU has begun.
    pub fn register_at_translation(&self, register: Register) -> Option<u64> {
        self.handles.get().map(|handles| handles.read(&self.api, register))
    }

    /// Returns true if the block that is being translated is a nested guest's; `None` if that is not
    /// known.
    pub fn translates_for_nested_guest(&self) -> Option<bool> {
        self.current_vcpu()?.is_in_nested_guest()
    }

    fn current_vcpu(&self) -> Option<Direct> {
        Direct::of_this_thread(self.layout?)
    }
}
