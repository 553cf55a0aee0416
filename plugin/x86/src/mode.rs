//! The three encodings of x86 code.

use serde::{Deserialize, Serialize};

/// The default operand and address size of code, by CS.D and CS.L (SDM vol. 3, 3.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Real mode, virtual-8086 mode, and protected or compatibility mode with CS.D = 0.
    #[serde(rename = "16")]
    Bits16,
    /// Protected or compatibility mode with CS.D = 1.
    #[serde(rename = "32")]
    Bits32,
    /// 64-bit mode: EFER.LMA = 1 and CS.L = 1.
    #[serde(rename = "64")]
    Bits64,
}

impl Mode {
    /// All three, narrowest first.
    pub const ALL: [Mode; 3] = [Mode::Bits16, Mode::Bits32, Mode::Bits64];

    /// Returns 16, 32 or 64.
    pub const fn bits(self) -> u32 {
        match self {
            Mode::Bits16 => 16,
            Mode::Bits32 => 32,
            Mode::Bits64 => 64,
        }
    }
}
