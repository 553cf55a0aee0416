//! Rows about POST codes.

use pvio_x86::{AccessSize, Port};
use serde::{Deserialize, Serialize};

#[cfg(test)]
use crate::json_schema;

/// A POST code: a value that was written to the port of a device `post`, once or several times in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PostRow {
    /// The address of the port.
    #[cfg_attr(test, schemars(with = "u16"))]
    pub port: Port,
    /// Bytes in one access; `null` if the mode of the code, which decides it, is not known.
    #[cfg_attr(test, schemars(schema_with = "json_schema::size"))]
    pub size: AccessSize,
    /// The value that was written; `null` if it is not known.
    pub value: Option<u32>,
    /// The vCPU that wrote it; `null` if QEMU mixes them up.
    pub vcpu: Option<u32>,
    /// The number of times it was written before another code came.
    pub count: u64,
    /// The writes among them that may have faulted instead; QEMU does not report which.
    pub unverified: u64,
    /// The time of the first write, in nanoseconds by the clock of `post_clock`.
    pub first_ns: u64,
    /// The time of the last write.
    pub last_ns: u64,
}
