use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;

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
    Symbols::load(&files)
}

fn load(contents: &[u8]) -> Result<Symbols, SymbolsError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, contents).unwrap();
    load_files(&[file.path().to_str().unwrap()])
}

fn name(symbols: &Symbols, pc: u64) -> Option<String> {
    symbols.judge(&[]).name(pc, &[])
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
        (named, names.files().next().unwrap().1.map(str::to_owned))
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

/// A kernel's System.map: functions, a banner and a system call table.
fn kernel_map() -> String {
    let mut map = String::from("ffffffff81000000 T _stext\n");
    for call in 0..110u64 {
        let name = if call == 0 { "read".into() } else { format!("call{call}") };
        map += &format!("{:x} T __x64_sys_{name}\n", 0xffff_ffff_8100_1000 + call * call * 16);
    }
    map + "ffffffff81100000 T _etext\n\
           ffffffff81200040 D linux_banner\n\
           ffffffff81200200 D sys_call_table\n"
}

/// Physical memory that contains a relocated kernel.
#[derive(Clone)]
struct Ram(Vec<u8>);

const PHYSICAL: usize = 0x60_0000;
const LOAD_OFFSET: u64 = 0x1e0_0000;

impl Ram {
    fn new() -> Ram {
        let mut ram = Ram(vec![0; 0x100_0000]);
        ram.put(0x20_0040, b"Linux version 6.1");
        for call in 0..110u64 {
            let address = 0xffff_ffff_8100_1000 + call * call * 16 + LOAD_OFFSET;
            ram.put(0x20_0200 + call as usize * 8, &address.to_le_bytes());
        }
        ram.put(0x1004, &[0xee]);
        ram
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[PHYSICAL + at..][..bytes.len()].copy_from_slice(bytes);
    }
}

impl Memory for Ram {
    fn read(&self, physical: u64, bytes: &mut [u8]) -> bool {
        let there = self.0.get(physical as usize..).and_then(|rest| rest.get(..bytes.len()));
        there.is_some_and(|there| {
            bytes.copy_from_slice(there);
            true
        })
    }
}

#[test]
fn a_relocated_kernel_is_found_in_memory() {
    let mut symbols = load(kernel_map().as_bytes()).unwrap();
    let site = 0xffff_ffff_8100_1004 + LOAD_OFFSET;
    let problem = |names: &Names<'_>| names.files().next().unwrap().1.unwrap().to_owned();
    let names = symbols.judge(&[]);
    assert!(problem(&names).contains("does not let pvio read the guest's memory"));
    assert_eq!(names.name(site - LOAD_OFFSET, &[0xee]), None);

    symbols.set_memory(Some(Ram::new()));
    let names = symbols.judge(&[]);
    assert_eq!(names.files().next().unwrap().1, None);
    assert_eq!(names.name(site, &[0xee]).as_deref(), Some("__x64_sys_read+0x4"));
    assert_eq!(names.name(site, &[0xec]), None, "the kernel has other bytes there");
    assert_eq!(names.name(site - LOAD_OFFSET, &[0xee]), None);

    // Another kernel, in which one function has moved; then no kernel; then no memory.
    let mut other = Ram::new();
    other.put(0x20_0200 + 109 * 8, &0xffff_ffff_8100_1001u64.to_le_bytes());
    for other in [other, Ram(vec![0; 0x100_0000]), Ram(Vec::new())] {
        symbols.set_memory(Some(other));
        let names = symbols.judge(&[]);
        assert_eq!(names.name(site, &[0xee]), None);
        assert!(problem(&names).starts_with("no kernel in the guest's memory"));
    }
}

#[test]
fn a_site_that_two_kernels_name_differently_has_no_name() {
    let mut ram = Ram::new();
    let second = ram.0[PHYSICAL..PHYSICAL + 0x40_0000].to_vec();
    ram.put(0x40_0000, &second);
    for call in 0..110u64 {
        let address = 0xffff_ffff_8100_1000 + call * call * 16 + LOAD_OFFSET + 16;
        ram.put(0x60_0200 + call as usize * 8, &address.to_le_bytes());
    }
    ram.put(0x1014, &[0xee]);
    let mut symbols = load(kernel_map().as_bytes()).unwrap();
    symbols.set_memory(Some(ram));
    let names = symbols.judge(&[]);
    // Both kernels have this instruction there, but in different functions.
    assert_eq!(names.name(0xffff_ffff_8100_1014 + LOAD_OFFSET, &[0xee]), None);
    assert!(names.name(0xffff_ffff_8100_1004 + LOAD_OFFSET, &[0xee]).is_some());
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
    assert!(error(b"\x7fELF and no more").contains("broken ELF file"));
    let (mut own, _) = own();
    own[0x12..0x14].copy_from_slice(&183u16.to_le_bytes());
    assert!(error(&own).contains("for another processor"));
    let error = load_files(&["/nonexistent/vmlinux"]).err().unwrap().to_string();
    assert!(error.contains("cannot be read"), "{error}");
}
