//! Boots guests on QEMU under pvio: what the scripts and the tests share.
