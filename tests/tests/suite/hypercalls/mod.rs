//! Hypercalls and the mailbox, from every ring and mode.

mod hostile;
mod limits;
mod mailbox;
mod mailbox_saved;
mod memory;
mod random;
mod rings;
