//! `uart16550`: a serial port, emulated by vm-superio.
//!
//! `device=uart16550@0x2f8:irq=3` prints what the guest sends. `file=PATH` writes it to a file, and
//! `in=PATH` is what the guest receives. Without `irq` the driver has to poll. The divisor and the line
//! settings are stored without effect: characters pass at once.
//!
//! Reception starts when the guest enables the receive interrupt, or polls. It pauses while the guest
//! has lowered RTS, as drivers with flow control do when their buffer is full.

use std::fs::File;
use std::io::{self, BufRead, BufReader};

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};
use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial, Trigger};

use super::output::Output;
use super::{Device, DeviceError, DeviceKind, Interrupt, Settings};

/// The kind `uart16550`.
pub const UART16550: DeviceKind = DeviceKind { name: "uart16550", ports: PORTS as u16, build };

/// The number of ports, one for each register.
const PORTS: u8 = 8;

fn build(settings: &mut Settings<'_>) -> Result<Box<dyn Device>, DeviceError> {
    if settings.range.len() != u32::from(PORTS) {
        return Err(DeviceError::PortCount(PORTS.into()));
    }
    let input = settings.take_input("in")?.map(BufReader::new);
    let interrupt = Line(settings.take_interrupt("irq")?);
    let serial = Serial::new(interrupt, settings.take_output_or_stdout("file")?);
    let receiver = Receiver::default();
    Ok(Box::new(Uart { serial, input, receiver, failed: None }))
}

/// The interrupt line. vm-superio signals an interrupt once, and the PC's controllers latch the edge.
struct Line(Option<Box<dyn Interrupt>>);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        if let Some(interrupt) = &self.0 {
            interrupt.pulse();
        }
        Ok(())
    }
}

/// Registers by offset, named as in the PC16550D data sheet, table II.
mod register {
    /// Receiver buffer (read) and transmitter holding register (write). DLL while DLAB is set.
    pub const RBR_THR_DLL: u8 = 0;
    /// Interrupt enable register. DLM while DLAB is set.
    pub const IER_DLM: u8 = 1;
    /// Interrupt identification register.
    pub const IIR: u8 = 2;
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
/// LCR: divisor latch access bit. While set, the first two offsets are the divisor.
const LCR_DLAB: u8 = 0x80;
/// MCR: data terminal ready.
const MCR_DTR: u8 = 0x01;
/// MCR: request to send.
const MCR_RTS: u8 = 0x02;
/// MCR: loopback.
const MCR_LOOP: u8 = 0x10;
/// LSR: data ready.
const LSR_DR: u8 = 0x01;

/// A guest that reads LSR this often in a row polls for input. Linux reads it twice before it
/// discards what was received too early.
const POLLS: u32 = 16;

/// Tracks from the guest's accesses whether it is ready to receive.
///
/// Drivers discard what arrives before they are ready.
#[derive(Default)]
struct Receiver {
    /// The guest has enabled the receive interrupt, or it polls.
    listens: bool,
    /// The number of LSR reads in a row up to now.
    polls: u32,
    /// DLAB is set.
    dlab: bool,
    /// DTR is raised.
    dtr: bool,
    /// The guest has raised RTS before, so it controls the flow.
    controls_flow: bool,
    /// The guest controls the flow and has lowered RTS.
    paused: bool,
}

impl Receiver {
    fn is_ready(&self) -> bool {
        self.listens && !self.paused
    }

    fn register_read(&mut self, register: u8) {
        self.polls = if register == register::LSR { self.polls + 1 } else { 0 };
        if self.polls >= POLLS {
            (self.listens, self.polls) = (true, 0);
        }
    }

    fn register_written(&mut self, register: u8, value: u8) {
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
            register::MCR if value & MCR_LOOP == 0 => {
                self.dtr = value & MCR_DTR != 0;
                let rts = value & MCR_RTS != 0;
                self.controls_flow |= rts;
                self.paused = self.controls_flow && !rts;
            }
            _ => {}
        }
    }
}

struct Uart {
    serial: Serial<Line, NoEvents, Output>,
    input: Option<BufReader<File>>,
    receiver: Receiver,
    /// The first error. Later input and output are lost.
    failed: Option<io::Error>,
}

impl Uart {
    /// Fills the receive buffer from the input, if the guest is ready.
    fn receive(&mut self) {
        let room = self.serial.fifo_capacity();
        let ready = self.receiver.is_ready() && room > 0;
        let Some(input) = self.input.as_mut().filter(|_| ready) else { return };
        let result = input.fill_buf().and_then(|bytes| {
            // In loopback mode vm-superio takes none.
            let taken = self.serial.enqueue_raw_bytes(&bytes[..bytes.len().min(room)]);
            taken.map_err(io_error)
        });
        match result {
            Ok(taken) => input.consume(taken),
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.failed.get_or_insert(error);
    }

    fn write(&mut self, register: u8, value: u8) {
        if let Err(error) = self.serial.write(register, value) {
            self.fail(io_error(error));
        }
    }
}

fn io_error(error: vm_superio::serial::Error<io::Error>) -> io::Error {
    use vm_superio::serial::Error;
    match error {
        Error::IOError(error) | Error::Trigger(error) => error,
        Error::FullFifo => io::Error::other("the receive buffer is full"),
    }
}

impl MutDevicePio for Uart {
    fn pio_read(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        for (register, byte) in (offset as u8..PORTS).zip(data) {
            self.receiver.register_read(register);
            self.receive();
            *byte = self.serial.read(register);
        }
        self.receive();
    }

    fn pio_write(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        for (register, &byte) in (offset as u8..PORTS).zip(data) {
            self.receiver.register_written(register, byte);
            self.write(register, byte);
        }
        self.receive();
    }
}

impl Device for Uart {
    fn reset(&mut self) {
        if let Err(error) = self.serial.writer_mut().truncate() {
            self.fail(error);
        }
        let initial = SerialState::default();
        self.receiver = Receiver::default();
        self.write(register::LCR, LCR_DLAB);
        self.write(register::RBR_THR_DLL, initial.baud_divisor_low);
        self.write(register::IER_DLM, initial.baud_divisor_high);
        self.write(register::LCR, initial.line_control);
        self.write(register::IER_DLM, initial.interrupt_enable);
        self.write(register::MCR, initial.modem_control);
        self.write(register::SCR, initial.scratch);
        while self.serial.read(register::LSR) & LSR_DR != 0 {
            self.serial.read(register::RBR_THR_DLL);
        }
        self.serial.read(register::IIR);
    }

    fn finish(&mut self) -> io::Result<()> {
        let finished = self.serial.writer_mut().finish();
        self.failed.take().map_or(finished, Err)
    }
}
