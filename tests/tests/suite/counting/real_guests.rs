//! SeaBIOS, GRUB and Linux see the same machine with the plugin as without.
//!
//! Linux runs on one and on four vCPUs, and with an IDE disk. The tables must have the accesses that such a
//! guest makes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pvio::stats::{SiteRow, Snapshot};
use pvio::x86::{Direction, Mode, Port, PortForm, Width};
use pvio_cli::machine::{Ended, Machine};
use pvio_cli::paths;
use pvio_tests::{
    Event, Host, LinuxGuest, Screen, Trace, assert_consistent, on_both_qemus, run_seabios, site_pc,
    without_modules,
};

on_both_qemus! {
    seabios_sees_the_same_machine_as_without_the_plugin
    grub_sees_the_same_machine_as_without_the_plugin
    linux_sees_the_same_machine_on_one_vcpu
    linux_sees_the_same_machine_on_four_vcpus
    linux_moves_the_same_data_on_an_ide_disk_in_pio_mode
}

without_modules! {
    ; needs "the mode of all code":
    seabios_sees_the_same_machine_as_without_the_plugin
    grub_sees_the_same_machine_as_without_the_plugin
    linux_sees_the_same_machine_on_one_vcpu
    linux_sees_the_same_machine_on_four_vcpus
    linux_moves_the_same_data_on_an_ide_disk_in_pio_mode
}

/// Fails unless a dump is that of a guest without faults.
fn checked(host: &Host, stats: &Snapshot) {
    assert_consistent(stats);
    assert_eq!(stats.qemu.plugin_api, host.api);
    assert_eq!(stats.sites_dropped, 0);
    for row in &stats.forms {
        assert_eq!((row.faults.unwrap_or(0), row.unverified), (0, 0), "{}", row.form);
        assert_eq!(row.attempts, row.executions, "{}", row.form);
    }
    for site in &stats.sites {
        assert!(site.mode.is_some(), "{site:?}");
    }
}

/// The accesses to a port.
fn accesses(stats: &Snapshot, port: u16, dir: Direction, size: Width) -> u64 {
    let mut rows = stats.ports.iter();
    rows.find(|row| (row.port, row.dir, row.size) == (Port(port), dir, size.into()))
        .map_or(0, |row| row.qemu)
}

/// Fails with the first lines that differ.
fn assert_same_lines(with: &str, without: &str) {
    for (number, (with, without)) in with.lines().zip(without.lines()).enumerate() {
        assert_eq!(with, without, "line {number} with the plugin, and without");
    }
    assert_eq!(with.len(), without.len());
}

/// SeaBIOS's messages before its last one.
fn messages(ended: &Ended) -> &str {
    let end = ended.stdout.find("No bootable device.").expect("the last message");
    &ended.stdout[..end]
}

fn seabios_sees_the_same_machine_as_without_the_plugin(host: &Host) {
    let machine = || host.machine().args(["-machine", "pc", "-m", "64"]).args(SAME_EACH_TIME);
    let (without, with) = (run_seabios(machine()), run_seabios(machine().plugin(&[])));
    assert_same_lines(messages(&with), messages(&without));

    let stats = with.stats().unwrap();
    checked(host, stats);
    assert_eq!(stats.ended, "signal");
    // Each character is one `out`. SeaBIOS reads the port once, to see whether it exists.
    let characters = accesses(stats, 0x402, Direction::Out, Width::Byte);
    assert_eq!(characters, with.stdout.len() as u64);
    assert_eq!(accesses(stats, 0x402, Direction::In, Width::Byte), 1);
    // BIOS calls run in real mode, the rest in 32-bit code.
    let in_mode = |mode| stats.sites.iter().filter(|site| site.mode == Some(mode)).count();
    assert!(in_mode(Mode::Bits16) > 0 && in_mode(Mode::Bits32) > 0);
    assert_eq!(in_mode(Mode::Bits64), 0);
    // It configures each device on the PCI bus.
    assert!(accesses(stats, 0xcf8, Direction::Out, Width::Dword) > 300);
    // It runs below 1 MiB or, after it has moved itself, below the end of RAM at 64 MiB.
    for site in &stats.sites {
        assert!(!(64 << 20..0xfffc_0000).contains(&site_pc(site)), "{site:?}");
        assert_eq!(site.symbol, None);
    }
}

/// Runs GRUB to its prompt, where it executes a command. Returns the screen and the end of the run.
fn grub(machine: Machine) -> (String, Ended) {
    let machine = machine.args(["-machine", "pc", "-m", "128", "-display", "none", "-nodefaults"]);
    let machine = machine.args(["-vga", "std", "-cdrom"]).args([paths::grub_image().unwrap()]);
    let mut screen = Screen::start(machine);
    screen.wait_for("Change the colors");
    screen.press("c");
    screen.wait_for("grub>");
    screen.type_after("grub> ", "lspci");
    screen.press("ret");
    // The last device, and then the prompt.
    screen.wait_for("grub> lspci\n");
    screen.wait_for("VGA Controller\n");
    screen.wait_for("\ngrub>\n");
    let text = screen.text();
    (text, screen.quit())
}

fn grub_sees_the_same_machine_as_without_the_plugin(host: &Host) {
    let (seen, _) = grub(host.machine());
    let (text, ended) = grub(host.machine().plugin(&[]));
    assert_eq!(text, seen);

    let stats = ended.stats().unwrap();
    checked(host, stats);
    assert_eq!(stats.ended, "quit");
    // The BIOS reads sectors of 2,048 bytes from the CD-ROM, in 16-bit code with 32-bit addresses.
    let reads = stats.sites.iter().filter(|site| site.form == PortForm::RepInsw.into());
    let sectors: Vec<_> = reads.filter(|site| site.mode == Some(Mode::Bits16)).collect();
    assert!(sectors.iter().any(|site| site.counts.executions > 100), "{sectors:?}");
    for site in sectors {
        assert_eq!(site.insn, "rep insw [edi],dx");
        assert_eq!(site.counts.accesses, site.counts.executions * 1024, "{site:?}");
    }
    let rep = &stats.forms[PortForm::RepInsw.index()];
    assert_eq!(accesses(stats, 0x170, Direction::In, Width::Word), rep.accesses);
    // Commands to the CD-ROM are packets of 12 bytes.
    let packets = &stats.forms[PortForm::RepOutsw.index()];
    assert_eq!(packets.accesses, packets.executions * 6);
    assert!(packets.executions > 10);
    // GRUB itself is 32-bit code in low memory. It polls the PIT to measure time.
    let is_own = |site: &&SiteRow| site_pc(site) < 0xa0000 && site.mode == Some(Mode::Bits32);
    let own = stats.sites.iter().filter(is_own);
    assert!(own.map(|site| site.counts.accesses).sum::<u64>() > 1000);
}

/// QEMU derives time from instructions, so two runs differ by microseconds at most.
const SAME_EACH_TIME: [&str; 4] =
    ["-icount", "shift=3,sleep=off", "-rtc", "base=2026-01-01,clock=vm"];

/// A script that prints the resources and devices that the kernel found.
const REPORT: &str = "
dmesg -n 1
echo report begins
cat /proc/ioports /proc/iomem /proc/tty/drivers
grep -v 'MHz\\|bogomips' /proc/cpuinfo
mount -t sysfs sysfs /sys
for device in /sys/bus/pci/devices/*; do
    echo $device $(cat $device/vendor $device/device $device/class $device/resource)
done
echo report ends
";

/// The part of a console that [`REPORT`] prints.
fn report(ended: &Ended) -> &str {
    let (_, report) = ended.stdout.split_once("report begins\r\n").expect("user space");
    report.split_once("report ends").expect("the end").0
}

/// The lines of a console without times, sorted: parallel work of the kernel may end in another order.
fn untimed(console: &str) -> String {
    const MEASURED: [&str; 5] = ["tsc: ", "clocksource: ", "BogoMIPS", "sched_clock: ", "audit("];
    let lines = console.lines().filter(|line| !MEASURED.iter().any(|word| line.contains(word)));
    let untimed = |line| match str::split_once(line, "] ") {
        Some((time, message)) if time.starts_with('[') => message,
        _ => line,
    };
    let mut lines: Vec<&str> = lines.map(untimed).collect();
    lines.sort();
    lines.join("\n")
}

fn linux_sees_the_same_machine_on_one_vcpu(host: &Host) {
    let linux = LinuxGuest::new(REPORT, &[]).unwrap();
    let machine = || linux.on(host.machine()).args(SAME_EACH_TIME);
    let (without, with) = (machine().run().unwrap(), machine().plugin(&[]).run().unwrap());
    assert_same_lines(&untimed(&with.stdout), &untimed(&without.stdout));

    let stats = with.stats().unwrap();
    checked(host, stats);
    assert_eq!(stats.ended, "shutdown");
    let characters = with.stdout.len() as u64;
    let sent = accesses(stats, 0x3f8, Direction::Out, Width::Byte);
    assert!((characters..characters + 64).contains(&sent), "{sent} of {characters}");
    // The kernel calibrates its clock by the PIT's third channel, and probes for PCI devices.
    assert!(accesses(stats, 0x42, Direction::In, Width::Byte) > 100);
    assert!(accesses(stats, 0xcfc, Direction::In, Width::Dword) > 100);
}

/// The vCPUs run in parallel, so runs differ. The devices that Linux finds are the same.
fn linux_sees_the_same_machine_on_four_vcpus(host: &Host) {
    let linux = LinuxGuest::new(REPORT, &[]).unwrap();
    let machine = || linux.on(host.machine()).args(["-accel", "tcg,thread=multi", "-smp", "4"]);
    let (without, with) = (machine().run().unwrap(), machine().plugin(&[]).run().unwrap());
    assert_same_lines(report(&with), report(&without));
    let processors = report(&with).lines().filter(|line| line.starts_with("processor\t"));
    assert_eq!(processors.count(), 4);

    let stats = with.stats().unwrap();
    checked(host, stats);
    let characters = with.stdout.len() as u64;
    let sent = accesses(stats, 0x3f8, Direction::Out, Width::Byte);
    assert!((characters..characters + 64).contains(&sent), "{sent} of {characters}");
    // The first vCPU boots. The BIOS makes each of the others report itself.
    let executions: Vec<u64> = stats.vcpus.iter().map(|row| row.executions).collect();
    assert_eq!(executions.len(), 4);
    assert!(executions[1..].iter().all(|&others| 0 < others && others < executions[0]));
}

const MIB: usize = 1 << 20;
/// The bytes that the driver moves with one instruction.
const SECTOR: u64 = 512;
/// The data port of the first IDE channel.
const DATA: Port = Port(0x1f0);

/// A boot with a trace of each access takes that long where other tests run.
const TRACED_LIMIT: Duration = Duration::from_secs(400);

/// The driver moves all data by `rep insd`, `rep insw` and `rep outsw`.
fn linux_moves_the_same_data_on_an_ide_disk_in_pio_mode(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk");
    let bytes = |seed: u64| -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| random.u8(..)).take(MIB).collect()
    };
    let (first, second, written) = (bytes(1), bytes(2), bytes(3));
    let script = "
        dmesg -n 1
        mount -t sysfs sysfs /sys
        echo report begins
        md5sum /dev/sda
        echo 1 >/sys/block/sda/device/delete
        rmmod ata_piix
        insmod /ata_generic.ko all_generic_ide=1
        until [ -b /dev/sda ]; do sleep 0.1; done
        dd if=/written of=/dev/sda bs=1M seek=1 conv=fsync 2>/dev/null
        echo 3 >/proc/sys/vm/drop_caches
        dd if=/dev/sda bs=1M skip=1 2>/dev/null | md5sum
        dmesg | sed -n '/ata[0-9]\\|sda\\|scsi/s/^.*\\] //p' | sort
        echo report ends";
    let linux = LinuxGuest::with_disk(script, &[("written", &written)]).unwrap();
    let drive = format!("file={},if=ide,format=raw", disk.display());
    let run = |machine: Machine| {
        std::fs::write(&disk, [&*first, &*second].concat()).unwrap();
        let machine = linux.on(machine).time_limit(TRACED_LIMIT);
        let ended = machine.args(["-drive", &drive]).run().unwrap();
        assert!(ended.status.success(), "{}", ended.stderr);
        ended
    };

    let without = run(host.machine());
    let trace = Trace::new();
    let with = run(trace.on(host.machine().plugin(&[])));
    assert_same_lines(report(&with), report(&without));
    // The guest read the disk's contents and what it wrote, and the disk has both.
    for expected in [md5(&[&first, &second]), md5(&[&written])] {
        assert!(with.stdout.contains(&expected), "no {expected} in {}", with.stdout);
    }
    assert!(std::fs::read(&disk).unwrap() == [first, written].concat());

    let stats = with.stats().unwrap();
    checked(host, stats);
    // The guest reads the whole disk by 32 bits, then writes and reads half of it by 16 bits. The kernel
    // also reads some whole sectors to look for partitions.
    let moved = [
        (Direction::In, Width::Dword, PortForm::RepInsd, 2 * MIB),
        (Direction::In, Width::Word, PortForm::RepInsw, MIB),
        (Direction::Out, Width::Word, PortForm::RepOutsw, MIB),
        (Direction::Out, Width::Dword, PortForm::RepOutsd, 0),
    ];
    let events = trace.port_events();
    for (dir, size, form, bytes) in moved {
        let elements = accesses(stats, 0x1f0, dir, size);
        let sector = SECTOR / u64::from(size.bytes());
        let (sectors, least) = (elements / sector, bytes as u64 / SECTOR);
        assert_eq!(elements, sectors * sector, "{form}");
        let more = if dir == Direction::In { 64 } else { 0 };
        assert!((least..=least + more).contains(&sectors), "{form}: {sectors} of {least} sectors");
        // The CD-ROM on the other channel adds a few short strings.
        let row = &stats.forms[form.index()];
        assert!(row.executions >= sectors && row.accesses >= elements, "{row:?}");
        assert!(row.executions <= sectors + 32, "{row:?}: {sectors} sectors");
        // QEMU raises an event for each element.
        let is_this = |event: &Event| (event.port, event.dir, event.size) == (DATA, dir, size);
        let raised = events.iter().filter(|(event, _)| is_this(event));
        assert_eq!(elements, raised.map(|(_, count)| count).sum::<u64>(), "{form}");
    }
}

/// The checksum of bytes, by the host's own program.
fn md5(parts: &[&[u8]]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, parts.concat()).unwrap();
    let output = Command::new("md5sum").arg(Path::new(file.path())).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().expect("a checksum").to_owned()
}
