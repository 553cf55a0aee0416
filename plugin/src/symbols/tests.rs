use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;
use crate::guest::synthetic_kernel::{self, FUNCTIONS, Guest, STRIDE};

const MAP: &str = "\
ffffffff81000000 T startup_64
ffffffff81000050 t outb
ffffffff81000050 T native_outb
ffffffff81000060 D a_table
ffffffff81000080 T last
ffffffff81000100 T _etext
ffffffff81800000 t far_from_the_next
ffffffffc0000000 t in_a_module\t[module]
";

fn load_files(texts: &[&str]) -> Result<Symbols, SymbolsError> {
    let files: Vec<_> = texts.iter().map(|text| GuestFile::parse(text).unwrap()).collect();
    Symbols::load(&files, &[], false)
}

fn load(contents: &[u8]) -> Result<Symbols, SymbolsError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, contents).unwrap();
    load_files(&[file.path().to_str().unwrap()])
}

fn name(symbols: &Symbols, pc: u64) -> Option<String> {
    symbol(&symbols.judge(&[]), pc, &[])
}

fn symbol(names: &Names<'_>, pc: u64, bytes: &[u8]) -> Option<String> {
    names.name(pc, bytes).map(|name| name.symbol)
}

#[test]
fn a_system_map_names_code_and_only_code() {
    for text in [MAP.to_owned(), format!("\u{feff}{MAP}"), MAP.replace('\n', "\r\n")] {
        let symbols = load(text.as_bytes()).unwrap();
        let name = |pc| name(&symbols, pc);
        assert_eq!(name(0xffff_ffff_8100_0000).as_deref(), Some("startup_64"));
        assert_eq!(name(0xffff_ffff_8100_0051).as_deref(), Some("outb+0x1"));
        assert_eq!(name(0xffff_ffff_8100_0061), None, "inside a_table");
        assert_eq!(name(0xffff_ffff_8100_00ff).as_deref(), Some("last+0x7f"));
        assert_eq!(name(0xffff_ffff_8100_0100), None, "_etext ends code");
        assert_eq!(name(0xffff_ffff_8180_0fff).as_deref(), Some("far_from_the_next+0xfff"));
        assert_eq!(name(0xffff_ffff_8180_1000), None, "beyond its page");
        assert_eq!(name(0xffff_ffff_c000_0000), None, "a module's address changes in each boot");
        assert_eq!(name(0x1000), None);
    }
}

#[test]
fn a_load_address_moves_every_symbol_of_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "1000 T main\n").unwrap();
    let text = format!("{}@0x400000", file.path().display());
    let symbols = load_files(&[&text]).unwrap();
    assert_eq!(name(&symbols, 0x40_1004).as_deref(), Some("main+0x4"));
    assert_eq!(name(&symbols, 0x1004), None);
}

#[test]
fn the_first_file_that_names_an_address_wins() {
    let file = |contents: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, contents).unwrap();
        file
    };
    let (first, second) = (file("1000 T a\n1010 D data\n"), file("1008 T b\n1020 T c\n"));
    let symbols = load_files(&[&first, &second].map(|file| file.path().to_str().unwrap())).unwrap();
    let names = [0x1000, 0x100c, 0x1014, 0x1020].map(|pc| name(&symbols, pc).unwrap());
    assert_eq!(names, ["a", "a+0xc", "b+0xc", "c"]);
}

#[test]
fn nm_output_is_read_as_a_map() {
    let symbols = load(b"\n                 U printf\n0000000000001000 T main\n").unwrap();
    assert_eq!(name(&symbols, 0x1004).as_deref(), Some("main+0x4"));
}

#[test]
fn control_characters_in_names_are_replaced() {
    let symbols = load("0000000000001000 T \u{1b}[31mred\n".as_bytes()).unwrap();
    assert_eq!(name(&symbols, 0x1000).as_deref(), Some("\u{fffd}[31mred"));
}

/// The bytes of this program, with the addresses and bytes of some of its functions.
fn own() -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
    use object::{Object, ObjectSection, ObjectSymbol};
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let file = object::File::parse(&*own).unwrap();
    let text = file.section_by_name(".text").unwrap();
    let functions = file
        .symbols()
        .filter(|symbol| symbol.section_index() == Some(text.index()) && symbol.size() > 16);
    let functions = functions.take(50).map(|symbol| {
        let bytes = text.data_range(symbol.address(), 8).unwrap().unwrap();
        (symbol.address(), bytes.to_vec())
    });
    let functions = functions.collect();
    (own, functions)
}

#[test]
fn an_elf_file_names_only_sites_with_its_own_bytes() {
    let (own, functions) = own();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, own).unwrap();
    let path = file.path().to_str().unwrap();
    let error = load_files(&[path]).err().unwrap().to_string();
    assert!(error.contains(&format!("write symbols={path}@ADDRESS")), "{error}");

    let base = 0x5555_0000_0000;
    let symbols = load_files(&[&format!("{path}@{base:#x}")]).unwrap();
    let judged = |broken: usize| {
        let mut sites: Vec<_> =
            functions.iter().map(|(address, bytes)| (address + base, bytes.clone())).collect();
        sites.iter_mut().take(broken).for_each(|(_, bytes)| bytes[7] ^= 1);
        let borrowed: Vec<_> = sites.iter().map(|(pc, bytes)| (*pc, &bytes[..])).collect();
        let names = symbols.judge(&borrowed);
        let named = borrowed.iter().filter(|(pc, bytes)| names.name(*pc, bytes).is_some()).count();
        (named, names.files().next().unwrap().1)
    };
    assert_eq!(judged(0), (50, None));
    let (named, problem) = judged(1);
    assert_eq!(named, 49);
    assert!(problem.unwrap().starts_with("1 of the 50 sites at its addresses has other"));
    // If most sites differ, the others may match by chance.
    let (named, problem) = judged(26);
    assert_eq!(named, 0);
    assert!(
        problem
            .unwrap()
            .contains("its names are not used; name the file of the code that runs there")
    );
}

/// A kernel in memory, and where its code is.
fn kernel_in_memory() -> (Guest, u64) {
    let guest = Guest::of_this_time();
    let text = guest.text();
    (guest, text)
}

/// The load offset of the kernel in memory relative to `kernel_map`.
const MOVED: u64 = 0x1100_0000;

/// The System.map of the kernel in memory, which was linked elsewhere.
fn kernel_map(text: u64) -> String {
    let line = |(address, kind, name)| format!("{:x} {kind} {name}\n", address - MOVED);
    synthetic_kernel::symbols(text, true).into_iter().map(line).collect()
}

/// Reads a file of symbols, and looks for the kernel in this memory.
fn judged_in(map: &str, guest: Guest) -> Symbols {
    let mut symbols = load(map.as_bytes()).unwrap();
    let registers = guest.registers;
    symbols.set_kernels(GuestKernels::of(guest, registers));
    symbols
}

fn problem(names: &Names<'_>) -> Option<String> {
    names.files().next().unwrap().1
}

#[test]
fn the_file_of_the_kernel_that_runs_names_it_where_it_is() {
    let (mut guest, text) = kernel_in_memory();
    let site = text + 7 * STRIDE + 4;
    guest.put_linear(site, &[0xee]);
    let symbols = judged_in(&kernel_map(text), guest);
    let names = symbols.judge(&[]);
    assert_eq!(problem(&names), None);
    assert_eq!(symbol(&names, site, &[0xee]).as_deref(), Some("function_7+0x4"));
    assert_eq!(names.name(site, &[0xec]), None, "the kernel has other bytes there");
    assert_eq!(names.name(site - MOVED, &[0xee]), None);
    // Code that only the start needs is freed.
    assert_eq!(symbol(&names, text + 0x8_0010, &[0xee]).as_deref(), Some("_sinittext+0x10"));
    // Without the option the kernel does not name what the file does not.
    assert_eq!(names.name(text + 0x10_0000, &[0xee]), None);
    assert_eq!(names.name(names_module(text), &[0]), None);
}

/// An address of code in the module.
fn names_module(text: u64) -> u64 {
    assert_eq!(text, Guest::of_this_time().text());
    Guest::of_this_time().module_text() + 0x44
}

#[test]
fn the_file_of_another_kernel_names_nothing() {
    let (_, text) = kernel_in_memory();
    let site = (text + 7 * STRIDE + 4, &[0u8][..]);
    let other = |map: &str| {
        let symbols = judged_in(map, kernel_in_memory().0);
        let names = symbols.judge(&[site]);
        assert_eq!(names.name(site.0, site.1), None);
        problem(&names).unwrap()
    };
    // From one function on, everything is 16 bytes later.
    let later = |(address, kind, name)| {
        let is_after = (text + 2900 * STRIDE..text + FUNCTIONS * STRIDE).contains(&address);
        format!("{:x} {kind} {name}\n", address - MOVED + if is_after { 16 } else { 0 })
    };
    let later: String = synthetic_kernel::symbols(text, true).into_iter().map(later).collect();
    assert_eq!(
        other(&later),
        "it does not describe the kernel that runs in the guest (6.9.9-test), so its names are not used; name the \
         file of that kernel"
    );
    let few = "ffffffff81000000 T _stext\nffffffff81000100 T read\nffffffff82000000 T _etext\n";
    assert!(other(few).starts_with("it does not describe the kernel that runs"));
}

#[test]
fn a_function_that_the_kernel_has_elsewhere_is_not_named() {
    let (_, text) = kernel_in_memory();
    let moved = |(address, kind, name)| {
        let by = if name == "function_7" || name == "function_8" { 1 } else { 0 };
        format!("{:x} {kind} {name}\n", address - MOVED + by)
    };
    let map: String = synthetic_kernel::symbols(text, true).into_iter().map(moved).collect();
    let symbols = judged_in(&map, kernel_in_memory().0);
    let names = symbols.judge(&[]);
    assert_eq!(problem(&names), None);
    assert_eq!(names.name(text + 7 * STRIDE + 4, &[0]), None);
    assert_eq!(symbol(&names, text + 9 * STRIDE + 4, &[0]).as_deref(), Some("function_9+0x4"));
}

#[test]
fn the_files_of_no_kernel_and_of_one_that_cannot_be_seen_say_so() {
    let (guest, text) = kernel_in_memory();
    let map = kernel_map(text);
    let site = (text - MOVED + 7 * STRIDE, &[0u8][..]);
    let unread = load(map.as_bytes()).unwrap();
    let names = unread.judge(&[site]);
    assert!(problem(&names).unwrap().starts_with("this QEMU does not let pvio read"));
    assert_eq!(names.name(site.0, site.1), None);

    let mut symbols = load(map.as_bytes()).unwrap();
    let without_paging = crate::guest::Registers { cr0: 0x33, ..guest.registers };
    symbols.set_kernels(GuestKernels::of(guest, without_paging));
    let names = symbols.judge(&[site]);
    let text = problem(&names).unwrap();
    assert!(text.starts_with("no Linux kernel with a symbol table"), "{text}");
    assert!(text.ends_with("@0"), "{text}");
    assert_eq!(names.name(site.0, site.1), None);
}

#[test]
fn an_address_at_which_the_kernel_is_not_is_refused() {
    let (guest, text) = kernel_in_memory();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, kernel_map(text)).unwrap();
    let mut symbols = load_files(&[&format!("{}@0x1000000", file.path().display())]).unwrap();
    let registers = guest.registers;
    symbols.set_kernels(GuestKernels::of(guest, registers));
    let said = problem(&symbols.judge(&[])).unwrap();
    assert!(
        said.starts_with("the kernel that runs has moved by 0x11000000, not by 0x1000000"),
        "{said}"
    );
}

#[test]
fn a_large_sparse_file_is_not_read_whole() {
    let (mut own, _) = own();
    // Move the section table to 4 GiB.
    let at = u64::from_le_bytes(own[0x28..0x30].try_into().unwrap());
    let sections = own.split_off(at as usize);
    let end = 4 << 30;
    own[0x28..0x30].copy_from_slice(&u64::to_le_bytes(end));
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(&own, 0).unwrap();
    file.as_file().write_all_at(&sections, end).unwrap();
    let began = std::time::Instant::now();
    load_files(&[&format!("{}@0", file.path().display())]).unwrap();
    assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
}

#[test]
fn oversized_tables_are_rejected() {
    let (mut own, _) = own();
    let at = u64::from_le_bytes(own[0x28..0x30].try_into().unwrap()) as usize;
    let count = u16::from_le_bytes(own[0x3c..0x3e].try_into().unwrap()) as usize;
    let mut tables = (0..count).map(|section| at + section * 64);
    let symbols = tables.find(|&at| own[at + 4..at + 8] == [2, 0, 0, 0]).unwrap();
    own[symbols + 32..symbols + 40].copy_from_slice(&u64::to_le_bytes(24 << 30));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, own).unwrap();
    File::options().write(true).open(&file).unwrap().set_len(64 << 30).unwrap();
    let error = load_files(&[&format!("{}@0", file.path().display())]).err().unwrap();
    assert!(error.to_string().contains("more symbols or sections than pvio reads"), "{error}");
}

#[test]
fn errors_of_other_files_name_the_remedy() {
    let error = |contents: &[u8]| load(contents).err().unwrap().to_string();
    assert!(error(b"hello, world\n").contains("neither an ELF file nor a System.map"));
    assert!(error(b"").contains("neither an ELF file nor a System.map"));
    assert!(error(b"MZ\xea\x07\x00\xc0\x07").contains("not vmlinuz"));
    assert!(error(&[0; 100_000]).contains("not vmlinuz"));
    assert!(error(b"0000000000000000 T _text\n0000000000000000 t a\n").contains("read it as root"));
    assert!(error(b"1000 D data\n").contains("neither an ELF file nor a System.map"));
    assert!(error(b"\x7fELF and no more").contains("damaged ELF file"));
    let (mut own, _) = own();
    own[0x12..0x14].copy_from_slice(&183u16.to_le_bytes());
    assert!(error(&own).contains("for another processor"));
    let error = load_files(&["/nonexistent/vmlinux"]).err().unwrap().to_string();
    assert!(error.contains("cannot be read"), "{error}");
}
