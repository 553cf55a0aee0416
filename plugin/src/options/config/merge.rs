//! The options of a file together with those of the command line, which win.

use super::Argument;
use crate::devices::{DeviceRequest, Kind};
use crate::options::device;

/// Adds the options of the command line to those of a file.
///
/// An option of the file is left out if the command line gives it, too. Options that may be repeated add up, but
/// a device of the file gives way to one of the command line at the same ports.
pub(in crate::options) fn merge(
    file: Vec<Argument>,
    command_line: Vec<Argument>,
    kinds: &[Kind],
) -> Vec<Argument> {
    let mut merged: Vec<Argument> = file;
    merged.retain(|argument| !command_line.iter().any(|winner| replaces(winner, argument, kinds)));
    merged.extend(command_line);
    merged
}

/// Returns true if an option of the command line replaces one of the file.
fn replaces(winner: &Argument, loser: &Argument, kinds: &[Kind]) -> bool {
    winner.key == loser.key
        && match &*winner.key {
            "values" | "break" => false,
            // There is one switch, and any number of files.
            "symbols" => is_switch(winner) == is_switch(loser) && is_switch(winner),
            "device" => match (device(winner, kinds), device(loser, kinds)) {
                (Some(winner), Some(loser)) => {
                    winner.range.overlaps(loser.range)
                        && exclude_each_other(winner.kind, loser.kind)
                }
                // The wrong one is reported.
                _ => false,
            },
            _ => true,
        }
}

fn is_switch(symbols: &Argument) -> bool {
    matches!(&*symbols.value, "guest" | "off")
}

/// Returns true if two kinds cannot share a port, or need not: devices, and observers of one kind.
fn exclude_each_other(one: Kind, other: Kind) -> bool {
    match (one, other) {
        (Kind::Device(_), Kind::Device(_)) => true,
        (one, other) => one.name() == other.name(),
    }
}

fn device(argument: &Argument, kinds: &[Kind]) -> Option<DeviceRequest<Kind>> {
    device::parse(&argument.value, kinds).ok()
}
