//! Named windows: the counts between each begin of a name and its end.
//!
//! A window holds one sum: the totals at each end minus the totals at each begin. While it is open,
//! the sum lacks the totals of now, so it may be negative.

use pvio_guest::abi::WINDOWS_MAX;

use super::totals::{Sign, Totals};

/// Maximum number of rows of ports, sites and accesses that all windows hold together: 262,144, or 8 MiB.
///
/// A Linux boot has 932. Without the limit, a guest that uses every port at every size in 256
/// open windows would make pvio hold and dump a hundred million rows.
pub const MAX_WINDOW_ROWS: usize = 1 << 18;

/// The reason why a window cannot begin or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The window has begun and not ended.
    #[error("the window is open already")]
    Open,
    /// The window has not begun, or has ended.
    #[error("the window is not open")]
    NotOpen,
    /// There are [`WINDOWS_MAX`] names already.
    #[error("there are {WINDOWS_MAX} windows already")]
    Full,
}

/// One window.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub name: String,
    pub entries: u64,
    pub open: bool,
    /// True if the rows of ports, sites and accesses were dropped for lack of room.
    pub rows_dropped: bool,
    pub totals: Totals,
}

impl Window {
    fn add(&mut self, now: &Totals, sign: Sign) {
        self.totals.add(now, sign);
        if self.rows_dropped {
            self.totals.drop_large_rows();
        }
    }

    fn drop_large_rows(&mut self) {
        self.rows_dropped = true;
        self.totals.drop_large_rows();
    }
}

/// All windows, in the order in which they first began.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows(Vec<Window>);

impl Windows {
    pub fn begin(&mut self, name: &str, now: &Totals) -> Result<(), WindowError> {
        let index = match self.0.iter().position(|window| window.name == name) {
            Some(index) if self.0[index].open => return Err(WindowError::Open),
            Some(index) => index,
            None if self.0.len() == WINDOWS_MAX => return Err(WindowError::Full),
            None => {
                self.0.push(Window {
                    name: name.to_owned(),
                    entries: 0,
                    open: false,
                    rows_dropped: false,
                    totals: Totals::default(),
                });
                self.0.len() - 1
            }
        };
        self.0[index].open = true;
        self.0[index].entries += 1;
        self.add(index, now, Sign::Minus);
        Ok(())
    }

    pub fn end(&mut self, name: &str, now: &Totals) -> Result<(), WindowError> {
        let is_it = |window: &Window| window.name == name && window.open;
        let index = self.0.iter().position(is_it).ok_or(WindowError::NotOpen)?;
        self.0[index].open = false;
        self.add(index, now, Sign::Plus);
        Ok(())
    }

    pub fn open_names(&self) -> Vec<String> {
        self.0.iter().filter(|window| window.open).map(|window| window.name.clone()).collect()
    }

    /// Removes the closed windows, and begins the open ones anew.
    pub fn reset(&mut self, now: &Totals) {
        let open = std::mem::take(&mut self.0).into_iter().filter(|window| window.open);
        for window in open {
            self.begin(&window.name, now).expect("no more windows than before");
        }
    }

    /// Returns all windows. An open one has its counts so far.
    pub fn so_far(&self, now: &Totals) -> Vec<Window> {
        let mut windows = self.clone();
        for index in 0..windows.0.len() {
            if windows.0[index].open {
                windows.add(index, now, Sign::Plus);
            }
        }
        windows.0
    }

    /// Adds to or subtracts from a window, and drops its rows if there are too many.
    fn add(&mut self, index: usize, now: &Totals, sign: Sign) {
        self.0[index].add(now, sign);
        let rows: usize = self.0.iter().map(|window| window.totals.large_rows()).sum();
        if rows > MAX_WINDOW_ROWS {
            self.0[index].drop_large_rows();
        }
    }
}
