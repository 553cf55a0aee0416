//! `libpvio.so`: pvio with the devices that it has.

pvio::plugin!();
