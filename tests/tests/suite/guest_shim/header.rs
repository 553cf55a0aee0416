//! `guest-shim/include/pvio.h`: its numbers are those of `pvio_guest::abi`, it compiles wherever it
//! says so, and what comes out is the instruction that the ABI names.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::Command;

use pvio_guest::abi::{self, Mailbox, Record, call, feature, level, status};
use pvio_scripts::places;
use tempfile::TempDir;

/// Where the compiler comes from, if it is missing.
struct Compiler {
    name: String,
    package: &'static str,
}

impl Compiler {
    fn gcc() -> Compiler {
        let cc = std::env::var("CC").ok().filter(|cc| !cc.trim().is_empty());
        Compiler { name: cc.unwrap_or_else(|| "cc".to_owned()), package: "gcc" }
    }

    fn named(name: &str, package: &'static str) -> Compiler {
        Compiler { name: name.to_owned(), package }
    }

    /// Compiles, in the hope that nothing is said about it.
    fn compile(&self, arguments: &[&str]) {
        // CC may be a command with arguments.
        let mut words = self.name.split_whitespace();
        let output = Command::new(words.next().expect("a name"))
            .args(words)
            .args(["-I", &path_str(&places::repository().join("guest-shim/include"))])
            .args(arguments)
            .output()
            .unwrap_or_else(|error| {
                panic!("{}: {error}: Debian's package {} brings it", self.name, self.package)
            });
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {}: {said}", self.name, arguments.join(" "));
        assert_eq!(said, "", "{} {}", self.name, arguments.join(" "));
    }
}

fn path_str(path: &Path) -> String {
    path.to_str().expect("paths here have plain names").to_owned()
}

fn source(name: &str) -> String {
    path_str(&places::repository().join("tests/tests/suite/guest_shim/header").join(name))
}

fn scratch() -> (TempDir, impl Fn(&str) -> PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    (directory, move |name: &str| path.join(name))
}

fn output_of(program: &Path) -> String {
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success(), "{}: {}", program.display(), output.status);
    String::from_utf8(output.stdout).unwrap()
}

// ---- Numbers ----

macro_rules! constants {
    ($($prefix:literal $module:ident { $($name:ident)* })*) => {
        [$($((concat!($prefix, stringify!($name)), $module::$name as u64)),*),*]
    };
}

/// What `abi.rs` defines, by the header's names.
fn abi_constants() -> BTreeMap<String, u64> {
    let all = constants! {
        "PVIO_" abi { VERSION UNHEARD CALL_SHIFT OPERAND_SHIFT DATA_MASK LOG_MAX NAME_MAX WINDOWS_MAX
            DUMPS_MAX ELEMENTS_MAX RECORD_PENDING }
        "PVIO_CALL_" call { PROBE INB INW INL OUTB OUTW OUTL INSB INSW INSL OUTSB OUTSW OUTSL BATCH
            REGISTER RELEASE EXIT LOG BEGIN END RESET DUMP }
        "PVIO_FEATURE_" feature { EVERY_PORT MEMORY MAILBOX }
        "PVIO_LEVEL_" level { ERROR WARNING INFO DEBUG }
        "PVIO_STATUS_" status { OK DECLINED PAGE DENIED UNKNOWN ADDRESS ARGUMENT LENGTH STATE FULL
            FAILED }
    };
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The names of the constants in the text of `abi.rs`, by the header's names: what the list above
/// cannot forget.
fn names_in_abi() -> Vec<String> {
    let text = std::fs::read_to_string(places::repository().join("guest-shim/src/abi.rs")).unwrap();
    let mut prefix = "PVIO_".to_owned();
    let mut names = Vec::new();
    for line in text.lines() {
        if let Some(module) = line.strip_prefix("pub mod ") {
            prefix = format!("PVIO_{}_", module.trim_end_matches(" {").to_uppercase());
        } else if line == "}" {
            prefix = "PVIO_".to_owned();
        } else if let Some((name, _)) = line
            .trim_start()
            .strip_prefix("pub const ")
            .and_then(|constant| constant.split_once(": "))
            .filter(|(name, _)| !name.starts_with("fn "))
        {
            names.push(format!("{prefix}{name}"));
        }
    }
    names.sort_unstable();
    names
}

/// The macros of the header that stand for numbers.
fn names_in_header() -> Vec<String> {
    let header = places::repository().join("guest-shim/include/pvio.h");
    let text = std::fs::read_to_string(header).unwrap();
    let number = |line: &str| -> Option<String> {
        let (name, value) = line.strip_prefix("#define ")?.split_once(' ')?;
        let value = value.trim_start();
        (value.starts_with(|first: char| first.is_ascii_digit()) && name.starts_with("PVIO_"))
            .then(|| name.to_owned())
    };
    let mut names: Vec<String> = text.lines().filter_map(number).collect();
    names.sort_unstable();
    names
}

/// The instructions: those by registers, then the mailbox's.
const MAGIC: [(&str, &[u8]); 9] = [
    ("PVIO_MAGIC_16", &abi::MAGIC_16),
    ("PVIO_MAGIC_32", &abi::MAGIC_32),
    ("PVIO_MAGIC_64", &abi::MAGIC_64),
    ("PVIO_DOORBELL_16", &abi::DOORBELL_16),
    ("PVIO_DOORBELL_32", &abi::DOORBELL_32),
    ("PVIO_DOORBELL_64", &abi::DOORBELL_64),
    ("PVIO_REGISTER_MAILBOX_16", &abi::REGISTER_MAILBOX_16),
    ("PVIO_REGISTER_MAILBOX_32", &abi::REGISTER_MAILBOX_32),
    ("PVIO_REGISTER_MAILBOX_64", &abi::REGISTER_MAILBOX_64),
];

/// What functions return where nobody answers; no answer has it.
const NOT_ON_THE_WIRE: (&str, u64) =
    ("PVIO_STATUS_UNHEARD", (abi::UNHEARD >> abi::CALL_SHIFT) as u64);

#[test]
fn the_numbers_are_those_of_the_abi() {
    let constants = abi_constants();
    let magic = MAGIC.map(|(name, _)| name.to_owned());
    let mut listed: Vec<String> = constants.keys().cloned().chain(magic.clone()).collect();
    listed.sort_unstable();
    assert_eq!(names_in_abi(), listed, "abi.rs has what this test knows");
    listed.push(NOT_ON_THE_WIRE.0.to_owned());
    listed.sort_unstable();
    assert_eq!(names_in_header(), listed, "the header has what abi.rs has");

    let mut program = "#include <stdio.h>\n#include <pvio.h>\nint main(void) {\n".to_owned();
    for name in constants.keys().map(String::as_str).chain([NOT_ON_THE_WIRE.0]) {
        program += &format!("printf(\"{name} %llu\\n\", (unsigned long long){name});\n");
    }
    for name in &magic {
        program += &format!(
            "{{ static const unsigned char bytes[] = {{{name}}};
            printf(\"{name}\");
            for (size_t i = 0; i < sizeof bytes; i++) printf(\" %02x\", bytes[i]);
            printf(\"\\n\"); }}\n"
        );
    }
    for (name, fields) in [
        ("pvio_record", &["call", "status", "port", "value", "address"][..]),
        ("pvio_mailbox", &["word", "value", "key"]),
    ] {
        program += &format!("printf(\"{name} %zu\", sizeof(struct {name}));\n");
        for field in fields {
            program += &format!(
                "printf(\" %zu+%zu\", offsetof(struct {name}, {field}), \
                 sizeof(((struct {name} *)0)->{field}));\n"
            );
        }
        program += "printf(\"\\n\");\n";
    }
    program += "return 0; }\n";

    let (_directory, path) = scratch();
    std::fs::write(path("numbers.c"), program).unwrap();
    let [code, binary] = ["numbers.c", "numbers"].map(|name| path_str(&path(name)));
    Compiler::gcc().compile(&["-Wall", "-Wextra", "-o", &binary, &code]);

    let mut expected: Vec<String> = constants
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .chain([NOT_ON_THE_WIRE])
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    expected.extend(MAGIC.map(|(name, bytes)| {
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name} {}", bytes.join(" "))
    }));
    expected.push(format!(
        "pvio_record {} {}+1 {}+1 {}+2 {}+4 {}+8",
        size_of::<Record>(),
        offset_of!(Record, call),
        offset_of!(Record, status),
        offset_of!(Record, port),
        offset_of!(Record, value),
        offset_of!(Record, address)
    ));
    expected.push(format!(
        "pvio_mailbox {} {}+4 {}+4 {}+8",
        size_of::<Mailbox>(),
        offset_of!(Mailbox, word),
        offset_of!(Mailbox, value),
        offset_of!(Mailbox, key)
    ));
    assert_eq!(output_of(Path::new(&binary)).lines().collect::<Vec<_>>(), expected);
}

/// The page that says it in words has these numbers, too.
#[test]
fn the_page_has_the_numbers_of_the_abi() {
    let page = places::repository().join("guest-shim/ABI.md");
    let page = std::fs::read_to_string(page).unwrap();
    let has = |text: &str| assert!(page.contains(text), "{text}");
    for (_, bytes) in &MAGIC[..3] {
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        has(&format!("| `{}` |", bytes.join(" ")));
    }
    // The others are these with another letter.
    for (&(name, bytes), (_, first)) in MAGIC[3..].iter().zip(MAGIC[..3].iter().cycle()) {
        let place = bytes.len() - 4;
        let letter = bytes[place];
        has(&format!("`{}` ({letter:#04x})", char::from(letter)));
        let mut expected = first.to_vec();
        expected[place] = letter;
        assert_eq!(bytes, expected, "{name}");
    }
    has(&format!("a call of number {} ", call::REGISTER));
    has(&format!("`release` ({})", call::RELEASE));
    for (name, value) in abi_constants() {
        if let Some(name) = name.strip_prefix("PVIO_STATUS_") {
            has(&format!("| {value} | {name} |"));
        } else if let Some(name) = name.strip_prefix("PVIO_FEATURE_") {
            has(&format!("| {} | {name} |", value.trailing_zeros()));
        } else if let Some(name) = name.strip_prefix("PVIO_LEVEL_") {
            has(&format!("{value} {}", name.to_lowercase()));
        } else if let Some(name) = name
            .strip_prefix("PVIO_CALL_")
            .filter(|name| !matches!(*name, "SHIFT" | "REGISTER" | "RELEASE"))
            .map(str::to_lowercase)
        {
            // Strings share their rows by three.
            match name.ends_with("sb") || name.ends_with("sw") || name.ends_with("sl") {
                true => has(&format!("`{name}`")),
                false => has(&format!("| {value} | `{name}` |")),
            }
        }
    }
}

/// Assembly has the same numbers from the same file.
#[test]
fn assembly_takes_the_constants() {
    let (_directory, path) = scratch();
    let text = "#include <pvio16.inc>\n.byte PVIO_MAGIC_16\npvio_ring\npvio_register\n\
                mov $(PVIO_UNHEARD | PVIO_CALL_BATCH), %eax\n";
    std::fs::write(path("a.S"), text).unwrap();
    let [code, object] = ["a.S", "a.o"].map(|name| path_str(&path(name)));
    for compiler in [Compiler::gcc(), Compiler::named("clang", "clang")] {
        compiler.compile(&["-c", "-o", &object, &code]);
        let made = [abi::MAGIC_16, abi::DOORBELL_16, abi::REGISTER_MAILBOX_16].concat();
        assert!(contains(&std::fs::read(&object).unwrap(), &made));
    }
}

// ---- Every compiler, language, mode ----

const WARNINGS: [&str; 8] = [
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wshadow",
    "-Werror",
    "-ffreestanding",
];

fn contains(object: &[u8], bytes: &[u8]) -> bool {
    object.windows(bytes.len()).any(|window| window == bytes)
}

/// Compiles every function in every way; the instructions are in the object, of its mode and no other.
fn compile_everything(compiler: &Compiler, standards: &[&str], language: &[&str]) {
    let (_directory, path) = scratch();
    let (code, object) = (source("every-function.c"), path_str(&path("a.o")));
    let of_32 = [abi::MAGIC_32, abi::DOORBELL_32, abi::REGISTER_MAILBOX_32];
    let of_64 = [abi::MAGIC_64, abi::DOORBELL_64, abi::REGISTER_MAILBOX_64];
    let of_16 = [abi::MAGIC_16, abi::DOORBELL_16, abi::REGISTER_MAILBOX_16];
    let modes = [("-m32", &of_32, &of_64), ("-m64", &of_64, &of_32)];
    for standard in standards {
        for (mode, own, other) in modes {
            for relocation in ["-fPIC", "-fno-pic"] {
                for optimisation in ["-O0", "-O2"] {
                    let options = [mode, relocation, optimisation, standard];
                    let all = [&options, &WARNINGS[..], language].concat();
                    let output = ["-c", "-o", &object, &code];
                    compiler.compile(&[&all[..], &output].concat());
                    let made = std::fs::read(&object).unwrap();
                    assert!(own.iter().all(|magic| contains(&made, magic)), "{options:?}");
                    assert!(!other.iter().any(|magic| contains(&made, magic)), "{options:?}");
                }
            }
            // In Intel syntax, in a 16-bit segment, and with nothing of it.
            let compile_with = |options: &[&str]| {
                let output = [mode, standard, "-c", "-o", &object, &code];
                compiler.compile(&[&WARNINGS[..], language, options, &output].concat());
                std::fs::read(&object).unwrap()
            };
            compile_with(&["-O1", "-masm=intel"]);
            let made = compile_with(&["-O1", "-DPVIO_CODE_16"]);
            assert!(of_16.iter().all(|magic| contains(&made, magic)), "{mode} {standard}");
            for optimisation in ["-O0", "-O2"] {
                let made = compile_with(&[optimisation, "-DPVIO_NO_HYPERCALLS"]);
                // What they all begin with.
                for magic in of_64 {
                    assert!(!contains(&made, &magic[..4]), "{mode} {standard} {optimisation}");
                }
            }
        }
    }
}

const C: [&str; 2] = ["-std=c99", "-std=c11"];
const CXX: [&str; 2] = ["-std=c++11", "-std=c++17"];

#[test]
fn gcc_takes_it_as_c() {
    compile_everything(&Compiler::gcc(), &C, &["-Wstrict-prototypes"]);
}

#[test]
fn clang_takes_it_as_c() {
    compile_everything(&Compiler::named("clang", "clang"), &C, &["-Wstrict-prototypes"]);
}

#[test]
fn gcc_takes_it_as_cxx() {
    compile_everything(&Compiler::named("g++", "g++"), &CXX, &["-xc++", "-Wold-style-cast"]);
}

#[test]
fn clang_takes_it_as_cxx() {
    compile_everything(&Compiler::named("clang++", "clang"), &CXX, &["-xc++", "-Wold-style-cast"]);
}

// ---- In place of others' functions ----

const DRIVEN: &str = "out 8 0x43 0x34
out 8 0x378 0xaa
out 16 0x378 0x1234
out 32 0x37a 0x12345678
in 8 0x71
in 16 0x378
in 32 0x37a
rep ins 8 0x378 0 3
rep ins 16 0x378 0 4
rep ins 32 0x378 0 5
rep outs 8 0x37a 0 6
rep outs 16 0x37a 0 7
rep outs 32 0x37a 0 8
3
";

/// A driver that is not changed, in either order of arguments, makes the same accesses: calls that
/// nobody hears, and the instructions, which a process is not allowed.
#[test]
fn it_replaces_others_functions() {
    let (_directory, path) = scratch();
    let [object, program] = ["driver.o", "program"].map(|name| path_str(&path(name)));
    let catch = source("catch-instructions.c");
    for compiler in [Compiler::gcc(), Compiler::named("clang", "clang")] {
        for (switch, driver) in [
            ("-DPVIO_REPLACE_LINUX", "driver-linux.c"),
            ("-DPVIO_REPLACE_PORT_FIRST", "driver-port-first.c"),
        ] {
            for optimisation in ["-O0", "-O2"] {
                let driver = source(driver);
                let before = ["-m64", "-Wall", "-Wextra", optimisation];
                let compile = [switch, "-include", "pvio.h", "-c", "-o", &object, &driver];
                compiler.compile(&[&before[..], &compile].concat());
                assert!(contains(&std::fs::read(&object).unwrap(), &abi::MAGIC_64));
                compiler.compile(&[&before[..], &["-o", &program, &catch, &object]].concat());
                assert_eq!(output_of(Path::new(&program)), DRIVEN, "{} {driver}", compiler.name);
            }
        }
    }
}
