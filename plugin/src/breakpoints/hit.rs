//! An access at which the machine stopped.

use std::fmt;

use serde_json::{Value, json};

use crate::access_log::Access;
use crate::x86::Port;

/// An access at which the machine stopped.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The breakpoint's number.
    pub number: u64,
    /// The number of accesses that met the conditions so far, including this one.
    pub hits: u64,
    /// The vCPU; `None` if QEMU does not tell vCPUs apart.
    pub vcpu: Option<u32>,
    /// The linear address of the instruction.
    pub pc: u64,
    /// The linear address at which the vCPU stands.
    pub next_pc: u64,
    /// The symbol that the instruction is in.
    pub symbol: Option<String>,
    /// The function that called it.
    pub caller: Option<String>,
    /// The process that made the access.
    pub process: Option<String>,
    /// Its direction and width.
    pub access: Access,
    /// Its port.
    pub port: Port,
    /// The value that was read or written; `None` if it is not known.
    pub value: Option<u32>,
    /// True if a hypercall made it.
    pub by_call: bool,
}

impl Hit {
    /// The data of its event.
    pub fn to_json(&self) -> Value {
        let mut value = json!({
            "break": self.number,
            "hits": self.hits,
            "pc": format!("{:#x}", self.pc),
            "next-pc": format!("{:#x}", self.next_pc),
            "dir": self.access.direction,
            "port": self.port,
            "size": self.access.size,
            "value": self.value,
            "hypercall": self.by_call,
        });
        let rest = [("symbol", &self.symbol), ("caller", &self.caller), ("process", &self.process)];
        for (name, text) in rest {
            if let Some(text) = text {
                value[name] = text.as_str().into();
            }
        }
        if let Some(vcpu) = self.vcpu {
            value["vcpu"] = vcpu.into();
        }
        value
    }
}

/// The line of the hit.
impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hit { number, hits, pc, next_pc, port, value, access, .. } = self;
        let digits = 2 + 2 * usize::from(access.size.bytes().unwrap_or(0));
        let value = value.map_or("?".to_owned(), |value| format!("{value:#0digits$x}"));
        let Access { direction, size } = access;
        write!(f, "break {number}: {direction} {port} {size} {value} at {pc:#x}")?;
        if let Some(symbol) = &self.symbol {
            write!(f, " {symbol}")?;
        }
        if self.by_call {
            write!(f, " by hypercall")?;
        }
        if let Some(caller) = &self.caller {
            write!(f, ", called by {caller}")?;
        }
        if let Some(process) = &self.process {
            write!(f, ", process {process}")?;
        }
        if let Some(vcpu) = self.vcpu {
            write!(f, ", vCPU {vcpu}")?;
        }
        write!(f, ", hit {hits}; stopped before {next_pc:#x}")
    }
}
