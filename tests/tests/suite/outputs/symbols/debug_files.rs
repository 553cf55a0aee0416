//! `symbols=DIRECTORY`: separate debug files, found by build id, by `.gnu_debuglink` and for user code of Linux.

use std::path::{Path, PathBuf};
use std::process::Command;

use object::Object;
use pvio::stats::{SiteRow, Snapshot};
use pvio_cli::paths;
use pvio_tests::{
    Compiler, Host, LinuxGuest, assert_consistent, guest, on_both_qemus, path_str, refusal,
};

use super::elf_code::ElfCode;
use super::run_forms;

on_both_qemus! {
    stripped_file_is_named_by_the_debug_file_that_it_links
    stripped_file_is_named_by_the_debug_file_with_its_build_id
    user_code_is_named_by_build_id
}

/// A build id.
const BUILD_ID: [u8; 8] = [0xab, 0xcd, 1, 2, 3, 4, 5, 0xee];

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn objcopy(options: &[&str], from: &Path, to: &Path) {
    run(Command::new("objcopy").args(options).args([from, to]));
}

/// A directory with directories in it.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    /// The path of a file. Its directory is there.
    fn path(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn option(&self, name: &str) -> String {
        format!("symbols={}", path_str(&self.path(name)))
    }
}

/// Runs `forms`, and compares every name with the whole file.
fn names_all(host: &Host, options: &[&str]) -> Snapshot {
    let stats = run_forms(host, options).stats().unwrap().clone();
    assert!(stats.sites.iter().all(|site| site.symbol.is_some()));
    let elf = ElfCode::read(&guest("forms.elf"));
    stats.sites.iter().for_each(|site| elf.check(site));
    assert!(stats.symbol_files.iter().all(|file| file.problem.is_none()));
    stats
}

/// The one line that refuses an option.
fn refused(host: &Host, options: &[&str]) -> String {
    refusal(&run_forms(host, options))
}

fn stripped_file_is_named_by_the_debug_file_that_it_links(host: &Host) {
    let files = Files::new();
    let (debug, stripped) = (files.path("debug/sub/forms.debug"), files.path("forms"));
    objcopy(&["--only-keep-debug"], &guest("forms.elf"), &debug);
    let link = format!("--add-gnu-debuglink={}", debug.display());
    objcopy(&["--strip-all", &link], &guest("forms.elf"), &stripped);
    let (file, directory) = (files.option("forms"), files.option("debug"));
    let stats = names_all(host, &[&file, &directory]);
    assert!(stats.sites.iter().all(|site| site.named_by == Some(path_str(&stripped))));
    let paths: Vec<&str> = stats.symbol_files.iter().map(|file| &*file.file).collect();
    assert_eq!(paths, [path_str(&stripped), path_str(&debug)]);

    let line = refused(host, &[&file]);
    assert!(line.contains("is an ELF file without symbols of code; name one"), "{line}");
    std::fs::create_dir(files.path("empty")).unwrap();
    let line = refused(host, &[&file, &files.option("empty")]);
    assert!(line.contains("no directory of symbols= has its debug file"), "{line}");
    // Another build of it.
    let mut bytes = std::fs::read(&debug).unwrap();
    bytes.push(0);
    std::fs::write(&debug, bytes).unwrap();
    let line = refused(host, &[&file, &directory]);
    let wrong = format!("{} is not the debug file of {}", debug.display(), stripped.display());
    assert!(line.contains(&wrong), "{line}");
}

fn stripped_file_is_named_by_the_debug_file_with_its_build_id(host: &Host) {
    let files = Files::new();
    // A note named "GNU\0": the sizes of name and contents, the kind, the name, the contents.
    let with_id = |id: &[u8; 8], name: &str| {
        let note = [&[4u8, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0][..], b"GNU\0", id].concat();
        std::fs::write(files.path("note"), note).unwrap();
        let section = format!(".note.gnu.build-id={}", files.path("note").display());
        objcopy(&["--add-section", &section], &guest("forms.elf"), &files.path(name));
    };
    with_id(&BUILD_ID, "whole");
    let layout = files.path("debug/.build-id/ab/cd0102030405ee.debug");
    objcopy(&["--only-keep-debug"], &files.path("whole"), &layout);
    objcopy(&["--strip-all"], &files.path("whole"), &files.path("forms"));
    let (file, directory) = (files.option("forms"), files.option("debug"));
    names_all(host, &[&file, &directory]);
    names_all(host, &[&directory, &file]);
    // A plain file anywhere, with any name.
    std::fs::rename(&layout, files.path("debug/deep/er/any name")).unwrap();
    let stats = names_all(host, &[&file, &directory]);
    let found = files.path("debug/deep/er/any name");
    assert_eq!(stats.symbol_files[1].file, path_str(&found));
    // A file in the right place with another build id.
    with_id(&[0xab, 0xcd, 9, 9, 9, 9, 9, 9], "other");
    objcopy(&["--only-keep-debug"], &files.path("other"), &layout);
    let line = refused(host, &[&file, &directory]);
    let wrong = format!("{} is not the debug file of", layout.display());
    assert!(line.contains(&wrong), "{line}");
}

fn user_code_is_named_by_build_id(host: &Host) {
    let files = Files::new();
    let (whole, stripped) = (files.path("task.whole"), files.path("task"));
    let source = paths::repository().join("tests/guests/linux/task.c");
    // The first page, with the note, is a page of code.
    let flags = "-g -O2 -ffreestanding -fno-stack-protector -nostdlib -static-pie -fPIE -Wl,--build-id \
                 -Wl,-z,noseparate-code -o";
    let mut arguments: Vec<&str> = flags.split_whitespace().collect();
    let (to, from) = (path_str(&whole), path_str(&source));
    arguments.extend([&*to, &from]);
    Compiler::gcc().compile(&arguments);
    objcopy(&["--strip-all"], &whole, &stripped);
    objcopy(&["--only-keep-debug"], &whole, &files.path("debug/task.debug"));
    let program = std::fs::read(&stripped).unwrap();
    let boot = |symbols: &[&str]| {
        let linux = LinuxGuest::new("/prog 30", &[("prog", &program)]).unwrap();
        let options = [&["device=latch@0x300", "processes=on", "symbols=guest"], symbols].concat();
        let ended = linux.on(host.machine().plugin(&options)).run().unwrap();
        assert!(ended.status.success(), "{}", ended.stderr);
        let stats = ended.stats().unwrap().clone();
        assert_consistent(&stats);
        stats
    };
    let named = |stats: &Snapshot| {
        let ours = stats.sites.iter().filter(|row| row.file.as_deref() == Some("/prog"));
        let name = |row: &SiteRow| row.symbol.clone().zip(row.named_by.clone());
        ours.map(name).collect::<Vec<_>>()
    };
    let expected = |by: &Path| {
        let name = |symbol: &str| Some((symbol.to_owned(), path_str(by)));
        vec![name("out_site"), name("in_site")]
    };
    let stats = boot(&[&files.option("debug")]);
    assert_eq!(named(&stats), expected(&files.path("debug/task.debug")));
    // A file with another name names it by the same build id, and one with the same name and another id does not.
    let stats = boot(&[&files.option("task.whole")]);
    assert_eq!(named(&stats), expected(&whole));
    objcopy(&["--remove-section", ".note.gnu.build-id"], &whole, &files.path("plain/prog"));
    let note = files.path("note");
    objcopy(&["-O", "binary", "--only-section", ".note.gnu.build-id"], &whole, &note);
    let mut bytes = std::fs::read(&note).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&note, bytes).unwrap();
    let update = format!(".note.gnu.build-id={}", note.display());
    objcopy(&["--update-section", &update], &whole, &files.path("prog"));
    // Neither does a file that is in the place of that build id.
    let id = object::File::parse(&*program).unwrap().build_id().unwrap().unwrap().to_vec();
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let place = files.path(&format!("wrong/.build-id/{}/{}.debug", &id[..2], &id[2..]));
    objcopy(&["--only-keep-debug"], &files.path("prog"), &place);
    let stats = boot(&[&files.option("prog"), &files.option("wrong")]);
    assert_eq!(named(&stats), [None, None]);
    let file = stats.symbol_files.iter().find(|file| file.file == path_str(&place)).unwrap();
    let problem = file.problem.as_deref().unwrap();
    assert!(problem.starts_with(&format!("its build id is not {id}, so its names are not used")));
    let stats = boot(&[&files.option("plain/prog")]);
    assert_eq!(named(&stats), expected(&files.path("plain/prog")));
}
