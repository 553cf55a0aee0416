use super::*;
use crate::trace::Owner;

fn filter(text: &str) -> AccessFilter {
    AccessFilter::parse(text.split(':').filter(|part| !part.is_empty())).unwrap()
}

#[test]
fn ports_and_directions_are_chosen_or_left_out() {
    let covered = |text: &str| {
        let filter = filter(text);
        let covers = |port| {
            [Direction::In, Direction::Out]
                .map(|direction| u8::from(filter.covers_port(Port(port), direction)))
        };
        [0x5f, 0x60, 0x3f8, 0x3ff, 0x400].map(covers)
    };
    assert_eq!(covered(""), [[1, 1]; 5]);
    assert_eq!(covered("0x60:0x3f8-0x3ff"), [[0, 0], [1, 1], [1, 1], [1, 1], [0, 0]]);
    assert_eq!(covered("-0x60:-1016-0x3ff"), [[1, 1], [0, 0], [0, 0], [0, 0], [1, 1]]);
    assert_eq!(covered("0x3f8-0x3ff:-0x3ff"), [[0, 0], [0, 0], [1, 1], [0, 0], [0, 0]]);
    assert_eq!(covered("out"), [[0, 1]; 5]);
    assert_eq!(covered("-out"), [[1, 0]; 5]);
    assert_eq!(covered("in:out"), [[1, 1]; 5]);
    assert_eq!(covered("0x60:in"), [[0, 0], [1, 0], [0, 0], [0, 0], [0, 0]]);
}

#[test]
fn an_unknown_value_is_none_of_those_that_are_named() {
    let covered = |text: &str| {
        let filter = filter(text);
        [None, Some(0), Some(0x1f), Some(u32::MAX)].map(|value| filter.covers_value(value))
    };
    assert_eq!(covered(""), [true; 4]);
    assert_eq!(covered("value=0x10-0x1f"), [false, false, true, false]);
    assert_eq!(covered("value=0:value=0xffffffff"), [false, true, false, true]);
    assert_eq!(covered("-value=0"), [true, false, true, true]);
}

#[test]
fn an_unknown_symbol_is_none_of_those_that_are_named() {
    let covered = |text: &str| {
        let filter = filter(text);
        let covers = |symbol: Option<&str>| filter.covers_code(0x1000, || symbol);
        [None, Some("outb+0x4"), Some("inb")].map(covers)
    };
    assert_eq!(covered("symbol=outb"), [false, true, false]);
    assert_eq!(covered("-symbol=outb"), [true, false, true]);
    assert_eq!(covered("symbol=*b:-symbol=in*"), [false, true, false]);
    assert_eq!(covered("pc=0x1000"), [true; 3]);
    assert_eq!(covered("pc=0x1001-0x2000"), [false; 3]);
    assert_eq!(covered("-pc=0-0xffffffffffffffff"), [false; 3]);
}

#[test]
fn a_process_is_meant_by_number_name_or_page_table() {
    let covered = |text: &str| {
        let filter = filter(text);
        let process = |pid, name| Owner::Process { pid, comm: String::from(name) };
        let owners = [process(12, "sh"), process(13, "cat"), Owner::AddressSpace(0x12000)];
        let owners = owners.iter().map(Some).chain([None]);
        owners.map(|owner| u8::from(filter.covers_process(owner))).collect::<Vec<_>>()
    };
    assert_eq!(covered(""), [1, 1, 1, 1]);
    assert_eq!(covered("process=12"), [1, 0, 0, 0]);
    assert_eq!(covered("process=c*:process=s?"), [0, 1, 0, 0]);
    assert_eq!(covered("process=0x12000"), [0, 0, 1, 0]);
    assert_eq!(covered("-process=sh"), [0, 1, 1, 1]);
}

#[test]
fn each_error_says_what_would_be_right() {
    let error = |text: &str| AccessFilter::parse([text]).unwrap_err().to_string();
    let texts = [
        "",
        "-",
        "com1",
        "ni",
        "size=1",
        "0x3f8-",
        "0x10000",
        "-0x61-0x60",
        "value=",
        "value=x",
        "value=0x100000000",
        "value=2-1",
        "-pc=0x",
        "pc=+1",
        "symbol=",
        "process=",
    ];
    insta::assert_snapshot!(texts.map(error).join("\n"));
}

#[test]
fn an_error_leaves_the_terminal_alone() {
    for text in ["value=0\n\u{1b}[2J", "pc=1-\n", "value=9-\u{7}1", "\u{1b}", "1\n"] {
        let error = AccessFilter::parse([text]).unwrap_err().to_string();
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
}
