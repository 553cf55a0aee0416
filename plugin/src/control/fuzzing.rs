//! Requests from an arbitrary client, as far as they are read: lines, JSON, and the arguments of each command.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde_json::json;

use super::client::Client;
use super::command::Command;
use super::request::{Request, answer};

/// Takes what a client sends, and answers each line.
pub fn requests(data: &[u8]) {
    let (mut theirs, ours) = UnixStream::pair().expect("a process may have sockets");
    let mut client = Client::new(ours).expect("a socket becomes non-blocking");
    // As much as a socket takes without a reader.
    let data = &data[..data.len().min(128 << 10)];
    theirs.write_all(data).expect("a socket takes this much");
    theirs.shutdown(Shutdown::Write).expect("a socket can be closed");
    client.receive();
    // Each turn takes a line, or finds none.
    while let Some(line) = client.next_line() {
        let answered = match Request::parse(&line) {
            Ok(mut request) => {
                let id = request.id.take();
                answer(Command::of(&request).map(|_| json!({})), id)
            }
            Err(why) => answer(Err(why), None),
        };
        assert!(
            answered.iter().filter(|&&byte| byte == b'\n').count() == 1,
            "an answer is one line"
        );
        client.receive();
    }
}
