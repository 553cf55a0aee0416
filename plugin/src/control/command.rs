//! The commands of requests, with their arguments checked as far as that needs no machine.

use pvio_guest::abi::NAME_MAX;
use serde::Deserialize;

use super::rates::Subscription;
use super::request::Request;
use crate::access_filter::{AccessFilter, parse_filters};
use crate::breakpoints::Breakpoint;
use crate::x86::{Port, PortRange};

/// A command that a client may give.
pub(super) enum Command {
    Status,
    Snapshot,
    Reset,
    Begin(String),
    End(String),
    AccessLog(Filtered),
    Trace(Filtered),
    Break(Breakpoint),
    Delete(u64),
    Reload(Port),
    Subscribe(Subscription),
    Unsubscribe,
}

/// The change of a log or of a trace.
pub(super) struct Filtered {
    pub enabled: Option<bool>,
    /// The text of the filters, and what they cover.
    pub filter: Option<(String, AccessFilter)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoArguments {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilteredArguments {
    enabled: Option<bool>,
    filter: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Break {
    at: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    #[serde(rename = "break")]
    number: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reload {
    port: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Subscribe {
    interval_ms: Option<u64>,
    rows: Option<usize>,
}

impl Command {
    /// Reads the command of a request.
    ///
    /// # Errors
    ///
    /// It is unknown, or its arguments are wrong. The text says why.
    pub fn of(request: &Request) -> Result<Command, String> {
        let plain = |command| request.arguments().map(|NoArguments {}| command);
        match &*request.execute {
            "status" => plain(Command::Status),
            "snapshot" => plain(Command::Snapshot),
            "reset" => plain(Command::Reset),
            "begin" => Ok(Command::Begin(window(request)?)),
            "end" => Ok(Command::End(window(request)?)),
            "access-log" => Ok(Command::AccessLog(filtered(request)?)),
            "trace" => Ok(Command::Trace(filtered(request)?)),
            "break" => {
                let Break { at } = request.arguments()?;
                Breakpoint::parse(&at).map(Command::Break).map_err(|error| error.to_string())
            }
            "delete" => request.arguments().map(|Delete { number }| Command::Delete(number)),
            "reload" => {
                let Reload { port } = request.arguments()?;
                let range = PortRange::parse(&port, 1).map_err(|error| error.to_string())?;
                Ok(Command::Reload(range.first()))
            }
            "subscribe" => {
                let Subscribe { interval_ms, rows } = request.arguments()?;
                Subscription::new(interval_ms, rows).map(Command::Subscribe)
            }
            "unsubscribe" => plain(Command::Unsubscribe),
            other => Err(format!(
                "there is no command {other:?}; there are status, snapshot, reset, begin, end, access-log, trace, \
                 break, delete, reload, subscribe and unsubscribe"
            )),
        }
    }
}

/// The name of a window, which is as the guest may choose it.
fn window(request: &Request) -> Result<String, String> {
    let Window { name } = request.arguments()?;
    match name.len() {
        1..=NAME_MAX if !name.chars().any(char::is_control) => Ok(name),
        _ => Err(format!("a window's name has 1 to {NAME_MAX} bytes, and no control characters")),
    }
}

fn filtered(request: &Request) -> Result<Filtered, String> {
    let FilteredArguments { enabled, filter } = request.arguments()?;
    let parsed = filter.map(|text| parse_filters(&text).map(|parsed| (text, parsed)));
    let filter = parsed.transpose().map_err(|error| error.to_string())?;
    Ok(Filtered { enabled, filter })
}
