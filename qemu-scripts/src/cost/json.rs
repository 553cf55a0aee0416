//! A report as JSON, schema `pvio.cost/1`.

use serde_json::{Value, json};

use super::advice::{Advice, TraceSavings, advice};
use super::callers::Callers;
use super::clusters::{Clusters, Point, saved_by_cluster, saved_by_rep};
use super::list::model_json;
use super::price::{Costed, Price, Sum};
use super::report::Run;

/// The name of the schema.
pub const SCHEMA: &str = "pvio.cost/1";

/// Renders a report as JSON, with a newline at the end.
///
/// `docs/cost.md` defines the fields. Amounts are whole thousandths of the model's unit, and `null` if they are not known.
pub fn to_json(run: &Run<'_>, top: usize) -> String {
    let models: Vec<Value> = run
        .models
        .iter()
        .map(|model| {
            let costed = Costed::new(run.groups, model);
            let mut value = model_json(model);
            value["total"] = price(&costed.total());
            value["saved_by_hypercalls"] = price(&costed.total_saved());
            value["forms"] = rows(
                &costed,
                |group| group.form,
                |form| json!({ "form": form.map(|form| form.name()) }),
            );
            value["ports"] = rows(
                &costed,
                |group| (group.port, group.dir, group.size),
                |key| json!({ "port": key.0, "dir": key.1, "size": key.2 }),
            );
            value["sites"] = rows(
                &costed,
                |group| group.site,
                |site| {
                    let row = site.and_then(|site| run.dump.sites.get(site));
                    json!({
                        "pc": row.map(|row| &row.pc),
                        "form": row.map(|row| row.form.name()),
                        "symbol": row.and_then(|row| row.symbol.as_deref()),
                    })
                },
            );
            value["callers"] = callers(run, &costed);
            let list = advice(run.dump, &costed, run.clusters);
            value["first"] = list.iter().take(top).map(|row| first(run, row)).collect();
            if let Some(clusters) = run.clusters {
                let savings = TraceSavings::of(clusters, &costed);
                value["saved_by_clusters"] = price(&savings.clusters);
                value["saved_by_strings"] = savings.strings.as_ref().map(price).into();
            }
            value
        })
        .collect();
    let value = json!({
        "schema": SCHEMA,
        "accesses": run.groups.groups.iter().map(|group| group.accesses).sum::<u64>(),
        "by_hypercall": run.groups.by_hypercall,
        "unverified": run.groups.unverified,
        "without_site": run.groups.without_site(),
        "models": models,
        "clusters": run.clusters.map(|clusters| clusters_json(clusters, run)),
    });
    format!("{value:#}\n")
}

fn number(number: u128) -> Value {
    // Only sums of damaged dumps exceed 64 bits.
    u64::try_from(number).map_or(Value::Null, Value::from)
}

fn price(price: &Price) -> Value {
    json!({
        "exits": number(price.exits),
        "amount": price.amount.map(number),
        "bound": price.bound.name(),
    })
}

fn sum_json(mut value: Value, sum: &Sum) -> Value {
    value["accesses"] = sum.accesses.into();
    value["cost"] = price(&sum.price);
    value["saved_by_hypercalls"] = price(&sum.saved);
    value
}

fn rows<K: Ord>(
    costed: &Costed<'_>,
    key: impl Fn(&super::groups::Group) -> K,
    name: impl Fn(&K) -> Value,
) -> Value {
    costed.by(key).iter().map(|(key, sum)| sum_json(name(key), sum)).collect()
}

fn callers(run: &Run<'_>, costed: &Costed<'_>) -> Value {
    let callers = Callers::of(run.dump);
    let rows = callers.map(|callers| callers.cost(run.dump, costed)).unwrap_or_default();
    rows.iter()
        .map(|row| {
            let sum = Sum { accesses: row.accesses, price: row.price, saved: row.saved };
            sum_json(json!({ "caller": row.caller, "function": row.function }), &sum)
        })
        .collect()
}

fn first(run: &Run<'_>, row: &Advice) -> Value {
    let site = &run.dump.sites[row.site];
    let callers = Callers::of(run.dump);
    let value = json!({
        "pc": site.pc,
        "form": site.form.name(),
        "symbol": site.symbol,
        "caller": callers.as_ref().and_then(|callers| callers.main_caller(site)),
        "ports": row.ports,
        "best": row.best().0,
        "saved_by_clusters": row.by_cluster.as_ref().map(price),
        "saved_by_strings": row.by_rep.as_ref().map(price),
    });
    sum_json(value, &row.sum)
}

fn point(point: &Point) -> Value {
    json!({
        "pc": format!("{:#x}", point.pc),
        "form": point.form.name(),
        "symbol": point.symbol,
        "port": point.port,
    })
}

fn clusters_json(clusters: &Clusters, run: &Run<'_>) -> Value {
    let shapes = clusters.shapes.iter().map(|(shape, counts)| {
        let saved = run.models.iter().map(|model| {
            let saved = saved_by_cluster(shape, counts, model).saved;
            json!({ "model": model.name, "saved": price(&saved) })
        });
        json!({
            "kind": shape.kind.name(),
            "sites": shape.points.iter().map(point).collect::<Vec<_>>(),
            "times": counts.times,
            "accesses": counts.accesses,
            "exits_saved": counts.saved_exits(),
            "models": saved.collect::<Vec<_>>(),
        })
    });
    let loops = clusters.loops.iter().map(|(at, lengths)| {
        let lengths_json =
            lengths.iter().map(|(length, times)| json!({ "accesses": length, "times": times }));
        let saved = run.models.iter().map(|model| {
            let saved = saved_by_rep(at, lengths, model);
            json!({ "model": model.name, "saved": saved.as_ref().map(price) })
        });
        json!({
            "site": point(at),
            "lengths": lengths_json.collect::<Vec<_>>(),
            "models": saved.collect::<Vec<_>>(),
        })
    });
    json!({
        "near_bytes": clusters.rule.near,
        "within_ns": clusters.rule.within,
        "most": clusters.rule.most,
        "accesses": clusters.accesses,
        "clusters": clusters.times(),
        "singles": clusters.singles,
        "dropped": clusters.dropped,
        "exits_left": clusters.exits_left(),
        "exits_saved": clusters.saved_exits(),
        "shapes": shapes.collect::<Vec<_>>(),
        "loops": loops.collect::<Vec<_>>(),
    })
}
