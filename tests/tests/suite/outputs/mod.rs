//! pvio's outputs: dumps at every kind of end, the access log, names of ports and code.

mod abnormal_ends;
mod access_log;
mod access_log_filters;
mod check;
mod cost;
mod ends;
mod export;
mod faults;
mod faults_of_commands;
mod guest_callers;
mod guest_names;
mod guest_symbols;
mod guest_unwind;
mod kernel_boots;
mod port_names;
mod processes;
mod replaced_modules;
mod report;
mod robustness;
mod schema;
mod stalled_readers;
mod symbols;
mod trace;
mod uefi;
mod values;
