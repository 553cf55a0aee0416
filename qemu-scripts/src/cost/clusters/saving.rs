//! What one exit for each cluster saves, and a `rep` for each loop.

use std::collections::BTreeMap;

use super::{Point, Shape, ShapeCounts};
use crate::cost::amount::apportion;
use crate::cost::model::{CostKind, Model};
use crate::cost::price::{Bound, Price, access_cost, hypercall_cost, record_cost, user_part};

/// What the clusters of one shape cost and save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSaving {
    /// What they cost now.
    pub price: Price,
    /// The exits that are saved, and what they cost.
    pub saved: Price,
    /// The same by point. The first access of a cluster is not saved.
    pub by_point: Vec<Price>,
}

/// Prices the clusters of one shape under a model.
///
/// If the model says what a record of a batch costs, a batch costs a hypercall, its records, and once what user space
/// adds, if it serves one of the ports. If not, each saved exit saves at least a hypercall that does nothing: the way
/// out of the guest and back.
pub fn saved_by_cluster(shape: &Shape, counts: &ShapeCounts, model: &Model) -> ClusterSaving {
    let mut price = Price::default();
    for (point, &accesses) in shape.points.iter().zip(&counts.accesses) {
        let exits = u128::from(accesses);
        price += match access_cost(model, point.port, point.dir()) {
            Some((one, bound)) => Price { exits, amount: Some(u128::from(one) * exits), bound },
            None => Price::unknown(exits),
        };
    }
    let exits: Vec<u64> = counts
        .accesses
        .iter()
        .enumerate()
        // The first access of each cluster is at its first point.
        .map(|(index, &accesses)| if index == 0 { accesses - counts.times } else { accesses })
        .collect();
    let saved_exits = u128::from(counts.saved_exits());
    let saved = match batch_cost(shape, counts, model) {
        Some((batch, bound)) => Price {
            exits: saved_exits,
            amount: price.amount.map(|amount| amount.saturating_sub(batch)),
            bound: price.bound.and(bound),
        },
        None => match hypercall_cost(model) {
            Some((hypercall, _)) => Price {
                exits: saved_exits,
                amount: Some(u128::from(hypercall) * saved_exits),
                bound: Bound::AtLeast,
            },
            None => Price::unknown(saved_exits),
        },
    };
    let amounts = saved.amount.map(|amount| apportion(amount, &exits));
    let by_point = exits.iter().enumerate().map(|(index, &exits)| Price {
        exits: exits.into(),
        amount: amounts.as_ref().map(|amounts| amounts[index]),
        bound: saved.bound,
    });
    ClusterSaving { price, saved, by_point: by_point.collect() }
}

/// What the clusters cost as batches; `None` if the model does not say what a record costs.
fn batch_cost(shape: &Shape, counts: &ShapeCounts, model: &Model) -> Option<(u128, Bound)> {
    let ((record, one), (hypercall, other)) = (record_cost(model)?, hypercall_cost(model)?);
    let mut bound = one.and(other);
    let mut most = 0;
    for point in &shape.points {
        let (part, of_part) = user_part(model, point.port, point.dir())?;
        most = most.max(part);
        bound = bound.and(of_part);
    }
    let batches = (u128::from(hypercall) + u128::from(most)) * u128::from(counts.times);
    // A lower bound of what is subtracted is an upper bound of what is left.
    let bound = if bound == Bound::Exact { bound } else { Bound::About };
    Some((batches + u128::from(record) * u128::from(counts.all()), bound))
}

/// Prices what `rep` saves of the loops at one point. `None` if strings of the model exit at each element.
///
/// `lengths` has the number of loops by their accesses.
pub fn saved_by_rep(point: &Point, lengths: &BTreeMap<u64, u64>, model: &Model) -> Option<Price> {
    if !model.strings.moves_many(point.dir()) {
        return None;
    }
    let bytes = point.size().bytes().map_or(4, u128::from);
    let (mut exits, mut accesses) = (0, 0);
    for (&length, &times) in lengths {
        let (length, times) = (u128::from(length), u128::from(times));
        let left = (length * bytes).div_ceil(model.string_bytes.into());
        exits += (length - left) * times;
        accesses += length * times;
    }
    let Some((one, bound)) = access_cost(model, point.port, point.dir()) else {
        return Some(Price::unknown(exits));
    };
    let amount = u128::from(one) * exits;
    Some(match model.figure(CostKind::StringElement) {
        Some(element) => {
            let elements = u128::from(element.amount.thousandths()) * accesses;
            let bound = if element.at_least { bound.and(Bound::AtMost) } else { bound };
            Price { exits, amount: Some(amount.saturating_sub(elements)), bound }
        }
        // The elements of the string cost something, but nobody says how much.
        None => Price { exits, amount: Some(amount), bound: bound.and(Bound::AtMost) },
    })
}

#[cfg(test)]
mod tests {
    use pvio_x86::{Port, PortForm};

    use super::*;
    use crate::cost::clusters::Kind;
    use crate::cost::model::{built_in, test_model};

    fn point(form: PortForm, port: u16) -> Point {
        Point { site: None, pc: 0x100, symbol: None, form: form.into(), port: Port(port) }
    }

    fn pairs() -> (Shape, ShapeCounts) {
        let points = vec![point(PortForm::OutImmAl, 0x70), point(PortForm::InAlImm, 0x71)];
        (Shape { kind: Kind::Pair, points }, ShapeCounts { times: 10, accesses: vec![30, 30] })
    }

    #[test]
    fn saved_exit_saves_at_least_a_null_hypercall() {
        let intel = &built_in()[0];
        let (shape, counts) = pairs();
        let saving = saved_by_cluster(&shape, &counts, intel);
        assert_eq!(saving.price.amount, Some((30 * 1391 + 30 * 6209) * 1000));
        let saved = Price { exits: 50, amount: Some(50 * 1_181_000), bound: Bound::AtLeast };
        assert_eq!(saving.saved, saved);
        assert_eq!(saving.by_point.iter().map(|price| price.exits).collect::<Vec<_>>(), [20, 30]);
    }

    #[test]
    fn batch_costs_a_hypercall_and_its_records() {
        let model = test_model(
            "schema = \"pvio.model/1\"\nname = \"x\"\ntitle = \"x\"\nstrings = \"page\"\n\
             [costs]\nin = { ns = 500, source = \"measured\" }\n\
             out = { ns = 400, source = \"measured\" }\n\
             in-kernel = { ns = 200, source = \"measured\" }\n\
             out-kernel = { ns = 150, source = \"measured\" }\n\
             hypercall = { ns = 100, source = \"measured\" }\n\
             batch-record = { ns = 10, source = \"measured\" }\n",
        );
        let (shape, counts) = pairs();
        let saving = saved_by_cluster(&shape, &counts, &model);
        // Ten batches, each with what user space adds to an `in`, and sixty records.
        let amount = 30 * 400 + 30 * 500 - 10 * (100 + 300) - 60 * 10;
        let saved = Price { exits: 50, amount: Some(amount * 1000), bound: Bound::Exact };
        assert_eq!(saving.saved, saved);
        let by_point: u128 = saving.by_point.iter().filter_map(|price| price.amount).sum();
        assert_eq!(by_point, amount * 1000);
    }

    #[test]
    fn loop_becomes_a_string_where_strings_move_many_elements() {
        let models = built_in();
        let of = |name: &str| models.iter().find(|model| model.name == name).unwrap();
        let lengths = BTreeMap::from([(256, 2), (3, 1)]);
        let input = point(PortForm::InAxDx, 0x1f0);
        let price = saved_by_rep(&input, &lengths, of("kvm-intel")).unwrap();
        let exits = 2 * 255 + 2;
        let amount = Some(exits * 6_209_000);
        assert_eq!(price, Price { exits, amount, bound: Bound::AtMost });
        let output = point(PortForm::OutDxAx, 0x1f0);
        assert_eq!(saved_by_rep(&output, &lengths, of("kvm-intel")), None);
        assert_eq!(saved_by_rep(&input, &lengths, of("tdx")), None);
        assert!(saved_by_rep(&output, &lengths, of("sev-snp")).is_some());
    }
}
