//! The registers of a 16550, and whether the guest is ready to receive.

/// Registers by offset, named as in the PC16550D data sheet, table II.
pub(super) mod register {
    /// Receiver buffer (read) and transmitter holding register (write). DLL while DLAB is set.
    pub const RBR_THR_DLL: u8 = 0;
    /// Interrupt enable register. DLM while DLAB is set.
    pub const IER_DLM: u8 = 1;
    /// Interrupt identification register (read) and FIFO control register (write).
    pub const IIR_FCR: u8 = 2;
    /// Line control register.
    pub const LCR: u8 = 3;
    /// Modem control register.
    pub const MCR: u8 = 4;
    /// Line status register.
    pub const LSR: u8 = 5;
    /// Scratch register.
    pub const SCR: u8 = 7;
}

/// IER: received data available.
const IER_ERBFI: u8 = 0x01;
/// IER: all four interrupts.
const IER_ALL: u8 = 0x0f;
/// FCR: clear the receiver's FIFO. The bit clears itself.
pub(super) const FCR_CLEAR_RECEIVER: u8 = 0x02;
/// LCR: divisor latch access bit. While set, the first two offsets are the divisor.
pub(super) const LCR_DLAB: u8 = 0x80;
/// MCR: data terminal ready.
const MCR_DTR: u8 = 0x01;
/// MCR: request to send.
const MCR_RTS: u8 = 0x02;
/// MCR: loopback.
const MCR_LOOP: u8 = 0x10;
/// LSR: data ready.
pub(super) const LSR_DR: u8 = 0x01;

/// A guest that reads LSR this often in a row polls for input. Linux reads it twice before it
/// discards what was received too early.
const POLLS: u32 = 16;

/// Tracks from the guest's accesses whether it is ready to receive.
///
/// Drivers discard what arrives before they are ready.
#[derive(Default)]
pub(super) struct Receiver {
    /// The guest has enabled the receive interrupt, or it polls.
    listens: bool,
    /// The number of LSR reads in a row up to now.
    polls: u32,
    /// DLAB is set.
    dlab: bool,
    /// What the guest sends comes back.
    is_looped: bool,
    /// DTR is raised.
    dtr: bool,
    /// The guest has raised RTS before, so it controls the flow.
    controls_flow: bool,
    /// The guest controls the flow and has lowered RTS.
    paused: bool,
}

impl Receiver {
    pub fn is_ready(&self) -> bool {
        self.listens && !self.paused
    }

    /// Returns true in loopback mode, in which the inputs are disconnected.
    pub fn is_looped(&self) -> bool {
        self.is_looped
    }

    pub fn register_read(&mut self, register: u8) {
        self.polls = if register == register::LSR { self.polls + 1 } else { 0 };
        if self.polls >= POLLS {
            (self.listens, self.polls) = (true, 0);
        }
    }

    pub fn register_written(&mut self, register: u8, value: u8) {
        self.polls = 0;
        match register {
            // To probe the chip, Linux briefly enables all interrupts long before anyone opens the
            // port.
            register::IER_DLM if !self.dlab => {
                let is_probe = value & IER_ALL == IER_ALL && !self.dtr;
                self.listens |= value & IER_ERBFI != 0 && !is_probe;
            }
            register::LCR => self.dlab = value & LCR_DLAB != 0,
            // In loopback mode the outputs are disconnected.
            register::MCR if value & MCR_LOOP != 0 => self.is_looped = true,
            register::MCR => {
                self.is_looped = false;
                self.dtr = value & MCR_DTR != 0;
                let rts = value & MCR_RTS != 0;
                self.controls_flow |= rts;
                self.paused = self.controls_flow && !rts;
            }
            _ => {}
        }
    }
}
