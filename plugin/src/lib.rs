#![forbid(unsafe_code)]
//! pvio: port I/O of x86 guests under QEMU, counted, served and paravirtualized.
//!
//! Built as a cdylib this is `libpvio.so`, which a stock QEMU (9.2 to 11.1) loads with `-plugin`. It
//! watches the 24 port I/O operations of an i386 or x86-64 guest and, when QEMU ends, dumps how often
//! each was executed, on which ports, and from where.
//!
//! Inside, each thing has its room, and data travels one way:
//!
//! | room | knows | does not know |
//! | --- | --- | --- |
//! | [`qemu`] | the plugin API and QEMU's exported functions; all `unsafe` | x86, ports |
//! | [`x86`] | the 24 forms, their encodings, modes, privilege | QEMU |
//! | [`devices`] | one device each | everything else |
//! | [`bus`] | which device owns which ports | CPUs |
//! | [`interception`] | attempts at an instruction, and how each ended | file formats |
//! | [`hypercalls`] | the guest's calls: what each does, and who may make it | how they were caught |
//! | [`access_log`] | a line for each access | where accesses come from |
//! | [`stats`] | counters, windows, snapshots, their tables | where counts come from |
//! | [`dumps`] | when and where a snapshot is written | what is in it |
//! | [`symbols`] | names of addresses | the rest |
//! | [`guest`] | a Linux guest's own tables in its memory | QEMU, counting |
//! | [`options`] | what the user may ask for | the rest |

pub mod access_log;
pub mod bus;
pub mod devices;
pub mod dumps;
mod elf;
mod entry;
mod files;
pub mod guest;
mod guest_file;
mod guest_memory;
pub mod hypercalls;
pub mod interception;
pub mod options;
mod plugin;
pub mod sections;
pub mod stats;
pub mod symbols;

pub use plugin::{BuildError, build};
pub use pvio_qemu as qemu;
pub use pvio_x86 as x86;
