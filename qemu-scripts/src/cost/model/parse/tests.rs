//! Models, right and wrong.

use pvio_x86::{Direction, Port};

use super::*;
use crate::cost::model::ExitClass;

const MODEL: &str = r#"schema = "pvio.model/1"
name = "mine"
title = "my machine"
mhz = 2400.5
strings = "page-in"
string-bytes = 1024

[sources.paper]
title = "a paper"
url = "https://example.org/paper"
date = "2024-05"

[costs.in]
cycles = 3885
source = "paper"

[costs.out]
cycles = 3000.125
source = "measured"
derived = "a guess"
at-least = true

[[kernel-ports]]
ports = "0x40-0x43"

[[coalesced-ports]]
ports = "0x70"
"#;

fn mistake(text: &str) -> String {
    parse("dir/m.toml", text).unwrap_err().to_string()
}

#[test]
fn model_is_read() {
    let model = parse("m.toml", MODEL).unwrap();
    assert_eq!((&*model.name, model.strings, model.string_bytes), ("mine", Strings::PageIn, 1024));
    assert_eq!(model.unit, Unit::CyclesAt(Decimal::parse("2400.5").unwrap()));
    let figure = model.figure(CostKind::In).unwrap();
    assert_eq!((figure.amount, figure.at_least), (Decimal::whole(3885), false));
    assert_eq!(model.sources[figure.source].title, "a paper");
    let figure = model.figure(CostKind::Out).unwrap();
    assert_eq!((figure.amount.to_string(), figure.at_least), ("3,000.125".to_owned(), true));
    assert_eq!(model.sources[figure.source].name, "measured");
    assert_eq!(model.figure(CostKind::Hypercall), None);
    let class = |port, direction| model.class(Port(port), direction);
    assert_eq!(class(0x43, Direction::In), ExitClass::Kernel);
    assert_eq!(class(0x44, Direction::In), ExitClass::User);
    assert_eq!(class(0x70, Direction::Out), ExitClass::Coalesced);
    assert_eq!(class(0x70, Direction::In), ExitClass::User);
}

#[test]
fn mistakes_have_their_place_and_the_nearest_key() {
    let cases = [
        ("name = ", "name = \"x", "2:"),
        (
            "strings = ",
            "string = ",
            "5:1: a model has no key \"string\"; did you mean \"strings\"?",
        ),
        ("mhz = 2400.5", "cpu = 1", "4:1: a model has no key \"cpu\"; its keys are schema, name, "),
        (
            "pvio.model/1",
            "pvio.model/2",
            "1:10: schema is \"pvio.model/2\"; write \"pvio.model/1\"",
        ),
        ("name = \"mine\"", "name = \"my model\"", "2:8: name is \"my model\"; write one word"),
        ("name = \"mine\"\n", "", "1:1: the model has no name; add name = \"my-machine\""),
        ("\"page-in\"", "\"page-im\"", "5:11: strings is \"page-im\"; did you mean \"page-in\"?"),
        (
            "\"page-in\"",
            "\"all\"",
            "5:11: strings is \"all\"; write element, page, page-in, refused",
        ),
        ("1024", "0", "6:16: string-bytes is not between 4 and 1048576"),
        ("date = \"2024-05\"\n", "", "8:10: sources.paper has no date; add date = \"2024-05\""),
        (
            "[costs.in]",
            "[costs.in-kernal]",
            "13:8: costs has no key \"in-kernal\"; did you mean \"in-kernel\"?",
        ),
        (
            "cycles = 3885",
            "cycle = 3885",
            "14:1: costs.in has no key \"cycle\"; did you mean \"cycles\"?",
        ),
        ("cycles = 3885\n", "", "13:8: costs.in has no figure; add ns = N or cycles = N"),
        ("cycles = 3885", "ns = 1\ncycles = 3885", "15:10: costs.in has ns and cycles; keep one"),
        ("cycles = 3885", "cycles = 0", "14:10: costs.in.cycles is not a number above 0; write"),
        ("cycles = 3885", "cycles = -2", "14:10: costs.in.cycles is not a number above 0; write"),
        ("cycles = 3885", "cycles = nan", "14:10: costs.in.cycles is not a number above 0; write"),
        ("cycles = 3885", "cycles = \"x\"", "14:10: costs.in.cycles is a string; write a number"),
        (
            "cycles = 3885",
            "ns = 3885",
            "18:10: this is in cycles, the figures before in ns; use one",
        ),
        (
            "\"paper\"\n\n[costs.out",
            "\"papr\"\n\n[costs.out",
            "15:10: costs.in: no source is named \"papr\"; did you mean \"paper\"?",
        ),
        (
            "\"paper\"\n\n[costs.out",
            "\"book\"\n\n[costs.out",
            "15:10: costs.in: no source is named \"book\"; add [sources.book]",
        ),
        ("at-least = true", "at-least = 1", "21:12: at-least is an integer; write true or false"),
        ("0x40-0x43", "0x43-0x40", "24:9: the range 0x43-0x40 ends before it begins"),
        (
            "ports = \"0x70\"",
            "port = \"0x70\"",
            "27:1: coalesced-ports has no key \"port\"; did you mean",
        ),
        ("ports = \"0x70\"", "ports = 112", "27:9: ports is an integer; write a string"),
    ];
    for (from, to, expected) in cases {
        assert!(MODEL.contains(from), "{from}");
        let line = mistake(&MODEL.replacen(from, to, 1));
        let expected = format!("dir/m.toml:{expected}");
        assert!(line.starts_with(&expected), "{line}\n{expected}");
        assert_eq!(line.lines().count(), 1);
    }
}

#[test]
fn model_without_costs_has_no_figures() {
    let text = "schema = \"pvio.model/1\"\nname = \"x\"\ntitle = \"x\"\nstrings = \"refused\"\n";
    let model = parse("x", text).unwrap();
    assert!(CostKind::ALL.into_iter().all(|kind| model.figure(kind).is_none()));
    assert_eq!((model.string_bytes, model.kernel_ports.len()), (4096, 0));
}
