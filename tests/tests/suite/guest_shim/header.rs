//! `guest-shim/include/pvio.h` has the ABI's numbers and compiles to the ABI's instructions.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::Command;

use pvio_cli::paths;
use pvio_guest::abi::{self, LargeMailbox, Record, feature, level, status};
use pvio_tests::{Compiler, path_str};
use tempfile::TempDir;

fn source(name: &str) -> String {
    path_str(&paths::repository().join("tests/tests/suite/guest_shim/header").join(name))
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

/// The constants of the ABI, by the header's names.
fn abi_constants() -> BTreeMap<String, u64> {
    let lists = [
        ("", abi::NUMBERS),
        ("FEATURE_", feature::ALL),
        ("LEVEL_", level::ALL),
        ("STATUS_", status::ALL),
    ];
    let constants = lists.into_iter().flat_map(|(prefix, list)| {
        list.iter().map(move |constant| (format!("PVIO_{prefix}{}", constant.name), constant.value))
    });
    let calls = abi::CALLS
        .iter()
        .map(|call| (format!("PVIO_CALL_{}", call.name.to_uppercase()), u64::from(call.number)));
    constants.chain(calls).collect()
}

/// The header's names and bytes of the instructions.
fn instructions() -> Vec<(String, &'static [u8])> {
    let encodings = |instruction: &'static abi::Instruction| {
        let name = |bits: &str| format!("PVIO_{}_{bits}", instruction.name);
        [
            (name("16"), &instruction.bytes_16[..]),
            (name("32"), &instruction.bytes_32),
            (name("64"), &instruction.bytes_64),
        ]
    };
    abi::INSTRUCTIONS.iter().flat_map(encodings).collect()
}

/// The status that functions return if no host answers. It is never in an answer.
const NOT_ON_THE_WIRE: (&str, u64) =
    ("PVIO_STATUS_UNANSWERED", (abi::UNANSWERED >> abi::CALL_SHIFT) as u64);

#[test]
fn header_constants_are_those_of_the_abi() {
    let constants = abi_constants();
    let mut program = "#include <stdio.h>\n#include <pvio.h>\nint main(void) {\n".to_owned();
    for name in constants.keys().map(String::as_str).chain([NOT_ON_THE_WIRE.0]) {
        program += &format!("printf(\"{name} %llu\\n\", (unsigned long long){name});\n");
    }
    for (name, _) in instructions() {
        program += &format!(
            "{{ static const unsigned char bytes[] = {{{name}}};
            printf(\"{name}\");
            for (size_t i = 0; i < sizeof bytes; i++) printf(\" %02x\", bytes[i]);
            printf(\"\\n\"); }}\n"
        );
    }
    for (name, fields) in [
        ("pvio_record", &["call", "status", "port", "value", "address"][..]),
        ("pvio_mailbox", &["word", "value", "key", "address", "count", "site", "reserved"]),
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
    expected.extend(instructions().into_iter().map(|(name, bytes)| {
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
        "pvio_mailbox {} {}+4 {}+4 {}+8 {}+8 {}+8 {}+8 {}+24",
        size_of::<LargeMailbox>(),
        offset_of!(LargeMailbox, word),
        offset_of!(LargeMailbox, value),
        offset_of!(LargeMailbox, key),
        offset_of!(LargeMailbox, address),
        offset_of!(LargeMailbox, count),
        offset_of!(LargeMailbox, site),
        offset_of!(LargeMailbox, reserved)
    ));
    assert_eq!(output_of(Path::new(&binary)).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn assembly_include_has_the_same_constants() {
    let (_directory, path) = scratch();
    let text = "#include <pvio16.inc>\n.byte PVIO_MAGIC_16\npvio_doorbell\npvio_register_mailbox\n\
                mov $(PVIO_UNANSWERED | PVIO_CALL_BATCH), %eax\n";
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

/// Compiles every function in every way. The object must have the instructions of its mode and no other.
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
            // In Intel syntax, as 16-bit code, with buffers in ES, and without hypercalls.
            let compile_with = |mode: &str, options: &[&str]| {
                let output = [mode, standard, "-c", "-o", &object, &code];
                compiler.compile(&[&WARNINGS[..], language, options, &output].concat());
                std::fs::read(&object).unwrap()
            };
            compile_with(mode, &["-O1", "-masm=intel"]);
            if mode == "-m32" {
                let linear = "-DPVIO_LINEAR(p)=(PVIO_BITS_(uintptr_t,p)+4096)";
                let pointer = "-DPVIO_POINTER(l)=PVIO_BITS_(void*,PVIO_CAST_(uintptr_t,l)-4096)";
                let es_linear = linear.replace("PVIO_LINEAR", "PVIO_ES_LINEAR");
                let es_pointer = pointer.replace("PVIO_POINTER", "PVIO_ES_POINTER");
                let es: [&str; 2] = [&es_linear, &es_pointer];
                for options in [&[][..], &es, &["-masm=intel"]] {
                    for optimisation in ["-O0", "-O2"] {
                        let own = ["-DPVIO_CODE_16", linear, pointer, optimisation];
                        let made = compile_with("-m16", &[&own[..], options].concat());
                        assert!(of_16.iter().all(|magic| contains(&made, magic)), "{options:?}");
                        assert!(!of_32.iter().any(|magic| contains(&made, magic)), "{options:?}");
                    }
                }
                compile_with(mode, &["-O1", "-masm=intel", &es_linear, &es_pointer]);
            }
            for optimisation in ["-O0", "-O2"] {
                let made = compile_with(mode, &[optimisation, "-DPVIO_NO_HYPERCALLS"]);
                // The first bytes of every instruction.
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
fn header_compiles_as_c_with_gcc() {
    compile_everything(&Compiler::gcc(), &C, &["-Wstrict-prototypes"]);
}

#[test]
fn header_compiles_as_c_with_clang() {
    compile_everything(&Compiler::named("clang", "clang"), &C, &["-Wstrict-prototypes"]);
}

#[test]
fn header_compiles_as_cxx_with_gcc() {
    compile_everything(&Compiler::named("g++", "g++"), &CXX, &["-xc++", "-Wold-style-cast"]);
}

#[test]
fn header_compiles_as_cxx_with_clang() {
    compile_everything(&Compiler::named("clang++", "clang"), &CXX, &["-xc++", "-Wold-style-cast"]);
}

// ---- Replacing a driver's functions ----

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

/// An unchanged driver makes the same accesses, in either order of arguments.
///
/// Its calls are unanswered, so it executes the instructions. The program catches their faults.
#[test]
fn replacement_functions_make_the_same_accesses() {
    let (_directory, path) = scratch();
    let [object, program] = ["driver.o", "program"].map(|name| path_str(&path(name)));
    let catch = source("catch-instructions.c");
    for compiler in [Compiler::gcc(), Compiler::named("clang", "clang")] {
        for (switches, driver) in [
            (&["-DPVIO_REPLACE_LINUX"][..], "driver-linux.c"),
            (&["-DPVIO_REPLACE_PORT_FIRST"], "driver-port-first.c"),
            (&["-DPVIO_REPLACE_LINUX", "-DPVIO_REPLACE_INLINE"], "driver-linux.c"),
            (&["-DPVIO_REPLACE_PORT_FIRST", "-DPVIO_REPLACE_INLINE"], "driver-port-first.c"),
            (&["-DPVIO_REPLACE_LINUX", "-DPVIO_REPLACE_INLINE"], "driver-members.c"),
        ] {
            for optimisation in ["-O0", "-O2"] {
                let driver = source(driver);
                let before = ["-m64", "-Wall", "-Wextra", optimisation];
                let compile = ["-include", "pvio.h", "-c", "-o", &object, &driver];
                compiler.compile(&[&before[..], switches, &compile].concat());
                assert!(contains(&std::fs::read(&object).unwrap(), &abi::MAGIC_64));
                compiler.compile(&[&before[..], &["-o", &program, &catch, &object]].concat());
                assert_eq!(output_of(Path::new(&program)), DRIVEN, "{} {driver}", compiler.name);
            }
        }
    }
}
