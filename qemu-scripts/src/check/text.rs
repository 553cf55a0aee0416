//! The result of a check as text.

use std::fmt::Write;

use crate::check::{Chain, Offence, Origin, Total, Verdict};
use crate::stats::ChainEnd;
use crate::stats::text_table::{TextTable, number, percent, printable};

/// Options of the text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Prints headings bold.
    pub colour: bool,
    /// Lists every offence with all its call chains.
    pub all: bool,
}

/// Maximum number of offences unless [`Style::all`] is set.
const MAX_OFFENCES: usize = 10;

/// Maximum number of callers in a call chain unless [`Style::all`] is set.
const MAX_CALLERS: usize = 6;

/// Maximum number of call chains, and of processes, of an offence unless [`Style::all`] is set.
const MAX_ORIGINS: usize = 1;

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Renders a result as text, with a newline at the end.
pub fn render(verdict: &Verdict<'_>, style: Style) -> String {
    let mut text = headline(verdict);
    if verdict.is_clean() {
        return text;
    }
    heading(&mut text, "Rules", style);
    text += &rules(verdict);
    let shown = if style.all { verdict.offences.len() } else { MAX_OFFENCES };
    let shown = shown.min(verdict.offences.len());
    heading(&mut text, "Offences", style);
    text += &offences(verdict, shown, style);
    let rest = verdict.offences[shown..].iter();
    let mut hidden = Total::default();
    rest.for_each(|offence| hidden.add(&offence.access));
    if hidden.kinds > 0 {
        let (kinds, accesses) = (number(hidden.kinds), number(hidden.all()));
        let _ = writeln!(text, "  {kinds} more with {accesses} accesses: --all lists them");
    }
    if verdict.offences.iter().all(|offence| offence.origin.chains.is_empty()) {
        text += "\nCallers are not known: run the guest with callers=on.\n";
    }
    text
}

fn heading(text: &mut String, title: &str, style: Style) {
    let (on, off) = if style.colour { (BOLD, PLAIN) } else { ("", "") };
    let _ = writeln!(text, "\n{on}{title}{off}");
}

/// Says what was checked, and how much of it is not allowed.
fn headline(verdict: &Verdict<'_>) -> String {
    let (checked, denied) = (verdict.checked, verdict.denied);
    let mut text = String::new();
    if let Some(policy) = verdict.against.policy {
        let description = policy.description.as_ref();
        let about = description.map_or(String::new(), |description| format!(" ({description})"));
        let _ = writeln!(text, "Policy {}{}", printable(&policy.name), printable(&about));
    }
    if let Some(baseline) = verdict.against.baseline {
        let _ = writeln!(text, "Compared with an earlier run, by {}", baseline.by().name());
    }
    let of = format!(
        "{} of {} kinds of access",
        if verdict.is_clean() { "None".to_owned() } else { number(denied.kinds) },
        number(checked.kinds)
    );
    let _ = match verdict.is_clean() {
        true => writeln!(text, "{of} is an offence: {} accesses", number(checked.all())),
        false => writeln!(
            text,
            "{of} are offences: {} of {} accesses ({} %); {} read what the host chooses",
            number(denied.all()),
            number(checked.all()),
            percent(denied.all(), checked.all()),
            number(denied.input_kinds),
        ),
    };
    if verdict.known.kinds > 0 && verdict.against.policy.is_some() {
        let _ = writeln!(
            text,
            "The earlier run has {} other offences, which are not listed",
            number(verdict.known.kinds)
        );
    }
    text
}

fn rules(verdict: &Verdict<'_>) -> String {
    let mut table = TextTable::new(&["<rule", ">offences", ">reads", ">accesses", ">%", "<reason"]);
    for (rule, reason, total) in &verdict.by_rule {
        table.row([
            (*rule).to_owned(),
            number(total.kinds),
            number(total.input_kinds),
            number(total.all()),
            percent(total.all(), verdict.denied.all()),
            reason.unwrap_or("-").to_owned(),
        ]);
    }
    table.render()
}

/// The table of offences; after each row, the origins of its accesses.
fn offences(verdict: &Verdict<'_>, shown: usize, style: Style) -> String {
    let offences = &verdict.offences[..shown];
    let unverified = offences.iter().any(|offence| offence.access.counts.unverified > 0);
    let mut table = TextTable::new(&[
        ">accesses",
        ">%",
        if unverified { ">unverified" } else { "" },
        "<port",
        "<name",
        "<dir",
        ">size",
        "<input",
        "<instruction or call",
        "<phase",
        "<rule",
        "<address",
        "<symbol",
    ]);
    for Offence { access, rule, .. } in offences {
        let by = match access.code.by() {
            "hypercall" => format!("call {}", access.code.insn()),
            _ => access.code.insn().to_owned(),
        };
        table.row([
            number(access.counts.accesses),
            percent(access.all(), verdict.denied.all()),
            number(access.counts.unverified),
            access.port.to_string(),
            access.name.unwrap_or("-").to_owned(),
            access.dir.to_string(),
            access.size.to_string(),
            if access.is_input() { "host's" } else { "-" }.to_owned(),
            by,
            access.phase.name().to_owned(),
            (*rule).to_owned(),
            access.code.pc().to_owned(),
            access.code.shown().into_owned(),
        ]);
    }
    let table = table.render();
    let mut lines = table.lines();
    let mut text = String::new();
    let _ = lines.next().map(|heading| writeln!(text, "{heading}"));
    for (line, offence) in lines.zip(offences) {
        let _ = writeln!(text, "{line}");
        put_origin(&mut text, &offence.origin, style);
    }
    text
}

fn put_origin(text: &mut String, origin: &Origin, style: Style) {
    let shown = if style.all { usize::MAX } else { MAX_ORIGINS };
    let all: u64 = origin.chains.iter().map(|chain| chain.accesses).sum();
    let of = if origin.of_all_ports { " of the code's accesses" } else { "" };
    for chain in origin.chains.iter().take(shown) {
        let share = match origin.chains.len() {
            1 => String::new(),
            _ => format!(" ({} %{of})", percent(chain.accesses, all)),
        };
        let _ = writeln!(
            text,
            "      called by {}{share}",
            printable(&callers(chain, if style.all { usize::MAX } else { MAX_CALLERS }))
        );
    }
    put_more(text, origin.chains.len().saturating_sub(shown), ["call chain", "call chains"]);
    for (process, accesses) in origin.processes.iter().take(shown) {
        let share = match origin.processes.len() {
            1 => String::new(),
            _ => format!(" ({} accesses)", number(*accesses)),
        };
        let _ = writeln!(text, "      process {}{share}", printable(process));
    }
    put_more(text, origin.processes.len().saturating_sub(shown), ["process", "processes"]);
}

/// Says how many more there are, if any. `noun` is for one and for several.
fn put_more(text: &mut String, count: usize, noun: [&str; 2]) {
    if count > 0 {
        let noun = noun[usize::from(count > 1)];
        let _ = writeln!(text, "      and {} other {noun}", number(count as u64));
    }
}

/// The callers of a chain, the innermost first, at most `most` of them.
pub(super) fn callers(chain: &Chain, most: usize) -> String {
    let frame = |frame: &crate::stats::FrameRow| {
        let mark = if frame.interrupted { " (interrupted)" } else { "" };
        format!("{}{mark}", frame.name())
    };
    let mut names: Vec<String> = chain.frames.iter().take(most).map(frame).collect();
    match chain.end {
        _ if chain.frames.len() > most => names.push("...".to_owned()),
        ChainEnd::User => names.push("user code".to_owned()),
        ChainEnd::Bottom => {}
        ChainEnd::Unknown | ChainEnd::Dropped => names.push("?".to_owned()),
        ChainEnd::Depth => names.push("...".to_owned()),
    }
    match names.is_empty() {
        true => "nobody".to_owned(),
        false => names.join(" < "),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::check::test_accesses::linux;
    use crate::check::{Against, Baseline, By, Origins, Policy};

    #[test]
    fn result_is_aligned_and_names_the_callers() {
        let dump = linux();
        let tdx = Policy::built_in("tdx").unwrap();
        let against = Against { policy: Some(&tdx), baseline: None };
        let verdict = Verdict::new(&dump, against, &Origins::of_tables(&dump));
        expect![[r#"
            Policy tdx (Intel TDX: what the Linux guest's security specification allows)
            7 of 8 kinds of access are offences: 4,271 of 4,871 accesses (87.7 %); 3 read what the host chooses

            Rules
              rule                offences  reads  accesses     %  reason
              default                    2      1     2,410  56.4  the specification does not list the port
              serial                     1      0     1,000  23.4  allowed only in a trust domain that can be debugged; use a virtio console
              user code                  1      1       500  11.7  a process gets SIGSEGV: virt_exception_user() handles no port I/O (arch/x86/coco/tdx/tdx.c)
              strings                    2      1       261   6.1  handle_io() returns -EIO for ins and outs (arch/x86/coco/tdx/tdx.c)
              only in the filter         1      0       100   2.3  tdx_allowed_port() allows it, the specification does not list it

            Offences
              accesses     %  port    name       dir  size  input   instruction or call  phase    rule                address             symbol
                 2,400  56.2  0x0040  PIT        in      1  host's  in al,dx             kernel   default             0xffffffff81000010  pit_read+0x1
                  called by setup_timers+0x2 < start_kernel+0x90
                 1,000  23.4  0x03f8  COM1       out     1  -       out dx,al            kernel   serial              0xffffffff81000020  io_serial_out+0x16
                   500  11.7  0x0300  -          in      1  host's  in al,dx             user     user code           0x555555555139      /bin/dongle+0x1139
                   256   6.0  0x01f0  IDE 1      in      2  host's  rep insw             kernel   strings             0xffffffff81000030  ata_sff_data_xfer+0x5c [libata]
                   100   2.3  0x0080  POST code  out     1  -       out imm8,al          kernel   only in the filter  0xffffffff81000040  native_io_delay+0x1
                    10   0.2  0x0020  PIC 1      out     1  -       out dx,al            unknown  default             0x7e100010          -
                     5   0.1  0x03f8  COM1       out     1  -       call outsb           kernel   strings             0xffffffff81000060  early_serial_puts+0x20 (early.c:45)
        "#]].assert_eq(&render(&verdict, Style::default()));
    }

    #[test]
    fn result_without_offences_is_short() {
        let dump = linux();
        let baseline = Baseline::new(&dump, By::Port);
        let against = Against { policy: None, baseline: Some(&baseline) };
        let verdict = Verdict::new(&dump, against, &Origins::default());
        expect![[r#"
            Compared with an earlier run, by port
            None of 8 kinds of access is an offence: 4,871 accesses
        "#]]
        .assert_eq(&render(&verdict, Style::default()));
    }

    #[test]
    fn all_lists_every_offence() {
        let mut dump = linux();
        for port in 0x100..0x120 {
            let mut row = dump.tables.accesses[0].clone();
            row.port = pvio_x86::Port(port);
            row.counts.accesses = 1;
            dump.tables.accesses.push(row);
        }
        let tdx = Policy::built_in("tdx").unwrap();
        let against = Against { policy: Some(&tdx), baseline: None };
        let verdict = Verdict::new(&dump, against, &Origins::default());
        let text = render(&verdict, Style::default());
        assert!(text.contains("\n  29 more with 29 accesses: --all lists them\n"), "{text}");
        assert!(text.contains("Callers are not known"), "{text}");
        let all = render(&verdict, Style { all: true, ..Style::default() });
        assert!(all.contains("0x011f") && !all.contains("more with"), "{all}");
    }
}
