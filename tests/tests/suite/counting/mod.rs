//! Counting: guests with known port accesses, random programs, real operating systems.

mod accesses;
mod aliases;
mod around_io;
mod call_sites;
mod callers;
mod decoding;
mod differential;
mod extremes;
mod first_accesses;
mod forms;
mod hypervisors;
mod instructions;
mod real_guests;
mod trace_events;
mod windows;
