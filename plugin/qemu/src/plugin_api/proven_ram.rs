//! Guest memory by physical address, through the plugin API alone: pages that are proven to be RAM.
//!
//! The API's functions also access devices, where a read may have effects, and do not report what is at an address. So a
//! page is used only after QEMU has shown that it is RAM: QEMU runs code from it, or an instruction has accessed it that
//! cannot access a device. Addresses that a PC switches between RAM and devices are never used.
//!
//! A device may change the machine's memory whenever it is written to (a BAR, a PAM register), and QEMU itself may do so
//! while it has stopped the vCPUs (a reset, a snapshot). The API reports neither, so both withdraw every proof. What
//! another vCPU writes is not known in time, so nothing is proven while two vCPUs run.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::symbols::{GlibFunctions, PhysicalMemory};
use super::watch::{PhysicalPage, VcpuIndex};

const PAGE: u64 = 4096;
/// Addresses at which a PC switches between the display's memory and the RAM of system management mode.
const SWITCHED: Range<u64> = 0xa_0000..0xc_0000;
/// `QEMU_PLUGIN_HWADDR_OPERATION_OK`.
const OK: std::ffi::c_uint = 0;

/// The number of times that a vCPU has stopped or started. A proof holds for one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProofEpoch(u64);

/// The pages that are proven now.
#[derive(Default)]
struct Proofs {
    pages: HashSet<u64>,
    /// The vCPUs that may run code.
    running: HashSet<u32>,
    epoch: ProofEpoch,
    /// True if nothing can be proven, because QEMU does not tell which vCPU runs.
    is_closed: bool,
}

impl Proofs {
    fn vcpus_change(&mut self) {
        self.pages.clear();
        self.epoch.0 += 1;
    }

    fn prove(&mut self, PhysicalPage(page): PhysicalPage, epoch: ProofEpoch) {
        let is_valid = !self.is_closed && self.running.len() == 1 && self.epoch == epoch;
        if is_valid && !SWITCHED.contains(&page) {
            self.pages.insert(page / PAGE);
        }
    }

    fn contain(&self, physical: u64, len: usize) -> bool {
        let is_within = len > 0 && physical % PAGE + len as u64 <= PAGE;
        is_within && self.pages.contains(&(physical / PAGE))
    }
}

/// The pages of the guest's memory that are proven to be RAM.
///
/// Its one lock protects the proofs, also while memory is accessed: another vCPU that starts waits for the end of the
/// access. No other lock of pvio's is taken while it is held.
pub struct ProvenRam {
    memory: PhysicalMemory,
    glib: GlibFunctions,
    proofs: Mutex<Proofs>,
}

impl ProvenRam {
    /// Creates an empty set of proven pages; `None` below API 5.
    pub fn open() -> Option<ProvenRam> {
        let (memory, glib) = (PhysicalMemory::find().ok()?, GlibFunctions::find().ok()?);
        Some(ProvenRam { memory, glib, proofs: Mutex::default() })
    }

    /// A vCPU starts to run, or goes on. Withdraws every proof.
    pub fn vcpu_runs(&self, VcpuIndex(vcpu): VcpuIndex) {
        let mut proofs = self.lock();
        proofs.running.insert(vcpu);
        proofs.vcpus_change();
    }

    /// A vCPU stops. Withdraws every proof.
    pub fn vcpu_stops(&self, VcpuIndex(vcpu): VcpuIndex) {
        let mut proofs = self.lock();
        proofs.running.remove(&vcpu);
        proofs.vcpus_change();
    }

    /// Withdraws every proof for good: QEMU does not tell which vCPU runs.
    pub fn close(&self) {
        let mut proofs = self.lock();
        proofs.is_closed = true;
        proofs.vcpus_change();
    }

    /// Withdraws every proof: the vCPU that runs writes to a device.
    pub fn withdraw(&self) {
        self.lock().pages.clear();
    }

    /// Returns the current epoch.
    pub fn epoch(&self) -> ProofEpoch {
        self.lock().epoch
    }

    /// Returns true if a page is proven now.
    pub fn is_proven(&self, PhysicalPage(page): PhysicalPage) -> bool {
        self.lock().contain(page, 1)
    }

    /// Takes a page as RAM if the epoch, in which QEMU told so, lasts, and one vCPU runs.
    pub fn prove(&self, page: PhysicalPage, epoch: ProofEpoch) {
        self.lock().prove(page, epoch);
    }

    /// Reads bytes of one page. Returns false if it is not proven. Only on the thread of a vCPU.
    pub fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        let proofs = self.lock();
        if !proofs.contain(physical, into.len()) {
            return false;
        }
        // SAFETY: a new array, which is freed below; QEMU gives it this length, and fills it, on a vCPU's thread.
        unsafe {
            let array = (self.glib.g_byte_array_new)();
            let result = (self.memory.qemu_plugin_read_memory_hwaddr)(physical, array, into.len());
            let is_read = result == OK && (*array).len as usize == into.len();
            if is_read {
                std::ptr::copy_nonoverlapping((*array).data, into.as_mut_ptr(), into.len());
            }
            (self.glib.g_byte_array_unref)(array);
            is_read
        }
    }

    /// Writes bytes of one page. Returns false if it is not proven, or is ROM. Only on the thread of a vCPU.
    pub fn write(&self, physical: u64, from: &[u8]) -> bool {
        let Ok(len) = from.len().try_into() else { return false };
        let proofs = self.lock();
        if !proofs.contain(physical, from.len()) {
            return false;
        }
        // SAFETY: as in `read`; the array has room for `len` bytes after it was told its size.
        unsafe {
            let array = (self.glib.g_byte_array_new)();
            (self.glib.g_byte_array_set_size)(array, len);
            std::ptr::copy_nonoverlapping(from.as_ptr(), (*array).data, from.len());
            let result = (self.memory.qemu_plugin_write_memory_hwaddr)(physical, array);
            (self.glib.g_byte_array_unref)(array);
            result == OK
        }
    }

    fn lock(&self) -> MutexGuard<'_, Proofs> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: PhysicalPage = PhysicalPage(0x20_0000);

    fn of_one_vcpu() -> Proofs {
        Proofs { running: HashSet::from([0]), ..Proofs::default() }
    }

    #[test]
    fn a_proof_is_for_one_page() {
        let mut proofs = of_one_vcpu();
        proofs.prove(PAGES, proofs.epoch);
        assert!(proofs.contain(0x20_0000, 4096) && proofs.contain(0x20_0fff, 1));
        assert!(!proofs.contain(0x20_0fff, 2) && !proofs.contain(0x20_1000, 1));
        assert!(!proofs.contain(0x20_0000, 0) && !proofs.contain(0x1f_ffff, 1));
    }

    #[test]
    fn memory_of_displays_is_not_proven() {
        let mut proofs = of_one_vcpu();
        proofs.prove(PhysicalPage(0xb_8000), proofs.epoch);
        assert!(!proofs.contain(0xb_8000, 1));
    }

    #[test]
    fn nothing_is_proven_while_two_vcpus_run_or_after_one_has_changed() {
        let mut proofs = of_one_vcpu();
        let epoch = proofs.epoch;
        proofs.running.insert(1);
        proofs.prove(PAGES, epoch);
        assert!(!proofs.contain(PAGES.0, 1), "two run");

        proofs.running.remove(&1);
        proofs.prove(PAGES, epoch);
        assert!(proofs.contain(PAGES.0, 1));
        proofs.vcpus_change();
        assert!(!proofs.contain(PAGES.0, 1), "withdrawn");
        proofs.prove(PAGES, epoch);
        assert!(!proofs.contain(PAGES.0, 1), "of an earlier epoch");

        proofs.is_closed = true;
        proofs.prove(PAGES, proofs.epoch);
        assert!(!proofs.contain(PAGES.0, 1), "closed");
    }
}
