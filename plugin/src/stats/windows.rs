//! Named windows: what was counted between a begin and an end, over all times that there were both.
//!
//! A window holds one sum: the totals at each end, less the totals at each begin. Until it ends, it is
//! below 0 by what was counted before it began. What the sum is made of is not kept.

use pvio_guest::abi::WINDOWS_MAX;

use super::totals::{Sign, Totals};

/// The most rows of ports and sites that all windows hold together: 262,144, which are 8 MiB. A Linux
/// boot has some 600. (A guest that used every port at every size, in 256 windows at once, would have
/// pvio hold and dump a hundred million.)
pub const MAX_WINDOW_ROWS: usize = 1 << 18;

/// A window that cannot begin or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It has begun already.
    #[error("the window is open already")]
    Open,
    /// It has not begun.
    #[error("the window is not open")]
    NotOpen,
    /// There are as many names as there may be.
    #[error("there are {WINDOWS_MAX} windows already")]
    Full,
}

/// A window, as it stands.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub name: String,
    pub entries: u64,
    pub open: bool,
    /// It tells ports and sites no longer apart, for want of room.
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
        let place = match self.0.iter().position(|window| window.name == name) {
            Some(place) if self.0[place].open => return Err(WindowError::Open),
            Some(place) => place,
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
        self.0[place].open = true;
        self.0[place].entries += 1;
        self.add(place, now, Sign::Minus);
        Ok(())
    }

    pub fn end(&mut self, name: &str, now: &Totals) -> Result<(), WindowError> {
        let is_it = |window: &Window| window.name == name && window.open;
        let place = self.0.iter().position(is_it).ok_or(WindowError::NotOpen)?;
        self.0[place].open = false;
        self.add(place, now, Sign::Plus);
        Ok(())
    }

    /// Forgets the windows that are not open, and begins the others anew.
    pub fn reset(&mut self, now: &Totals) {
        let open = std::mem::take(&mut self.0).into_iter().filter(|window| window.open);
        for window in open {
            self.begin(&window.name, now).expect("no more windows than before");
        }
    }

    /// All windows, with what is counted so far in those that are open.
    pub fn so_far(&self, now: &Totals) -> Vec<Window> {
        let mut windows = self.clone();
        for place in 0..windows.0.len() {
            if windows.0[place].open {
                windows.add(place, now, Sign::Plus);
            }
        }
        windows.0
    }

    /// Adds to a window, and keeps to [`MAX_WINDOW_ROWS`].
    fn add(&mut self, place: usize, now: &Totals, sign: Sign) {
        self.0[place].add(now, sign);
        let rows: usize = self.0.iter().map(|window| window.totals.large_rows()).sum();
        if rows > MAX_WINDOW_ROWS {
            self.0[place].drop_large_rows();
        }
    }
}
