//! The inputs of a new device: its ports, the user's settings, and the machine's services.

use std::any::Any;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::DeviceError;
use super::output::Output;
use crate::x86::PortRange;

/// Returns the nanoseconds on the guest's clock since the machine started.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// Returns true if an access that waits should end: QEMU ends, or stops the vCPU that makes the access.
pub type StopRequest = Arc<dyn Fn() -> bool + Send + Sync>;

/// Has QEMU's main loop call [`Device::woken`](super::Device::woken) soon. May be called on any thread, and never waits.
pub type Waker = Box<dyn Fn() + Send + Sync>;

/// The services that a machine offers to its devices. By default the optional ones are missing.
pub trait Services {
    /// An interrupt line of the ISA bus; `None` if there is no such line.
    fn interrupt(&self, line: u8) -> Option<Box<dyn Interrupt>>;

    /// The same line, for a device that [may wait](super::Device::may_wait) or has threads.
    ///
    /// Setting it never takes a lock. If it is set in an access, QEMU sees the change before the guest's
    /// next instruction; else QEMU's main loop makes the change soon. Of several changes in between,
    /// the last level and an edge before it are kept.
    fn queued_interrupt(&self, _line: u8) -> Option<Box<dyn Interrupt>> {
        None
    }

    /// The registers of the vCPU whose access the device serves; `None` if this QEMU does not say where they are.
    fn registers(&self) -> Option<Box<dyn GuestRegisters>> {
        None
    }

    /// Wakes the device from a thread of its own; `None` if this QEMU does not export its main loop.
    fn waker(&self) -> Option<Waker> {
        None
    }

    /// Says when an access that waits should end; `None` if this QEMU does not export its run state.
    fn stop_request(&self) -> Option<StopRequest> {
        None
    }

    /// A function that ends the machine with an exit status.
    fn exit(&self) -> Box<dyn Fn(u8) + Send>;

    /// QEMU's own devices at the device's ports; `None` if this QEMU does not let pvio reach them.
    fn ports_below(&self) -> Option<Box<dyn PortsBelow>> {
        None
    }

    /// The guest's clock, QEMU's virtual clock, which stands still while the machine is stopped.
    ///
    /// `None` if it cannot be read in an access: QEMU does not export it, or runs with `-icount`.
    fn clock(&self) -> Option<Clock>;

    /// A timer on the guest's clock, which calls [`Device::timer`](super::Device::timer) with its number.
    ///
    /// `None` where there is no [`clock`](Services::clock).
    fn timer(&self, _number: usize) -> Option<Box<dyn Timer>> {
        None
    }

    /// Returns true if QEMU records or replays the run (`-icount rr=`).
    ///
    /// QEMU does not record what a device reads from the host, so such a device must not be built.
    fn is_recorded(&self) -> bool;

    /// Calls the device under QEMU's global lock, as if it had an interrupt line.
    fn use_global_lock(&self) {}

    /// An object that devices of the machine share by its name; the first one makes it.
    fn shared(&self, _name: &str, make: &dyn Fn() -> SharedObject) -> SharedObject {
        make()
    }
}

/// An object that devices share.
pub type SharedObject = Arc<dyn Any + Send + Sync>;

/// An interrupt line.
///
/// Setting it takes QEMU's global lock unless the thread holds it, as it does in an access. A
/// device's own thread must not hold a lock that the device takes in an access.
pub trait Interrupt: Send {
    /// Raises the line (`true`) or lowers it.
    fn set(&self, level: bool);

    /// Raises and lowers the line: an edge, which the PC's interrupt controllers latch.
    fn pulse(&self) {
        self.set(true);
        self.set(false);
    }
}

/// A timer of a device. It is due once for each time that it is set to.
pub trait Timer: Send {
    /// Sets the timer to a time of the guest's clock in nanoseconds, in place of the one that was set. A time that has
    /// passed is due at once, but never in the call.
    fn set(&self, time: u64);

    /// Cancels the timer, if it is set.
    fn cancel(&self);
}

/// The number of an interrupt line, and the line.
pub(super) type NumberedInterrupt = (u8, Box<dyn Interrupt>);

/// The general registers of the vCPU that executes an `in` or `out` at a device.
///
/// They can be used only while the device serves that access, and not where the access is a hypercall's or a string's that
/// moves in one go, or comes from QEMU's monitor.
pub trait GuestRegisters: Send {
    /// Reads a register by the processor's number for it (0 for RAX, then RCX, RDX, RBX, RSP, RBP, RSI, RDI); `None`
    /// outside of such an access.
    fn read(&self, number: usize) -> Option<u64>;

    /// Writes a register, and returns whether it could. An `in` then puts what was read into AL, AX or EAX.
    fn write(&self, number: usize, value: u64) -> bool;
}

/// QEMU's own devices at the ports of a device, which hides them from the guest.
///
/// Use it only in an access to the device. A device that has it gets each access whole, even if it extends beyond the last
/// port.
pub trait PortsBelow: Send {
    /// Reads `size` bytes (1, 2 or 4), as the guest's access would.
    fn read(&self, offset: u16, size: u8) -> u32;

    /// Writes the low `size` bytes of a value, as the guest's access would.
    fn write(&self, offset: u16, size: u8, value: u32);
}

/// The inputs of a new device.
pub struct Settings<'a> {
    /// The device's ports.
    pub range: PortRange,
    values: Vec<(String, String)>,
    /// The settings that the device has asked for.
    known: Vec<String>,
    services: &'a dyn Services,
}

impl<'a> Settings<'a> {
    /// Settings for a device at `range`, as pairs of key and value.
    pub fn new(
        range: PortRange,
        values: Vec<(String, String)>,
        services: &'a dyn Services,
    ) -> Settings<'a> {
        Settings { range, values, known: Vec::new(), services }
    }

    /// Takes a setting, if the user has given it.
    pub fn take(&mut self, key: &str) -> Option<String> {
        self.known.push(key.to_owned());
        let index = self.values.iter().position(|(name, _)| name == key)?;
        Some(self.values.remove(index).1)
    }

    /// Takes a setting that names an interrupt line of the ISA bus, usually `irq=LINE`.
    ///
    /// # Errors
    ///
    /// The value is not a line from 0 to 15.
    pub fn take_interrupt(&mut self, key: &str) -> Result<Option<Box<dyn Interrupt>>, DeviceError> {
        self.take_line(key, |services, line| services.interrupt(line))
    }

    /// Takes a setting that names an interrupt line, for a device that [may wait](super::Device::may_wait).
    ///
    /// # Errors
    ///
    /// The value is not a line from 0 to 15.
    pub fn take_queued_interrupt(
        &mut self,
        key: &str,
    ) -> Result<Option<Box<dyn Interrupt>>, DeviceError> {
        self.take_line(key, |services, line| services.queued_interrupt(line))
    }

    /// As [`Settings::take_interrupt`], with the number of the line.
    pub(super) fn take_numbered_interrupt(
        &mut self,
        key: &str,
    ) -> Result<Option<NumberedInterrupt>, DeviceError> {
        self.take_line(key, |services, line| Some((line, services.interrupt(line)?)))
    }

    fn take_line<T>(
        &mut self,
        key: &str,
        find: impl FnOnce(&dyn Services, u8) -> Option<T>,
    ) -> Result<Option<T>, DeviceError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.parse().ok().and_then(|line| find(self.services, line)) {
            Some(interrupt) => Ok(Some(interrupt)),
            None => Err(DeviceError::InterruptLine { key: key.to_owned(), value }),
        }
    }

    /// Takes a setting that has no value, such as `strict`. `strict=on` and `strict=off` are allowed.
    pub(super) fn take_flag(&mut self, key: &str) -> Result<bool, DeviceError> {
        match self.take(key).as_deref() {
            None | Some("off") => Ok(false),
            Some("" | "on") => Ok(true),
            Some(value) => Err(DeviceError::other(format!("{key}={value} is neither on nor off"))),
        }
    }

    /// Calls the device under QEMU's global lock, as if it had an interrupt line.
    pub(super) fn use_global_lock(&self) {
        self.services.use_global_lock();
    }

    /// An object that devices share by its name; the first one makes it.
    ///
    /// # Panics
    ///
    /// If the name is that of an object of another type.
    pub(super) fn shared<T: Any + Send + Sync>(&self, name: &str, make: impl Fn() -> T) -> Arc<T> {
        let object = self.services.shared(name, &|| Arc::new(make()));
        object.downcast().expect("the name has one type")
    }

    /// The registers of the vCPU whose access the device serves; `None` if this QEMU does not say where they are.
    pub fn registers(&self) -> Option<Box<dyn GuestRegisters>> {
        self.services.registers()
    }

    /// Wakes the device from a thread of its own; `None` if this QEMU does not export its main loop.
    pub fn waker(&self) -> Option<Waker> {
        self.services.waker()
    }

    /// Says when an access that waits should end; `None` if this QEMU does not export its run state.
    pub fn stop_request(&self) -> Option<StopRequest> {
        self.services.stop_request()
    }

    /// Returns true if QEMU records or replays the run, as [`Services::is_recorded`] does.
    pub fn is_recorded(&self) -> bool {
        self.services.is_recorded()
    }

    /// QEMU's own devices at the device's ports, to which the device may pass accesses on.
    ///
    /// # Errors
    ///
    /// This QEMU does not let pvio reach them.
    pub fn ports_below(&self) -> Result<Box<dyn PortsBelow>, DeviceError> {
        self.services.ports_below().ok_or_else(|| {
            DeviceError::other(
                "this QEMU does not let pvio pass accesses on to its own devices; use a distribution's QEMU \
                 10.0 to 11.1",
            )
        })
    }

    /// A function that ends the machine with an exit status.
    pub fn exit(&self) -> Box<dyn Fn(u8) + Send> {
        self.services.exit()
    }

    /// The guest's clock; `None` if it cannot be read, as under `-icount`.
    pub fn clock(&self) -> Option<Clock> {
        self.services.clock()
    }

    /// A timer on the guest's clock, which calls [`Device::timer`](super::Device::timer) with `number`; `None` if there is
    /// no clock, as under `-icount`.
    pub fn timer(&self, number: usize) -> Option<Box<dyn Timer>> {
        self.services.timer(number)
    }

    /// Checks that the device has taken all settings.
    ///
    /// # Errors
    ///
    /// A setting is left, which this kind of device does not have.
    pub fn finish(self) -> Result<(), DeviceError> {
        match self.values.into_iter().next() {
            None => Ok(()),
            Some((key, _)) => Err(DeviceError::UnknownSetting { key, known: self.known }),
        }
    }

    /// Takes a setting that names an input file.
    ///
    /// # Errors
    ///
    /// QEMU records or replays the run, or the file is not a readable regular file. Reading a pipe
    /// or a terminal could block the guest.
    pub fn take_input(&mut self, key: &str) -> Result<Option<File>, DeviceError> {
        let Some(path) = self.take(key) else { return Ok(None) };
        let key = key.to_owned();
        if self.services.is_recorded() {
            return Err(DeviceError::Recorded { key, path });
        }
        let open = || match std::fs::metadata(&path)?.is_file() {
            true => File::open(&path),
            false => Err(io::Error::other("it is not a regular file")),
        };
        match open() {
            Ok(file) => Ok(Some(file)),
            Err(source) => Err(DeviceError::Input { key, path, source }),
        }
    }

    /// Takes a setting that names an output file.
    pub(super) fn take_output(&mut self, key: &str) -> Result<Option<Output>, DeviceError> {
        let Some(path) = self.take(key) else { return Ok(None) };
        match Output::create(Path::new(&path)) {
            Ok(output) => Ok(Some(output)),
            Err(source) => Err(DeviceError::Output { key: key.to_owned(), path, source }),
        }
    }

    /// Takes a setting that names an output file. Without it, the output is stdout.
    pub(super) fn take_output_or_stdout(&mut self, key: &str) -> Result<Output, DeviceError> {
        match self.take_output(key)? {
            Some(output) => Ok(output),
            None => Output::stdout().map_err(DeviceError::Stdout),
        }
    }
}
