//! Requests and answers, as JSON lines in the manner of QMP.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The version of the protocol. It changes only if the meaning of something changes.
const PROTOCOL: u32 = 1;

/// The longest request, in bytes, without the newline.
pub const MAX_LINE: usize = 64 * 1024;

/// A request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The command's name.
    pub execute: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Whatever the client sent; the answer has it too.
    pub id: Option<Value>,
}

impl Request {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// It is not a request. The text says why.
    pub fn parse(line: &[u8]) -> Result<Request, String> {
        serde_json::from_slice(line).map_err(|error| {
            format!("this is no request ({error}); write {{\"execute\": \"status\"}}, for example")
        })
    }

    /// Reads the arguments as the type of a command's.
    ///
    /// # Errors
    ///
    /// One is missing, unknown, or of another type.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_value(Value::Object(self.arguments.clone()))
            .map_err(|error| format!("the arguments of {:?}: {error}", self.execute))
    }
}

/// The line that a client gets first.
pub fn greeting() -> Vec<u8> {
    line(&json!({ "pvio": { "version": env!("CARGO_PKG_VERSION"), "protocol": PROTOCOL } }))
}

/// The answer to a request.
pub fn answer(result: Result<Value, String>, id: Option<Value>) -> Vec<u8> {
    let mut answer = match result {
        Ok(value) => json!({ "return": value }),
        Err(why) => json!({ "error": { "desc": why } }),
    };
    if let Some(id) = id {
        answer["id"] = id;
    }
    line(&answer)
}

/// An event, which no request asked for just now.
pub fn event(name: &str, data: Value) -> Vec<u8> {
    line(&json!({ "event": name, "data": data }))
}

fn line(value: &Value) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("values become JSON");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_lines_are_errors_of_one_line() {
        let deep = "[".repeat(MAX_LINE);
        let lines: [&[u8]; 7] = [
            b"",
            b"\xff\xfe\x00",
            b"{",
            b"[]",
            br#"{"execute": 1}"#,
            br#"{"execute": "status", "more": 1}"#,
            deep.as_bytes(),
        ];
        for bytes in lines {
            let error = Request::parse(bytes).unwrap_err();
            let line = answer(Err(error), None);
            assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
            assert!(
                line.len() < 300 && line.starts_with(br#"{"error":{"desc":"this is no request ("#)
            );
        }
    }

    #[test]
    fn the_answer_has_the_id_of_the_request() {
        let request = Request::parse(br#"{"execute": "x", "id": [1, null]}"#).unwrap();
        let line = answer(Ok(json!({})), request.id);
        assert_eq!(line, b"{\"id\":[1,null],\"return\":{}}\n");
    }
}
