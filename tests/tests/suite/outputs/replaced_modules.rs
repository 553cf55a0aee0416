//! Kernel modules that are loaded where others were, with the same code: no site gets the name of another module.

use object::{Object, ObjectSection, ObjectSymbol};
use pvio::stats::SiteRow;
use pvio_cli::paths;
use pvio_tests::{Host, LinuxGuest, assert_consistent, on_both_qemus, site_pc};

use super::kernel_boots::Files;

on_both_qemus! {
    a_module_in_the_place_of_another_with_the_same_code_names_none_of_its_sites
    a_module_that_is_loaded_again_keeps_its_name
}

/// Changes the named function of a module to this code.
pub(super) fn patch(module: &mut [u8], function: &str, code: &[u8]) {
    /// `endbr64`, and then the call for tracers.
    const ENDBR: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
    const CALL: u8 = 0xe8;
    let at = {
        let file = object::File::parse(&*module).unwrap();
        let function = file.symbol_by_name(function).expect("a function of every module");
        let section = file.section_by_index(function.section_index().unwrap()).unwrap();
        (section.file_range().unwrap().0 + function.address()) as usize
    };
    let at = at + if module[at..].starts_with(&ENDBR) { ENDBR.len() } else { 0 };
    let at = at + if module[at] == CALL { 5 } else { 0 };
    module[at..at + code.len()].copy_from_slice(code);
}

/// Hides the signature of a module, which does not fit any more.
pub(super) fn without_signature(module: &mut Vec<u8>) {
    const SIGNATURE_MARK: &[u8] = b"~Module signature appended~\n";
    if module.ends_with(SIGNATURE_MARK) {
        module.truncate(module.len() - SIGNATURE_MARK.len());
    }
}

/// Debian's module `ata_generic` under another name of the same length. When it is loaded, it does nothing. When it is
/// unloaded, it writes port 0x80.
fn module(name: &str) -> Vec<u8> {
    const NAME: &[u8] = b"ata_generic\0";
    let path = paths::linux_modules(&[]).unwrap().join("ata_generic.ko");
    let mut module = std::fs::read(path).unwrap();
    without_signature(&mut module);
    // xor eax,eax; ret
    patch(&mut module, "init_module", &[0x31, 0xc0, 0xc3]);
    // out 0x80,al; ret
    patch(&mut module, "cleanup_module", &[0xe6, 0x80, 0xc3]);
    let file = object::File::parse(&*module).unwrap();
    let section = file.section_by_name(".gnu.linkonce.this_module").unwrap();
    let (start, size) = section.file_range().unwrap();
    let structure = start as usize..(start + size) as usize;
    let place = module[structure.clone()].windows(NAME.len()).position(|at| at == NAME).unwrap();
    assert_eq!(name.len() + 1, NAME.len());
    module[structure][place..][..name.len()].copy_from_slice(name.as_bytes());
    module
}

/// The names under which the module is loaded.
const NAMES: [&str; 3] = ["ata_generia", "ata_generib", "ata_generic"];

struct Run {
    /// The sites of instructions that write port 0x80 in a module.
    sites: Vec<SiteRow>,
    /// The symbols of these sites' lines in the access log, in order.
    logged: Vec<String>,
    console: String,
}

/// Boots Linux, loads and unloads modules, and powers off.
fn run(host: &Host, commands: &str) -> Run {
    let files = Files::new();
    let where_it_is = "echo at $(grep -o '^ata_generi. .*0x.*' /proc/modules)\n";
    let commands: String = commands
        .split_whitespace()
        .map(|word| match word.split_at(1) {
            ("+", letter) => format!("insmod /ata_generi{letter}.ko && {where_it_is}"),
            (_, letter) => format!("rmmod ata_generi{letter}\n"),
        })
        .collect();
    let script =
        ["for module in scsi_common scsi_mod libata; do insmod /$module.ko; done\n", &commands];
    let modules = NAMES.map(|name| (format!("{name}.ko"), module(name)));
    let modules: Vec<(&str, &[u8])> =
        modules.iter().map(|(name, module)| (name.as_str(), module.as_slice())).collect();
    let mut linux = LinuxGuest::with_files(&[], &script.concat(), &modules).unwrap();
    let log = files.path("log");
    let option = format!("access-log={}:0x80:out", log.display());
    let machine = host.machine().plugin(&[&option, "callers=on"]);
    let ended = files.machine(&mut linux, machine).run().unwrap();
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let is_in_module = |pc: &str| pc.starts_with("0xffffffffc");
    let sites = stats.sites.iter().filter(|site| is_in_module(&site.pc) && site.bytes == "e680");
    let log = std::fs::read_to_string(log).unwrap();
    let symbol = |line: &str| {
        let mut parts = line.split('\t');
        let pc = parts.next()?.split_whitespace().nth(2)?.to_owned();
        is_in_module(&pc).then(|| parts.next().unwrap().to_owned())
    };
    Run {
        sites: sites.cloned().collect(),
        logged: log.lines().filter_map(symbol).collect(),
        console: files.console(),
    }
}

impl Run {
    /// The letter and the address of each module, in the order in which they were loaded.
    fn loaded(&self) -> Vec<(char, u64)> {
        let lines = self.console.lines().filter_map(|line| line.strip_prefix("at ata_generi"));
        let parse = |line: &str| {
            let address = line.split_whitespace().find_map(|word| word.strip_prefix("0xff"));
            let address = format!("ff{}", address.unwrap());
            (line.chars().next().unwrap(), u64::from_str_radix(&address, 16).unwrap())
        };
        lines.map(parse).collect()
    }

    /// The site at the address of the last module, and the letters of the modules that ran it there.
    fn last_site(&self) -> (&SiteRow, Vec<char>) {
        let loaded = self.loaded();
        let (&(_, last), before) = loaded.split_last().unwrap();
        let ran = before.iter().filter(|&&(_, address)| address == last).map(|&(letter, _)| letter);
        let is_there = |site: &&SiteRow| (last..last + 0x1000).contains(&site_pc(site));
        let sites: Vec<_> = self.sites.iter().filter(is_there).collect();
        let [site] = sites[..] else { panic!("{:?}\n{}", self.sites, self.console) };
        (site, ran.collect())
    }

    /// Checks that each line of the log names the module that was loaded then.
    fn check_log(&self) {
        let loaded = self.loaded();
        let unloaded = &loaded[..loaded.len() - 1];
        assert_eq!(self.logged.len(), unloaded.len(), "{}", self.console);
        for (symbol, (letter, _)) in self.logged.iter().zip(unloaded) {
            assert!(symbol.ends_with(&format!(" [ata_generi{letter}]")), "{:?}", self.logged);
        }
    }
}

fn a_module_in_the_place_of_another_with_the_same_code_names_none_of_its_sites(host: &Host) {
    // At the latest from the second on, the kernel puts them at one address. The instruction of the last does not run.
    let run = run(host, "+a -a +a -a +b -b +c");
    run.check_log();
    let (site, ran) = run.last_site();
    assert!(ran.ends_with(&['a', 'b']), "{}", run.console);
    assert_eq!((site.counts.executions, &site.symbol), (ran.len() as u64, &None));
}

fn a_module_that_is_loaded_again_keeps_its_name(host: &Host) {
    let run = run(host, "+a -a +a -a +a -a +a");
    run.check_log();
    let (site, ran) = run.last_site();
    assert!(ran.len() >= 2, "{}", run.console);
    let expected = (ran.len() as u64, &Some(run.logged[0].clone()));
    assert_eq!((site.counts.executions, &site.symbol), expected);
}
