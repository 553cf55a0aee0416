//! `uart16550`: a serial port, as vm-superio emulates it.
//!
//! `device=uart16550@0x2f8:irq=3` prints what the guest sends; `file=PATH` writes it to a file instead,
//! `in=PATH` is what the guest receives. Without `irq` the driver has to poll. The divisor and the line
//! settings are remembered and change nothing: characters pass at once.
//!
//! The guest receives from when it enables the interrupt for it, or polls; and not while it has lowered
//! RTS, which drivers with flow control do when they have enough.

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
    let input = settings.take_input("in")?.map(BufReader::new);
    let interrupt = Line(settings.take_interrupt("irq")?);
    let serial = Serial::new(interrupt, settings.take_output("file")?);
    let receiver = Receiver::default();
    Ok(Box::new(Uart { serial, input, receiver, failed: None }))
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

/// In the interrupt enable register.
const RECEIVE_INTERRUPT: u8 = 0x01;
const ALL_INTERRUPTS: u8 = 0x0f;
/// In the line control register: the first two offsets are the divisor.
const DIVISOR_LATCH: u8 = 0x80;
/// In the modem control register.
const TERMINAL_READY: u8 = 0x01;
const REQUEST_TO_SEND: u8 = 0x02;
const LOOPBACK: u8 = 0x10;
/// In the line status register.
const DATA_READY: u8 = 0x01;

/// Who reads the line status so often, and nothing between, waits for a character. Linux reads it
/// twice before it throws away what was received too early.
const POLLS: u32 = 16;

/// Whether the guest is ready to receive, as far as its accesses tell. Drivers read and lose what has
/// come before that.
#[derive(Default)]
struct Receiver {
    /// It has enabled the interrupt, or it polls.
    listens: bool,
    /// The accesses up to now that were reads of the line status.
    polls: u32,
    /// The first two offsets are the divisor.
    divisor: bool,
    /// It has raised DTR.
    terminal_ready: bool,
    /// It makes use of RTS.
    controls_flow: bool,
    /// It has lowered RTS, having raised it before.
    full: bool,
}

impl Receiver {
    fn is_ready(&self) -> bool {
        self.listens && !self.full
    }

    fn register_read(&mut self, register: u8) {
        self.polls = if register == register::LINE_STATUS { self.polls + 1 } else { 0 };
        if self.polls >= POLLS {
            (self.listens, self.polls) = (true, 0);
        }
    }

    fn register_written(&mut self, register: u8, value: u8) {
        self.polls = 0;
        match register {
            // To find out what it has before it, Linux enables all at once for a moment, long before
            // somebody opens the port.
            register::INTERRUPT_ENABLE if !self.divisor => {
                let is_probe = value & ALL_INTERRUPTS == ALL_INTERRUPTS && !self.terminal_ready;
                self.listens |= value & RECEIVE_INTERRUPT != 0 && !is_probe;
            }
            register::LINE_CONTROL => self.divisor = value & DIVISOR_LATCH != 0,
            // In loopback nothing of it is seen outside.
            register::MODEM_CONTROL if value & LOOPBACK == 0 => {
                self.terminal_ready = value & TERMINAL_READY != 0;
                let ready = value & REQUEST_TO_SEND != 0;
                self.controls_flow |= ready;
                self.full = self.controls_flow && !ready;
            }
            _ => {}
        }
    }
}

struct Uart {
    serial: Serial<Line, NoEvents, Output>,
    input: Option<BufReader<File>>,
    receiver: Receiver,
    /// The first error; what comes after it is lost.
    failed: Option<io::Error>,
}

impl Uart {
    /// Gives the guest what its receive buffer has room for.
    fn receive(&mut self) {
        let room = self.serial.fifo_capacity();
        let ready = self.receiver.is_ready() && room > 0;
        let Some(input) = self.input.as_mut().filter(|_| ready) else { return };
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
        if let Err(error) = self.serial.writer_mut().start() {
            self.fail(error);
        }
        let fresh = SerialState::default();
        self.receiver = Receiver::default();
        self.write(register::LINE_CONTROL, DIVISOR_LATCH);
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
        let finished = self.serial.writer_mut().finish();
        self.failed.take().map_or(finished, Err)
    }
}
