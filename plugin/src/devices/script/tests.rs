//! Scripts that want the host's stack, time or memory. On a real machine a crash would take QEMU down.

use vm_device::bus::PioAddress;

use super::*;
use crate::devices::{Clock, Interrupt, Services};
use crate::x86::PortRange;

/// The stack of the thread that runs a script. QEMU's threads have 8 MiB.
const STACK: usize = if cfg!(debug_assertions) { 16 << 20 } else { 2 << 20 };

struct NoMachine;

impl Services for NoMachine {
    fn interrupt(&self, _line: u8) -> Option<Box<dyn Interrupt>> {
        None
    }

    fn exit(&self) -> Box<dyn Fn(u8) + Send> {
        Box::new(|_| {})
    }

    fn clock(&self) -> Option<Clock> {
        None
    }

    fn is_recorded(&self) -> bool {
        false
    }
}

fn device(text: &str, operations: u64) -> Result<Script, String> {
    let host = Arc::new(Host::new("script".to_owned(), None, None, None));
    let text = format!("fn write(offset, size, value) {{}}\n{text}");
    let source = Source::new("x.rhai".to_owned(), operations);
    Script::new(source, &text, host).map_err(|error| error.to_string())
}

/// Reads a byte from a script on a small stack. Returns it, and the mistake.
fn read(text: &str, operations: u64) -> (u8, Option<String>) {
    let text = text.to_owned();
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let mut device = device(&text, operations).unwrap();
        let mut data = [0xff];
        device.pio_read(PioAddress(0x300), 3, &mut data);
        (data[0], device.running.first_mistake().cloned())
    });
    thread.unwrap().join().unwrap()
}

#[test]
fn nested_values_do_not_overflow_the_stack() {
    const ARRAY: &str = "let a = []; for i in 0..4080 { a = [a]; } ";
    const MAP: &str =
        "let a = #{}; for i in 0..250 { a = #{x: a}; } for i in 0..4000 { a = [a]; } ";
    for nested in [ARRAY, MAP] {
        for (use_it, expected) in [
            ("1", Ok(1)),
            ("let b = a; b.clear(); 2", Ok(2)),
            ("this.a = a; 3", Ok(3)),
            ("a", Err("read returned a value of the type array")),
            ("if a == a { 4 } else { 5 }", Err("arrays and maps cannot be compared")),
            ("if a in [a] { 4 } else { 5 }", Err("cannot be compared")),
            ("a.index_of(a[0])", Err("cannot be compared")),
            ("`${a}`.len()", Ok(7)),
            ("a.to_debug().len()", Ok(7)),
            ("print(a); 6", Ok(6)),
            ("throw a", Err("the script threw a value of the type array")),
            ("a.nothing(a)", Err("Function not found: nothing (array, array)")),
            ("switch a { 1 => 2, _ => 7 }", Ok(7)),
            ("a[-9]", Err("")),
        ] {
            let text = format!("fn read(offset, size) {{ {nested} {use_it} }}");
            match (read(&text, 100_000), expected) {
                ((value, None), Ok(expected)) => assert_eq!(value, expected, "{use_it}"),
                ((value, Some(mistake)), Err(expected)) => {
                    assert_eq!(value, 0xff, "{use_it}");
                    assert!(mistake.contains(expected), "{use_it}: {mistake}");
                    assert!(mistake.len() < 500 && !mistake.contains('\n'), "{use_it}: {mistake}");
                }
                (other, _) => panic!("{use_it}: {other:?}"),
            }
        }
    }
}

#[test]
fn recursion_in_deep_expressions_does_not_overflow_the_stack() {
    let call = format!("{}read(offset + 1, size){}", "(1 + ".repeat(6), ")".repeat(6));
    let text = format!("fn read(offset, size) {{ if true {{ if true {{ {call} }} }} }}");
    let (value, mistake) = read(&text, 100_000);
    assert_eq!(value, 0xff);
    let mistake = mistake.unwrap();
    assert!(mistake.ends_with("the functions call each other too deeply"), "{mistake}");
}

#[test]
fn expressions_are_limited_in_depth() {
    let text = format!("fn read(offset, size) {{ {}1{} }}", "(".repeat(5000), ")".repeat(5000));
    let error = device(&text, 1000).err().unwrap();
    assert!(error.starts_with("x.rhai:2:"), "{error}");
    assert!(error.contains("exceeds") || error.contains("complex"), "{error}");
}

#[test]
fn nothing_leads_out_of_the_sandbox() {
    for call in [
        "sleep(1)",
        "exit(1)",
        "timestamp()",
        "open_file(\"/etc/passwd\")",
        "parse_json(\"1\")",
        "replace(3)",
    ] {
        let (value, mistake) = read(&format!("fn read(offset, size) {{ {call}; 1 }}"), 1000);
        let mistake = mistake.unwrap();
        assert!(value == 0xff && mistake.contains("Function not found: "), "{call}: {mistake}");
    }
    for (code, expected) in [
        ("eval(\"1\")", "reserved keyword 'eval' is disabled"),
        ("Fn(\"read\")", "reserved keyword 'Fn' is disabled"),
        ("import \"x\" as x", "'import' is a reserved keyword"),
        ("(|x| x).curry(1)", ""),
    ] {
        let error = device(&format!("fn read(offset, size) {{ {code}; 1 }}"), 1000).err();
        assert!(error.as_ref().is_some_and(|error| error.contains(expected)), "{code}: {error:?}");
    }
}

#[test]
fn memory_of_one_operation_is_limited() {
    for (code, expected) in [
        ("blob(0x7fffffff).len()", "Size of array/BLOB too large"),
        ("let a = []; a.pad(0x7fffffff, 0); 1", "Size of array/BLOB too large"),
        (
            "let b = []; b.pad(4096, 0); let a = []; a.pad(4096, b); 1",
            "Size of array/BLOB too large",
        ),
        ("let s = \"\"; s.pad(0x7fffffff, \"x\"); 1", "Length of string too large"),
        (
            "let s = \"a\"; s.pad(4000, \"a\"); let t = s; s.replace(\"a\", t); 1",
            "Length of string too large",
        ),
        (
            "let s = \"a\"; s.pad(4000, \"a\"); let t = s; s.replace('a', t); 1",
            "Length of string too large",
        ),
        ("this.c = \"abc\".chars(); 1", "this holds a value of the type"),
        ("this = 5; 1", "the script replaced this by a value of the type i64"),
    ] {
        let (value, mistake) = read(&format!("fn read(offset, size) {{ {code} }}"), 20_000);
        let mistake = mistake.unwrap_or_else(|| panic!("{code}: {value}"));
        assert!(mistake.contains(expected), "{code}: {mistake}");
    }
    let (value, mistake) =
        read("fn read(offset, size) { let s = \"aba\"; s.replace(\"a\", \"cd\"); s.len() }", 1000);
    assert_eq!((value, mistake), (5, None));
}

#[test]
fn endless_loops_end() {
    for code in [
        "loop {}",
        "while true {}",
        "do {} while true",
        "for i in range(0, 0x7fffffffffff, 1) {}",
        "loop { try { loop {} } catch {} }",
    ] {
        let (_, mistake) = read(&format!("fn read(offset, size) {{ {code}; 1 }}"), 200_000);
        assert!(mistake.unwrap().contains("the call takes too many operations"), "{code}");
    }
    // Few operations, each of which takes long.
    let slow = "fn read(offset, size) { let a = []; a.pad(4000, 0); loop { a[0] = 1; a.sort(); } }";
    let (_, mistake) = read(slow, 100_000_000);
    assert!(mistake.unwrap().ends_with("the call takes longer than 10 seconds"));
}

#[test]
fn calls_of_methods_share_the_state() {
    let text = "
        fn advance(by) { this.count += by; helper() }
        fn helper() { 1 }
        fn reset() { this.count = 3; }
        fn read(offset, size) { this.advance(offset); let add = |x| x + 1; add.call(this.count) }
    ";
    let mut script = device(text, 1000).unwrap();
    script.reset();
    let mut data = [0; 1];
    for expected in [9, 14] {
        script.pio_read(PioAddress(0x300), 5, &mut data);
        assert_eq!(data, [expected], "{:?}", script.running.first_mistake());
    }
}

#[test]
fn constants_may_be_of_any_type_and_use_others() {
    let text = "
        const A = 3;
        const TABLE = [A, A * 2, 77];
        const ROM = blob(4, 0x5a);
        fn read(offset, size) { TABLE[offset - 1] + ROM[0] }
    ";
    assert_eq!(read(text, 1000), (77 + 0x5a, None));
    // A function gets a copy.
    let text = "const T = [1];\nfn read(offset, size) { T[0] = 2; T[0] }";
    assert_eq!(read(text, 1000), (1, None));
}

#[test]
fn settings_are_checked_without_a_machine() {
    let range = PortRange::parse("0x300", 1).unwrap();
    let values = vec![("file".to_owned(), "/nonexistent".to_owned())];
    let error = build(&mut Settings::new(range, values, &NoMachine)).err().unwrap();
    assert!(error.to_string().starts_with("file=/nonexistent cannot be read: "), "{error}");
}
