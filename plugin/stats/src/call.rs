//! The calls of the hypercall interface, as the statistics name them.

use std::fmt;

use pvio_guest::abi::CALLS;
use pvio_guest::for_each_call;
use pvio_x86::{Direction, Width};
use serde::{Deserialize, Serialize};

macro_rules! calls {
    ($($variant:ident $constant:ident $name:literal $number:literal
       $about:literal, $takes:literal, $gives:literal;)*) => {
        /// A call of the hypercall interface (`guest-shim/ABI.md`), in the order of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Call {
            $(#[doc = concat!("`", $name, "`")] #[serde(rename = $name)] $variant,)*
            /// A number without a call, or the call of a newer version of pvio.
            #[serde(rename = "unknown", other)]
            Unknown,
        }

        impl Call {
            /// All calls, in the order of the table.
            pub const ALL: [Call; CALLS.len() + 1] = [$(Call::$variant,)* Call::Unknown];

            /// The value of the field `call`.
            pub const fn name(self) -> &'static str {
                match self { $(Call::$variant => $name,)* Call::Unknown => "unknown" }
            }

            /// The call with this number of the ABI.
            #[inline]
            pub const fn from_number(number: u8) -> Call {
                match number { $($number => Call::$variant,)* _ => Call::Unknown }
            }
        }
    };
}

for_each_call!(calls);

impl Call {
    /// The index in [`Call::ALL`].
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The direction and element size of a port I/O call; `None` for other calls.
    #[inline]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_call_or_unknown() {
        for (index, call) in Call::ALL.into_iter().enumerate() {
            assert_eq!(call.index(), index);
            assert_eq!(serde_json::to_string(&call).unwrap(), format!("{:?}", call.name()));
        }
        let known = (0..=u8::MAX).map(Call::from_number).filter(|&call| call != Call::Unknown);
        assert!(known.eq(Call::ALL[..CALLS.len()].iter().copied()));
        assert_eq!(Call::from_number(pvio_guest::abi::call::DUMP), Call::Dump);
    }

    #[test]
    fn calls_of_a_newer_version_are_read_as_unknown() {
        assert_eq!(serde_json::from_str::<Call>("\"teleport\"").unwrap(), Call::Unknown);
        assert_eq!(serde_json::from_str::<Call>("\"unknown\"").unwrap(), Call::Unknown);
        assert_eq!(serde_json::from_str::<Call>("\"dump\"").unwrap(), Call::Dump);
    }

    #[test]
    fn twelve_calls_do_port_io() {
        let calls = Call::ALL.into_iter().filter_map(Call::port_io);
        assert_eq!(calls.count(), 12);
    }
}
