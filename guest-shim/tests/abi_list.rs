//! The blocks of `include/pvio.h`, `linux/` and `ABI.md` that are made from the list in `src/abi/list.rs`.
//!
//! The tests compare. `PVIO_WRITE_ABI=1 cargo test -p pvio-guest --test abi_list` writes them.

use std::fmt::Write;
use std::path::Path;

use pvio_guest::abi::{
    self, CALLS, CallWord, Constant, INSTRUCTIONS, NUMBERS, call, feature, level, status,
};

/// Compares the text between the marks of a block with what it should be, or writes it.
fn check(file: &str, block: &str, [open, close]: [&str; 2], expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let begin = format!("{open} generated from src/abi/list.rs: {block} {close}\n");
    let end = format!("{open} end of {block} {close}\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file}: no {begin}"));
    let (found, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{file}: no {end}"));
    if found == expected {
        return;
    }
    assert!(
        std::env::var_os("PVIO_WRITE_ABI").is_some_and(|value| value == "1"),
        "{file}: {block} differs from src/abi/list.rs; PVIO_WRITE_ABI=1 writes it:\n{expected}"
    );
    std::fs::write(&path, [before, &begin, expected, &end, after].concat()).unwrap();
}

fn bytes(bytes: &[u8], prefix: &str, separator: &str) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{prefix}{byte:02x}")).collect();
    bytes.join(separator)
}

// ---- pvio.h ----

/// Definitions in columns, each with a comment.
fn definitions(lines: &[(String, String, &str)]) -> String {
    let names = lines.iter().map(|line| line.0.len()).max().unwrap();
    let values = lines.iter().map(|line| line.1.len()).max().unwrap();
    let mut text = String::new();
    for (name, value, about) in lines {
        writeln!(text, "#define {name:names$} {value:values$} /* {about} */").unwrap();
    }
    text
}

fn constants(prefix: &str, constants: &[Constant]) -> String {
    let line = |constant: &Constant| {
        let name = format!("{prefix}{}", constant.name);
        (name, constant.literal.replace('_', ""), constant.about)
    };
    definitions(&constants.iter().map(line).collect::<Vec<_>>())
}

fn header() -> String {
    let mut text = constants("PVIO_", NUMBERS);
    text += "\n/* The instructions: bytes for `.byte` or for an array. */\n";
    for instruction in INSTRUCTIONS {
        writeln!(text, "/* {}. */", instruction.about).unwrap();
        let encodings: [(u32, &[u8]); 3] =
            [(16, &instruction.bytes_16), (32, &instruction.bytes_32), (64, &instruction.bytes_64)];
        for (bits, encoding) in encodings {
            let encoding = bytes(encoding, "0x", ", ");
            writeln!(text, "#define PVIO_{}_{bits} {encoding}", instruction.name).unwrap();
        }
    }
    text += "\n/* The numbers of the calls. */\n";
    let call = |call: &abi::Call| {
        (format!("PVIO_CALL_{}", call.name.to_uppercase()), call.number.to_string(), call.about)
    };
    text += &definitions(&CALLS.iter().map(call).collect::<Vec<_>>());
    for (title, prefix, list) in [
        ("What a host can do: the bits of EDX after a probe.", "PVIO_FEATURE_", feature::ALL),
        ("The levels of a logged line.", "PVIO_LEVEL_", level::ALL),
        ("The result of a call.", "PVIO_STATUS_", status::ALL),
    ] {
        write!(text, "\n/* {title} */\n{}", constants(prefix, list)).unwrap();
    }
    text
}

#[test]
fn the_header_has_the_constants_of_the_list() {
    check("include/pvio.h", "constants", ["/*", "*/"], &header());
}

#[test]
fn the_kernels_header_has_the_constants_of_the_list() {
    let file = "linux/arch/x86/include/asm/shared/pvio_abi.h";
    check(file, "constants", ["/*", "*/"], &header());
}

// ---- ABI.md ----

fn table<const N: usize>(heads: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let line = |cells: [&str; N]| {
        let cells =
            cells.map(|cell| if cell.is_empty() { " ".to_owned() } else { format!(" {cell} ") });
        format!("|{}|\n", cells.join("|"))
    };
    let mut text = line(heads) + &line(["---"; N]);
    rows.for_each(|row| text += &line(row.each_ref().map(String::as_str)));
    text
}

fn page(block: &str, expected: &str) {
    check("ABI.md", block, ["<!--", "-->"], expected);
}

#[test]
fn the_page_has_the_tables_of_the_list() {
    page(
        "instructions",
        &table(
            ["instruction", "code", "bytes", ""],
            INSTRUCTIONS.iter().flat_map(|instruction| {
                let row = |code: &str, encoding: &[u8]| {
                    let name = instruction.name.to_lowercase().replace('_', " ");
                    let encoding = format!("`{}`", bytes(encoding, "", " "));
                    [name, code.to_owned(), encoding, instruction.about.to_owned()]
                };
                [
                    row("64-bit", &instruction.bytes_64),
                    row("32-bit", &instruction.bytes_32),
                    row("16-bit", &instruction.bytes_16),
                ]
            }),
        ),
    );
    page(
        "calls",
        &table(
            ["call", "name", "", "takes", "gives"],
            CALLS.iter().map(|call| {
                let name = format!("`{}`", call.name);
                [
                    call.number.to_string(),
                    name,
                    call.about.into(),
                    call.takes.into(),
                    call.gives.into(),
                ]
            }),
        ),
    );
    let rows = |list: &'static [Constant], number: fn(u64) -> u64| {
        list.iter().map(move |constant| {
            [number(constant.value).to_string(), constant.name.into(), constant.about.into()]
        })
    };
    page("statuses", &table(["status", "name", ""], rows(status::ALL, |value| value)));
    page("levels", &table(["level", "name", ""], rows(level::ALL, |value| value)));
    let bit = |value: u64| value.trailing_zeros().into();
    page("features", &table(["bit", "name", ""], rows(feature::ALL, bit)));
    let limits = NUMBERS.iter().filter(|number| number.name.ends_with("_MAX"));
    page(
        "limits",
        &table(
            ["limit", ""],
            limits.map(|limit| [limit.value.to_string(), limit.about.to_owned()]),
        ),
    );
}

/// The text names a call with its number as "`release` (15)".
#[test]
fn the_page_numbers_calls_in_its_text_as_the_list_does() {
    let page = include_str!("../ABI.md");
    let mut seen = 0;
    for (before, after) in page.split("` (").zip(page.split("` (").skip(1)) {
        let name = before.rsplit('`').next().unwrap();
        let Some(Ok(number)) = after.split(')').next().map(str::parse::<u8>) else { continue };
        let call = CALLS.iter().find(|call| call.name == name);
        assert_eq!(call.map(|call| call.number), Some(number), "`{name}` ({number})");
        seen += 1;
    }
    assert_ne!(seen, 0);
}

#[test]
fn names_and_values_of_a_list_are_unique() {
    let unique = |list: &[Constant]| {
        for (index, constant) in list.iter().enumerate() {
            for other in &list[..index] {
                assert!(constant.name != other.name && constant.value != other.value, "{other:?}");
            }
        }
    };
    [feature::ALL, level::ALL, status::ALL].into_iter().for_each(unique);
    assert!(CALLS.is_sorted_by(|call, next| call.number < next.number));
}

/// A change of a number is another version; additions at the end are not.
#[test]
fn version_1_keeps_its_numbers() {
    let calls = "probe inb inw inl outb outw outl insb insw insl outsb outsw outsl batch register \
                 release exit log begin end reset dump register_large batch_compact file_read file_write \
                 file_finish";
    let statuses = "OK DECLINED PAGE DENIED UNKNOWN ADDRESS ARGUMENT LENGTH STATE FULL FAILED MISSING NAME \
                    EXISTS LIMIT STALE";
    assert_eq!(abi::VERSION, 1);
    for (number, name) in calls.split_whitespace().enumerate().filter(|(_, name)| *name != "-") {
        let call = CALLS.iter().find(|call| usize::from(call.number) == number);
        assert_eq!(call.map(|call| call.name), Some(name));
    }
    for (list, names) in [
        (status::ALL, statuses),
        (level::ALL, "ERROR WARNING INFO DEBUG"),
        (feature::ALL, "- EVERY_PORT MEMORY - MAILBOX - - - LARGE_MAILBOX"),
    ] {
        for (value, name) in names.split_whitespace().enumerate().filter(|(_, name)| *name != "-") {
            let found = list.iter().find(|constant| constant.name == name);
            assert_eq!(found.map(|constant| constant.value), Some(value as u64), "{name}");
        }
    }
}

/// The examples spell call words and instructions out.
#[test]
fn the_examples_of_the_page_follow_the_list() {
    let page = include_str!("../ABI.md");
    for (call, operand, port) in [
        (call::OUTB, b'A', 0x3f8),
        (call::INSW, 0, 0x1f0),
        (call::REGISTER, 0, 0),
        (call::RELEASE, 0, 0),
        (call::REGISTER_LARGE, 0, 0),
    ] {
        let word = format!("{:#010x}", CallWord::new(call, operand, port).0);
        assert!(page.contains(&word), "{word}");
    }
    for letter in [abi::MAGIC_64[3], abi::DOORBELL_64[3], abi::REGISTER_MAILBOX_64[3]] {
        let text = format!("`{}` ({letter:#04x})", char::from(letter));
        assert!(page.contains(&text), "{text}");
    }
    let next = CALLS.last().unwrap().number + 1;
    let gaps = (0..next).filter(|number| CALLS.iter().all(|call| call.number != *number));
    let gaps: String = gaps.map(|number| format!("{number}, and ")).collect();
    let free = format!("Numbers {gaps}{next} to 127 are free.");
    assert!(page.contains(&free), "{free}");
}

macro_rules! variants {
    ($($variant:ident $constant:ident $name:literal $number:literal
       $about:literal, $takes:literal, $gives:literal;)*) => {
        [$((stringify!($variant), stringify!($constant), call::$constant, $name),)*]
    };
}

/// A host makes its own type of the calls by `for_each_call`.
#[test]
fn other_crates_can_iterate_over_the_calls() {
    let variants = pvio_guest::for_each_call!(variants);
    assert_eq!(variants.len(), CALLS.len());
    for ((variant, constant, number, name), call) in variants.into_iter().zip(CALLS) {
        assert_eq!((number, name), (call.number, call.name));
        assert_eq!(variant.to_lowercase(), name.replace('_', ""));
        assert_eq!(constant.to_lowercase(), name);
    }
}
