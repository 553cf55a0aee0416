//! A filter that requests may replace while vCPUs use it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::AccessFilter;
use crate::x86::{Direction, Port};

/// The most filters that replace the first one. All are kept.
const MAX_FILTERS: usize = 4096;

/// Why a filter cannot replace another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterChangeError {
    /// It asks for processes, which are not known.
    #[error("a filter process=NAME needs processes; start QEMU with processes=on")]
    NeedsProcesses,
    /// It asks for names, and there are none.
    #[error("a filter symbol=NAME needs names, and symbols=off turns them off")]
    NeedsSymbols,
    /// There were too many.
    #[error("there were {MAX_FILTERS} filters already")]
    TooMany,
}

/// The conditions that filters may have.
#[derive(Clone, Copy, Debug)]
pub struct FilterLimits {
    /// True if code has names.
    pub has_symbols: bool,
    /// True if processes are known.
    pub has_processes: bool,
}

/// The filter in force.
///
/// If it cannot change, using it costs no atomic load.
pub struct LiveFilter {
    first: AccessFilter,
    first_covers_all: bool,
    /// `None` if the filter cannot change.
    changes: Option<Changes>,
}

struct Changes {
    limits: FilterLimits,
    /// The filters that came after the first. They stay, since vCPUs use them without a lock.
    filters: boxcar::Vec<AccessFilter>,
    /// 0 is the first filter, 1 the first one in `filters`.
    current: AtomicUsize,
    is_enabled: AtomicBool,
    /// True if everything is covered now.
    covers_all: AtomicBool,
}

impl LiveFilter {
    /// A filter that can change if `limits` are given.
    pub fn new(filter: AccessFilter, limits: Option<FilterLimits>) -> LiveFilter {
        let first_covers_all = filter.covers_all();
        let changes = limits.map(|limits| Changes {
            limits,
            filters: boxcar::Vec::new(),
            current: AtomicUsize::new(0),
            is_enabled: AtomicBool::new(true),
            covers_all: AtomicBool::new(first_covers_all),
        });
        LiveFilter { first: filter, first_covers_all, changes }
    }

    /// The filter in force, or the one that will be when accesses are covered again.
    #[inline]
    pub fn get(&self) -> &AccessFilter {
        let Some(changes) = &self.changes else { return &self.first };
        match changes.current.load(Ordering::Acquire) {
            0 => &self.first,
            number => &changes.filters[number - 1],
        }
    }

    /// Returns true if accesses are covered at all.
    #[inline]
    pub fn is_enabled(&self) -> bool {
        self.changes.as_ref().is_none_or(|changes| changes.is_enabled.load(Ordering::Relaxed))
    }

    /// Returns true if everything is covered.
    #[inline]
    pub fn covers_all(&self) -> bool {
        let changes = self.changes.as_ref();
        changes.map_or(self.first_covers_all, |changes| changes.covers_all.load(Ordering::Relaxed))
    }

    /// Returns true if accesses to a port may be covered.
    #[inline]
    pub fn covers_port(&self, port: Port, direction: Direction) -> bool {
        self.is_enabled() && self.get().covers_port(port, direction)
    }

    /// Returns true if accesses to a port may be covered now or later.
    pub fn may_cover_port(&self, port: Port, direction: Direction) -> bool {
        self.may_change() || self.covers_port(port, direction)
    }

    /// Returns true if the filter may change.
    pub fn may_change(&self) -> bool {
        self.changes.is_some()
    }

    /// Changes the filter. `filter` replaces it, `is_enabled` turns it on or off; `None` leaves either as it is.
    ///
    /// One thread at a time may call this.
    ///
    /// # Errors
    ///
    /// There were too many filters, or it asks for what is not known. Nothing changes then.
    ///
    /// # Panics
    ///
    /// If the filter cannot change.
    pub fn change(
        &self,
        filter: Option<AccessFilter>,
        is_enabled: Option<bool>,
    ) -> Result<(), FilterChangeError> {
        let changes = self.changes.as_ref().expect("the filter can change");
        if let Some(filter) = filter {
            if filter.needs_processes() && !changes.limits.has_processes {
                return Err(FilterChangeError::NeedsProcesses);
            }
            if filter.needs_symbols() && !changes.limits.has_symbols {
                return Err(FilterChangeError::NeedsSymbols);
            }
            if changes.filters.count() >= MAX_FILTERS {
                return Err(FilterChangeError::TooMany);
            }
            let index = changes.filters.push(filter);
            changes.current.store(index + 1, Ordering::Release);
        }
        if let Some(is_enabled) = is_enabled {
            changes.is_enabled.store(is_enabled, Ordering::Relaxed);
        }
        let covers_all = self.is_enabled() && self.get().covers_all();
        changes.covers_all.store(covers_all, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> AccessFilter {
        crate::access_filter::parse_filters(text).unwrap()
    }

    #[test]
    fn filter_is_replaced_and_turned_off_and_on() {
        let limits = FilterLimits { has_symbols: true, has_processes: false };
        let live = LiveFilter::new(filter(""), Some(limits));
        let covers = |port| live.covers_port(Port(port), Direction::In);
        assert!(live.covers_all() && covers(1) && covers(2));
        live.change(Some(filter("1")), None).unwrap();
        assert!(!live.covers_all() && covers(1) && !covers(2));
        live.change(Some(filter("2")), Some(false)).unwrap();
        assert!(!covers(1) && !covers(2) && live.may_cover_port(Port(1), Direction::In));
        let refused = live.change(Some(filter("process=init")), Some(true));
        assert_eq!(refused, Err(FilterChangeError::NeedsProcesses));
        assert!(!live.is_enabled(), "nothing has changed");
        live.change(None, Some(true)).unwrap();
        assert!(!covers(1) && covers(2));
        live.change(Some(filter("")), None).unwrap();
        assert!(live.covers_all());
    }

    #[test]
    fn number_of_filters_is_limited() {
        let limits = FilterLimits { has_symbols: false, has_processes: false };
        let live = LiveFilter::new(filter(""), Some(limits));
        let refused = live.change(Some(filter("symbol=outb")), None);
        assert_eq!(refused, Err(FilterChangeError::NeedsSymbols));
        for _ in 0..MAX_FILTERS {
            live.change(Some(filter("1")), None).unwrap();
        }
        assert_eq!(live.change(Some(filter("1")), None), Err(FilterChangeError::TooMany));
    }

    #[test]
    fn filter_that_cannot_change_covers_what_it_did() {
        let live = LiveFilter::new(filter("1"), None);
        assert!(live.is_enabled() && !live.covers_all() && !live.may_change());
        assert!(live.may_cover_port(Port(1), Direction::In));
        assert!(!live.may_cover_port(Port(2), Direction::In));
    }
}
