//! The 24 operations of the 2007 paravirt I/O patch: {in, out} x {imm8, DX} x {8, 16, 32 bit} and
//! {ins, outs} x {plain, rep} x {8, 16, 32 bit}.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An address in the 64 KiB I/O space (SDM vol. 1, 19.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(pub u16);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

/// Which way the data goes, as the processor sees it.
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

/// How much one access moves.
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

    /// The size in bytes: 1, 2 or 4.
    #[inline]
    pub const fn bytes(self) -> u8 {
        match self {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Dword => 4,
        }
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

/// Where an operation takes its port from, and how often it repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortSource {
    /// `in`/`out` with the port in the instruction.
    Immediate,
    /// `in`/`out` with the port in DX.
    Dx,
    /// One element of `ins`/`outs`, port in DX.
    String,
    /// `ins`/`outs` under a repeat prefix, port in DX, count in CX, ECX or RCX.
    RepString,
}

macro_rules! port_forms {
    ($($variant:ident $name:literal $direction:ident $source:ident $width:ident,)*) => {
        /// One of the 24 operations, in the order of the statistics' tables.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum PortForm {
            $(#[doc = concat!("`", $name, "`")] #[serde(rename = $name)] $variant,)*
        }

        impl PortForm {
            /// All 24, in the order of the statistics' tables.
            pub const ALL: [PortForm; 24] = [$(PortForm::$variant,)*];

            /// Intel syntax, as in the statistics' `form` field.
            pub const fn name(self) -> &'static str {
                match self { $(PortForm::$variant => $name,)* }
            }

            /// Which way the data goes.
            pub const fn direction(self) -> Direction {
                match self { $(PortForm::$variant => Direction::$direction,)* }
            }

            /// Where the port comes from, and whether the operation repeats.
            pub const fn source(self) -> PortSource {
                match self { $(PortForm::$variant => PortSource::$source,)* }
            }

            /// How much one access moves.
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
    /// The place in [`PortForm::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The form with these properties; every combination exists.
    pub fn new(direction: Direction, source: PortSource, width: Width) -> PortForm {
        PortForm::ALL
            .into_iter()
            .find(|form| {
                form.direction() == direction && form.source() == source && form.width() == width
            })
            .expect("2 directions x 4 sources x 3 widths are exactly the 24 forms")
    }

    /// Whether elements go to or come from memory.
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
    fn index_is_the_place_in_all() {
        for (place, form) in PortForm::ALL.into_iter().enumerate() {
            assert_eq!(form.index(), place);
            assert_eq!(PortForm::new(form.direction(), form.source(), form.width()), form);
        }
    }

    #[test]
    fn a_form_is_written_by_its_name() {
        let json = serde_json::to_string(&PortForm::RepOutsw).unwrap();
        assert_eq!(json, "\"rep outsw\"");
    }
}
