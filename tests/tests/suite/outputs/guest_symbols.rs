//! Names that `symbols=guest` finds in the running kernel, compared with its own `/proc/kallsyms`.

use std::path::Path;

use pvio::stats::{SiteRow, Snapshot};
use pvio_cli::machine::Machine;
use pvio_tests::linux::{Kallsyms, LOAD_DISK_DRIVERS, SEND_KALLSYMS};
use pvio_tests::{
    Host, LinuxGuest, Monitor, assert_consistent, on_both_qemus, site_pc, wait_until,
};

on_both_qemus! {
    sites_of_a_relocated_kernel_have_its_names
    symbols_off_names_no_site
    each_of_two_kernels_names_its_own_sites
}

/// Last line of the console before `end`.
const SENT: &str = "names are sent";

/// Debian's kernel with KASLR. It sends its names to `/dev/ttyS1`, then runs `end`.
pub(super) fn relocated_linux(end: &str) -> LinuxGuest {
    let script = format!("{LOAD_DISK_DRIVERS}{SEND_KALLSYMS}echo {SENT}\n{end}");
    let mut linux = LinuxGuest::with_kernel(&[], &script).unwrap();
    let arguments = linux.argument("-append");
    *arguments = arguments.replace("nokaslr", "pti=on");
    linux
}

/// Boots a kernel whose `/dev/ttyS1` is a file.
fn on_machine(linux: &LinuxGuest, machine: Machine, names: &Path) -> Machine {
    linux.on(machine).args(["-serial", &format!("file:{}", names.display())])
}

pub(super) fn boot(host: &Host, options: &[&str]) -> (Snapshot, Kallsyms) {
    let directory = tempfile::tempdir().unwrap();
    let names = directory.path().join("names");
    let linux = relocated_linux("");
    let ended = on_machine(&linux, host.machine().plugin(options), &names).run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    (stats.clone(), Kallsyms::unpack(&std::fs::read(names).unwrap()))
}

fn sites_of_a_relocated_kernel_have_its_names(host: &Host) {
    let (stats, kallsyms) = boot(host, &[]);
    for site in &stats.sites {
        assert_eq!(site.symbol, kallsyms.name(site_pc(site)), "{site:?}");
    }
    let in_kernel = stats.sites.iter().filter(|site| kallsyms.is_kernel(site_pc(site))).count();
    assert!(in_kernel > 80, "{in_kernel}");
    for name in ["io_serial_in", "io_serial_out", "pci_conf1_read", "native_io_delay"] {
        let is_in = |site: &SiteRow| site.symbol.as_ref().is_some_and(|it| it.starts_with(name));
        assert!(stats.sites.iter().any(is_in), "{name}");
    }
}

fn symbols_off_names_no_site(host: &Host) {
    let (stats, _) = boot(host, &["symbols=off"]);
    assert!(stats.sites.iter().all(|site| site.symbol.is_none()));
}

/// A reset boots the kernel again, at another address. Sites of the first boot keep the first kernel's names.
fn each_of_two_kernels_names_its_own_sites(host: &Host) {
    let (stats, kernels) = two_kernels(host.machine().plugin(&[]));
    assert_consistent(&stats);
    for (kernel, other) in [(&kernels[0], &kernels[1]), (&kernels[1], &kernels[0])] {
        let own =
            |site: &&SiteRow| kernel.is_kernel(site_pc(site)) && !other.is_kernel(site_pc(site));
        let mut named = 0;
        for site in stats.sites.iter().filter(own) {
            assert_eq!(site.symbol, kernel.name(site_pc(site)), "{site:?}");
            named += 1;
        }
        assert!(named > 0, "the kernels are at the same addresses");
    }
}

/// Boots a kernel, resets the machine, and boots it again. Returns what each says of its names.
pub(super) fn two_kernels(machine: Machine) -> (Snapshot, [Kallsyms; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let (names, console) = (directory.path().join("names"), directory.path().join("console"));
    let mut linux = relocated_linux("while :; do :; done");
    *linux.argument("-serial") = format!("file:{}", console.display());
    let machine = on_machine(&linux, machine, &names);
    let mut monitor = Monitor::start(machine.args(["-action", "reboot=reset"]));
    let said = || std::fs::read_to_string(&console).unwrap_or_default();
    let names_of_boots = |boots: usize| {
        wait_until(|| said().matches(SENT).count() >= boots, said);
        std::fs::read(&names).unwrap()
    };
    let first = names_of_boots(1);
    monitor.reset();
    let both = names_of_boots(2);
    let ended = monitor.quit();
    let kernels = [&first, &both[first.len()..]].map(Kallsyms::unpack);
    (ended.stats().unwrap().clone(), kernels)
}
