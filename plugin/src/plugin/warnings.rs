//! Warnings about options that work less well on this QEMU than their user may expect.

use crate::options::{Options, Summary};
use crate::qemu::report::say;
use crate::qemu::{ApiLevel, HostInfo};

/// Prints a line for each.
pub(super) fn warn(host: &HostInfo, options: &Options) {
    if host.command_line.daemonize && matches!(options.summary, Summary::Stderr) {
        say(
            "warning: -daemonize closes stderr, to which pvio writes the tables when QEMU ends; write \
             summary=FILE or summary=off",
        );
    }
    if host.api < ApiLevel::WRITES && options.log.is_some() {
        say(
            "warning: this QEMU answers no hypercalls by registers: log lines and exit statuses come only from guests \
             with a large mailbox; for all guests, use QEMU 10.1 or newer",
        );
    }
}
