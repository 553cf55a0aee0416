//! Chains that the plugin counts, compared with what the kernel prints of the same access.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use pvio::stats::{CallerRow, ChainEnd};
use pvio_tests::linux::{BootedLinux, Debugger};
use pvio_tests::{Host, assert_consistent, wait_until};

use super::callers::{ACCESSES, printed_by_kernel};

/// Stops after a function that `caller` has called has made an access, lets the kernel print its callers, and looks for them in the dump.
pub(in super::super) fn check_counted(
    host: &Host,
    options: &[&str],
    append: &str,
    [caller, function]: [&str; 2],
) {
    let machine = host.machine().plugin(&["callers=on"]);
    let mut guest = BootedLinux::boot_on(machine, options, append, ACCESSES);
    let mut debugger = Debugger::attach(&mut guest.monitor);
    let kernel = guest.kernel();
    let address = guest.symbol(function);
    let mut code = [0; 256];
    let is_read = kernel.read_linear(&guest.ram, address, &mut code);
    assert!(is_read, "{address:#x}: {:x?}: {:x?}", kernel.registers(), guest.cpu());
    let bits = if guest.is_64_bit { 64 } else { 32 };
    let mut decoder = Decoder::with_ip(bits, &code, address, DecoderOptions::NONE);
    let access = decoder.iter().find(|it| matches!(it.mnemonic(), Mnemonic::In | Mnemonic::Out));
    let access = access.expect("the function makes an access").ip();
    if caller != function {
        debugger.run_to(guest.symbol(caller));
    }
    debugger.run_to(access);
    // The access is made; the callers are the same.
    debugger.step();
    guest.monitor.inject_nmi();
    debugger.continue_freely();
    let has_panicked = || guest.console().contains("---[ end Kernel panic");
    wait_until(has_panicked, || guest.console());
    let console = guest.console();
    let theirs = printed_by_kernel(&console, function);
    let is_there = caller == function || theirs.iter().any(|name| name.starts_with(caller));
    assert!(theirs.len() > 5 && is_there, "{console}");
    let ended = guest.monitor.quit();
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let pc = format!("{access:#x}");
    let of_site: Vec<&CallerRow> = stats.callers.iter().filter(|row| row.pc == pc).collect();
    let ours: Vec<Vec<String>> = of_site.iter().map(|row| names(row)).collect();
    let found = ours.iter().position(|names| *names == theirs);
    let found = found.unwrap_or_else(|| panic!("{theirs:?} is not among {ours:#?}"));
    assert!(matches!(of_site[found].end, ChainEnd::Bottom | ChainEnd::User), "{theirs:?}");
}

/// The callers as the kernel prints them: without their modules.
fn names(row: &CallerRow) -> Vec<String> {
    let frames = row.frames.iter().map(|frame| {
        let name = frame.symbol.as_deref().unwrap_or("-").split(' ').next().unwrap_or_default();
        if frame.interrupted { format!("at {name}") } else { name.to_owned() }
    });
    frames.collect()
}
