//! Names code while the guest runs, for outputs that cannot wait for a dump.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::Symbols;
use super::file::Verdict;
use super::guest_kernel::Running;
use crate::x86::MAX_INSN_LEN;

/// Maximum number of sites that are compared with files.
const MAX_SITES: usize = 4096;

/// The shortest time between two checks of the files.
const PAUSE: Duration = Duration::from_millis(50);

/// Ratio of a pause to the check before it: checks take at most 5 percent of a vCPU's time.
const PAUSE_FACTOR: u32 = 20;

/// Names code as it is now. Use it only in QEMU's callbacks, where guest memory can be read.
///
/// Files are checked as at a dump, against the code that ran so far. They are checked again from time to time, because
/// the kernel that a file describes may start later.
pub struct LiveNames {
    symbols: Arc<Symbols>,
    started: Instant,
    /// Changes when a name may have changed.
    epoch: AtomicU32,
    /// When the files may be checked again, in nanoseconds after the start.
    next_check: AtomicU64,
    checked: Mutex<Checked>,
}

#[derive(Default)]
struct Checked {
    verdicts: Vec<Verdict>,
    running: Running,
    /// First bytes of instructions, by address.
    sites: HashMap<u64, ArrayVec<u8, MAX_INSN_LEN>>,
}

impl LiveNames {
    /// Creates a namer that uses `symbols`.
    pub fn new(symbols: Arc<Symbols>) -> LiveNames {
        LiveNames {
            symbols,
            started: Instant::now(),
            epoch: AtomicU32::new(0),
            next_check: AtomicU64::new(0),
            checked: Mutex::default(),
        }
    }

    /// A number that changes when the name of code may have changed.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed).wrapping_add(self.symbols.modules.epoch())
    }

    /// Names code in a module of the running kernel that a vCPU executes now.
    pub fn name_in_module(&self, pc: u64, bytes: &[u8]) -> Option<String> {
        self.symbols.modules.last_name(pc, bytes)
    }

    /// Returns true if code without a name may have one now.
    pub fn may_name_more(&self) -> bool {
        !self.symbols.files.is_empty()
            && self.started.elapsed().as_nanos() as u64 >= self.next_check.load(Ordering::Relaxed)
    }

    /// Names an instruction by files. `bytes` are its first bytes, empty if they are not known.
    pub fn name(&self, pc: u64, bytes: &[u8]) -> Option<String> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.sites.len() < MAX_SITES && !bytes.is_empty() {
            checked.sites.entry(pc).or_insert_with(|| bytes.iter().copied().collect());
        }
        if self.may_name_more() {
            self.check(&mut checked);
        }
        let found = self.symbols.name_by_files(&checked.verdicts, &checked.running, pc, bytes)?;
        Some(found.name.symbol)
    }

    fn check(&self, checked: &mut Checked) {
        let begin = self.started.elapsed();
        let sites: Vec<(u64, &[u8])> =
            checked.sites.iter().map(|(&pc, bytes)| (pc, &bytes[..])).collect();
        let running = self.symbols.running_for_files();
        checked.verdicts = self.symbols.judge_files(&sites, &running);
        checked.running = running;
        let end = self.started.elapsed();
        let next = end + PAUSE.max((end - begin) * PAUSE_FACTOR);
        self.next_check.store(next.as_nanos() as u64, Ordering::Relaxed);
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }
}
