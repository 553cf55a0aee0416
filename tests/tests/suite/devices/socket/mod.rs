//! `socket`: a device that is another process, as the guest, the user and the process see it.

mod hostile;
mod observer;
mod peer;
mod python;

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

use pvio_cli::machine::Machine;
use pvio_tests::{Host, Monitor, guest, on_both_qemus, refusal, wait_until};

use peer::{
    ANSWER, Connection, END, Frame, HELLO, Peer, READ, READ_STRING, RESET, WRITE, WRITE_STRING,
};

on_both_qemus! {
    frames_are_those_of_the_documentation
    interrupt_before_each_answer_comes_before_the_next_instruction
    stop_ends_a_wait_and_the_late_answer_is_dropped
    quit_and_sigterm_end_a_wait
    posted_writes_are_not_waited_for
    reconnected_program_is_reset_first
    interrupts_from_before_a_reset_do_not_count
    wrong_option_or_greeting_keeps_qemu_from_starting
}

fn with(host: &Host, devices: &[&str]) -> Machine {
    host.machine().plugin(&["summary=off"]).plugin(devices)
}

fn stopped(host: &Host, devices: &[&str]) -> Monitor {
    Monitor::start_stopped(with(host, devices))
}

/// Line 5 of the interrupt controller, which is set to be level-triggered.
fn is_requested(monitor: &mut Monitor) -> bool {
    let text = monitor.ask("info pic");
    let requests = text.split("pic0: irr=").nth(1).unwrap();
    u8::from_str_radix(&requests[..2], 16).unwrap() & 0x20 != 0
}

fn frames_are_those_of_the_documentation(host: &Host) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let peer = Peer::new(move |mut connection: Connection| {
        let hello = connection.greet();
        log.lock().unwrap().push(hello.bytes());
        while let Some(frame) = connection.next() {
            let mut bytes = frame.bytes();
            // Numbers count from 1.
            bytes[12..].fill(u8::from(frame.id != 0));
            log.lock().unwrap().push(bytes);
            if frame.id != 0 {
                connection.send(frame.answer(0x4433_2211));
            }
        }
    });
    let mut monitor = stopped(host, &[&peer.option("0x300-0x304", "")]);
    assert_eq!(monitor.read(0x300, 1), 0x11);
    assert_eq!(monitor.read(0x301, 2), 0x2211);
    assert_eq!(monitor.read(0x301, 4), 0x4433_2211);
    // Two bytes are beyond the last port.
    assert_eq!(monitor.read(0x303, 4), 0xffff_2211);
    monitor.write(0x304, 1, 0x5a);
    monitor.write(0x300, 4, 0x8765_4321);
    assert_eq!(monitor.quit().stderr, "");
    let text = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    wait_until(|| seen.lock().unwrap().len() >= 9, || "frames are missing".to_owned());
    let seen: Vec<String> = seen.lock().unwrap().iter().map(text).collect();
    let expected = [
        // "PVIO", five ports from 0x300, version 1
        "01000003".to_owned() + "5056494f" + "05000000" + "01000000",
        "06000000".to_owned() + "00000000" + "00000000" + "01010101",
        "02010000".to_owned() + "00000000" + "00000000" + "01010101",
        "02020100".to_owned() + "00000000" + "00000000" + "01010101",
        "02040100".to_owned() + "00000000" + "00000000" + "01010101",
        "02020300".to_owned() + "00000000" + "00000000" + "01010101",
        "03010400".to_owned() + "5a000000" + "00000000" + "01010101",
        "03040000".to_owned() + "21436587" + "00000000" + "01010101",
        "08000000".to_owned() + "00000000" + "00000000" + "00000000",
    ];
    assert_eq!(seen, expected);
}

/// If a frame needed QEMU's global lock, which a vCPU holds in an access on QEMU 10.0, nothing would go on.
fn interrupt_before_each_answer_comes_before_the_next_instruction(host: &Host) {
    let peer = Peer::serving(|connection, frame| {
        let data = match frame.kind {
            READ_STRING => vec![0x5a; frame.count as usize],
            _ => Vec::new(),
        };
        let frames = [Frame::irq(1), Frame::irq(0), frame.answer(0x5a)];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).chain(data).collect();
        connection.raw(&bytes)
    });
    let devices = [&*peer.option("0x300", ":irq=5:timeout=60000"), "device=debug-exit@0xf4"];
    let ended = with(host, &devices).bare_guest(&guest("irq-answers.bin")).run().unwrap();
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(42), ""));
}

/// A program that says when it is asked, and answers only what it is told to.
fn silent_at_first() -> (Peer, Receiver<()>, mpsc::Sender<u32>) {
    let (asked, is_asked) = mpsc::channel();
    let (answers, answer) = mpsc::channel();
    let peer = Peer::serving(move |connection, frame| {
        asked.send(()).unwrap();
        let Ok(value) = answer.recv() else { return false };
        connection.send(frame.answer(value))
    });
    (peer, is_asked, answers)
}

/// Longer than anything here waits. An access that nothing ends would make the test fail.
const LONG: &str = ":timeout=600000";

fn reading(host: &Host, peer: &Peer, settings: &str) -> (Monitor, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let output = format!("file:{}", directory.path().join("read").display());
    let machine = with(host, &[&peer.option("0x300", settings)]);
    let machine = machine.bare_guest(&guest("read-until.bin")).args(["-debugcon", &output]);
    (Monitor::start(machine), directory)
}

fn stop_ends_a_wait_and_the_late_answer_is_dropped(host: &Host) {
    let (peer, is_asked, answers) = silent_at_first();
    let (mut monitor, directory) = reading(host, &peer, LONG);
    is_asked.recv().unwrap();
    monitor.stop();
    assert_eq!(monitor.status(), qapi::qmp::RunState::paused);
    // To the read that was ended, and to the next ones.
    answers.send(0x11).unwrap();
    answers.send(0x22).unwrap();
    answers.send(0x2a).unwrap();
    monitor.cont();
    let ended = monitor.wait();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert_eq!(std::fs::read(directory.path().join("read")).unwrap(), [0xff, 0x22, 0x2a]);
    let line = "pvio: socket at 0x0300: an access had no answer when QEMU stopped or ended: it reads as all ones\n";
    assert_eq!(ended.stderr, line);
}

fn quit_and_sigterm_end_a_wait(host: &Host) {
    for by_signal in [false, true] {
        let (peer, is_asked, answers) = silent_at_first();
        let (monitor, _directory) = reading(host, &peer, LONG);
        is_asked.recv().unwrap();
        let ended = match by_signal {
            false => monitor.quit(),
            true => {
                monitor.running().signal(libc::SIGTERM).unwrap();
                monitor.wait()
            }
        };
        assert_eq!(ended.stats().unwrap().ended, if by_signal { "signal" } else { "quit" });
        assert!(!ended.stderr.contains("did not answer"), "{}", ended.stderr);
        drop(answers);
    }
}

fn posted_writes_are_not_waited_for(host: &Host) {
    let (written, sum) = mpsc::channel();
    let peer = Peer::serving(move |connection, frame| match frame.kind {
        WRITE => frame.id == 0 && written.send(frame.value).is_ok(),
        READ => connection.send(frame.answer(7)),
        _ => false,
    });
    let mut monitor = stopped(host, &[&peer.option("0x300", ":posted=on")]);
    for value in 0..100 {
        monitor.write(0x300, 1, value);
    }
    assert_eq!(monitor.read(0x300, 1), 7);
    // The read came after all writes.
    assert_eq!(sum.try_iter().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    assert_eq!(monitor.quit().stderr, "");
}

fn reconnected_program_is_reset_first(host: &Host) {
    let mut connections = 0;
    let peer = Peer::new(move |mut connection| {
        connections += 1;
        connection.greet();
        let reset = connection.next().unwrap();
        assert_eq!(reset.kind, RESET);
        connection.send(reset.answer(0));
        // The first two connections end at the first access.
        while let Some(frame) = connection.next() {
            if connections < 3 || !connection.send(frame.answer(connections)) {
                return;
            }
        }
    });
    let mut monitor = stopped(host, &[&peer.option("0x300", ":reconnect=on")]);
    wait_until(|| monitor.read(0x300, 1) == 3, || "the program is not asked again".to_owned());
    let ended = monitor.quit();
    let path = peer.path().display().to_string();
    let lost = format!(
        "pvio: socket at 0x0300: the program at {path} closed the connection: until it is connected again the \
         device reads as all ones, and writes to it are lost\n"
    );
    let found = format!("pvio: socket at 0x0300: the program at {path} is connected again\n");
    assert_eq!(ended.stderr, format!("{lost}{found}{lost}{found}"));
}

fn interrupts_from_before_a_reset_do_not_count(host: &Host) {
    let peer = Peer::new(|mut connection| {
        connection.greet();
        while let Some(frame) = connection.next() {
            match frame.kind {
                // Sent before the reset was read, and after.
                RESET => {
                    connection.send(Frame::irq(1));
                    connection.send(frame.answer(0));
                }
                END => return,
                _ => {
                    connection.send(Frame::irq(frame.value & 1));
                    connection.send(frame.answer(0));
                }
            }
        }
    });
    let mut monitor = stopped(host, &[&peer.option("0x300", ":irq=5")]);
    monitor.write(0x4d0, 1, 0x20);
    for _ in 0..3 {
        monitor.write(0x300, 1, 1);
        assert!(is_requested(&mut monitor));
        monitor.write(0x300, 1, 0);
        assert!(!is_requested(&mut monitor));
        monitor.write(0x300, 1, 1);
        monitor.reset();
        monitor.write(0x4d0, 1, 0x20);
        assert!(!is_requested(&mut monitor));
    }
    assert_eq!(monitor.quit().stderr, "");
}

fn wrong_option_or_greeting_keeps_qemu_from_starting(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("file"), "kept").unwrap();
    drop(std::os::unix::net::UnixListener::bind(path("dead")).unwrap());
    let good = Peer::serving(|_, _| false);
    let greeting = |bytes: Vec<u8>| {
        Peer::new(move |mut connection| {
            connection.next();
            connection.raw(&bytes);
        })
    };
    let frame = Frame { kind: HELLO | ANSWER, value: 0x4f49_5650, id: 2, ..Frame::default() };
    let newer = greeting(frame.bytes());
    let stranger = greeting(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    let short = greeting(frame.bytes()[..9].to_vec());
    let other = Frame { kind: WRITE_STRING | ANSWER, ..frame };
    let other = greeting(other.bytes());
    let named = |path: String| format!("device=socket@0x300:path={path}");
    let long = named(path(&"x".repeat(120)));
    let cases = [
        (
            "device=socket@0x300".to_owned(),
            "a socket device needs path=SOCKET; name the Unix socket",
        ),
        (named(path("none")), "none: nobody listens there; start the device's program first"),
        (named(path("dead")), "dead: nobody listens there; start the device's program first"),
        (named(path("file")), "file: it is not a socket; name the Unix socket"),
        (named("/".to_owned()), "path=/: it is not a socket; name the Unix socket"),
        (long, "a socket's has 107 at most; name a shorter one"),
        (newer.option("0x300", ""), "speaks version 2 of the protocol, and pvio version 1"),
        (
            stranger.option("0x300", ""),
            "listens there sent 485454502f312e312034303020426164, which is not a hello",
        ),
        (short.option("0x300", ""), "the program that listens there closed the connection"),
        (other.option("0x300", ""), "which is not a hello of this protocol"),
        (
            good.option("0x300", ":timeout=0"),
            "timeout=0 is not a number of milliseconds; write 1 to 600000",
        ),
        (good.option("0x300", ":timeout=1s"), "timeout=1s is not a number of milliseconds"),
        (good.option("0x300", ":posted=yes"), "posted=yes: write on or off"),
        (good.option("0x300", ":reconnect=1"), "reconnect=1: write on or off"),
        (good.option("0x300", ":irq=16"), "irq=16 is not an interrupt line of the ISA bus"),
        (good.option("0x300", ":speed=9"), "this kind has no setting \"speed\""),
    ];
    for (option, expected) in &cases {
        let machine = host.machine().plugin(&[option]).bare_guest(&guest("poweroff.bin"));
        let line = refusal(&machine.run().unwrap());
        assert!(line.starts_with("pvio: option \"device\": socket at 0x0300: "), "{line}");
        assert!(line.contains(expected), "{option}: {line}");
    }
    assert_eq!(std::fs::read(path("file")).unwrap(), b"kept");
    let replay = format!("shift=auto,rr=record,rrfile={}", path("replay"));
    let machine = host.machine().plugin(&[&good.option("0x300", "")]).args(["-icount", &replay]);
    let line = refusal(&machine.bare_guest(&guest("poweroff.bin")).run().unwrap());
    assert!(line.contains("cannot be used while QEMU records or replays the run (rr=)"), "{line}");
}
