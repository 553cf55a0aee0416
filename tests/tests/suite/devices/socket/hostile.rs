//! Programs that break the protocol, are slow, or want memory. Each harms its own ports, and nothing else.

use std::io::Read;
use std::time::Duration;

use pvio_tests::{Host, on_both_qemus, wait_until};

use super::peer::{ANSWER, END, Frame, Peer, RESET, WRITE};
use super::stopped;

on_both_qemus! {
    program_that_breaks_the_protocol_is_dead_and_harms_no_other_device
    program_that_answers_byte_by_byte_is_served
    program_that_does_not_read_is_given_up
    flood_of_interrupts_takes_no_memory_and_leaves_qemu_responsive
    interrupt_without_a_line_is_reported_once
}

/// Gets a connection after the hello and the reset, and the first request.
type Answer = fn(&mut super::Connection, Frame);

const NEVER: Duration = Duration::from_secs(3600);

/// What a program does at the first read, and what is said about it.
const MISDEEDS: [(Answer, &str); 11] = [
    (|_, _| (), "closed the connection"),
    (|it, read| assert!(it.raw(&read.answer(1).bytes()[..15])), "closed the connection"),
    (
        |it, _| while it.raw(&[0x55; 16]) {},
        "sent 55555555555555555555555555555555, a frame of a kind",
    ),
    (
        |it, read| while it.send(Frame { id: read.id + 1, ..read.answer(1) }) {},
        "is not the answer to the oldest request",
    ),
    (
        |it, read| while it.send(Frame { kind: WRITE | ANSWER, ..read.answer(1) }) {},
        "is not the answer to the oldest",
    ),
    (|it, _| while it.send(Frame::irq(7)) {}, "whose interrupt level is neither 0 nor 1"),
    (|it, _| while it.send(Frame { kind: END, ..Frame::default() }) {}, "said that it ends"),
    (|_, _| std::thread::sleep(NEVER), "did not answer within 300 ms (timeout=)"),
    (|it, _| while it.send(Frame::irq(1)) {}, "did not answer within 300 ms (timeout=)"),
    // The second answer is to no request, or not to the next one, which may have been sent by then.
    (
        |it, read| while it.send(read.answer(0xffff_ffff)) {},
        "sent 82010000ffffffff0000000002000000",
    ),
    (
        |it, read| {
            while it.raw(&[&read.answer(0xffff_ffff).bytes()[..], &[0xee; 4096]].concat()) {}
        },
        "sent eeee",
    ),
];

fn program_that_breaks_the_protocol_is_dead_and_harms_no_other_device(host: &Host) {
    let peers: Vec<Peer> = MISDEEDS
        .iter()
        .map(|(misdeed, _)| {
            Peer::new(|mut connection| {
                connection.greet();
                let reset = connection.next().unwrap();
                assert_eq!(reset.kind, RESET);
                connection.send(reset.answer(0));
                if let Some(read) = connection.next() {
                    misdeed(&mut connection, read);
                }
            })
        })
        .collect();
    let port = |index: usize| 0x300 + 4 * index as u16;
    let options: Vec<String> = peers
        .iter()
        .enumerate()
        .map(|(index, peer)| {
            let first = port(index);
            peer.option(&format!("{first:#x}-{:#x}", first + 3), ":irq=5:timeout=300")
        })
        .collect();
    let mut devices: Vec<&str> = options.iter().map(String::as_str).collect();
    devices.push("device=latch@0x3e0-0x3e3");
    let mut monitor = stopped(host, &devices);
    for (index, (_, expected)) in MISDEEDS.iter().enumerate() {
        for size in [1, 2, 4] {
            let ones = u32::MAX >> (32 - 8 * u32::from(size));
            assert_eq!(monitor.read(port(index), size), ones, "{expected}");
            monitor.write(port(index), size, 0);
        }
        monitor.write(0x3e0, 4, 0x4433_2211 + index as u32);
        assert_eq!(monitor.read(0x3e0, 4), 0x4433_2211 + index as u32);
    }
    let ended = monitor.quit();
    assert!(ended.status.success());
    for (index, (_, expected)) in MISDEEDS.iter().enumerate() {
        let device = format!("pvio: socket at {:#06x}-{:#06x}: ", port(index), port(index) + 3);
        let lines: Vec<&str> =
            ended.stderr.lines().filter(|line| line.starts_with(&device)).collect();
        assert_eq!(lines.len(), 1, "{expected}: {}", ended.stderr);
        assert!(lines[0].contains(expected), "{expected}: {}", lines[0]);
        let end = ": from now on the device reads as all ones, and writes to it are lost";
        assert!(lines[0].ends_with(end), "{}", lines[0]);
    }
    assert_eq!(ended.stderr.lines().count(), MISDEEDS.len(), "{}", ended.stderr);
}

fn program_that_answers_byte_by_byte_is_served(host: &Host) {
    let peer = Peer::serving(|connection, frame| {
        frame.answer(frame.id).bytes().iter().all(|byte| {
            std::thread::sleep(Duration::from_millis(1));
            connection.raw(&[*byte])
        })
    });
    let mut monitor = stopped(host, &[&peer.option("0x300", ":timeout=60000")]);
    // The reset was the first request.
    for number in 2..10 {
        assert_eq!(monitor.read(0x300, 4), 0xffff_ff00 | number);
    }
    assert_eq!(monitor.quit().stderr, "");
}

fn program_that_does_not_read_is_given_up(host: &Host) {
    let peer = Peer::new(|mut connection| {
        connection.greet();
        std::thread::sleep(NEVER);
    });
    let mut monitor = stopped(host, &[&peer.option("0x300", ":posted=on:timeout=300")]);
    // The kernel's buffer has room for hundreds of frames.
    for value in 0..3000 {
        monitor.write(0x300, 4, value);
    }
    assert_eq!(monitor.read(0x300, 4), 0xffff_ffff);
    let ended = monitor.quit();
    let expected = "did not read what it was sent within 300 ms (timeout=): from now on";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

fn flood_of_interrupts_takes_no_memory_and_leaves_qemu_responsive(host: &Host) {
    const FLOOD: usize = 200_000;
    let (done, is_done) = std::sync::mpsc::channel();
    let peer = Peer::new(move |mut connection| {
        connection.greet();
        let both = [Frame::irq(1).bytes(), Frame::irq(0).bytes()].concat();
        for _ in 0..FLOOD {
            connection.raw(&both);
        }
        done.send(()).unwrap();
        // Until QEMU ends.
        let _ = connection.0.read_to_end(&mut Vec::new());
    });
    let mut monitor = stopped(host, &[&peer.option("0x300", ":irq=5"), "device=latch@0x310"]);
    let before = monitor.running().resident().unwrap();
    let mut accesses = 0;
    wait_until(
        || {
            monitor.write(0x310, 1, accesses & 0xff);
            assert_eq!(monitor.read(0x310, 1), accesses & 0xff);
            accesses += 1;
            is_done.try_recv().is_ok()
        },
        || "the flood does not end".to_owned(),
    );
    let after = monitor.running().resident().unwrap();
    // The frames are 6.4 MB.
    assert!(after < before + (4 << 20), "{before} {after}");
    assert_eq!(monitor.quit().stderr, "");
}

fn interrupt_without_a_line_is_reported_once(host: &Host) {
    let peer = Peer::serving(|connection, frame| {
        connection.send(Frame::irq(1)) && connection.send(frame.answer(1))
    });
    let mut monitor = stopped(host, &[&peer.option("0x300", "")]);
    for _ in 0..5 {
        assert_eq!(monitor.read(0x300, 1), 1);
    }
    let line = "pvio: socket at 0x0300: the program sets an interrupt line, but has none; add irq=LINE to the option\n";
    assert_eq!(monitor.quit().stderr, line);
}
