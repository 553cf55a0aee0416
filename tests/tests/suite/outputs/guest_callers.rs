//! Call chains that are counted while Linux runs, compared with what the kernel itself prints.

use std::collections::{BTreeMap, BTreeSet};

use pvio::stats::{CallerRow, ChainEnd, FrameRow, Snapshot};
use pvio_tests::linux::Kallsyms;
use pvio_tests::{Host, assert_consistent, on_both_qemus};

use super::guest_symbols::{boot, two_kernels};
use super::guest_unwind::check_counted;

on_both_qemus! {
    a_kernel_with_kaslr_has_no_unknown_caller
    callers_of_io_serial_out_are_those_that_linux_6_1_prints
    callers_of_pci_conf1_read_are_those_that_linux_6_12_prints
    callers_of_mc146818_get_time_are_those_that_the_newest_linux_prints
    callers_of_pci_conf1_read_are_those_that_a_32_bit_linux_prints
}

pub(super) fn address(pc: &str) -> u64 {
    u64::from_str_radix(pc.strip_prefix("0x").unwrap(), 16).unwrap()
}

/// The name that the kernel's `%pS` has for a caller.
fn printed(kallsyms: &Kallsyms, frame: &FrameRow) -> Option<String> {
    let pc = address(&frame.pc);
    if frame.interrupted {
        return kallsyms.name(pc);
    }
    let name = kallsyms.name(pc - 1)?;
    let (name, module) = match name.split_once(' ') {
        Some((name, module)) => (name, format!(" {module}")),
        None => (&*name, String::new()),
    };
    let (symbol, offset) = name.split_once("+0x").unwrap_or((name, "0"));
    let offset = u64::from_str_radix(offset, 16).unwrap() + 1;
    Some(format!("{symbol}+{offset:#x}{module}"))
}

fn function(frame: &FrameRow) -> &str {
    frame.symbol.as_ref().map_or("-", |name| name.split_once('+').map_or(&**name, |it| it.0))
}

pub(super) fn of_kernel<'a>(
    stats: &'a Snapshot,
    kallsyms: &'a Kallsyms,
) -> impl Iterator<Item = &'a CallerRow> {
    // The driver of an IDE disk is a module.
    stats.callers.iter().filter(|row| kallsyms.name(address(&row.pc)).is_some())
}

/// From the first access of the kernel on, each chain is whole, and has the kernel's names.
fn a_kernel_with_kaslr_has_no_unknown_caller(host: &Host) {
    let (stats, kallsyms) = boot(host, &["callers=on"]);
    check_names(&stats, &kallsyms);
    let mut accesses: BTreeMap<&str, u64> = BTreeMap::new();
    let mut functions = BTreeSet::new();
    for row in of_kernel(&stats, &kallsyms) {
        let is_whole = matches!(row.end, ChainEnd::Bottom | ChainEnd::User);
        assert!(is_whole && !row.frames.is_empty(), "{row:?}");
        *accesses.entry(&row.pc).or_default() += row.accesses;
        functions.extend(row.frames.iter().map(function));
    }
    for site in stats.sites.iter().filter(|site| accesses.contains_key(&*site.pc)) {
        assert_eq!(accesses[&*site.pc], site.counts.accesses, "{site:?}");
    }
    assert!(accesses.len() > 80, "{}", accesses.len());
    // The first accesses, those of drivers, of programs, and of interrupts.
    for name in
        ["tsc_early_init", "start_kernel", "do_init_module", "do_syscall_64", "handle_irq_event"]
    {
        assert!(functions.contains(name), "{name}: {functions:?}");
    }
    let is_in_module =
        |frame: &FrameRow| frame.symbol.as_ref().is_some_and(|name| name.ends_with(" [libata]"));
    assert!(of_kernel(&stats, &kallsyms).any(|row| row.frames.iter().any(is_in_module)));
}

pub(super) fn check_names(stats: &Snapshot, kallsyms: &Kallsyms) {
    let mut of_initialization = 0;
    for row in of_kernel(stats, kallsyms) {
        of_initialization += check_frames(row, kallsyms);
    }
    assert!(of_initialization > 0);
}

/// Compares the names of callers, and returns how many are initialization code of modules.
///
/// Such code is gone when the kernel says its names, and something else may be there.
fn check_frames(row: &CallerRow, kallsyms: &Kallsyms) -> usize {
    let mut of_initialization = 0;
    for (index, frame) in row.frames.iter().enumerate() {
        let is_called_once = row.frames.get(index + 1).map(function) == Some("do_one_initcall");
        let symbol = frame.symbol.as_deref().unwrap_or_default();
        let modules = ["scsi_common", "scsi_mod", "libata", "ata_piix"];
        if is_called_once && modules.iter().any(|name| symbol.ends_with(&format!(" [{name}]"))) {
            of_initialization += 1;
        } else {
            assert_eq!(frame.symbol, printed(kallsyms, frame), "{row:?}");
        }
    }
    of_initialization
}

fn callers_of_io_serial_out_are_those_that_linux_6_1_prints(host: &Host) {
    check_counted(host, &["--suite", "bookworm"], "pti=on", ["io_serial_out"; 2]);
}

fn callers_of_pci_conf1_read_are_those_that_linux_6_12_prints(host: &Host) {
    check_counted(host, &["--suite", "trixie"], "pti=off", ["pci_conf1_read"; 2]);
}

fn callers_of_mc146818_get_time_are_those_that_the_newest_linux_prints(host: &Host) {
    check_counted(
        host,
        &["--suite", "trixie-backports"],
        "pti=on",
        ["mc146818_get_time", "rtc_cmos_read"],
    );
}

fn callers_of_pci_conf1_read_are_those_that_a_32_bit_linux_prints(host: &Host) {
    let options = ["--suite", "bookworm", "--arch", "i386"];
    check_counted(host, &options, "", ["pci_conf1_read"; 2]);
}

/// Each of two kernels with KASLR names its own callers.
#[test]
fn callers_in_a_kernel_that_is_gone_keep_their_names() {
    let (stats, kernels) = two_kernels(Host::NEWEST.machine().plugin(&["callers=on"]));
    assert_consistent(&stats);
    for (kernel, other) in [(&kernels[0], &kernels[1]), (&kernels[1], &kernels[0])] {
        let mut named = 0;
        for row in &stats.callers {
            let pc = address(&row.pc);
            if kernel.is_kernel(pc) && !other.is_kernel(pc) {
                check_frames(row, kernel);
                named += 1;
            }
        }
        assert!(named > 0, "the kernels are at the same addresses");
    }
}
