//! `libpvio.so`: pvio with its built-in devices.

pvio::plugin!();
