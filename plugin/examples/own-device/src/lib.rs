//! A QEMU plugin with a custom device: `countdown`, which counts down and raises an interrupt at zero.
//!
//! ```text
//! cargo build --release
//! qemu-system-x86_64 -plugin target/release/libown_device.so,device=countdown@0x300:irq=5 ...
//! ```

use pvio::devices::{Device, DeviceKind, Interrupt};
use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

/// A write sets the counter. Each read decrements it, and pulses the interrupt line at zero.
struct Countdown {
    left: u8,
    interrupt: Option<Box<dyn Interrupt>>,
}

impl MutDevicePio for Countdown {
    fn pio_read(&mut self, _base: PioAddress, _offset: PioAddressOffset, data: &mut [u8]) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0
            && let Some(interrupt) = &self.interrupt
        {
            interrupt.pulse();
        }
        data.fill(self.left);
    }

    fn pio_write(&mut self, _base: PioAddress, _offset: PioAddressOffset, data: &[u8]) {
        self.left = data[0];
    }
}

impl Device for Countdown {
    fn reset(&mut self) {
        self.left = 0;
    }
}

pvio::plugin!(DeviceKind {
    name: "countdown",
    ports: 1,
    build: |settings| {
        Ok(Box::new(Countdown { left: 0, interrupt: settings.take_interrupt("irq")? }))
    },
});
