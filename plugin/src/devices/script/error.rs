//! Mistakes in scripts, with the place.

use std::fmt;

use rhai::{EvalAltResult, ParseError, Position};

use crate::untrusted_text::escape;

/// The length of a message in characters. A script may throw a long text.
const MESSAGE_CHARACTERS: usize = 300;

/// A call that has failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// Rhai has ended it.
    Rhai(Box<EvalAltResult>),
    /// `read` has returned a value of another type.
    NotAnInteger(&'static str),
    /// The script has replaced `this`.
    StateIsNotAMap(&'static str),
    /// `this` holds a value that is not data.
    StateHolds(&'static str),
    /// `this` holds more than so many bytes.
    StateTooLarge(usize),
}

impl CallError {
    /// The place, if Rhai has told one.
    pub fn position(&self) -> Position {
        match self {
            CallError::Rhai(error) => error.unwrap_inner().position(),
            _ => Position::NONE,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Rhai(error) => f.write_str(&rhai_text(error.unwrap_inner())),
            CallError::NotAnInteger(kind) => {
                write!(f, "read returned {}; return an integer", type_text(kind))
            }
            CallError::StateIsNotAMap(kind) => write!(
                f,
                "the script replaced this by {}; set properties, as in this.x = 1",
                type_text(kind)
            ),
            CallError::StateHolds(kind) => write!(
                f,
                "this holds a value of the type {kind}; keep integers, strings, blobs, arrays and maps"
            ),
            CallError::StateTooLarge(limit) => {
                write!(f, "this holds more than {limit} bytes, the limit of a device")
            }
        }
    }
}

/// Names a type as Rhai's users know it.
fn type_text(name: &str) -> String {
    match name {
        "()" => "nothing".to_owned(),
        name if name.contains("ImmutableString") || name == "string" => "a string".to_owned(),
        name => format!("a value of the type {}", name.rsplit("::").next().unwrap_or(name)),
    }
}

/// The text of an error without its position.
fn rhai_text(error: &EvalAltResult) -> String {
    match error {
        // Rhai's text of a nested array needs much stack.
        EvalAltResult::ErrorRuntime(value, _) => match value.as_immutable_string_ref() {
            Ok(text) => one_line(&text),
            Err(_) if value.is_int() => format!("the script threw {value}"),
            Err(_) => format!("the script threw {}", type_text(value.type_name())),
        },
        EvalAltResult::ErrorTerminated(value, _) => one_line(&value.to_string()),
        EvalAltResult::ErrorTooManyOperations(_) => {
            "the call takes too many operations; look for an endless loop, or raise ops=".to_owned()
        }
        EvalAltResult::ErrorStackOverflow(_) => {
            "the functions call each other too deeply".to_owned()
        }
        error => one_line(&without_position(error.to_string(), error.position())),
    }
}

/// Removes the position that Rhai appends to a text.
fn without_position(text: String, position: Position) -> String {
    let (Some(line), Some(column)) = (position.line(), position.position()) else { return text };
    text.replace(&format!(" (line {line}, position {column})"), "")
}

fn one_line(text: &str) -> String {
    let mut text = escape(text.as_bytes());
    if let Some((end, _)) = text.char_indices().nth(MESSAGE_CHARACTERS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A mistake in a script: `FILE:LINE:COLUMN: TEXT`, in one line.
#[derive(Debug)]
pub(super) struct ScriptError {
    path: String,
    line: usize,
    column: usize,
    text: String,
}

impl ScriptError {
    pub fn new(path: &str, position: Position, text: &str) -> ScriptError {
        ScriptError {
            path: path.to_owned(),
            line: position.line().unwrap_or(1),
            // Rhai has no column for the end of a line.
            column: position.position().unwrap_or(1),
            text: text.to_owned(),
        }
    }

    /// A script that Rhai cannot parse.
    pub fn parse(path: &str, error: &ParseError) -> ScriptError {
        ScriptError::new(path, error.position(), &one_line(&error.err_type().to_string()))
    }

    /// A call that has failed; `otherwise` is the place if Rhai has told none.
    pub fn call(path: &str, error: &CallError, otherwise: Position) -> ScriptError {
        let position = match error.position() {
            Position::NONE => otherwise,
            position => position,
        };
        ScriptError::new(path, position, &error.to_string())
    }
}

impl std::error::Error for ScriptError {}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = escape(self.path.as_bytes());
        write!(f, "{path}:{}:{}: {}", self.line, self.column, self.text)
    }
}
