//! `guest-shim/include/pvio.h` rejects wrong options and arguments, and says why.

use pvio_tests::{Compiler, path_str};

const LINEAR: &str = "-DPVIO_LINEAR(p)=((uintptr_t)(p))";
const POINTER: &str = "-DPVIO_POINTER(l)=((void*)(uintptr_t)(l))";

fn compilers() -> [Compiler; 2] {
    [Compiler::gcc(), Compiler::named("clang", "clang")]
}

/// Compiles a text. Returns the errors; an empty text if it must compile.
fn errors(compiler: &Compiler, text: &str, options: &[&str], compiles: bool) -> String {
    let directory = tempfile::tempdir().unwrap();
    let [code, object] = ["a.c", "a.o"].map(|name| path_str(&directory.path().join(name)));
    std::fs::write(&code, text).unwrap();
    let arguments = [options, &["-ffreestanding", "-c", "-o", &object, &code]].concat();
    match compiles {
        true => {
            compiler.compile(&arguments);
            String::new()
        }
        false => compiler.reject(&arguments),
    }
}

/// With offsets instead of linear addresses, the host would write to wrong memory.
#[test]
fn option_without_its_counterpart_is_rejected_with_the_reason() {
    let none = "PVIO_CODE_16 needs PVIO_LINEAR and PVIO_POINTER";
    let es = "-DPVIO_ES_LINEAR(p)=((uintptr_t)(p))";
    for compiler in compilers() {
        for (options, message) in [
            (&["-m16", "-DPVIO_CODE_16"][..], none),
            (&["-m32", "-DPVIO_CODE_16"], none),
            (&["-m64", "-DPVIO_CODE_16", LINEAR, POINTER], "are not for x86-64"),
            (&["-m32", LINEAR], "PVIO_LINEAR and PVIO_POINTER go together"),
            (&["-m32", es], "PVIO_ES_LINEAR and PVIO_ES_POINTER go together"),
            (&["-m32", "-DPVIO_REPLACE_INLINE"], "PVIO_REPLACE_INLINE needs PVIO_REPLACE_LINUX or"),
            (&["-DPVIO_REPLACE_LINUX", "-DPVIO_REPLACE_PORT_FIRST"], "exclude each other"),
        ] {
            let said = errors(&compiler, "#include <pvio.h>\n", options, false);
            assert!(said.contains(message), "{} {options:?}: {said}", compiler.name);
        }
    }
}

/// Compilers define no macro for `-m16`, so the assembler checks it.
#[test]
fn option_code_16_must_match_the_mode() {
    let option = ["-DPVIO_CODE_16", LINEAR, POINTER];
    for compiler in compilers() {
        for syntax in ["-masm=att", "-masm=intel"] {
            let compile = |mode: &str, options: &[&str], compiles: bool| {
                let options = [&[mode, syntax, "-O2"], options].concat();
                errors(&compiler, "#include <pvio.h>\n", &options, compiles)
            };
            let said = compile("-m16", &[], false);
            assert!(said.contains("16-bit code needs PVIO_CODE_16"), "{}: {said}", compiler.name);
            let said = compile("-m32", &option, false);
            assert!(said.contains("compile with -m16"), "{}: {said}", compiler.name);
            compile("-m16", &option, true);
            compile("-m32", &[], true);
            compile("-m64", &[], true);
        }
    }
}

/// A constant that does not fit its argument shows the wrong order.
#[test]
fn wrong_order_of_arguments_is_an_error() {
    let linux = "PVIO_REPLACE_LINUX is for outb(value, port), see PVIO_REPLACE_PORT_FIRST";
    let port_first = "PVIO_REPLACE_PORT_FIRST is for outb(port, value), see PVIO_REPLACE_LINUX";
    for compiler in compilers() {
        let compile = |define: &str, statement: &str, compiles: bool| {
            let text = format!(
                "#define {define}\n#include <pvio.h>\n\
                 void f(uint8_t value, uint16_t port);\n\
                 void f(uint8_t value, uint16_t port) {{ {statement}; (void)value; (void)port; }}\n"
            );
            // The compilers' own warnings about such constants are turned off.
            let quiet =
                ["-Wno-overflow", "-Wno-unknown-warning-option", "-Wno-constant-conversion"];
            let options = [&["-O2", "-Wall", "-Wextra"], &quiet[..]].concat();
            errors(&compiler, &text, &options, compiles)
        };
        for statement in ["outb(0x3f8, value)", "outl(0xcf8, 0x80000000)", "outw(0x1f0, 0x12345)"] {
            let said = compile("PVIO_REPLACE_LINUX", statement, false);
            assert!(said.contains(linux), "{} {statement}: {said}", compiler.name);
        }
        for statement in ["outb(value, 0x3f8)", "outl(0x80000000, 0xcf8)"] {
            let said = compile("PVIO_REPLACE_PORT_FIRST", statement, false);
            assert!(said.contains(port_first), "{} {statement}: {said}", compiler.name);
        }
        for statement in [
            "outb(value, port)",
            "outb(0x20, 0x20)",
            "outb(~0x20, 0x3f8)",
            "outb(-1, 0x80)",
            "outw(0x1234, 0x1f0)",
            "outl(0x80000000, 0xcf8)",
            // SeaBIOS writes the bytes of a variable, whose value the compiler knows.
            "uint16_t mask = 0xfffb; outb(mask, 0x21); outb(mask >> 8, 0xa1)",
        ] {
            compile("PVIO_REPLACE_LINUX", statement, true);
        }
    }
}
