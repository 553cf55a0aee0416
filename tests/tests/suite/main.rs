//! The integration tests: pvio on real QEMU, with real guests. `tests/README.md` says how to run them.

mod counting;
mod devices;
mod documents;
mod guest_shim;
mod hypercalls;
mod options;
mod outputs;
mod promises;
mod scripts;
