//! A distribution kernel's names for its code, found using only guest memory.
//!
//! Each kernel boots with KASLR, loads modules and sends its `/proc/kallsyms`. It is stopped in user mode;
//! then the names that the plugin's decoder finds in RAM are compared with the list, symbol by symbol.

use std::time::{Duration, Instant};

use pvio::guest::{Kernel, Registers};
use pvio_tests::linux::{BootedLinux, Kallsyms, KernelSymbol, RamCopy, SEND_KALLSYMS};

/// Runs in user mode after the report, so that the guest can be stopped there.
const LOOP: &str = "
{ echo; echo ready; } > /dev/ttyS1
while :; do :; done
";

/// A guest that was stopped in user mode.
struct Stopped {
    ram: RamCopy,
    registers: Registers,
    kallsyms: Kallsyms,
    release: String,
}

fn boot(options: &[&str], append: &str) -> Stopped {
    let script = ["echo release $(uname -r)", SEND_KALLSYMS, LOOP].concat();
    let mut guest = BootedLinux::boot(options, append, &script);
    let registers = guest.stop(|cpu| cpu.is_in_user_mode()).registers();
    let console = guest.console();
    let (_, rest) = console.split_once("release ").unwrap_or_else(|| panic!("{console}"));
    let release = rest.split_whitespace().next().unwrap().to_owned();
    let kallsyms = Kallsyms::unpack(&guest.report);
    Stopped { ram: guest.ram.copy(), registers, kallsyms, release }
}

/// Removes the pages in which the kernel says where its tables are.
fn remove_vmcoreinfo(ram: &mut RamCopy) {
    let mut removed = 0;
    for page in ram.pages_mut().filter(|page| page.starts_with(b"OSRELEASE=")) {
        page.fill(0);
        removed += 1;
    }
    assert!(removed > 0);
}

/// Removes the kernel's types, if it has any.
fn remove_types(ram: &mut RamCopy) {
    /// The first bytes of BTF: magic, version, flags, size of the header.
    const HEADER: [u8; 8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
    for page in ram.pages_mut() {
        while let Some(at) = page.windows(HEADER.len()).position(|bytes| bytes == HEADER) {
            page[at] = 0;
        }
    }
}

/// Finds the kernel by its notes, then by its types alone, then by the shape of its tables alone.
fn check(guest: &mut Stopped) {
    check_names(guest);
    remove_vmcoreinfo(&mut guest.ram);
    check_names(guest);
    remove_types(&mut guest.ram);
    check_names(guest);
}

/// Finds the kernel and compares its names with the list.
fn check_names(guest: &Stopped) {
    let Stopped { ram, registers, kallsyms, release } = guest;
    let start = Instant::now();
    let kernel = Kernel::find(ram, &[*registers]).expect("a kernel");
    let time = start.elapsed();
    // A kernel without names for its data states its release in one place only.
    let has_names_of_data = kallsyms.symbols().iter().any(|symbol| symbol.name == "linux_banner");
    if has_names_of_data || kernel.release().is_some() {
        assert_eq!(kernel.release(), Some(&**release));
    }
    assert_eq!(kernel.stext(), kallsyms.address("_stext"));
    let compared = compare(kallsyms, &kernel);
    println!("{release}: {compared:?} in {time:?}");
    assert!(compared.in_kernel > 20_000, "{compared:?}");
    assert!(compared.in_modules > 500, "{compared:?}");
    // An idle computer needs a hundredth of this.
    assert!(time < Duration::from_secs(20), "{time:?}");
    for outside in [0, 0x1000, kallsyms.address("_stext") - 1, kallsyms.address("_etext")] {
        assert_eq!(kernel.name(outside), None, "{outside:#x}");
    }
}

/// Numbers of compared symbols of code.
#[derive(Debug, Default)]
struct Compared {
    in_kernel: usize,
    in_modules: usize,
}

/// Compares the names at the first and at the last byte of each symbol.
fn compare(kallsyms: &Kallsyms, kernel: &Kernel) -> Compared {
    let is_named = |symbol: &&KernelSymbol| {
        symbol.is_code() && (kallsyms.is_kernel(symbol.address) || symbol.module.is_some())
    };
    let mut compared = Compared::default();
    let mut groups = kallsyms.symbols().chunk_by(|a, b| a.address == b.address).peekable();
    while let Some(aliases) = groups.next() {
        let address = aliases[0].address;
        // Programs of the kernel's packet filter contain no sites.
        if aliases[0].module.as_deref().is_some_and(|module| module.starts_with("bpf")) {
            continue;
        }
        let expected = aliases.iter().find(is_named);
        let found = kernel.name(address).map(|name| (name.symbol, name.module, name.offset));
        let wanted = expected.map(|symbol| (&*symbol.name, symbol.module.as_deref(), 0));
        assert_eq!(found, wanted, "{address:#x}: {aliases:?}");
        let Some(symbol) = expected else { continue };
        if symbol.module.is_some() {
            compared.in_modules += 1;
            continue;
        }
        compared.in_kernel += 1;
        let Some(next) = groups.peek().map(|aliases| aliases[0].address) else { continue };
        let last = (next - 1).min(address + 0xfff);
        if kallsyms.is_kernel(last) {
            let name = kernel.name(last).unwrap();
            assert_eq!((name.symbol, name.offset), (&*symbol.name, last - address));
        }
    }
    compared
}

#[test]
fn names_of_linux_6_1_are_found_in_memory() {
    check(&mut boot(&["--suite", "bookworm"], "pti=on"));
}

#[test]
fn names_of_linux_6_12_are_found_in_memory() {
    check(&mut boot(&["--suite", "trixie"], "pti=off"));
}

#[test]
fn names_of_the_newest_linux_are_found_in_memory() {
    check(&mut boot(&["--suite", "trixie-backports"], "pti=on"));
}

/// Debian's 32-bit kernel has no types and no names of data: its list of modules is found by its shape.
#[test]
fn names_of_a_32_bit_linux_are_found_in_memory() {
    check(&mut boot(&["--suite", "bookworm", "--arch", "i386"], ""));
}

/// Random bytes of a real kernel's memory change. The decoder finds names or none; it takes bounded time.
#[test]
fn damaged_kernel_memory_gives_printable_names_or_none() {
    let Stopped { mut ram, registers, kallsyms, .. } = boot(&["--suite", "bookworm"], "pti=on");
    let mut random = fastrand::Rng::with_seed(61);
    for _ in 0..20 {
        ram.damage(&mut random, 2000);
        let start = Instant::now();
        let kernel = Kernel::find(&ram, &[registers]);
        assert!(start.elapsed() < Duration::from_secs(10));
        let addresses = kallsyms.symbols().iter().step_by(100).map(|symbol| symbol.address);
        let names = kernel
            .iter()
            .flat_map(|kernel| addresses.clone().filter_map(|address| kernel.name(address)));
        for name in names {
            assert!(name.symbol.bytes().all(|byte| byte.is_ascii_graphic()), "{name}");
        }
    }
}
