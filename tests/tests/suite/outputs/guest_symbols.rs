//! Names of sites from the running kernel, `symbols=guest`, held against the kernel's own `/proc/kallsyms`.

use std::path::Path;
use std::time::{Duration, Instant};

use pvio::stats::{SiteRow, Snapshot};
use pvio_cli::machine::Machine;
use pvio_tests::{Host, LinuxGuest, Monitor, assert_consistent, on_both_qemus};

use super::guest_names::Kallsyms;

on_both_qemus! {
    sites_of_a_relocated_kernel_have_its_names
    no_site_has_a_name_where_names_are_off
    each_of_two_kernels_names_its_own_sites
}

/// Loads the drivers of an IDE disk, and sends the names.
const SEND_NAMES: &str = "
for module in scsi_common scsi_mod libata ata_piix; do insmod /$module.ko; done
stty -F /dev/ttyS1 raw
gzip -c /proc/kallsyms > /dev/ttyS1
echo names are sent
";

/// Debian's kernel with KASLR, whose script ends with `end`. It sends its names to a file.
pub(super) fn relocated(machine: Machine, names: &Path, end: &str) -> (LinuxGuest, Machine) {
    let mut linux = LinuxGuest::with_kernel(&[], &[SEND_NAMES, end].concat()).unwrap();
    let arguments = linux.argument("-append");
    *arguments = arguments.replace("nokaslr", "pti=on");
    let names = format!("file:{}", names.display());
    let machine = linux.on(machine).args(["-serial", &names]);
    (linux, machine)
}

fn boot(host: &Host, options: &[&str]) -> (Snapshot, Kallsyms) {
    let directory = tempfile::tempdir().unwrap();
    let names = directory.path().join("names");
    let (_linux, machine) = relocated(host.machine().plugin(options), &names, "");
    let ended = machine.run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    (stats.clone(), Kallsyms::unpack(&names))
}

fn pc(site: &SiteRow) -> u64 {
    site.address().expect("an address")
}

/// Compares each site of a kernel, and returns how many there are.
fn check(stats: &Snapshot, kallsyms: &Kallsyms) -> usize {
    let sites: Vec<_> = stats.sites.iter().filter(|site| kallsyms.is_kernel(pc(site))).collect();
    for site in &sites {
        assert_eq!(site.symbol, kallsyms.name(pc(site)), "{site:?}");
    }
    sites.len()
}

fn sites_of_a_relocated_kernel_have_its_names(host: &Host) {
    let (stats, kallsyms) = boot(host, &[]);
    let named = check(&stats, &kallsyms);
    assert!(named > 80, "{named}");
    let others = stats.sites.iter().filter(|site| !kallsyms.is_kernel(pc(site)));
    for site in others {
        assert_eq!(site.symbol, kallsyms.name(pc(site)), "{site:?}");
    }
    let known = ["io_serial_in", "io_serial_out", "pci_conf1_read", "native_io_delay"];
    for name in known {
        let is_it = |site: &SiteRow| site.symbol.as_ref().is_some_and(|it| it.starts_with(name));
        assert!(stats.sites.iter().any(is_it), "{name}");
    }
}

fn no_site_has_a_name_where_names_are_off(host: &Host) {
    let (stats, _) = boot(host, &["symbols=off"]);
    assert!(stats.sites.iter().all(|site| site.symbol.is_none()));
}

/// The machine is reset, and boots a kernel that is elsewhere. Sites of the first keep the names that it had.
fn each_of_two_kernels_names_its_own_sites(host: &Host) {
    let (stats, kernels) = two_kernels(host.machine().plugin(&[]));
    assert_consistent(&stats);
    for (kernel, other) in [(&kernels[0], &kernels[1]), (&kernels[1], &kernels[0])] {
        let own = |site: &&SiteRow| kernel.is_kernel(pc(site)) && !other.is_kernel(pc(site));
        let mut named = 0;
        for site in stats.sites.iter().filter(own) {
            assert_eq!(site.symbol, kernel.name(pc(site)), "{site:?}");
            named += 1;
        }
        assert!(named > 0, "the kernels are at the same addresses");
    }
}

/// Boots a kernel, resets the machine, and boots it again. Returns what each says of its names.
pub(super) fn two_kernels(machine: Machine) -> (Snapshot, [Kallsyms; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    let console = || std::fs::read_to_string(path("console")).unwrap_or_default();
    let other = Host::NEWEST.machine();
    let (mut linux, _) = relocated(other, &path("names"), "while :; do :; done");
    *linux.argument("-serial") = format!("file:{}", path("console").display());
    let names = format!("file:{}", path("names").display());
    let machine = linux.on(machine).args(["-serial", &names, "-action", "reboot=reset"]);
    let mut monitor = Monitor::start(machine);
    let deadline = Instant::now() + Duration::from_secs(150);
    let wait = |boots: usize| {
        while console().matches("names are sent").count() < boots {
            assert!(Instant::now() < deadline, "{}", console());
            std::thread::sleep(Duration::from_millis(50));
        }
        std::fs::read(path("names")).unwrap()
    };
    let first = wait(1);
    monitor.ask("system_reset");
    let both = wait(2);
    let ended = monitor.quit();
    std::fs::write(path("first"), &first).unwrap();
    std::fs::write(path("second"), &both[first.len()..]).unwrap();
    let kernels = ["first", "second"].map(|name| Kallsyms::unpack(&path(name)));
    (ended.stats().unwrap().clone(), kernels)
}
