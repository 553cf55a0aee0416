//! The guest shim: the C header, the assembly include, the Rust crate.

mod c;
mod header;
mod header_misuse;
mod rust;
