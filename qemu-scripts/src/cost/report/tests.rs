//! Reports of one model and of several.

use std::collections::BTreeMap;

use expect_test::expect;
use pvio_x86::{Port, PortForm};
use serde_json::Value;

use super::*;
use crate::cost::clusters::{Kind, Point, Rule, Shape, ShapeCounts, SiteKey};
use crate::cost::json::to_json;
use crate::cost::model::built_in;
use crate::stats::test_data::snapshot;

const STYLE: Style = Style { format: Format::Text { colour: false }, top: 10, all: false };

fn models(names: &[&str]) -> Vec<Model> {
    built_in().into_iter().filter(|model| names.contains(&&*model.name)).collect()
}

fn clusters(dump: &Snapshot) -> Clusters {
    let rule = Rule { near: 128, within: 20_000, most: 65_536 };
    let site = &dump.sites[0];
    let point = Point {
        site: SiteKey::of_row(site),
        pc: site.address().unwrap(),
        symbol: site.symbol.clone(),
        form: PortForm::OutDxAl.into(),
        port: Port(0x3f8),
    };
    let mut clusters = Clusters::new(rule);
    let shape = Shape { kind: Kind::Loop, points: vec![point.clone()] };
    clusters.shapes.insert(shape, ShapeCounts { times: 3, accesses: vec![1000] });
    clusters.loops.insert(point, BTreeMap::from([(500, 2)]));
    (clusters.accesses, clusters.singles) = (1_200_000, 1_199_000);
    clusters
}

fn text(dump: &Snapshot, names: &[&str], clusters: Option<&Clusters>, style: Style) -> String {
    let (groups, models) = (Groups::of(dump), models(names));
    render(&Run { dump, groups: &groups, models: &models, clusters, is_mixed: false }, style)
}

#[test]
fn tables_are_aligned() {
    let dump = snapshot(1_200_000);
    expect![[r#"
        What the port I/O would cost as VM exits
          model       accesses      exits  to user space  in the kernel  collected       cost  hypercalls save  clusters save  strings save     unit
          kvm-intel  1,200,000  1,200,000      1,200,000              0          0  6,313.200          252.000              -             -  Mcycles
          Clusters and loops show only in a trace (trace=FILE).

        The site to change first under kvm-intel, in Mcycles
          address             symbol             form       ports   best by        exits  exits saved       cost      %  hypercalls save
          0xffffffff81000051  io_serial_out+0x1  out dx,al  0x03f8  hypercall  1,200,000            0  6,313.200  100.0          252.000

        By form
          form        accesses      exits    Mcycles      %  hypercalls save
          out dx,al  1,200,000  1,200,000  6,313.200  100.0          252.000
          all        1,200,000  1,200,000  6,313.200  100.0          252.000

        By port
          port    dir  size  name   accesses      exits    Mcycles      %  hypercalls save
          0x03f8  out  1     COM1  1,200,000  1,200,000  6,313.200  100.0          252.000
          all                      1,200,000  1,200,000  6,313.200  100.0          252.000

        By site
          address             symbol             form        accesses      exits    Mcycles      %  hypercalls save
          0xffffffff81000051  io_serial_out+0x1  out dx,al  1,200,000  1,200,000  6,313.200  100.0          252.000
          all                                               1,200,000  1,200,000  6,313.200  100.0          252.000

        By caller
          The run did not record callers (callers=on).

        Figures and their sources
          kvm-intel in: 6,209 cycles (tr-reload)
          kvm-intel out: 5,261 cycles (tr-reload, derived: out-kernel plus what user space adds to an in: 1391 + 6209 - 2339)
          kvm-intel in-kernel: 2,339 cycles (tr-reload)
          kvm-intel out-kernel: 1,391 cycles (tr-reload)
          kvm-intel coalesced-out: 1,391 cycles (tr-reload, derived: as out-kernel: the kernel serves the exit)
          kvm-intel hypercall: 1,181 cycles (tr-reload)
          tr-reload: Linux commit b7ffc44d5b2e, Defer TR reload after VM exit: kvm-unit-tests vmexit, after, 2017-02, https://git.kernel.org/linus/b7ffc44d5b2ea163899d09289ca7743d5c32e926
          kvm-intel: Measured before the mitigations of 2018. The source does not name the processor: give --mhz for times.
    "#]].assert_eq(&text(&dump, &["kvm-intel"], None, STYLE));
}

#[test]
fn models_are_compared_side_by_side() {
    let dump = snapshot(1_200_000);
    let clusters = clusters(&dump);
    expect![[r#"
        What the port I/O would cost as VM exits
          model     accesses      exits  to user space  in the kernel  collected         cost  hypercalls save  clusters save  strings save  unit
          sev-snp  1,200,000  1,200,000      1,200,000              0          0  ≥ 4,263.600          ≥ 0.000        ≥ 3.542       ~ 3.546    ms
          tdx      1,200,000  1,200,000      1,200,000              0          0            -                -              -             -    ms
          tdx has no figure for in, out, in-kernel, out-kernel, coalesced-out, hypercall: what needs it is -.

        The site to change first under sev-snp, in ms
          address             symbol             form       ports   best by      exits  exits saved         cost      %  hypercalls save  clusters save  rep saves
          0xffffffff81000051  io_serial_out+0x1  out dx,al  0x03f8  rep      1,200,000          998  ≥ 4,263.600  100.0          ≥ 0.000        ≥ 3.542    ~ 3.546

        The site to change first under tdx, in ms
          address             symbol             form       ports   best by      exits  exits saved  cost  %  hypercalls save  clusters save  rep saves
          0xffffffff81000051  io_serial_out+0x1  out dx,al  0x03f8  cluster  1,200,000          997     -  -                -              -          -

        Clusters: accesses that one exit could serve
          what  sites              ports   times  accesses  exits saved    %  sev-snp saves, ms  tdx saves, ms
          loop  io_serial_out+0x1  0x03f8      3     1,000          997  0.1            ≥ 3.542              -
          all                                  3     1,000          997  0.1            ≥ 3.542              -
          1,200,000 accesses by in and out: 3 clusters and 1,199,000 single accesses are 1,199,003 exits.

        Loops of in or out that a rep could replace
          site               port    form       loops  accesses  sev-snp exits saved  saves, ms  tdx exits saved  saves, ms
          io_serial_out+0x1  0x03f8  out dx,al      2     1,000                  998    ~ 3.546                -          -

        By form
          form        accesses  sev-snp exits   sev-snp ms      %  tdx exits  tdx ms  %
          out dx,al  1,200,000      1,200,000  ≥ 4,263.600  100.0  1,200,000       -  -
          all        1,200,000      1,200,000  ≥ 4,263.600  100.0  1,200,000       -  -

        By port
          port    dir  size  name   accesses  sev-snp exits   sev-snp ms      %  tdx exits  tdx ms  %
          0x03f8  out  1     COM1  1,200,000      1,200,000  ≥ 4,263.600  100.0  1,200,000       -  -
          all                      1,200,000      1,200,000  ≥ 4,263.600  100.0  1,200,000       -  -

        By site
          address             symbol             form        accesses  sev-snp exits   sev-snp ms      %  tdx exits  tdx ms  %
          0xffffffff81000051  io_serial_out+0x1  out dx,al  1,200,000      1,200,000  ≥ 4,263.600  100.0  1,200,000       -  -
          all                                               1,200,000      1,200,000  ≥ 4,263.600  100.0  1,200,000       -  -

        By caller
          The run did not record callers (callers=on).

        Figures and their sources
          sev-snp in: ≥ 3,885 ns (cvm-eval, derived: as in-kernel; user space costs more)
          sev-snp out: ≥ 3,553 ns (cvm-eval, derived: as a hypercall that does nothing)
          sev-snp in-kernel: 3,885 ns (cvm-eval)
          sev-snp out-kernel: ≥ 3,553 ns (cvm-eval, derived: as a hypercall that does nothing)
          sev-snp coalesced-out: ≥ 3,553 ns (cvm-eval, derived: as a hypercall that does nothing)
          sev-snp hypercall: 3,553 ns (cvm-eval)
          cvm-eval: TUM-DSE/CVM_eval, benchmarks/vmexit/plot.py: SNP guest (repository of a paper of SIGMETRICS 2025), 2024-04, https://github.com/TUM-DSE/CVM_eval/blob/main/benchmarks/vmexit/plot.py
          sev-snp: Lower bounds, but for ports in KVM's kernel: the source measured such an in, and a hypercall.
          tdx: No published figure is known: only exits are counted. KVM serves no port in its kernel here, because a TDX guest has a split irqchip.
    "#]].assert_eq(&text(&dump, &["sev-snp", "tdx"], Some(&clusters), STYLE));
}

#[test]
fn markdown_has_the_same_tables() {
    let dump = snapshot(5);
    let plain = text(&dump, &["xen"], None, STYLE);
    let markdown = text(&dump, &["xen"], None, Style { format: Format::Markdown, ..STYLE });
    let headings = |text: &str, mark: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.is_empty());
        let lines = lines.filter(|line| line.starts_with(mark) && !line.starts_with("  "));
        lines.map(|line| line.trim_start_matches("## ").to_owned()).collect()
    };
    assert_eq!(headings(&plain, ""), headings(&markdown, "## "));
}

#[test]
fn tables_have_the_largest_rows_the_others_and_all() {
    let mut dump = snapshot(20);
    let (row, access) = (dump.ports[0].clone(), dump.accesses[0].clone());
    (dump.tables.ports, dump.tables.accesses) = (Vec::new(), Vec::new());
    for port in 0..20 {
        let (mut row, mut access) = (row.clone(), access.clone());
        (row.port, row.qemu) = (Port(0x300 + port), u64::from(port) + 1);
        (access.port, access.counts.accesses) = (row.port, row.qemu);
        dump.tables.ports.push(row);
        dump.tables.accesses.push(access);
    }
    let short = text(&dump, &["xen"], None, STYLE);
    assert!(short.contains("  4 others") && !short.contains("  0x0303 "), "{short}");
    let long = text(&dump, &["xen"], None, Style { all: true, ..STYLE });
    assert!(!long.contains("others") && long.contains("  0x0303 "), "{long}");
}

#[test]
fn control_characters_of_the_guest_are_escaped() {
    let mut dump = snapshot(5);
    dump.tables.sites[0].symbol = Some("evil\x1b[31m".to_owned());
    let text = text(&dump, &["xen"], None, STYLE);
    assert!(text.contains("evil\\u{1b}[31m") && !text.contains('\x1b'), "{text}");
}

#[test]
fn json_has_the_sums_of_each_table() {
    let dump = snapshot(1000);
    let clusters = clusters(&dump);
    let (groups, models) = (Groups::of(&dump), models(&["kvm-intel", "tdx"]));
    let run = Run {
        dump: &dump,
        groups: &groups,
        models: &models,
        clusters: Some(&clusters),
        is_mixed: false,
    };
    let json: Value = serde_json::from_str(&to_json(&run, 10)).unwrap();
    let [intel, tdx] = [0, 1].map(|index| &json["models"][index]);
    assert_eq!(intel["total"]["amount"], 1000 * 5_261_000_u64);
    for table in ["forms", "ports", "sites"] {
        let rows = intel[table].as_array().unwrap();
        let sum: u64 = rows.iter().map(|row| row["cost"]["amount"].as_u64().unwrap()).sum();
        assert_eq!(intel["total"]["amount"], sum, "{table}");
    }
    assert_eq!((&tdx["total"]["amount"], &tdx["total"]["exits"]), (&Value::Null, &1000.into()));
    assert_eq!(intel["first"][0]["saved_by_clusters"]["exits"], 997);
    assert_eq!(json["clusters"]["exits_saved"], 997);
    assert_eq!(intel["sources"][0]["date"], "2017-02");
}

#[test]
fn each_run_has_a_row_whose_cost_is_that_of_its_own_report() {
    let run = |name: &str, accesses, clusters: bool| {
        let dump = snapshot(accesses);
        let (groups, clusters) = (Groups::of(&dump), clusters.then(|| self::clusters(&dump)));
        NamedRun { name: name.to_owned(), dump, groups, clusters }
    };
    let runs = [run("firmware", 1_200_000, true), run("kernel", 2_000, false)];
    let text = render_each(&runs, &models(&["kvm-intel", "tdx"]), STYLE);
    for line in text.lines() {
        println!("{line}");
    }
    let rows = |name: &str| -> Vec<Vec<String>> {
        let rows = text.lines().filter(|line| line.trim_start().starts_with(name));
        rows.map(|row| row.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let firmware = rows("firmware");
    assert_eq!(firmware.len(), 3, "a row in each table");
    assert_eq!(firmware[0][1..4], ["1,200,000", "1,200,000", "6,313.200"]);
    assert_eq!(firmware[0].last().unwrap(), "-", "tdx has no figures");
    assert!(firmware[1].join(" ").contains("out 0x03f8"), "{firmware:?}");
    assert!(firmware[1].contains(&"100.0".to_owned()), "{firmware:?}");
    assert_eq!(firmware[2][1..], ["1,200,000", "1,000", "0.1", "997", "0.1"]);
    assert_eq!(rows("kernel").len(), 2, "it has no trace");
}
