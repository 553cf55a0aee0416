//! The integration tests: pvio on real QEMU, with real guests. See `tests/README.md`.

mod counting;
mod devices;
mod documents;
mod guest_shim;
mod hypercalls;
mod live;
mod options;
mod outputs;
mod promises;
mod scripts;
