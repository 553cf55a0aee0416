//! Entry points for fuzzing of the kinds that read files or talk to other programs.

pub use super::replay::fuzzing::recording;
pub use super::script::fuzzing::script;
pub use super::socket::fuzzing::socket_frames;
