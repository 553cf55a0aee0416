//! Several kernels run in one machine, one after another: each names its own sites, and none the sites of others.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pvio::stats::{SiteRow, Snapshot};
use pvio_cli::machine::Machine;
use pvio_cli::paths;
use pvio_tests::linux::{Kallsyms, LOAD_DISK_DRIVERS};
use pvio_tests::{
    Host, LinuxGuest, Monitor, assert_consistent, guest, on_both_qemus, site_pc, snapshot_drive,
    wait_until,
};
use tempfile::TempDir;

use super::replaced_modules::{patch, without_signature};

on_both_qemus! {
    a_kernel_started_by_kexec_has_sites_of_its_own
    an_old_kernel_names_its_sites_before_kexec
    sites_of_a_module_that_is_gone_have_no_name
    a_snapshot_brings_its_kernels_sites_back
}

/// Several boots take that long where other tests run.
const TIME_LIMIT: Duration = Duration::from_secs(400);

/// Sends the kernel's names to a serial port.
fn send_names(port: &str) -> String {
    format!("stty -F /dev/{port} raw; gzip -c /proc/kallsyms > /dev/{port}; echo sent to {port}\n")
}

/// A machine with a console and two more serial ports, all to files.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn console(&self) -> String {
        std::fs::read_to_string(self.path("console")).unwrap_or_default()
    }

    fn kallsyms(&self, port: &str) -> Kallsyms {
        Kallsyms::unpack(&std::fs::read(self.path(port)).unwrap())
    }

    pub(super) fn machine(&self, linux: &mut LinuxGuest, machine: Machine) -> Machine {
        let file = |path: &Path| format!("file:{}", path.display());
        *linux.argument("-serial") = file(&self.path("console"));
        let serial = |port| ["-serial".to_owned(), file(&self.path(port))];
        linux.on(machine).time_limit(TIME_LIMIT).args(["ttyS1", "ttyS2"].map(serial).as_flattened())
    }

    fn wait_for(&self, text: &str, times: usize) {
        let arrived = || self.console().matches(text).count() >= times;
        wait_until(arrived, || self.console());
    }
}

/// A guest whose kernel moves itself.
fn relocated(options: &[&str], script: &str) -> LinuxGuest {
    let mut linux = LinuxGuest::with_kernel(options, script).unwrap();
    relocate(&mut linux);
    linux
}

fn relocate(linux: &mut LinuxGuest) {
    let arguments = linux.argument("-append");
    assert!(arguments.contains(" nokaslr"));
    *arguments = arguments.replace(" nokaslr", "");
}

/// Compares the sites that one kernel has and another has not, and returns how many there are.
fn check_own(stats: &Snapshot, kernel: &Kallsyms, other: &Kallsyms) -> usize {
    let own = |site: &&SiteRow| kernel.is_kernel(site_pc(site)) && !other.is_kernel(site_pc(site));
    let own: Vec<_> = stats.sites.iter().filter(own).collect();
    for site in &own {
        assert_eq!(site.symbol, kernel.name(site_pc(site)), "{site:?}");
    }
    own.len()
}

/// KASLR puts both kernels of a run at addresses that overlap in one of ten runs.
const TRIES: usize = 6;

/// Boots a kernel that starts Debian 13's by kexec, and checks the names of both; again if both were at the same addresses.
fn check_kexec(host: &Host, first: &[&str]) {
    let apart = (0..TRIES).any(|_| check_kexec_once(host, first) == Places::Apart);
    assert!(apart, "in {TRIES} runs, both kernels were at the same addresses");
}

/// The addresses of two kernels.
#[derive(PartialEq)]
enum Places {
    Apart,
    Overlapping,
}

fn check_kexec_once(host: &Host, first: &[&str]) -> Places {
    let files = Files::new();
    let script = [LOAD_DISK_DRIVERS, &send_names("ttyS2")].concat();
    let mut second = relocated(&["--suite", "trixie"], &script);
    let append = second.argument("-append").clone();
    let [kernel, initramfs] =
        ["-kernel", "-initrd"].map(|name| std::fs::read(second.argument(name)).unwrap());
    let program = std::fs::read(guest("kexec")).unwrap();
    let contents: [(&str, &[u8]); 3] =
        [("kexec", &program), ("kernel", &kernel), ("second.cpio", &initramfs)];
    let script =
        format!("{}/kexec /kernel /second.cpio '{append}'\necho failed $?\n", send_names("ttyS1"));
    let mut linux = LinuxGuest::with_files(first, &script, &contents).unwrap();
    relocate(&mut linux);
    let machine = files.machine(&mut linux, host.machine().plugin(&[])).args(["-m", "512"]);
    let ended = machine.run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(files.console().contains("sent to ttyS2"), "{}", files.console());
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let (first, second) = (files.kallsyms("ttyS1"), files.kallsyms("ttyS2"));
    let (of_first, of_second) =
        (check_own(stats, &first, &second), check_own(stats, &second, &first));
    let places = if first.overlaps(&second) { Places::Overlapping } else { Places::Apart };
    if places == Places::Apart {
        assert!(of_first > 60 && of_second > 60, "{of_first} {of_second}");
    }
    // At addresses that both kernels ran, each row belongs to one of them.
    for site in stats
        .sites
        .iter()
        .filter(|site| first.is_kernel(site_pc(site)) && second.is_kernel(site_pc(site)))
    {
        let names = [&first, &second].map(|kernel| kernel.name(site_pc(site)));
        assert!(names.contains(&site.symbol), "{site:?}");
    }
    places
}

fn a_kernel_started_by_kexec_has_sites_of_its_own(host: &Host) {
    check_kexec(host, &["--suite", "bookworm"]);
}

/// Linux 5.10 does not say where its tables are.
fn an_old_kernel_names_its_sites_before_kexec(host: &Host) {
    check_kexec(host, &["--suite", "bullseye"]);
}

/// Changes a module so that its function for `rmmod` writes port 0x80 and returns.
fn with_port_access(mut module: Vec<u8>) -> Vec<u8> {
    without_signature(&mut module);
    // out 0x80,al; ret
    patch(&mut module, "cleanup_module", &[0xe6, 0x80, 0xc3]);
    module
}

fn sites_of_a_module_that_is_gone_have_no_name(host: &Host) {
    let files = Files::new();
    // `sd_mod` may be loaded where the other was.
    let script = [
        "for module in scsi_common scsi_mod libata ata_generic; do insmod /$module.ko; done\n",
        &send_names("ttyS1"),
        "rmmod ata_generic && echo removed; insmod /sd_mod.ko\n",
        &send_names("ttyS2"),
    ];
    let module = paths::linux_modules(&[]).unwrap().join("ata_generic.ko");
    let module = with_port_access(std::fs::read(module).unwrap());
    let more: [(&str, &[u8]); 1] = [("ata_generic.ko", &module)];
    let mut linux = LinuxGuest::with_files(&[], &script.concat(), &more).unwrap();
    relocate(&mut linux);
    let ended = files.machine(&mut linux, host.machine().plugin(&[])).run().unwrap();
    assert!(files.console().contains("removed"), "{}", files.console());
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let (before, after) = (files.kallsyms("ttyS1"), files.kallsyms("ttyS2"));
    let is_gone = |site: &&SiteRow| {
        before.name(site_pc(site)).is_some_and(|name| name.ends_with(" [ata_generic]"))
    };
    let gone: Vec<_> = stats.sites.iter().filter(is_gone).collect();
    assert_eq!(gone.len(), 1, "{:?}", stats.sites);
    assert_eq!((gone[0].counts.executions, &gone[0].symbol), (1, &None));
    let of_kernel = stats.sites.iter().filter(|site| after.is_kernel(site_pc(site)));
    for site in of_kernel {
        assert_eq!(site.symbol, after.name(site_pc(site)), "{site:?}");
    }
}

fn a_snapshot_brings_its_kernels_sites_back(host: &Host) {
    let files = Files::new();
    let script =
        [LOAD_DISK_DRIVERS, &send_names("ttyS1"), "while :; do echo tick; done\n"].concat();
    let mut linux = relocated(&[], &script);
    let drive = snapshot_drive(files.0.path());
    let machine = files.machine(&mut linux, host.machine().plugin(&[]));
    let mut monitor = Monitor::start(machine.args(["-drive", &drive, "-action", "reboot=reset"]));
    files.wait_for("sent to ttyS1", 1);
    let first = std::fs::read(files.path("ttyS1")).unwrap();
    std::fs::write(files.path("first"), &first).unwrap();
    monitor.add_overlay(files.0.path());
    assert_eq!(monitor.ask("savevm state"), "");
    // The same kernel goes on; another boots; and the first goes on again.
    let wait_for_ticks = |more: usize| {
        let ticks = files.console().matches("tick").count();
        files.wait_for("tick", ticks + more);
    };
    wait_for_ticks(100);
    assert_eq!(monitor.ask("loadvm state"), "");
    wait_for_ticks(100);
    monitor.reset();
    files.wait_for("sent to ttyS1", 2);
    let both = std::fs::read(files.path("ttyS1")).unwrap();
    std::fs::write(files.path("second"), &both[first.len()..]).unwrap();
    assert_eq!(monitor.ask("loadvm state"), "");
    wait_for_ticks(100);
    let ended = monitor.quit();
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let (first, second) = (files.kallsyms("first"), files.kallsyms("second"));
    let (of_first, of_second) =
        (check_own(stats, &first, &second), check_own(stats, &second, &first));
    assert!(of_first > 60 && of_second > 60, "{of_first} {of_second}");
    let mut rows = HashSet::new();
    for site in &stats.sites {
        let row = (&site.pc, site.mode, &site.bytes, &site.symbol);
        let is_kernel = first.is_kernel(site_pc(site)) || second.is_kernel(site_pc(site));
        assert!(rows.insert(row) || !is_kernel, "two rows: {site:?}");
    }
}
