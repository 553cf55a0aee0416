//! The names of code in kernel modules, as they were when QEMU translated the code.
//!
//! A module may be unloaded, and another module with the same bytes may be loaded in its place. Loading writes code to
//! memory, so QEMU translates it again. So the current name of code is its name at the last translation, and a site belongs
//! to one module if its name was the same at each translation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::guest::{ModuleNamer, PhysicalMemory};

/// Maximum number of places whose names are kept. Others have none.
const MAX_PLACES: usize = 1 << 14;
/// The time that searches may take before [`SHARE`] limits them.
const GRACE: Duration = Duration::from_millis(500);
/// The ratio of a kernel's run time to the time for searches that fail.
const SHARE: u32 = 20;
/// In a 32-bit kernel, code within this distance of the kernel's first code, in bytes, is the kernel's own. Other code may
/// be, too.
const KERNEL_REACH: u64 = 32 << 20;
/// The lowest address of modules in a 64-bit kernel that can move itself (Linux's `MODULES_VADDR`).
const MODULES_64: u64 = 0xffff_ffff_c000_0000;
/// The lowest address of modules in a 64-bit kernel that cannot move itself. Its own code is below.
const FIXED_MODULES_64: u64 = 0xffff_ffff_a000_0000;

/// The names of code in modules of the kernels of one machine.
#[derive(Default)]
pub(super) struct ModuleNames {
    state: Mutex<State>,
    /// Changes when the last name of a place changes.
    epoch: AtomicU32,
}

#[derive(Default)]
struct State {
    /// The boot of the kernel that runs.
    boot: u32,
    /// `None` until the kernel was needed and found.
    namer: Option<ModuleNamer>,
    /// The address of the first code of this kernel that was translated.
    first: Option<u64>,
    /// Decides when to search for the kernel.
    pace: Pace,
    /// Keyed by boot and linear address. An address has an entry for each sequence of bytes.
    places: HashMap<(u32, u64), Vec<Place>>,
    /// The number of all places.
    count: usize,
}

/// An instruction in a module, and its names.
struct Place {
    bytes: Box<[u8]>,
    /// The name at the last translation; `None` if it is not known.
    last: Option<Box<str>>,
    /// True if the name was the same at each translation.
    is_only: bool,
}

impl ModuleNames {
    /// Notes that the kernel of another boot runs from now on.
    pub fn begin_boot(&self, boot: u32) {
        let mut state = self.lock();
        let (places, count) = (std::mem::take(&mut state.places), state.count);
        *state = State { boot, places, count, ..State::default() };
    }

    /// Notes the name of kernel code that QEMU translates. `find` searches the kernel's list of modules.
    pub fn see(
        &self,
        memory: &impl PhysicalMemory,
        pc: u64,
        bytes: &[u8],
        find: impl FnOnce() -> Option<ModuleNamer>,
    ) {
        let mut state = self.lock();
        let first = *state.first.get_or_insert(pc);
        if !may_be_in_module(pc, first) {
            return;
        }
        if state.namer.is_none() {
            state.namer = state.pace.search(find);
        }
        if state.namer.as_ref().is_some_and(|namer| namer.is_in_kernel(pc)) {
            return;
        }
        let name = state.namer.as_ref().and_then(|namer| namer.name(memory, pc));
        if state.note(pc, bytes, name) {
            self.epoch.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The name that a site had at each translation, in the kernel that runs.
    pub fn only_name(&self, pc: u64, bytes: &[u8]) -> Option<String> {
        let state = self.lock();
        let place = state.place(pc, bytes).filter(|place| place.is_only)?;
        place.last.as_deref().map(str::to_owned)
    }

    /// The name of code that begins with these bytes, and that a vCPU executes now.
    pub fn last_name(&self, pc: u64, bytes: &[u8]) -> Option<String> {
        self.lock().place(pc, bytes)?.last.as_deref().map(str::to_owned)
    }

    /// A number that changes when [`ModuleNames::last_name`] may give another name.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes a name. Returns whether the last name of the place changed.
    fn note(&mut self, pc: u64, bytes: &[u8], name: Option<String>) -> bool {
        let name = name.map(String::into_boxed_str);
        let key = (self.boot, pc);
        if self.count == MAX_PLACES && !self.places.contains_key(&key) {
            return false;
        }
        let places = self.places.entry(key).or_default();
        if let Some(place) = places.iter_mut().find(|place| *place.bytes == *bytes) {
            let is_same = place.last == name;
            place.is_only &= is_same;
            place.last = name;
            return !is_same;
        }
        if self.count == MAX_PLACES {
            return false;
        }
        self.count += 1;
        places.push(Place { bytes: bytes.into(), last: name, is_only: true });
        true
    }

    fn place(&self, pc: u64, bytes: &[u8]) -> Option<&Place> {
        let mut places = self.places.get(&(self.boot, pc))?.iter();
        places.find(|place| place.bytes.starts_with(bytes))
    }
}

/// Returns true if kernel code may be in a module. `first` is the address of the kernel's first code that was translated.
fn may_be_in_module(pc: u64, first: u64) -> bool {
    match pc >> 32 {
        0 => pc.abs_diff(first) > KERNEL_REACH,
        _ => pc >= MODULES_64 || pc >= FIXED_MODULES_64 && first < FIXED_MODULES_64,
    }
}

/// Limits the time that searches take, because the guest waits for them.
///
/// A kernel runs for a while before it loads a module. So the search for a module's first code is not refused, even if
/// searches for the kernel's own code failed before.
struct Pace {
    began: Instant,
    /// The time of all searches that failed.
    spent: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { began: Instant::now(), spent: Duration::ZERO }
    }
}

impl Pace {
    /// Searches, unless searches took too much time already.
    fn search<T>(&mut self, search: impl FnOnce() -> Option<T>) -> Option<T> {
        let begin = self.began.elapsed();
        if !self.is_due(begin) {
            return None;
        }
        let found = search();
        if found.is_none() {
            self.spent += self.began.elapsed() - begin;
        }
        found
    }

    /// Returns true if a search may begin, this long after the kernel did.
    fn is_due(&self, elapsed: Duration) -> bool {
        self.spent <= GRACE + elapsed / SHARE
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;

    use super::super::GuestKernels;
    use super::*;
    use crate::guest::synthetic_kernel::Guest;

    /// A guest whose memory a test may change.
    #[derive(Clone)]
    struct Shared(Arc<Mutex<Guest>>);

    impl PhysicalMemory for Shared {
        fn read(&self, physical: u64, into: &mut [u8]) -> bool {
            self.0.lock().unwrap().read(physical, into)
        }

        fn ranges(&self) -> Vec<Range<u64>> {
            self.0.lock().unwrap().ranges()
        }
    }

    const BYTES: [u8; 2] = [0xe6, 0x80];

    struct Fixture {
        guest: Shared,
        kernels: GuestKernels,
        names: ModuleNames,
        /// In the module.
        pc: u64,
    }

    impl Fixture {
        fn new() -> Fixture {
            let guest = Guest::of_this_time();
            let (registers, pc) = (guest.registers, guest.module_text() + 0x44);
            let text = guest.text();
            let guest = Shared(Arc::new(Mutex::new(guest)));
            let kernels = GuestKernels::of(guest.clone(), registers);
            let names = ModuleNames::default();
            let fixture = Fixture { guest, kernels, names, pc };
            fixture.see(text + 0x10, &BYTES);
            fixture
        }

        fn see(&self, pc: u64, bytes: &[u8]) {
            self.see_by(&self.kernels, pc, bytes);
        }

        fn see_by(&self, kernels: &GuestKernels, pc: u64, bytes: &[u8]) {
            let namer = || kernels.find()?.module_namer();
            self.names.see(kernels.memory(), pc, bytes, namer);
        }

        /// Memory in which no vCPU runs a kernel.
        fn nobody(&self) -> GuestKernels {
            let registers = self.guest.0.lock().unwrap().registers;
            let nobody = crate::guest::Registers { cr0: 0, ..registers };
            GuestKernels::of(self.guest.clone(), nobody)
        }

        fn translate(&self) {
            self.see(self.pc, &BYTES);
        }

        /// Gives the module another name, as if another had been loaded in its place.
        fn replace(&self, name: &[u8; 6]) {
            let mut guest = self.guest.0.lock().unwrap();
            let at = guest.module_text() + 0x2000 + 24;
            guest.put_linear(at, name);
        }

        fn both(&self) -> [Option<String>; 2] {
            [self.names.only_name(self.pc, &BYTES), self.names.last_name(self.pc, &BYTES)]
        }
    }

    fn named(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn a_site_of_two_modules_has_the_name_of_none() {
        let fixture = Fixture::new();
        assert_eq!(fixture.both(), [None, None]);
        fixture.translate();
        fixture.translate();
        assert_eq!(fixture.both(), [named("probe+0x4 [driver]"), named("probe+0x4 [driver]")]);
        let epoch = fixture.names.epoch();
        fixture.replace(b"drives");
        fixture.translate();
        assert_eq!(fixture.both(), [None, named("probe+0x4 [drives]")]);
        assert_ne!(fixture.names.epoch(), epoch);
        // Not even if the first is back.
        fixture.replace(b"driver");
        fixture.translate();
        assert_eq!(fixture.both(), [None, named("probe+0x4 [driver]")]);
    }

    #[test]
    fn other_bytes_at_the_same_address_are_another_site() {
        let fixture = Fixture::new();
        fixture.translate();
        fixture.replace(b"drives");
        fixture.see(fixture.pc, &[0xee]);
        assert_eq!(fixture.both()[0], named("probe+0x4 [driver]"));
        assert_eq!(fixture.names.only_name(fixture.pc, &[0xee]), named("probe+0x4 [drives]"));
    }

    #[test]
    fn each_kernel_has_modules_of_its_own() {
        let fixture = Fixture::new();
        fixture.translate();
        fixture.names.begin_boot(1);
        assert_eq!(fixture.both(), [None, None]);
        fixture.replace(b"drives");
        fixture.see(fixture.pc - 0x44 - (1 << 30), &BYTES);
        fixture.translate();
        assert_eq!(fixture.both()[0], named("probe+0x4 [drives]"));
        fixture.names.begin_boot(0);
        assert_eq!(fixture.both()[0], named("probe+0x4 [driver]"));
    }

    #[test]
    fn code_that_was_translated_before_the_kernel_was_found_has_no_name() {
        let fixture = Fixture::new();
        fixture.see_by(&fixture.nobody(), fixture.pc, &BYTES);
        fixture.translate();
        assert_eq!(fixture.both(), [None, named("probe+0x4 [driver]")]);
    }

    /// A 32-bit kernel's initialization code is far from its first code, and runs before its tables can be found.
    #[test]
    fn searches_that_failed_before_cost_no_module_its_name() {
        for failed in 1..20 {
            let fixture = Fixture::new();
            for place in 0..failed {
                fixture.see_by(&fixture.nobody(), fixture.pc + (1 << 20) + place, &BYTES);
            }
            fixture.translate();
            let name = named("probe+0x4 [driver]");
            assert_eq!(fixture.both(), [name.clone(), name], "{failed}");
        }
    }

    #[test]
    fn code_of_the_kernel_itself_causes_no_search() {
        // At the default address, and where the kernel may have moved itself.
        for first in [0xffff_ffff_8100_0000, 0xffff_ffff_b0c0_0000] {
            assert!(!may_be_in_module(first + (90 << 20), first));
            assert!(may_be_in_module(0xffff_ffff_c000_1234, first));
        }
        assert!(may_be_in_module(0xffff_ffff_a000_1234, 0xffff_ffff_8100_0000));
        assert!(!may_be_in_module(0xc200_0000, 0xc100_0000));
        assert!(may_be_in_module(0xf800_0000, 0xc100_0000));
    }

    #[test]
    fn searches_take_a_small_share_of_the_time() {
        let pace = |spent| Pace { spent: Duration::from_millis(spent), ..Pace::default() };
        let due_after = |spent, seconds| pace(spent).is_due(Duration::from_secs(seconds));
        assert!(due_after(0, 0) && due_after(500, 0));
        assert!(!due_after(501, 0) && !due_after(1001, 10));
        assert!(due_after(1000, 10) && due_after(5500, 100));
        let mut pace = pace(1_000_000);
        assert_eq!(pace.search(|| -> Option<()> { panic!("no search is due") }), None);
    }

    #[test]
    fn the_number_of_places_is_bounded() {
        let fixture = Fixture::new();
        for place in 0..MAX_PLACES as u64 + 100 {
            let bytes = (place % 3).to_le_bytes();
            fixture.see(fixture.pc + place / 3, &bytes);
        }
        let state = fixture.names.lock();
        assert_eq!(state.places.values().map(Vec::len).sum::<usize>(), MAX_PLACES);
        assert!(state.places.len() <= MAX_PLACES);
    }
}
