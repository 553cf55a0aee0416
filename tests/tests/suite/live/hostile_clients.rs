//! Clients that stall, die or send nonsense: the guest goes on, and what they hold is bounded.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pvio_tests::{Host, on_both_qemus, wait_until};
use serde_json::json;

use super::{Live, accesses};

on_both_qemus! {
    nonsense_gets_an_error_line
    client_that_does_not_read_neither_stops_the_guest_nor_others
    connections_beyond_the_limit_are_told_so
}

/// The most memory that clients may make pvio use.
const ROOM: u64 = 64 << 20;

fn raw(live: &Live) -> BufReader<UnixStream> {
    let stream = UnixStream::connect(live.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut reader = BufReader::new(stream);
    let mut greeting = String::new();
    reader.read_line(&mut greeting).unwrap();
    assert_eq!(greeting, "{\"pvio\":{\"protocol\":1,\"version\":\"0.1.0\"}}\n");
    reader
}

fn nonsense_gets_an_error_line(host: &Host) {
    let mut live = Live::guest(host.machine(), "spin", &[]);
    let before = live.running.resident().unwrap();
    let mut client = raw(&live);
    let deep = format!("{{\"execute\":{}", "[".repeat(60_000));
    let long = "x".repeat(8 << 20);
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut binary: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(50_000).collect();
    binary.retain(|&byte| byte != b'\n');
    for line in [b"".as_slice(), b"GET / HTTP/1.1\r", deep.as_bytes(), long.as_bytes(), &binary] {
        let (mut to, line) = (client.get_ref().try_clone().unwrap(), [line, b"\n"].concat());
        let writer = std::thread::spawn(move || to.write_all(&line));
        let mut answer = String::new();
        client.read_line(&mut answer).unwrap();
        writer.join().unwrap().unwrap();
        assert!(answer.starts_with(r#"{"error":{"desc":""#), "seed {seed}: {answer}");
        assert!(answer.len() < 1000, "{}", answer.len());
    }
    client.get_mut().write_all(b"{\"execute\":\"status\",\"id\":\"x\"}\n").unwrap();
    let mut answer = String::new();
    client.read_line(&mut answer).unwrap();
    assert!(answer.starts_with(r#"{"id":"x","return":{"#), "{answer}");
    assert!(live.running.resident().unwrap() < before + ROOM);
    assert!(live.running.poll().unwrap().is_none());
}

fn client_that_does_not_read_neither_stops_the_guest_nor_others(host: &Host) {
    let mut live = Live::guest(host.machine(), "spin", &[]);
    let before = live.running.resident().unwrap();
    let stalled: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = UnixStream::connect(live.socket()).unwrap();
            stream.set_nonblocking(true).unwrap();
            // As many requests as fit, and no answer is ever read.
            while stream.write(&b"{\"execute\":\"snapshot\"}\n".repeat(100)).is_ok() {}
            stream
        })
        .collect();
    let first = accesses(&live.snapshot().0);
    wait_until(
        || accesses(&live.snapshot().0) > first + 1_000_000,
        || "the guest stands still".into(),
    );
    assert!(live.running.resident().unwrap() < before + ROOM);
    // They are given up after 10 seconds.
    for mut stream in stalled {
        let is_closed = |error: std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        wait_until(
            || stream.write(b"\n").is_err_and(is_closed),
            || "the connection is still there".into(),
        );
    }
    live.ask("status", json!({}));
}

fn connections_beyond_the_limit_are_told_so(host: &Host) {
    let mut live = Live::guest(host.machine(), "spin", &[]);
    // One is the test's own.
    let clients: Vec<_> = (0..15).map(|_| raw(&live)).collect();
    let mut one_more = String::new();
    BufReader::new(UnixStream::connect(live.socket()).unwrap()).read_line(&mut one_more).unwrap();
    assert_eq!(one_more, "{\"error\":{\"desc\":\"16 clients are connected already\"}}\n");
    drop(clients);
    wait_until(
        || {
            let mut line = String::new();
            let stream = UnixStream::connect(live.socket()).unwrap();
            BufReader::new(stream).read_line(&mut line).is_ok() && line.contains("protocol")
        },
        || "no place is free again".into(),
    );
    for _ in 0..1000 {
        drop(UnixStream::connect(live.socket()).unwrap());
    }
    live.ask("status", json!({}));
}
