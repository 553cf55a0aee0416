//! Policies, right and wrong.

use super::*;
use crate::check::test_accesses::linux;
use crate::check::{CheckedAccess, accesses};

fn parse(text: &str) -> Policy {
    Policy::parse("own.toml", text).unwrap()
}

fn mistake(text: &str) -> String {
    Policy::parse("own.toml", text).unwrap_err().to_string()
}

/// The accesses of the dump for tests that a rule with this condition matches, by port.
fn matched(condition: &str) -> Vec<u16> {
    let text =
        format!("default = \"allow\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\n{condition}");
    let (policy, dump) = (parse(&text), linux());
    let all = accesses(&dump);
    let denied = all.iter().filter(|access| policy.decide(access).action == Action::Deny);
    denied.map(|access| access.port.0).collect()
}

#[test]
fn built_in_policies_are_valid() {
    for (name, _) in BUILT_IN {
        let policy = Policy::built_in(name).unwrap();
        assert!(policy.description.is_some() && policy.rules.len() > 1, "{name}");
    }
    assert!(Policy::built_in("sgx").is_none());
}

#[test]
fn each_condition_selects_accesses() {
    let all = vec![0x40, 0x3f8, 0x300, 0x1f0, 0x80, 0x402, 0x20, 0x3f8];
    assert_eq!(matched(""), all);
    assert_eq!(matched("ports = 0x40"), [0x40]);
    assert_eq!(matched("ports = [\"0x300-0x3ff\", 32]"), [0x3f8, 0x300, 0x20, 0x3f8]);
    assert_eq!(matched("direction = \"in\""), [0x40, 0x300, 0x1f0]);
    assert_eq!(matched("direction = [\"in\", \"out\"]"), all);
    assert_eq!(matched("sizes = 2"), [0x1f0]);
    assert_eq!(matched("sizes = [2, 4]"), [0x1f0]);
    assert_eq!(matched("forms = \"string\""), [0x1f0, 0x3f8]);
    assert_eq!(matched("forms = [\"rep insw\", \"out imm8,al\"]"), [0x1f0, 0x80]);
    assert_eq!(matched("forms = \"scalar\"\nports = 0x3f8"), [0x3f8]);
    assert_eq!(matched("modes = [16, 32]"), [0x402, 0x20]);
    assert_eq!(matched("phases = \"user\""), [0x300]);
    assert_eq!(matched("phases = [\"firmware\", \"unknown\"]"), [0x402, 0x20]);
    assert_eq!(matched("privilege = \"user\""), [0x300]);
    assert_eq!(matched("privilege = \"supervisor\"\nmodes = 32"), [0x402, 0x20]);
    assert_eq!(matched("symbols = \"pit_read\""), [0x40]);
    assert_eq!(matched("symbols = [\"*[libata]\", \"io_serial_*\"]"), [0x3f8, 0x1f0]);
    assert_eq!(matched("symbols = \"/bin/*\""), [0x300]);
    assert_eq!(matched("devices = [\"COM*\", \"PIT\"]"), [0x40, 0x3f8, 0x3f8]);
    assert_eq!(matched("by = \"hypercall\""), [0x3f8]);
}

#[test]
fn what_is_not_known_meets_no_condition() {
    let dump = linux();
    let mut site = dump.tables.sites[0].clone();
    (site.mode, site.privilege, site.symbol) = (None, None, None);
    let access = CheckedAccess {
        name: None,
        size: pvio_x86::AccessSize::UNKNOWN,
        code: crate::check::Code::Site(&site),
        ..accesses(&dump)[0]
    };
    for condition in [
        "sizes = [1, 2, 4]",
        "modes = [16, 32, 64]",
        "privilege = [\"supervisor\", \"user\"]",
        "symbols = \"*\"",
        "devices = \"*\"",
    ] {
        let text =
            format!("default = \"allow\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\n{condition}");
        assert_eq!(parse(&text).decide(&access).action, Action::Allow, "{condition}");
    }
}

#[test]
fn first_rule_that_matches_decides() {
    let policy = parse(
        r#"
        description = "mine"
        default = "deny"
        default-reason = "not listed"
        [[rule]]
        name = "one"
        action = "allow"
        ports = 0x40
        [[rule]]
        name = "two"
        action = "deny"
        ports = "0x40-0x43"
        reason = "no timers"
        "#,
    );
    let dump = linux();
    let all = accesses(&dump);
    let decide = |port| {
        let access = CheckedAccess { port: pvio_x86::Port(port), ..all[0] };
        policy.decide(&access)
    };
    assert_eq!(decide(0x40), Decision { action: Action::Allow, rule: "one", reason: None });
    let two = Decision { action: Action::Deny, rule: "two", reason: Some("no timers") };
    assert_eq!(decide(0x41), two);
    let default = Decision { action: Action::Deny, rule: "default", reason: Some("not listed") };
    assert_eq!(decide(0x44), default);
}

#[test]
fn policy_extends_a_built_in_one() {
    let policy = parse(
        r#"
        extends = "tdx"
        [[rule]]
        name = "serial"
        action = "allow"
        ports = "0x3f8-0x3ff"
        "#,
    );
    let tdx = Policy::built_in("tdx").unwrap();
    assert_eq!(policy.rules.len(), tdx.rules.len(), "a rule of the same name is replaced");
    assert_eq!((&*policy.rules[0].name, policy.rules[0].action), ("serial", Action::Allow));
    assert_eq!((policy.default, policy.default_reason), (Action::Deny, tdx.default_reason));
    let open = parse("extends = \"tdx\"\ndefault = \"allow\"");
    assert_eq!((open.default, open.default_reason), (Action::Allow, None));
}

#[test]
fn each_mistake_has_its_place_and_the_remedy() {
    for (text, expected) in [
        (
            "",
            "1:1: a policy needs a default; add default = \"deny\" or default = \"allow\", or extends = \"tdx\"",
        ),
        ("default = ", "1:"),
        (
            "default = \"denied\"",
            "1:11: default is \"denied\", which is unknown; write allow, deny",
        ),
        ("default = true", "1:11: default is a boolean; write a string"),
        ("defualt = \"deny\"", "1:1: a policy has no key \"defualt\"; did you mean \"default\"?"),
        (
            "x = 1",
            "1:1: a policy has no key \"x\"; its keys are description, extends, default, default-reason, rule",
        ),
        ("extends = \"sev\"", "1:11: extends is \"sev\", which is unknown; write tdx, snp"),
        (
            "default = \"deny\"\nrule = 1",
            "2:8: rule is an integer; write [[rule]] before each rule",
        ),
        ("default = \"deny\"\ndescription = \"\"", "2:15: description is not one line of text"),
    ] {
        let mistake = mistake(text);
        assert!(mistake.starts_with(&format!("own.toml:{expected}")), "{text}: {mistake}");
        assert_eq!(mistake.lines().count(), 1, "{mistake}");
    }
    for (rule, expected) in [
        ("action = \"deny\"", "a rule has no name; add name = \"serial\", for example"),
        ("name = \"a\"", "a rule has no action; add action = \"deny\", for example"),
        (
            "name = \"default\"\naction = \"deny\"",
            "\"default\" is the name of what no rule matches; choose another name",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nport = 1",
            "5:1: a rule has no key \"port\"; did you mean \"ports\"?",
        ),
        (
            "name = \"a\"\naction = \"drop\"",
            "4:10: action is \"drop\", which is unknown; write allow, deny",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nports = []",
            "5:9: ports is empty, so nothing could match; remove it",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nports = \"com1\"",
            "5:9: ports: \"com1\" is neither a port nor a range of ports; write 0x300 or 0x300-0x307",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nports = 65536",
            "5:9: ports: 65536 exceeds 0xffff, the last port",
        ),
        ("name = \"a\"\naction = \"deny\"\nports = -1", "5:9: ports: "),
        (
            "name = \"a\"\naction = \"deny\"\nports = \"0x20-0x10\"",
            "5:9: ports: the range 0x20-0x10 ends before it begins",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nports = 1.5",
            "5:9: ports is a float; write 0x3f8 or \"0x3f8-0x3ff\"",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nports = [0x20, true]",
            "5:16: ports is a boolean; write 0x3f8 or \"0x3f8-0x3ff\"",
        ),
        (
            "name = \"a\"\naction = \"deny\"\ndirection = \"read\"",
            "5:13: direction is \"read\", which is unknown; write in, out",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nsizes = [1, 3]",
            "5:13: sizes has 3, but an access has 1, 2 or 4 bytes",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nmodes = 8",
            "5:9: modes has 8, but code has 16, 32 or 64 bits",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nforms = \"strings\"",
            "5:9: forms is \"strings\", which is unknown; did you mean \"string\"?",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nforms = \"mov\"",
            "5:9: forms is \"mov\", which is unknown; write scalar, string, or a form such as \"rep outsb\" or \"in al,dx\"",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nphases = \"kernal\"",
            "5:10: phases is \"kernal\", which is unknown; did you mean \"kernel\"?",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nprivilege = 3",
            "5:13: privilege is an integer; write a string",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nsymbols = \"\"",
            "5:11: symbols is not one line of text",
        ),
        (
            "name = \"a\"\naction = \"deny\"\ndevices = { a = 1 }",
            "5:11: devices is a table; write a string",
        ),
        (
            "name = \"a\"\naction = \"deny\"\nby = \"mmio\"",
            "5:6: by is \"mmio\", which is unknown; write instruction, hypercall",
        ),
        (
            "name = \"a\"\naction = \"deny\"\n[[rule]]\nname = \"a\"\naction = \"allow\"",
            "two rules have the name \"a\"; choose another name",
        ),
    ] {
        let mistake = mistake(&format!("default = \"deny\"\n[[rule]]\n{rule}"));
        assert!(
            mistake.starts_with("own.toml:") && mistake.contains(expected),
            "{rule}: {mistake}"
        );
        assert_eq!(mistake.lines().count(), 1, "{mistake}");
    }
}

#[test]
fn broken_text_is_a_mistake_and_no_panic() {
    let (_, tdx) = BUILT_IN[0];
    for end in (0..tdx.len()).filter(|&end| tdx.is_char_boundary(end)) {
        let _ = Policy::parse("cut.toml", &tdx[..end]);
    }
    for text in [
        "\u{0}",
        "[[rule]]",
        "[[rule",
        "rule = [[]]",
        "default = \"\u{1f600}",
        "ports = 99999999999999999999",
    ] {
        assert!(Policy::parse("bad.toml", text).is_err(), "{text:?}");
    }
}
