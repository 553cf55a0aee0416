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
    expect![[r#""#]].assert_eq(&text(&dump, &["kvm-intel"], None, STYLE));
}

#[test]
fn models_are_compared_side_by_side() {
    let dump = snapshot(1_200_000);
    let clusters = clusters(&dump);
    expect![[r#""#]].assert_eq(&text(&dump, &["sev-snp", "tdx"], Some(&clusters), STYLE));
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
    assert_eq!(intel["total"]["amount"], 1000 * 5_261_000);
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
