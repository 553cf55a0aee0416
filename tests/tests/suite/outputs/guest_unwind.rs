//! Call chains and processes of a distribution's kernel, from registers and guest memory alone.
//!
//! They are compared with what the kernel itself says.

mod callers;
mod counted;
mod damaged_memory;
mod tasks;

pub(super) use counted::check_counted;
use pvio::guest::{Frame, Kernel};

/// The name of a frame's address, as the kernel prints it in a backtrace.
fn frame_name(kernel: &Kernel, frame: Frame) -> String {
    // A return address may be past the end of the function, so the plugin looks up the byte before it.
    let before = u64::from(matches!(frame, Frame::Return(_)));
    let Some(name) = kernel.name(frame.address()) else { return format!("{frame:x?}") };
    format!("{}+{:#x}", name.symbol, name.offset + before)
}
