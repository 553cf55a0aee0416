//! The commands of the keys.

use super::Top;

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Character(char),
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// Tab.
    Tab,
    /// One row up.
    Up,
    /// One row down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first row.
    Home,
    /// Control-C.
    Interrupt,
}

/// The rows of a page.
const PAGE: usize = 10;

/// Does what a key says. Returns false if the program is to end.
pub fn press(top: &mut Top, key: Key) -> bool {
    match key {
        Key::Interrupt => return false,
        _ if top.is_typing => type_filter(top, key),
        Key::Character('q') => return false,
        Key::Tab => {
            top.table = top.table.next();
            top.first = 0;
        }
        Key::Character('s') => top.sort = top.sort.next(),
        Key::Character('r') => top.is_reversed = !top.is_reversed,
        Key::Character('p' | ' ') => top.is_paused = !top.is_paused,
        Key::Character('/') => top.is_typing = true,
        Key::Escape => top.filter.clear(),
        Key::Up => top.first = top.first.saturating_sub(1),
        Key::Down => top.first += 1,
        Key::PageUp => top.first = top.first.saturating_sub(PAGE),
        Key::PageDown => top.first += PAGE,
        Key::Home => top.first = 0,
        Key::Character(_) | Key::Enter | Key::Backspace => {}
    }
    // At least one row stays on the screen.
    top.first = top.first.min(top.rows().len().saturating_sub(1));
    true
}

fn type_filter(top: &mut Top, key: Key) {
    match key {
        Key::Character(character) => top.filter.push(character),
        Key::Backspace => {
            top.filter.pop();
        }
        Key::Enter => top.is_typing = false,
        Key::Escape => {
            top.is_typing = false;
            top.filter.clear();
        }
        _ => {}
    }
}
