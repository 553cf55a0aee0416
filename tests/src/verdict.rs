//! Images of the guest `verdict`, which does what the script in its image says.

use pvio_guest::abi::call;

use crate::guest;

/// What the guest `verdict` does (`tests/guests/verdict.S`).
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Halts for ever.
    Halt,
    /// Resets the machine.
    TripleFault,
    /// Switches it off.
    PowerOff,
    /// Writes to isa-debug-exit.
    DebugExit(u8),
    /// Loops for ever.
    Spin,
    /// Says something on COM1.
    Serial(&'a str),
    /// Goes to ring 3.
    User,
    /// Exits with a code.
    Exit(u8),
    /// Logs a line of a level.
    Log(u8, &'a [u8]),
}

/// An image of it with these steps.
pub fn image(steps: &[Step<'_>]) -> Vec<u8> {
    let mut script = Vec::new();
    for step in steps {
        let (number, operand, text): (u8, u8, &[u8]) = match *step {
            Step::Halt => (0, 0, b""),
            Step::TripleFault => (1, 0, b""),
            Step::PowerOff => (2, 0, b""),
            Step::DebugExit(operand) => (3, operand, b""),
            Step::Spin => (4, 0, b""),
            Step::Serial(text) => (5, 0, text.as_bytes()),
            Step::User => (6, 0, b""),
            Step::Exit(code) => (call::EXIT, code, b""),
            Step::Log(level, text) => (call::LOG, level, text),
        };
        script.extend([number, operand]);
        script.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
        script.extend(text);
    }
    let mut image = std::fs::read(guest("verdict.bin")).unwrap();
    image[0xe000..][..script.len()].copy_from_slice(&script);
    image
}
