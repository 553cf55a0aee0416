#![forbid(unsafe_code)]
//! pvio counts, emulates and paravirtualizes the port I/O of x86 guests under QEMU.
//!
//! This library makes a QEMU plugin that watches the 24 port I/O operations of an i386 or x86-64
//! guest. When QEMU (9.2 to 11.1) ends, the plugin dumps how often each was executed, on which ports,
//! and from which code. [`plugin!`] makes a plugin with your own devices; `libpvio.so` is the plugin
//! with the built-in devices.
//!
//! Dependencies go one way: a module uses only modules below its row in this table, which a test checks.
//!
//! | module | knows | does not know |
//! | --- | --- | --- |
//! | `plugin` | all modules, and how to connect them | |
//! | `options` | the options' syntax, and the files that they name | what the options cause |
//! | `interception` | attempts at an instruction, and how each ended | file formats, what a call does |
//! | `hypercalls` | what each call does, and who may make it | how the call was caught |
//! | `control` | requests from outside, and their answers | how anything is counted |
//! | `access_listeners` | the listeners to single accesses and their values | where accesses come from |
//! | `breakpoints` | the accesses at which the machine stops | where accesses come from |
//! | `trace` | the events of vCPUs, in chunks of a file | where events come from |
//! | `access_log` | a line for each access | where accesses come from |
//! | `access_filter` | the accesses that an option selects | the use of the selection |
//! | `dumps` | when and where a snapshot is written | where counts come from |
//! | `observers` | the observers of accesses | where accesses come from |
//! | `kernel_boots` | which kernel runs, when it ends | how the kernel is found |
//! | [`stats`] | counters, windows, snapshots, their tables | where counts come from |
//! | `processes` | the process that runs on a vCPU | counting |
//! | `running_kernel` | the Linux kernel that runs now, for vCPU threads | its users |
//! | [`symbols`], [`sections`] | names of addresses, from files and from the guest | counting |
//! | [`guest`] | a Linux guest's own tables in its memory | QEMU, counting |
//! | `bus` | which device serves which ports | CPUs |
//! | [`devices`] | one device each | QEMU, other devices |
//! | `share` | the directory that the guest shares, and its unfinished files | calls |
//! | [`guest_file`], `elf`, `files` | files of the host | the use of their contents |
//! | `listening_socket` | a Unix socket at a path | who connects |
//! | [`untrusted_text`] | text from the guest, escaped for a terminal | the terminal |
//! | `guest_memory` | RAM by physical and by linear address | its readers |
//! | `sync` | atomic types, which a test of all interleavings replaces | |
//! | [`qemu`] | the plugin API and QEMU's exported functions; all `unsafe` | ports, counting, calls |
//! | [`x86`] | the 24 forms, their encodings, modes, privilege | QEMU |

mod access_filter;
mod access_listeners;
mod access_log;
mod breakpoints;
mod bus;
mod control;
pub mod devices;
mod dumps;
mod elf;
mod entry;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod guest;
pub mod guest_file;
mod guest_memory;
mod hypercalls;
mod interception;
mod kernel_boots;
#[cfg(test)]
mod layers;
mod listening_socket;
mod observers;
mod options;
mod plugin;
mod processes;
mod running_kernel;
pub mod sections;
mod share;
pub mod stats;
pub mod symbols;
mod sync;
mod trace;
pub mod untrusted_text;

pub use plugin::{BuildError, build};
pub use pvio_qemu as qemu;
pub use pvio_x86 as x86;
