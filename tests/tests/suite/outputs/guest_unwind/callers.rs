//! Call chains where a kernel accesses a port, compared with the backtrace that it prints at an NMI.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use pvio::guest::{End, Frame, Kernel, MOST_FRAMES, Process, Processes, unwind};
use pvio_tests::linux::{BootedLinux, Debugger};
use pvio_tests::wait_until;

use super::frame_name;

/// Repeats port accesses. At an NMI the kernel panics and prints a backtrace.
pub(super) const ACCESSES: &str = "
echo 1 > /proc/sys/kernel/unknown_nmi_panic
echo 0 > /proc/sys/kernel/panic
{
    echo
    echo symbols:
    grep -E ' (io_serial_out|pci_conf1_read|mc146818_get_time|rtc_cmos_read|serial8250_interrupt)$' /proc/kallsyms
    echo
    echo ready
} > /dev/ttyS1
sleep 1
while :; do
    cat /sys/bus/pci/devices/0000:00:00.0/config > /dev/null
    cat /sys/class/rtc/rtc0/time > /dev/null
    echo a line that is written > /dev/ttyS1
done
";

/// A function that only an interrupt calls. The test waits for an interrupt of kernel code.
const INTERRUPT: &str = "serial8250_interrupt";

/// Stops in a function and compares the call chain with the backtrace that the kernel prints there.
///
/// It stops at the function's first port instruction, or at its start if the function has none.
fn check_access(options: &[&str], append: &str, function: &str) {
    let mut guest = BootedLinux::boot(options, append, ACCESSES);
    let mut debugger = Debugger::attach(&mut guest.monitor);
    let kernel = guest.kernel();
    let address = guest.symbol(function);
    let mut code = [0; 256];
    assert!(kernel.read_linear(&guest.ram, address, &mut code));
    debugger.run_to(address);
    let is_interrupted = |chain: &[String]| chain.iter().any(|name| name.starts_with("at "));
    while !is_interrupted(&check_chain(&mut guest, &kernel)) && function == INTERRUPT {
        debugger.step();
        debugger.run_to(address);
    }
    // Before the function has set up its frame, the 32-bit kernel's own backtrace lacks a caller.
    while !guest.is_64_bit && guest.cpu().get("EBP") != guest.cpu().get("ESP") {
        debugger.step();
    }
    let bits = if guest.is_64_bit { 64 } else { 32 };
    let mut decoder = Decoder::with_ip(bits, &code, address, DecoderOptions::NONE);
    let access =
        decoder.iter().find(|insn| matches!(insn.mnemonic(), Mnemonic::In | Mnemonic::Out));
    if let Some(access) = access {
        debugger.run_to(access.ip());
    }
    let ours = check_chain(&mut guest, &kernel);
    let processes = Processes::find(&kernel, &guest.ram);
    let gs_base = guest.cpu().base("GS");
    let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(&guest.ram, at, into);
    let current = processes.map(|processes| processes.current(&[gs_base], &mut read).unwrap());
    // Debian's 32-bit kernel has no types, so its processes are not found.
    assert_eq!(current.is_some(), guest.is_64_bit);
    guest.monitor.inject_nmi();
    debugger.continue_freely();
    let has_panicked = || guest.console().contains("---[ end Kernel panic");
    wait_until(has_panicked, || guest.console());
    let console = guest.console();
    let theirs = printed_by_kernel(&console, function);
    assert_eq!(ours, theirs, "{console}");
    assert!(ours.len() > 5, "{ours:?}");
    if let Some(Process { pid, comm, .. }) = current {
        let (_, panic) = console.split_once("Kernel panic").unwrap();
        assert!(panic.contains(&format!("PID: {pid} Comm: {comm} ")), "{pid} {comm}: {panic}");
    }
}

/// Unwinds from the present registers. Returns the names of the callers.
fn check_chain(guest: &mut BootedLinux, kernel: &Kernel) -> Vec<String> {
    let cpu = guest.cpu();
    let ram = &guest.ram;
    let mut read = |at: u64, into: &mut [u8]| kernel.read_linear(ram, at, into);
    let start = cpu.start();
    let unwound = unwind(Some(kernel), &start, MOST_FRAMES, &mut read);
    assert!(unwound.recipe.matches(&start, &mut read));
    let is_idle = unwound.chain.end == End::Bottom;
    assert!(is_idle || unwound.chain.end == End::UserMode, "{:x?}", unwound.chain);
    let frames = unwound.chain.frames.iter();
    let name = |&frame: &Frame| match frame {
        Frame::Return(_) => frame_name(kernel, frame),
        Frame::Interrupted(_) => format!("at {}", frame_name(kernel, frame)),
    };
    frames.map(name).collect()
}

/// The callers in the panic's backtrace, without guesses (marked `?`) and without the function itself.
pub(super) fn printed_by_kernel(console: &str, function: &str) -> Vec<String> {
    let lines = console.lines().filter_map(|line| Some(line.split_once("] ")?.1.trim()));
    let name = |line: &str| {
        let (name, rest) = line.split_once('/')?;
        (name.contains("+0x") && rest.starts_with("0x")).then(|| name.to_owned())
    };
    let place = |line: &str| {
        let (register, place) = line.split_once("IP: ")?;
        matches!(register, "R" | "E").then(|| place.trim_start_matches("0010:").to_owned())
    };
    let is_start = |line: &&str| place(line).is_some_and(|place| place.starts_with(function));
    let lines = lines.skip_while(|line| !is_start(line)).skip(1);
    let is_user = |line: &str| place(line).is_some_and(|place| name(&place).is_none());
    let lines = lines.take_while(|line| !is_user(line)).filter(|line| !line.starts_with('?'));
    lines
        .filter_map(|line| match place(line) {
            Some(place) => Some(format!("at {}", name(&place)?)),
            None => name(line),
        })
        .collect()
}

#[test]
fn callers_of_io_serial_out_are_those_that_linux_6_1_prints() {
    check_access(&["--suite", "bookworm"], "pti=on", "io_serial_out");
}

#[test]
fn callers_of_pci_conf1_read_are_those_that_linux_6_12_prints() {
    check_access(&["--suite", "trixie"], "pti=off", "pci_conf1_read");
}

#[test]
fn callers_of_mc146818_get_time_are_those_that_the_newest_linux_prints() {
    check_access(&["--suite", "trixie-backports"], "pti=on", "mc146818_get_time");
}

#[test]
fn callers_of_pci_conf1_read_are_those_that_a_32_bit_linux_prints() {
    check_access(&["--suite", "bookworm", "--arch", "i386"], "", "pci_conf1_read");
}

#[test]
fn callers_in_an_interrupt_are_those_that_linux_6_1_prints() {
    check_access(&["--suite", "bookworm"], "pti=on", INTERRUPT);
}

#[test]
fn callers_in_an_interrupt_are_those_that_the_newest_linux_prints() {
    check_access(&["--suite", "trixie-backports"], "pti=off", INTERRUPT);
}

#[test]
fn callers_in_an_interrupt_are_those_that_a_32_bit_linux_prints() {
    check_access(&["--suite", "bookworm", "--arch", "i386"], "", INTERRUPT);
}
