//! A vCPU's registers as text.

use std::ffi::c_char;

use super::current_cpu::current_cpu;
use super::symbols::RegisterPrinter;

/// Prints the text of the monitor's `info registers`.
pub(crate) struct RegisterDump(Option<RegisterPrinter>);

impl RegisterDump {
    pub fn find() -> RegisterDump {
        RegisterDump(RegisterPrinter::find().ok())
    }

    /// Prints the vCPU that this thread runs; `None` if QEMU does not export the function.
    pub fn print(&self) -> Option<String> {
        let printer = self.0?;
        let cpu = current_cpu();
        if cpu.is_null() {
            return None;
        }
        let (mut text, mut len) = (std::ptr::null_mut::<c_char>(), 0usize);
        // SAFETY: `text` and `len` outlive the stream, which is closed before they are read; the
        // buffer is then ours to free. QEMU only reads the vCPU's state, on the vCPU's own thread.
        unsafe {
            let stream = libc::open_memstream(&mut text, &mut len);
            if stream.is_null() {
                return None;
            }
            (printer.cpu_dump_state)(cpu, stream, 0);
            libc::fclose(stream);
            let dump = std::slice::from_raw_parts(text.cast::<u8>(), len).to_vec();
            libc::free(text.cast());
            Some(String::from_utf8_lossy(&dump).into_owned())
        }
    }
}
