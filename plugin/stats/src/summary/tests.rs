use pvio_x86::{AccessSize, InsnForm, Port, PortForm};

use super::*;
use crate::schema::{FirstAccess, FormRow, HypercallRow, PortRow};
use crate::test_data::smp_snapshot;
use crate::{Call, UndecidedFormRow, WindowRow};

#[test]
fn tables_are_aligned() {
    insta::assert_snapshot!(render(&smp_snapshot(), false));
}

#[test]
fn undecided_forms_have_a_table_and_an_unknown_size() {
    let mut snapshot = smp_snapshot();
    let tables = &mut snapshot.tables;
    let form = InsnForm::all_undecided().nth(3).unwrap();
    tables.forms_undecided.push(UndecidedFormRow {
        form,
        mode: None,
        attempts: 3,
        executions: 2,
        accesses: 2,
        faults: Some(1),
        exits: None,
        unverified: 0,
    });
    let port = PortRow { size: AccessSize::UNKNOWN, qemu: 2, ..tables.ports[0].clone() };
    tables.ports.push(port);
    insta::assert_snapshot!(render(&snapshot, false));
}

#[test]
fn hypercalls_and_windows_have_tables() {
    let mut snapshot = smp_snapshot();
    snapshot.ended = "running".into();
    let row =
        |call, count, bytes| HypercallRow { call, count, bytes, declined: 0, denied: 0, errors: 0 };
    let window = |name: &str, open| WindowRow {
        name: name.into(),
        entries: 1_000,
        open,
        rows_dropped: false,
        tables: snapshot.tables.clone(),
    };
    snapshot.windows = vec![window("boot", false), window("\x1b[31mred", true)];
    snapshot.tables.hypercalls = vec![
        row(Call::Outsb, 5, 20_000),
        HypercallRow { declined: 7, denied: 1_000, errors: 2, ..row(Call::Unknown, 1_009, 0) },
    ];
    snapshot.tables.ports[0].hypercall = 20_000;
    snapshot.tables.vcpus[1].hypercalls = 1_014;
    insta::assert_snapshot!(render(&snapshot, false));
}

#[test]
fn ports_that_no_device_serves_are_shown_in_the_order_of_their_first_access() {
    let mut snapshot = smp_snapshot();
    let row = |port, first| PortRow {
        port: Port(port),
        name: None,
        served: Some(false),
        first,
        ..smp_snapshot().tables.ports.remove(0)
    };
    snapshot.tables.ports.extend([row(0x80, None), row(0x280, None), row(0x402, None)]);
    let before = render(&snapshot, false);
    assert!(before.contains("\n  no device serves 0x0080, 0x0280, 0x0402\n"), "{before}");
    let first = |rank, pc: Option<&str>, hypercall| {
        let (pc, symbol) = (pc.map(str::to_owned), pc.map(|_| "probe+0x1".to_owned()));
        Some(FirstAccess { rank, pc, symbol, hypercall })
    };
    snapshot.tables.ports[1].first = first(9, None, true);
    snapshot.tables.ports[2].first = first(3, Some("0x1000"), false);
    snapshot.tables.ports[3].first = first(12, None, false);
    let text = render(&snapshot, false);
    let begin = text.find("All ports that no device serves").unwrap();
    let table = text[begin..].split("\n\n").next().unwrap();
    insta::assert_snapshot!(table);
    assert!(!text.contains("no device serves 0x"));
}

#[test]
fn colour_is_for_terminals() {
    assert!(!render(&smp_snapshot(), false).contains('\x1b'));
    assert!(render(&smp_snapshot(), true).contains(BOLD));
}

/// The line below the title.
fn overview_of(change: impl FnOnce(&mut Snapshot)) -> String {
    let mut snapshot = smp_snapshot();
    change(&mut snapshot);
    render(&snapshot, false).lines().nth(1).unwrap().to_owned()
}

#[test]
fn one_of_a_kind_is_not_many() {
    let all = |count: u64, hypercall| {
        move |snapshot: &mut Snapshot| {
            let form = &mut snapshot.tables.forms[PortForm::OutDxAl.index()];
            *form = FormRow {
                accesses: count,
                bytes: count,
                executions: count,
                faults: Some(count),
                exits: Some(count),
                ..form.clone()
            };
            snapshot.tables.ports[0].hypercall = hypercall;
            snapshot.tables.instructions.instructions = Some(count);
            let errors = 0;
            snapshot.tables.hypercalls = vec![HypercallRow {
                call: Call::Exit,
                count,
                bytes: 0,
                declined: 0,
                denied: 0,
                errors,
            }];
        }
    };
    assert_eq!(
        overview_of(all(1, 0)),
        "1 port access of 1 byte by 1 execution; 1 attempt faulted; 1 was intercepted by a \
         hypervisor; 1 hypercall that accessed no port; 1 instruction"
    );
    assert_eq!(
        overview_of(all(1_000, 1)),
        "1,000 port accesses of 1,000 bytes by 1,000 executions; 1,000 attempts faulted; 1,000 were \
         intercepted by a hypervisor; 1,000 hypercalls made 1 more; 1,000 instructions"
    );
}

#[test]
fn escape_sequences_of_a_guest_are_not_sent_to_the_terminal() {
    let mut dump = smp_snapshot();
    dump.pvio = "\x1b[2J".into();
    dump.vcpus_omitted = Some("\x1b[2J".into());
    dump.tables.sites[0].symbol = Some("\x1b[2J\n".to_owned());
    dump.tables.sites[0].insn = "\x1b[2J\n".to_owned();
    dump.tables.ports[0].name = Some("\x1b[2J\n".into());
    let text = render(&dump, false);
    assert!(!text.contains('\x1b'), "{text}");
    assert_eq!(text.matches("\\u{1b}[2J").count(), 5, "{text}");
}

#[test]
fn a_long_symbol_is_shown_whole_in_every_table() {
    let mut dump = smp_snapshot();
    let symbol = format!("{}+0x1234 [module]", "long_name_".repeat(20));
    dump.tables.sites[0].symbol = Some(symbol.clone());
    assert_eq!(render(&dump, false).matches(&*symbol).count(), 1);
    assert_eq!(crate::render_port(&dump, Port(0x3f8)).matches(&*symbol).count(), 1);
}

#[test]
fn sites_have_the_file_and_line_of_their_source() {
    let mut snapshot = smp_snapshot();
    for site in &mut snapshot.tables.sites {
        (site.named_by, site.source) = (None, None);
    }
    let text = render(&snapshot, false);
    assert!(!text.contains("\n  names: ") && !text.contains("serial.c"), "{text}");
    let site = &mut snapshot.tables.sites[0];
    site.named_by = Some("/images/vmlinux".to_owned());
    site.source = Some("drivers/serial.c:407".to_owned());
    let label = format!("{} (serial.c:407)", site.symbol.as_deref().unwrap());
    let text = render(&snapshot, false);
    assert!(text.contains("\n  names: vmlinux 1 site\n") && text.contains(&label), "{text}");
}
