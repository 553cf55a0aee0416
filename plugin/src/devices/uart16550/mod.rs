//! `uart16550`: a serial port, emulated by vm-superio.
//!
//! `device=uart16550@0x2f8:irq=3` prints what the guest sends. `file=PATH` writes it to a file, and
//! `in=PATH` is what the guest receives. In place of the files, `pty=LINK`, `socket=PATH` or `stdio=on`
//! connects the port to a terminal program, another program, or QEMU's standard streams. Without `irq` the
//! driver has to poll. The divisor and the line settings are stored without effect: characters pass at once.
//!
//! Reception starts when the guest enables the receive interrupt, or polls. It pauses while the guest
//! has lowered RTS, as drivers with flow control do when their buffer is full.

mod far_end;
mod receiver;

use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};
use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial, Trigger};

use self::far_end::FarEnd;
use self::receiver::{FCR_CLEAR_RECEIVER, LCR_DLAB, LSR_DR, Receiver, register};
use super::output::Output;
use super::{Device, DeviceError, DeviceKind, Interrupt, Settings};

/// The kind `uart16550`.
pub const UART16550: DeviceKind = DeviceKind { name: "uart16550", ports: PORTS as u16, build };

/// The number of ports, one for each register.
const PORTS: u8 = 8;

/// The bytes that are taken from the input at once: those of vm-superio's receive buffer.
const FIFO: usize = 64;

fn build(settings: &mut Settings<'_>) -> Result<Box<dyn Device>, DeviceError> {
    if settings.range.len() != u32::from(PORTS) {
        return Err(DeviceError::PortCount(PORTS.into()));
    }
    let interrupt = Line(settings.take_interrupt("irq")?);
    let peer = match FarEnd::take(settings)? {
        Some(far_end) => {
            for key in ["in", "file"] {
                if settings.take(key).is_some() {
                    return Err(DeviceError::other(format!(
                        "{key}= is for a port without pty=, socket= and stdio=; remove one of them"
                    )));
                }
            }
            Peer::FarEnd(far_end)
        }
        None => Peer::Files {
            input: settings.take_input("in")?.map(BufReader::new),
            output: settings.take_output_or_stdout("file")?,
        },
    };
    let serial = Serial::new(interrupt, peer);
    Ok(Box::new(Uart { serial, receiver: Receiver::default(), failed: None }))
}

/// What the serial port is connected to.
enum Peer {
    /// A file for each direction; stdout in place of the second.
    Files { input: Option<BufReader<File>>, output: Output },
    /// Something that sends and receives at any time.
    FarEnd(FarEnd),
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Peer::Files { output, .. } => output.write(bytes),
            Peer::FarEnd(far_end) => far_end.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Peer::Files { output, .. } => output.flush(),
            Peer::FarEnd(far_end) => far_end.flush(),
        }
    }
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

struct Uart {
    serial: Serial<Line, NoEvents, Peer>,
    receiver: Receiver,
    /// The first error. Later input and output are lost.
    failed: Option<io::Error>,
}

impl Uart {
    /// Fills the receive buffer from the input, if the guest is ready.
    fn receive(&mut self) {
        let room = self.serial.fifo_capacity();
        // In loopback mode vm-superio takes none.
        if !self.receiver.is_ready() || room == 0 || self.receiver.is_looped() {
            return;
        }
        let mut bytes = [0; FIFO];
        let bytes = &mut bytes[..room.min(FIFO)];
        let result = match self.serial.writer_mut() {
            Peer::Files { input: None, .. } => return,
            Peer::Files { input: Some(input), .. } => input.read(bytes),
            Peer::FarEnd(far_end) => Ok(far_end.receive(bytes)),
        };
        let result = result.and_then(|count| match count {
            0 => Ok(()),
            count => self.serial.enqueue_raw_bytes(&bytes[..count]).map(drop).map_err(io_error),
        });
        if let Err(error) = result {
            self.fail(error);
        }
    }

    /// Empties the receive buffer.
    fn clear_receiver(&mut self) {
        while self.serial.read(register::LSR) & LSR_DR != 0 {
            self.serial.read(register::RBR_THR_DLL);
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
            if register == register::IIR_FCR && byte & FCR_CLEAR_RECEIVER != 0 {
                self.clear_receiver();
            }
            self.write(register, byte);
        }
        self.receive();
    }
}

impl Device for Uart {
    fn reset(&mut self) {
        if let Peer::Files { output, .. } = self.serial.writer_mut()
            && let Err(error) = output.truncate()
        {
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
        self.clear_receiver();
        self.serial.read(register::IIR_FCR);
    }

    fn woken(&mut self) {
        self.receive();
    }

    fn finish(&mut self) -> io::Result<()> {
        let finished = match self.serial.writer_mut() {
            Peer::Files { output, .. } => output.finish(),
            Peer::FarEnd(far_end) => far_end.finish(),
        };
        self.failed.take().map_or(finished, Err)
    }
}
