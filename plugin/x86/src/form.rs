//! The 24 forms of port I/O, and their properties.
//!
//! They are {in, out} x {imm8, DX} x {8, 16, 32 bit} and {ins, outs} x {plain, rep} x {8, 16, 32 bit}.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A port number: an address in the 64 KiB I/O space (SDM vol. 1, 19.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(pub u16);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

/// The direction of an access, as the processor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the port to the processor.
    In,
    /// From the processor to the port.
    Out,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Direction::In => "in",
            Direction::Out => "out",
        })
    }
}

/// The size of one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
}

impl Width {
    /// All widths, narrowest first.
    pub const ALL: [Width; 3] = [Width::Byte, Width::Word, Width::Dword];

    /// Returns the size in bytes: 1, 2 or 4.
    #[inline]
    pub const fn bytes(self) -> u8 {
        match self {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Dword => 4,
        }
    }

    /// Returns the low bytes of a register that an access of this width moves.
    #[inline]
    pub const fn low_bytes(self, register: u32) -> u32 {
        register & u32::MAX >> (u32::BITS - 8 * self.bytes() as u32)
    }
}

impl From<Width> for u8 {
    fn from(width: Width) -> u8 {
        width.bytes()
    }
}

impl TryFrom<u8> for Width {
    type Error = String;

    fn try_from(bytes: u8) -> Result<Width, String> {
        Width::ALL
            .into_iter()
            .find(|width| width.bytes() == bytes)
            .ok_or_else(|| format!("{bytes} is not the size of a port access (1, 2 or 4)"))
    }
}

/// The source of the port number, and whether the instruction repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortSource {
    /// `in` or `out` with an immediate port, 0 to 255.
    Immediate,
    /// `in` or `out` with the port in DX.
    Dx,
    /// `ins` or `outs` without a repeat prefix: one element, port in DX.
    String,
    /// `ins` or `outs` with a repeat prefix: port in DX, count in CX, ECX or RCX.
    RepString,
}

macro_rules! port_forms {
    ($($variant:ident $name:literal $direction:ident $source:ident $width:ident,)*) => {
        /// One of the 24 forms of port I/O.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum PortForm {
            $(#[doc = concat!("`", $name, "`")] #[serde(rename = $name)] $variant,)*
        }

        impl PortForm {
            /// All 24: scalars before strings, `in` before `out`.
            pub const ALL: [PortForm; 24] = [$(PortForm::$variant,)*];

            /// Returns the form in Intel syntax, such as `out dx,al`.
            pub const fn name(self) -> &'static str {
                match self { $(PortForm::$variant => $name,)* }
            }

            /// Returns the direction.
            pub const fn direction(self) -> Direction {
                match self { $(PortForm::$variant => Direction::$direction,)* }
            }

            /// Returns where the port comes from, and whether the form repeats.
            pub const fn source(self) -> PortSource {
                match self { $(PortForm::$variant => PortSource::$source,)* }
            }

            /// Returns the size of one access.
            pub const fn width(self) -> Width {
                match self { $(PortForm::$variant => Width::$width,)* }
            }
        }
    };
}

port_forms! {
    InAlImm  "in al,imm8"   In  Immediate Byte,
    InAxImm  "in ax,imm8"   In  Immediate Word,
    InEaxImm "in eax,imm8"  In  Immediate Dword,
    InAlDx   "in al,dx"     In  Dx        Byte,
    InAxDx   "in ax,dx"     In  Dx        Word,
    InEaxDx  "in eax,dx"    In  Dx        Dword,
    OutImmAl  "out imm8,al"  Out Immediate Byte,
    OutImmAx  "out imm8,ax"  Out Immediate Word,
    OutImmEax "out imm8,eax" Out Immediate Dword,
    OutDxAl   "out dx,al"    Out Dx        Byte,
    OutDxAx   "out dx,ax"    Out Dx        Word,
    OutDxEax  "out dx,eax"   Out Dx        Dword,
    Insb    "insb"     In String    Byte,
    Insw    "insw"     In String    Word,
    Insd    "insd"     In String    Dword,
    RepInsb "rep insb" In RepString Byte,
    RepInsw "rep insw" In RepString Word,
    RepInsd "rep insd" In RepString Dword,
    Outsb    "outsb"     Out String    Byte,
    Outsw    "outsw"     Out String    Word,
    Outsd    "outsd"     Out String    Dword,
    RepOutsb "rep outsb" Out RepString Byte,
    RepOutsw "rep outsw" Out RepString Word,
    RepOutsd "rep outsd" Out RepString Dword,
}

impl PortForm {
    /// Returns the position in [`PortForm::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the form with these properties. Every combination exists.
    pub fn new(direction: Direction, source: PortSource, width: Width) -> PortForm {
        PortForm::ALL
            .into_iter()
            .find(|form| {
                form.direction() == direction && form.source() == source && form.width() == width
            })
            .expect("2 directions x 4 sources x 3 widths are exactly the 24 forms")
    }

    /// Returns true if it moves elements to or from memory.
    pub const fn is_string(self) -> bool {
        matches!(self.source(), PortSource::String | PortSource::RepString)
    }
}

impl fmt::Display for PortForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_position_in_all() {
        for (place, form) in PortForm::ALL.into_iter().enumerate() {
            assert_eq!(form.index(), place);
            assert_eq!(PortForm::new(form.direction(), form.source(), form.width()), form);
        }
    }

    #[test]
    fn a_form_is_serialized_as_its_name() {
        let json = serde_json::to_string(&PortForm::RepOutsw).unwrap();
        assert_eq!(json, "\"rep outsw\"");
    }
}
