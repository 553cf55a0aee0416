//! Images of the guest `verdict`, which runs a script in its image.

use pvio_guest::abi::call;

use crate::guest;

/// A step of the script (`tests/guests/verdict.S`).
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Halts without end.
    Halt,
    /// Resets the machine by a triple fault.
    TripleFault,
    /// Powers the machine off.
    PowerOff,
    /// Writes to isa-debug-exit.
    DebugExit(u8),
    /// Loops without end.
    Spin,
    /// Writes a text to COM1.
    Serial(&'a str),
    /// Writes a text to port 0xe9, the debug console.
    Console(&'a str),
    /// Enters ring 3.
    User,
    /// Makes the hypercall `exit` with a code.
    Exit(u8),
    /// Makes the hypercall `log` with a level and a text.
    Log(u8, &'a [u8]),
}

/// Makes an image of the guest with these steps.
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
            Step::Console(text) => (7, 0, text.as_bytes()),
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
