//! `uart16550` with a terminal program, another program, or QEMU's standard streams at the far end.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pvio_cli::machine::Running;
use pvio_tests::{Host, LinuxGuest, Monitor, Terminal, guest, on_both_qemus, refusal, wait_until};

on_both_qemus! {
    pseudoterminal_passes_every_byte
    socket_serves_one_program_after_another
    standard_streams_are_a_line
    socat_talks_to_a_guest
    minicom_talks_to_a_guest
    linux_talks_by_interrupt
    far_end_that_does_not_read_loses_bytes_and_harms_nothing
    links_and_sockets_are_removed
    impossible_far_ends_are_refused
}

const EXIT: &str = "device=debug-exit@0xf4";

struct Port {
    directory: tempfile::TempDir,
    kind: &'static str,
}

impl Port {
    fn new(kind: &'static str) -> Port {
        Port { directory: tempfile::tempdir().unwrap(), kind }
    }

    /// minicom locks a port by its name alone, so the names differ.
    fn path(&self) -> PathBuf {
        let directory = self.directory.path();
        let name = directory.file_name().unwrap().to_str().unwrap().replace('.', "port-");
        directory.join(name)
    }

    fn option(&self) -> String {
        format!("device=uart16550@0x2f8:{}={}", self.kind, self.path().display())
    }

    /// Starts the guest that sends back what it receives.
    fn echo(&self, host: &Host) -> Running {
        let machine = host.machine().plugin(&["summary=off", &self.option(), EXIT]);
        let running = machine.bare_guest(&guest("uart-echo.bin")).start().unwrap();
        wait_until(|| self.path().symlink_metadata().is_ok(), || "no port".to_owned());
        running
    }
}

fn open_terminal(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// All bytes but the one that ends the guest.
fn bytes() -> Vec<u8> {
    (0..=255).filter(|&byte| byte != b'q').cycle().take(3000).collect()
}

/// Sends bytes to the guest, and checks that they come back.
fn exchange(port: &mut (impl Read + Write), bytes: &[u8]) {
    // Pieces that the receive buffer holds.
    for piece in bytes.chunks(61) {
        port.write_all(piece).unwrap();
        let mut back = vec![0; piece.len()];
        port.read_exact(&mut back).unwrap();
        assert_eq!(back, piece);
    }
}

fn assert_echo_ended(running: Running) {
    let ended = running.wait().unwrap();
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(42), ""));
}

fn pseudoterminal_passes_every_byte(host: &Host) {
    let port = Port::new("pty");
    let running = port.echo(host);
    let mut terminal = open_terminal(&port.path());
    exchange(&mut terminal, &bytes());
    drop(terminal);
    let mut terminal = open_terminal(&port.path());
    exchange(&mut terminal, &bytes()[..200]);
    terminal.write_all(b"q").unwrap();
    assert_echo_ended(running);
}

fn socket_serves_one_program_after_another(host: &Host) {
    let port = Port::new("socket");
    let running = port.echo(host);
    let mode = port.path().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut first = UnixStream::connect(port.path()).unwrap();
    let mut second = UnixStream::connect(port.path()).unwrap();
    exchange(&mut first, &bytes());
    second.write_all(b"waiting").unwrap();
    exchange(&mut first, b"still the first");
    drop(first);
    let mut back = [0; 7];
    second.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"waiting");
    second.write_all(b"q").unwrap();
    assert_echo_ended(running);
    let mut rest = Vec::new();
    second.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"q", "what the guest has sent arrives before the end");
}

fn standard_streams_are_a_line(host: &Host) {
    let options = format!("summary=off,device=uart16550@0x2f8:stdio=on,{EXIT}");
    let mut command = host.bare_guest_command(&options, "uart-echo");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&bytes()).unwrap();
    input.write_all(b"q").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(42));
    assert_eq!(output.stdout, [&bytes()[..], b"q"].concat());
}

fn socat_talks_to_a_guest(host: &Host) {
    for (kind, address) in [("pty", "OPEN"), ("socket", "UNIX-CONNECT")] {
        let port = Port::new(kind);
        let running = port.echo(host);
        let address = match kind {
            "pty" => format!("{address}:{},raw,echo=0", port.path().display()),
            _ => format!("{address}:{}", port.path().display()),
        };
        // Half a second after the end of the input, socat ends.
        let mut socat = Command::new("socat")
            .args(["-t", "0.5", "-", &address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("socat: {error}; run qemu-scripts/setup --tests"));
        let mut input = socat.stdin.take().unwrap();
        input.write_all(b"from socat, to the guest and back: q").unwrap();
        assert_echo_ended(running);
        drop(input);
        let output = socat.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, "from socat, to the guest and back: q", "{kind}");
    }
}

fn minicom_talks_to_a_guest(host: &Host) {
    let port = Port::new("pty");
    let running = port.echo(host);
    let terminal = Terminal::start();
    let command = format!("minicom --noinit --device {}", port.path().display());
    terminal.type_(&[&command, "Enter"]);
    terminal.wait_for("Press CTRL-A");
    terminal.type_(&["-l", "typed in minicom, "]);
    terminal.wait_for("typed in minicom,");
    terminal.type_(&["-l", "then q"]);
    terminal.wait_for("then q");
    assert_echo_ended(running);
}

/// The kernel's driver waits for the interrupt of a received character, and a shell reads lines.
fn linux_talks_by_interrupt(host: &Host) {
    let port = Port::new("pty");
    let script = "
        stty -echo -F /dev/ttyS1
        exec 3<>/dev/ttyS1
        echo ready >&3
        while read -r line <&3; do
            [ \"$line\" != end ] || break
            echo \"got: $line\" >&3
        done
        exec 3>&-
        grep ^1: /proc/tty/driver/serial";
    let linux = LinuxGuest::new(script, &[]).unwrap();
    let device = format!("{}:irq=3", port.option());
    let machine = linux.on(host.machine().plugin(&["summary=off", &device]));
    let running = machine.start().unwrap();
    wait_until(|| port.path().symlink_metadata().is_ok(), || "no port".to_owned());
    let mut terminal = open_terminal(&port.path());
    let mut seen = String::new();
    let mut expect = |terminal: &mut File, text: &str| {
        while !seen.contains(text) {
            let mut piece = [0; 256];
            let count = terminal.read(&mut piece).unwrap();
            seen.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    };
    expect(&mut terminal, "ready\r\n");
    for line in 0..20 {
        writeln!(terminal, "line {line} of a person who types").unwrap();
        expect(&mut terminal, &format!("got: line {line} of a person who types\r\n"));
    }
    terminal.write_all(b"end\n").unwrap();
    let ended = running.wait().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stdout.contains("uart:16550A port:000002F8 irq:3 tx:"), "{}", ended.stdout);
}

fn far_end_that_does_not_read_loses_bytes_and_harms_nothing(host: &Host) {
    // More than the buffers take.
    let port = Port::new("socket");
    let device = port.option();
    let options = ["summary=off", &device, EXIT];
    let machine = host.machine().plugin(&options).bare_guest(&guest("uart-flood.bin"));
    let running = machine.start().unwrap();
    wait_until(|| port.path().exists(), || "no port".to_owned());
    let mut silent = UnixStream::connect(port.path()).unwrap();
    silent.write_all(b"g").unwrap();
    let ended = running.wait().unwrap();
    assert_eq!(ended.status.code(), Some(42), "{}", ended.stderr);
    let line =
        ended.stderr.strip_prefix("pvio: uart16550 at 0x02f8-0x02ff: its output is incomplete: ");
    let count = line.and_then(|line| line.strip_prefix("the far end did not take "));
    let count = count.and_then(|count| count.split(' ').next()).unwrap_or("none");
    assert!(count.parse::<u64>().is_ok_and(|count| count > 0), "{}", ended.stderr);
    drop(silent);
}

fn links_and_sockets_are_removed(host: &Host) {
    for kind in ["pty", "socket"] {
        let port = Port::new(kind);
        let machine = || host.machine().plugin(&["summary=off", &port.option()]);
        let monitor = Monitor::start_stopped(machine());
        assert!(port.path().symlink_metadata().is_ok());
        monitor.quit();
        assert!(port.path().symlink_metadata().is_err(), "{kind}");
        // A QEMU that is killed cannot remove it. The next one replaces it, but the number of a terminal may belong to
        // another one by now.
        if kind == "pty" {
            continue;
        }
        let monitor = Monitor::start_stopped(machine());
        monitor.running().signal(libc::SIGKILL).unwrap();
        monitor.wait();
        assert!(port.path().symlink_metadata().is_ok());
        let monitor = Monitor::start_stopped(machine());
        monitor.quit();
        assert!(port.path().symlink_metadata().is_err(), "{kind}");
    }
}

fn impossible_far_ends_are_refused(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let file = file.display().to_string();
    let long = "x".repeat(120);
    let cases = [
        (format!("pty={file}"), "it exists; name a path that is free, for a link to the terminal"),
        (format!("socket={file}"), "exists and is not a socket; name a path that is free"),
        ("pty=/nonexistent/port".to_owned(), "no link can be made there: No such file"),
        (format!("socket=/tmp/{long}"), "and a socket's has 107 at most; name a shorter one"),
        ("stdio=yes".to_owned(), "stdio=yes: write stdio=on"),
        ("stdio=on:pty=/tmp/p".to_owned(), "a serial port has one far end; remove pty= or stdio="),
        (
            "stdio=on:file=/dev/null".to_owned(),
            "file= is for a port without pty=, socket= and stdio=; remove one of them",
        ),
    ];
    for (settings, expected) in cases {
        let option = format!("device=uart16550@0x2f8:{settings}");
        let machine = host.machine().plugin(&[&option]).bare_guest(&guest("poweroff.bin"));
        let line = refusal(&machine.run().unwrap());
        let begin = "pvio: option \"device\": uart16550 at 0x02f8-0x02ff: ";
        assert!(line.starts_with(begin) && line.contains(expected), "{settings}: {line}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let recording = format!("shift=7,rr=record,rrfile={}/rr", directory.path().display());
    let machine = host.machine().plugin(&["device=uart16550@0x2f8:stdio=on"]);
    let machine = machine.args(["-icount", &recording]).bare_guest(&guest("poweroff.bin"));
    let line = refusal(&machine.time_limit(Duration::from_secs(60)).run().unwrap());
    assert!(line.contains("stdio=on cannot be used while QEMU records or replays"), "{line}");
}
