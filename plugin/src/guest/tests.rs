//! A synthetic kernel is found with every layout. Broken tables do no harm.

mod unwinding;

use std::time::{Duration, Instant};

use super::synthetic_kernel::{
    BTF, FUNCTIONS, Guest, KERNEL_TABLE, OPTIONS, Options, SHAPES, STRIDE, USER_TABLE,
};

use super::{Kernel, Registers};

fn find(guest: &Guest) -> Option<Kernel> {
    Kernel::find(guest, &[guest.registers])
}

fn name(kernel: &Kernel, address: u64) -> Option<String> {
    kernel.name(address).map(|name| name.to_string())
}

fn assert_names(guest: &Guest, options: Options) {
    let kernel = find(guest).unwrap_or_else(|| panic!("{options:x?}"));
    let text = guest.text();
    let is = |address: u64, expected: Option<&str>| {
        assert_eq!(name(&kernel, address).as_deref(), expected, "{address:#x}: {options:x?}");
    };
    // It is in VMCOREINFO, and among the data.
    let has_release = options.has_info || options.has_data;
    assert_eq!(kernel.release(), has_release.then_some("6.9.9-test"));
    assert_eq!(kernel.stext(), text);
    is(text - 1, None);
    is(text, Some("_stext"));
    is(text + 1, Some("_stext+0x1"));
    for function in 1..FUNCTIONS {
        is(text + function * STRIDE, Some(&format!("function_{function}")));
    }
    is(text + FUNCTIONS * STRIDE - 1, Some(&format!("function_{}+0x1f", FUNCTIONS - 1)));
    is(text + FUNCTIONS * STRIDE, None);
    is(text + 0x8_0000 - 1, None);
    is(text + 0x8_0010, Some("_sinittext+0x10"));
    is(text + 0x8_0100, None);

    let module = guest.module_text();
    is(module, None);
    is(module + 0x3f, None);
    is(module + 0x40, Some("probe [driver]"));
    is(module + 0x7f, Some("probe+0x3f [driver]"));
    is(module + 0x80, Some("other [driver]"));
    is(module + 0xfff, Some("other+0xf7f [driver]"));
    is(module + 0x1000, None);
    is(module + 0x3000, None);
}

/// Every combination of layouts.
fn all_options() -> impl Iterator<Item = Options> {
    (0..64).map(|bits| Options {
        wide: bits & 1 != 0,
        has_info: bits & 2 != 0,
        has_mem: bits & 4 != 0,
        has_data: bits & 8 != 0,
        shape: SHAPES[bits >> 4],
        loads_modules: true,
    })
}

#[test]
fn every_shape_of_the_tables_is_read() {
    for options in all_options() {
        assert_names(&Guest::new(options), options);
    }
}

#[test]
fn a_list_of_modules_is_searched_only_if_the_kernel_loads_modules() {
    for (loads_modules, found) in [(true, Some("probe [driver]")), (false, None)] {
        let guest = Guest::new(Options { has_data: false, loads_modules, ..OPTIONS });
        let kernel = find(&guest).unwrap();
        assert_eq!(name(&kernel, guest.module_text() + 0x40).as_deref(), found);
    }
}

#[test]
fn a_kernel_is_found_in_user_mode_with_page_table_isolation() {
    for has_info in [true, false] {
        let options = Options { has_info, ..OPTIONS };
        let mut guest = Guest::new(options);
        guest.registers.cr3 = USER_TABLE | 0x801;
        assert_names(&guest, options);
    }
}

/// Without isolation, the page beside a process's table may be one that maps something else where the kernel is.
#[test]
fn the_page_beside_a_processs_table_does_not_matter() {
    const BESIDE: usize = 0x20_0000;
    const PROCESS: usize = BESIDE | 0x1000;
    for has_info in [true, false] {
        let options = Options { wide: false, has_info, has_data: false, ..OPTIONS };
        let mut guest = Guest::new(options);
        let own = KERNEL_TABLE as usize;
        guest.ram.copy_within(own..own + 0x1000, PROCESS);
        // The first 4 MiB of RAM in one page.
        let entry = 4 * (guest.text() >> 22) as usize;
        guest.ram[BESIDE + entry..][..4].copy_from_slice(&0xe3u32.to_le_bytes());
        guest.registers.cr3 = PROCESS as u64;
        assert_names(&guest, options);
        let kernel = find(&guest).unwrap();
        // The synthetic kernel does not tell its own table.
        assert_eq!(kernel.registers().cr3, PROCESS as u64);
        // Types begin so.
        assert_eq!(kernel.has_bytes(&guest, guest.text() + BTF, &[0x9f, 0xeb]), Some(true));
        let namer = kernel.module_namer().unwrap();
        let name = namer.name(&guest, guest.module_text() + 0x40);
        assert_eq!(name.as_deref(), Some("probe [driver]"));
    }
}

#[test]
fn types_that_pass_the_end_of_the_address_space_are_not_read() {
    let mut guest = Guest::new(OPTIONS);
    // The length of the types, and the place of the strings.
    guest.put_linear(guest.text() + BTF + 12, &[0xff; 8]);
    let kernel = find(&guest).unwrap();
    assert_eq!(name(&kernel, guest.text() + STRIDE).as_deref(), Some("function_1"));
}

#[test]
fn how_far_the_kernel_moved_is_what_it_says() {
    assert_eq!(find(&Guest::new(OPTIONS)).unwrap().kaslr_offset(), Some(0x1100_0000));
    let options = Options { has_info: false, ..OPTIONS };
    assert_eq!(find(&Guest::new(options)).unwrap().kaslr_offset(), None);
}

#[test]
fn a_kernel_that_nobody_runs_is_not_found() {
    let guest = Guest::new(OPTIONS);
    assert!(Kernel::find(&guest, &[]).is_none(), "no vCPU");
    let without_paging = Registers { cr0: 0x33, ..guest.registers };
    assert!(Kernel::find(&guest, &[without_paging]).is_none());
    let elsewhere = Registers { cr3: 0x20_0000, ..guest.registers };
    assert!(Kernel::find(&guest, &[elsewhere]).is_none());
    assert!(Kernel::find(&guest, &[without_paging, elsewhere, guest.registers]).is_some());
}

/// The text of VMCOREINFO.
fn page_of_info(guest: &Guest) -> String {
    let text = &guest.ram[0x10_0000..0x10_1000];
    String::from_utf8(text[..text.iter().position(|&byte| byte == 0).unwrap()].to_vec()).unwrap()
}

/// Another kernel may have left its VMCOREINFO in memory before a reset.
#[test]
fn vmcoreinfo_of_another_kernel_is_passed_over() {
    let mut guest = Guest::new(OPTIONS);
    let stale = page_of_info(&guest).replace("NUMBER(phys_base)=-", "NUMBER(phys_base)=-1");
    let stale = stale.replace("OSRELEASE=6.9.9-test", "OSRELEASE=6.0.0-stale");
    guest.ram[0xf_0000..0xf_0000 + stale.len()].copy_from_slice(stale.as_bytes());
    assert_names(&guest, OPTIONS);
}

/// Before 6.0, VMCOREINFO did not say where the symbols are.
#[test]
fn a_kernel_that_was_left_is_found_by_the_table_that_it_tells() {
    let old = |info: String| info.replace("SYMBOL(kallsyms_", "SYMBOL(other_");
    for (has_info, is_told) in [(true, true), (false, false)] {
        let mut guest = Guest::new(Options { has_info, ..OPTIONS });
        if has_info {
            let info = old(page_of_info(&guest));
            guest.ram[0x10_0000..0x10_0000 + info.len()].copy_from_slice(info.as_bytes());
        }
        // The table of a process that ended, and the one of the code that starts the next kernel.
        let (ended, next) = (0x20_0000, Registers { cr3: 0x21_0000, ..guest.registers });
        let tables = Kernel::left(&guest, &[next], &[ended]);
        assert_eq!(tables[0].cr3, ended);
        let found = tables.iter().any(|&table| Kernel::find(&guest, &[table]).is_some());
        assert_eq!(found, is_told);
    }
}

/// A 32-bit kernel may still be in memory, and mapped, while another runs.
#[test]
fn the_fixed_mappings_tell_a_kernel_from_the_one_before() {
    /// The same table, with its last entry to the table at 0x7000.
    const OTHER: usize = 0x20_0000;
    for has_info in [true, false] {
        let mut guest = Guest::new(Options { wide: false, has_info, ..OPTIONS });
        let own = KERNEL_TABLE as usize;
        guest.ram.copy_within(own..own + 0x1000, OTHER);
        let process = Registers { cr3: OTHER as u64, ..guest.registers };
        assert!(Kernel::find(&guest, &[process]).is_some(), "a process of this kernel");
        guest.ram[OTHER + 4 * 1023 + 1] = 0x70;
        assert!(Kernel::find(&guest, &[process]).is_none(), "of another");
    }
}

/// Random bytes are changed. Searching must still end soon, with printable names.
#[test]
fn broken_tables_do_no_harm() {
    let mut random = fastrand::Rng::with_seed(14);
    let mut found = 0;
    for round in 0..8 {
        for options in all_options() {
            let mut guest = Guest::new(options);
            for _ in 0..1 << random.u32(0..8) {
                let part = &guest.parts[random.usize(..guest.parts.len())];
                let at = random.usize(part.clone());
                let bytes = &mut guest.ram[at..at + 4];
                match random.u8(..4) {
                    0 => bytes[0] ^= 1 << random.u8(..8),
                    1 => bytes.fill(0xff),
                    2 => bytes.copy_from_slice(&random.u32(..).to_le_bytes()),
                    _ => bytes.fill(0),
                }
            }
            let start = Instant::now();
            let kernel = find(&guest);
            assert!(start.elapsed() < Duration::from_secs(5), "{round}: {options:?}");
            let Some(kernel) = kernel else { continue };
            found += 1;
            for _ in 0..100 {
                let near = [guest.text(), guest.module_text(), 0][random.usize(..3)];
                if let Some(name) = kernel.name(near.wrapping_add(random.u64(..0x10_0000))) {
                    assert!(name.symbol.bytes().all(|byte| byte.is_ascii_graphic()));
                }
            }
        }
    }
    assert!(found > 50, "{found} of them were read all the same");
}

/// Each count and length that a guest can choose has its worst value.
#[test]
fn claims_of_any_size_cost_little() {
    for options in all_options().filter(|options| options.wide && options.has_mem) {
        let guest = Guest::new(options);
        for part in guest.parts.clone().into_iter().filter(|part| part.len() > 16) {
            for value in [0x7f7f_7f7f, 600_000] {
                let mut guest = Guest::new(options);
                let end = part.end.min(part.start + 0x8000) & !3;
                for at in (part.start.next_multiple_of(4)..end).step_by(4) {
                    guest.ram[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
                }
                let start = Instant::now();
                let _ = find(&guest);
                assert!(start.elapsed() < Duration::from_secs(5), "{part:x?}: {options:?}");
            }
        }
    }
}
