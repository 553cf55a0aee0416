//! `uart16550`: a serial port, as vm-superio emulates it.
//!
//! `device=uart16550@0x2f8:irq=3` prints what the guest sends; `file=PATH` writes it to a file instead,
//! `in=PATH` is what the guest receives. Without `irq` the driver has to poll. The divisor and the line
//! settings are remembered and change nothing: characters pass at once.

use std::fs::File;
use std::io::{self, BufRead, BufReader};

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};
use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial, Trigger};

use super::output::Output;
use super::{Device, DeviceKind, Interrupt, Settings};

/// The kind.
pub const UART16550: DeviceKind = DeviceKind { name: "uart16550", ports: PORTS as u16, build };

/// One for each register.
const PORTS: u8 = 8;

fn build(settings: &mut Settings<'_>) -> Result<Box<dyn Device>, String> {
    if settings.range.len() != u32::from(PORTS) {
        return Err(format!("it has {PORTS} ports; name the first alone"));
    }
    let input = match settings.take("in") {
        None => None,
        Some(path) => Some(
            File::open(&path)
                .map(BufReader::new)
                .map_err(|error| format!("in={path} cannot be read: {error}"))?,
        ),
    };
    let interrupt = Line(settings.take_interrupt()?);
    let serial = Serial::new(interrupt, settings.take_output("file")?);
    Ok(Box::new(Uart { serial, input, listens: false, polled: false, failed: None }))
}

/// vm-superio announces an interrupt once; the PC's controllers take the edge.
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

/// The registers that matter here, by offset (PC16550D data sheet, table II).
mod register {
    pub const DATA: u8 = 0;
    pub const INTERRUPT_ENABLE: u8 = 1;
    pub const INTERRUPT_IDENTIFICATION: u8 = 2;
    pub const LINE_CONTROL: u8 = 3;
    pub const MODEM_CONTROL: u8 = 4;
    pub const LINE_STATUS: u8 = 5;
    pub const SCRATCH: u8 = 7;
}

const RECEIVE_INTERRUPT: u8 = 1;
const DATA_READY: u8 = 1;

struct Uart {
    serial: Serial<Line, NoEvents, Output>,
    input: Option<BufReader<File>>,
    /// Whether the guest wants to receive: it has enabled the interrupt, or it polls. Drivers read
    /// and lose what is there before.
    listens: bool,
    /// The register of the last access was the line status, and it was read.
    polled: bool,
    /// The first error; what comes after it is lost.
    failed: Option<io::Error>,
}

impl Uart {
    /// Gives the guest what its receive buffer has room for.
    fn receive(&mut self) {
        let room = self.serial.fifo_capacity();
        let Some(input) = self.input.as_mut().filter(|_| self.listens && room > 0) else { return };
        let result = input.fill_buf().and_then(|bytes| {
            // (None is taken in loopback mode.)
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
            let polls = register == register::LINE_STATUS;
            self.listens |= polls && self.polled;
            self.polled = polls;
            self.receive();
            *byte = self.serial.read(register);
        }
        self.receive();
    }

    fn pio_write(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        for (register, &byte) in (offset as u8..PORTS).zip(data) {
            self.polled = false;
            self.write(register, byte);
        }
        let enabled = self.serial.state().interrupt_enable;
        self.listens |= enabled & RECEIVE_INTERRUPT != 0;
        self.receive();
    }
}

impl Device for Uart {
    fn reset(&mut self) {
        const LATCH_DIVISOR: u8 = 0x80;
        let fresh = SerialState::default();
        self.listens = false;
        self.polled = false;
        self.write(register::LINE_CONTROL, LATCH_DIVISOR);
        self.write(register::DATA, fresh.baud_divisor_low);
        self.write(register::INTERRUPT_ENABLE, fresh.baud_divisor_high);
        self.write(register::LINE_CONTROL, fresh.line_control);
        self.write(register::INTERRUPT_ENABLE, fresh.interrupt_enable);
        self.write(register::MODEM_CONTROL, fresh.modem_control);
        self.write(register::SCRATCH, fresh.scratch);
        while self.serial.read(register::LINE_STATUS) & DATA_READY != 0 {
            self.serial.read(register::DATA);
        }
        self.serial.read(register::INTERRUPT_IDENTIFICATION);
    }

    fn finish(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)?;
        self.serial.writer_mut().finish()
    }
}
