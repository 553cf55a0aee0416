//! The calls of the hypercall interface, as rows of the statistics.

use std::fmt;

use pvio_guest::abi::call;
use serde::{Deserialize, Serialize};

use crate::x86::{Direction, Width};

macro_rules! calls {
    ($($variant:ident $name:literal $number:ident,)*) => {
        /// A call, in the order of the statistics' table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Call {
            $(#[doc = concat!("`", $name, "`")] #[serde(rename = $name)] $variant,)*
            /// A number that is no call's.
            #[serde(rename = "unknown")]
            Unknown,
        }

        impl Call {
            /// All, in the order of the statistics' table.
            pub const ALL: [Call; 23] = [$(Call::$variant,)* Call::Unknown];

            /// As in the statistics' `call` field.
            pub const fn name(self) -> &'static str {
                match self { $(Call::$variant => $name,)* Call::Unknown => "unknown" }
            }

            /// From the ABI's number.
            pub const fn from_number(number: u8) -> Call {
                match number { $(call::$number => Call::$variant,)* _ => Call::Unknown }
            }
        }
    };
}

calls! {
    Probe "probe" PROBE,
    Inb "inb" INB,
    Inw "inw" INW,
    Inl "inl" INL,
    Outb "outb" OUTB,
    Outw "outw" OUTW,
    Outl "outl" OUTL,
    Insb "insb" INSB,
    Insw "insw" INSW,
    Insl "insl" INSL,
    Outsb "outsb" OUTSB,
    Outsw "outsw" OUTSW,
    Outsl "outsl" OUTSL,
    Batch "batch" BATCH,
    Register "register" REGISTER,
    Release "release" RELEASE,
    Exit "exit" EXIT,
    Log "log" LOG,
    Begin "begin" BEGIN,
    End "end" END,
    Reset "reset" RESET,
    Dump "dump" DUMP,
}

impl Call {
    /// The place in [`Call::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Which way one of the twelve calls of port I/O moves data, and how much at once.
    pub const fn port_io(self) -> Option<(Direction, Width)> {
        Some(match self {
            Call::Inb | Call::Insb => (Direction::In, Width::Byte),
            Call::Inw | Call::Insw => (Direction::In, Width::Word),
            Call::Inl | Call::Insl => (Direction::In, Width::Dword),
            Call::Outb | Call::Outsb => (Direction::Out, Width::Byte),
            Call::Outw | Call::Outsw => (Direction::Out, Width::Word),
            Call::Outl | Call::Outsl => (Direction::Out, Width::Dword),
            _ => return None,
        })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out, as far as it goes without the guest: a page may be to be touched.
    Ok,
    /// It was left to the guest's own instruction.
    Declined,
    /// The caller may make no hypercalls.
    Denied,
    /// It was wrong, or the host could not do it.
    Error,
}

/// What is counted of a call.
#[derive(Clone, Copy)]
pub(super) enum CallColumn {
    Count,
    Bytes,
    Declined,
    Denied,
    Errors,
    /// Calls that went well and moved one element: those that there are most of are counted in one
    /// place. They are in none of the others.
    MovedOne,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_call_or_unknown() {
        for (place, call) in Call::ALL.into_iter().enumerate() {
            assert_eq!(call.index(), place);
            assert_eq!(serde_json::to_string(&call).unwrap(), format!("{:?}", call.name()));
        }
        let known = (0..=u8::MAX).map(Call::from_number).filter(|&call| call != Call::Unknown);
        assert!(known.eq(Call::ALL[..22].iter().copied()));
        assert_eq!(Call::from_number(call::DUMP), Call::Dump);
    }

    #[test]
    fn twelve_calls_do_port_io() {
        let calls = Call::ALL.into_iter().filter_map(Call::port_io);
        assert_eq!(calls.count(), 12);
    }
}
