//! QEMU's own log, as plugins may use it.

use std::ffi::CString;

use super::symbols::LogFunctions;

/// The part of QEMU's log that `-d plugin` selects.
pub struct PluginLog(LogFunctions);

impl PluginLog {
    /// Returns the log; `None` if this QEMU does not export its function.
    pub fn find() -> Option<PluginLog> {
        LogFunctions::find().ok().map(PluginLog)
    }

    /// Writes text. QEMU drops it if nobody has asked for the output of plugins.
    pub fn write(&self, text: &str) {
        // Text of a guest may have a NUL, where C would end it.
        let text: Vec<u8> = text.bytes().filter(|&byte| byte != 0).collect();
        if let Ok(text) = CString::new(text) {
            // SAFETY: QEMU's function may be called on any thread; it copies the string, which lives until it returns.
            unsafe { (self.0.qemu_plugin_outs)(text.as_ptr()) }
        }
    }
}
