//! Guest pages that stay mapped between the calls of a vCPU.

use std::cell::RefCell;
use std::sync::Arc;

use crate::qemu::{GuestRam, HeldPage, RamPages};

/// The mapped pages of one vCPU.
pub(super) struct CallerPages {
    /// Page tables.
    pub tables: RefCell<RamPages>,
    /// The page of compact records that was used last.
    pub records: RefCell<HeldPage>,
}

impl CallerPages {
    pub fn new(ram: &Arc<GuestRam>) -> CallerPages {
        CallerPages {
            tables: RefCell::new(RamPages::new(Arc::clone(ram))),
            records: RefCell::new(HeldPage::new(Arc::clone(ram))),
        }
    }
}
