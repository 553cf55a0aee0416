use super::*;

fn parse(arguments: &[&str], kinds: &[Kind], api: ApiLevel) -> Result<Options, OptionError> {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.into()).collect();
    Options::parse(&arguments, kinds, api, &CommandLine::default())
}

fn error(arguments: &[&str]) -> String {
    parse(arguments, &crate::devices::built_in_kinds(), ApiLevel::NEWEST).err().unwrap().to_string()
}

#[test]
fn tables_go_to_stderr_unless_summary_says_otherwise() {
    let options = parse(&[], &[], ApiLevel::NEWEST).unwrap();
    assert!(options.stats.is_none());
    assert!(matches!(options.summary, Summary::Stderr));
    let options = parse(&["summary=off"], &[], ApiLevel::NEWEST).unwrap();
    assert!(matches!(options.summary, Summary::Off));
}

#[test]
fn a_device_option_has_a_kind_ports_and_settings() {
    let built_in = &crate::devices::built_in_kinds();
    let option = "device=uart16550@0x2f8:irq=3:file=/tmp/a::b";
    let options = parse(&[option], built_in, ApiLevel::NEWEST).unwrap();
    let [device] = &options.devices[..] else { panic!("one device") };
    assert_eq!((device.kind.name, device.range.to_string()), ("uart16550", "0x02f8-0x02ff".into()));
    let settings = [("irq", "3"), ("file", "/tmp/a:b")];
    assert_eq!(device.settings, settings.map(|(key, value)| (key.into(), value.into())));
}

#[test]
fn hypercall_access_depends_on_the_option_and_the_api() {
    let hypercall =
        |option: &[&str], api: ApiLevel| parse(option, &[], api).map(|options| options.hypercall);
    let newest = ApiLevel::NEWEST;
    assert_eq!(hypercall(&[], newest).unwrap(), HypercallAccess::Kernel);
    assert_eq!(hypercall(&["hypercall=kernel"], newest).unwrap(), HypercallAccess::Kernel);
    assert_eq!(hypercall(&["hypercall=any"], newest).unwrap(), HypercallAccess::Any);
    assert_eq!(hypercall(&["hypercall=off"], newest).unwrap(), HypercallAccess::Off);
    for option in [&[][..], &["hypercall=kernel"]] {
        assert_eq!(hypercall(option, ApiLevel::OLDEST).unwrap(), HypercallAccess::Kernel);
    }
    assert_eq!(hypercall(&["hypercall=off"], ApiLevel::OLDEST).unwrap(), HypercallAccess::Off);
    assert!(hypercall(&["hypercall=any"], ApiLevel::OLDEST).is_err());
}

#[test]
fn insns_counts_all_code_or_by_section() {
    let insns = |option: &[&str]| parse(option, &[], ApiLevel::NEWEST).unwrap().insns;
    assert_eq!(insns(&[]), InsnsOption::Off);
    assert_eq!(insns(&["insns=off"]), InsnsOption::Off);
    assert_eq!(insns(&["insns=on"]), InsnsOption::On);
    let file = GuestFile::parse("a.elf@0x1000").unwrap();
    assert_eq!(insns(&["insns=a.elf@0x1000"]), InsnsOption::BySection(file));
}

#[test]
fn callers_has_a_depth() {
    let callers = |option: &[&str]| parse(option, &[], ApiLevel::NEWEST).unwrap().callers;
    assert_eq!([callers(&[]), callers(&["callers=off"])], [None; 2]);
    assert_eq!(callers(&["callers=on"]), Some(64));
    assert_eq!([callers(&["callers=1"]), callers(&["callers=64"])], [Some(1), Some(64)]);
}

#[test]
fn values_has_ports_and_may_be_repeated() {
    let parsed = parse(&["values=0x80:0x70-0x71", "values=1008"], &[], ApiLevel::NEWEST).unwrap();
    let ports = parsed.values.iter().map(|range| (range.first().0, range.last().0));
    assert_eq!(ports.collect::<Vec<_>>(), [(0x80, 0x80), (0x70, 0x71), (0x3f0, 0x3f0)]);
}

#[test]
fn each_error_names_the_option_and_the_remedy() {
    insta::assert_snapshot!(
        [
            error(&["stat=x"]),
            error(&["stats="]),
            error(&["stats=on"]),
            error(&["symbols=on"]),
            error(&["device=on"]),
            error(&["access-log=/tmp/a:0x80", "stats=/tmp/a"]),
            error(&["device=stream@0x300:in=/etc/passwd:out=/etc/passwd"]),
            error(&["summary=no"]),
            error(&["stats=/tmp/a", "summary=/tmp/a"]),
            error(&["summary=off", "summary=on"]),
            error(&["stats=/nonexistent/directory/x.json"]),
            error(&["summary=/"]),
            error(&["summary=-"]),
            error(&["symbols=-"]),
            error(&["device=stream@0x300:in=/dev/null"]),
            error(&["symbols=/dev/null"]),
            error(&["symbols=vmlinux@0x"]),
            error(&["symbols=/tmp/a@0x1000", "stats=/tmp/a"]),
            error(&["access-log=/nonexistent/log"]),
            error(&["access-log=/dev/null:com1"]),
            error(&["values="]),
            error(&["values=com1"]),
            error(&["values=0x80:0x71-0x70"]),
            error(&["device=latch"]),
            error(&["device=latch@0x300:"]),
            error(&["device=latsch@0x300"]),
            error(&["device=latch@0xfffe"]),
            error(&["device=latch@0x307-0x300"]),
            error(&["device=latch@com1"]),
            error(&["hypercall=on"]),
            error(&["hypercall=user"]),
            error(&["hypercall=any", "hypercall=off"]),
            error(&["log=/nonexistent/log"]),
            error(&["log=/dev/null", "hypercall=off"]),
            error(&["log=/tmp/a", "stats=/tmp/a"]),
            error(&["insns="]),
            error(&["insns=/tmp/a@0x1000", "stats=/tmp/a"]),
            error(&["stats=/tmp/a", "insns=/tmp/a"]),
            error(&["callers="]),
            error(&["callers=0"]),
            error(&["callers=65"]),
            error(&["callers=yes"]),
            error(&["callers=on", "callers=8"]),
            error(&["processes=yes"]),
            error(&["share="]),
            error(&["share=/nonexistent/directory"]),
            error(&["share=/etc/passwd"]),
            error(&["share=/tmp", "share=/tmp"]),
            error(&["share=/tmp:limit=5"]),
            error(&["share=/tmp:file-limit=many"]),
            error(&["share=/tmp:file-limit=1:file-limit=2"]),
            error(&["share=/tmp:overwrite=yes"]),
            error(&["share=/tmp", "hypercall=off"]),
            error(&["stats=/tmp/a", "share=/tmp"]),
            error(&["share=/", "access-log=/tmp/a"]),
        ]
        .join("\n")
    );
}
