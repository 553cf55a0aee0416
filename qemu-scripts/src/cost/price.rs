//! What accesses cost under a model: exits, and their time or cycles.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use pvio_x86::{Direction, Port};

use super::amount::Unit;
use super::groups::{Group, Groups};
use super::model::{CostKind, ExitClass, Figure, Model};

/// How an amount relates to the true one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    /// It is what the figures say.
    #[default]
    Exact,
    /// The true amount is this or more.
    AtLeast,
    /// The true amount is this or less.
    AtMost,
    /// It may be either.
    About,
}

impl Bound {
    /// The bound of a sum.
    pub fn and(self, other: Bound) -> Bound {
        match (self, other) {
            (Bound::Exact, bound) | (bound, Bound::Exact) => bound,
            (one, other) if one == other => one,
            _ => Bound::About,
        }
    }

    /// The mark before an amount.
    pub fn mark(self) -> &'static str {
        match self {
            Bound::Exact => "",
            Bound::AtLeast => "≥ ",
            Bound::AtMost => "≤ ",
            Bound::About => "~ ",
        }
    }

    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Exact => "exact",
            Bound::AtLeast => "at-least",
            Bound::AtMost => "at-most",
            Bound::About => "about",
        }
    }

    fn of(figure: &Figure) -> Bound {
        if figure.at_least { Bound::AtLeast } else { Bound::Exact }
    }
}

/// Exits and what they cost, or what is saved of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// The number of exits.
    pub exits: u128,
    /// Thousandths of the model's unit; `None` if a figure is missing.
    pub amount: Option<u128>,
    /// How the amount relates to the true one.
    pub bound: Bound,
}

impl Default for Price {
    fn default() -> Price {
        Price { exits: 0, amount: Some(0), bound: Bound::Exact }
    }
}

impl AddAssign for Price {
    fn add_assign(&mut self, other: Price) {
        self.exits += other.exits;
        self.amount = self.amount.zip(other.amount).map(|(one, other)| one + other);
        self.bound = self.bound.and(other.bound);
    }
}

impl Price {
    /// Exits whose cost is not known.
    pub fn unknown(exits: u128) -> Price {
        Price { exits, amount: None, bound: Bound::Exact }
    }

    /// The amount with its mark, rounded; `-` if it is not known.
    pub fn shown(&self, unit: Unit) -> String {
        let shown = |amount| format!("{}{}", self.bound.mark(), unit.sum(amount));
        self.amount.map_or_else(|| "-".to_owned(), shown)
    }
}

/// The cost of one access in thousandths, with its bound.
pub type Cost = (u64, Bound);

fn cost(model: &Model, kind: CostKind) -> Option<Cost> {
    model.figure(kind).map(|figure| (figure.amount.thousandths(), Bound::of(figure)))
}

/// The cost of one access by instruction; `None` without a figure.
pub fn access_cost(model: &Model, port: Port, dir: Direction) -> Option<Cost> {
    cost(
        model,
        match (model.class(port, dir), dir) {
            (ExitClass::User, Direction::In) => CostKind::In,
            (ExitClass::User, Direction::Out) => CostKind::Out,
            (ExitClass::Kernel, Direction::In) => CostKind::InKernel,
            (ExitClass::Kernel, Direction::Out) => CostKind::OutKernel,
            (ExitClass::Coalesced, _) => CostKind::CoalescedOut,
        },
    )
}

/// The cost of a hypercall that does nothing.
pub fn hypercall_cost(model: &Model) -> Option<Cost> {
    cost(model, CostKind::Hypercall)
}

/// The cost of one record of a batch.
pub fn record_cost(model: &Model) -> Option<Cost> {
    cost(model, CostKind::BatchRecord)
}

/// What user space adds to an access that it serves; `None` without figures. 0 for other accesses.
pub fn user_part(model: &Model, port: Port, dir: Direction) -> Option<Cost> {
    let (user, kernel) = match dir {
        Direction::In => (CostKind::In, CostKind::InKernel),
        Direction::Out => (CostKind::Out, CostKind::OutKernel),
    };
    if model.class(port, dir) != ExitClass::User {
        return Some((0, Bound::Exact));
    }
    let ((user, one), (kernel, other)) = (cost(model, user)?, cost(model, kernel)?);
    let bound = if (one, other) == (Bound::Exact, Bound::Exact) { one } else { Bound::About };
    Some((user.saturating_sub(kernel), bound))
}

/// Exits of a string instruction's group.
fn string_exits(group: &Group, model: &Model) -> u128 {
    if !model.strings.moves_many(group.dir) {
        return group.accesses.into();
    }
    let bytes = u128::from(group.accesses) * u128::from(group.bytes());
    bytes.div_ceil(model.string_bytes.into()).max(group.instructions.into())
}

/// The price of a group of accesses.
pub fn price(group: &Group, model: &Model) -> Price {
    let exits = if group.is_string() { string_exits(group, model) } else { group.accesses.into() };
    let Some((one, bound)) = access_cost(model, group.port, group.dir) else {
        return Price::unknown(exits);
    };
    let mut price = Price { exits, amount: Some(u128::from(one) * exits), bound };
    if group.is_string() && model.strings != super::model::Strings::Refused {
        match cost(model, CostKind::StringElement) {
            Some((element, bound)) => {
                let amount = u128::from(element) * u128::from(group.accesses);
                price += Price { exits: 0, amount: Some(amount), bound };
            }
            // The elements cost something, but nobody says how much.
            None => price.bound = price.bound.and(Bound::AtLeast),
        }
    }
    price
}

/// What is saved if hypercalls replace a group's instructions: one for each instruction.
///
/// A hypercall replaces the exit, not the work after it: it saves what an access in the hypervisor's kernel costs more
/// than a hypercall that does nothing. For a string, it also saves all exits but one for each instruction.
pub fn saved_by_hypercalls(group: &Group, model: &Model) -> Price {
    let price = price(group, model);
    let calls = if group.is_string() {
        u128::from(group.instructions).min(price.exits)
    } else {
        price.exits
    };
    let saved_exits = price.exits - calls;
    let in_kernel = match (model.class(group.port, group.dir), group.dir) {
        (ExitClass::Coalesced, _) => CostKind::CoalescedOut,
        (_, Direction::In) => CostKind::InKernel,
        (_, Direction::Out) => CostKind::OutKernel,
    };
    let figures = (cost(model, in_kernel), hypercall_cost(model));
    let one = access_cost(model, group.port, group.dir);
    let (Some((kernel, bound)), Some((hypercall, Bound::Exact)), Some((one, one_bound))) =
        (figures.0, figures.1, one)
    else {
        return Price::unknown(saved_exits);
    };
    let gain = u128::from(kernel.saturating_sub(hypercall)) * calls;
    let amount = Some(gain + u128::from(one) * saved_exits);
    let bound = if saved_exits > 0 { bound.and(one_bound) } else { bound };
    Price { exits: saved_exits, amount, bound }
}

/// The prices of all groups under one model.
#[derive(Clone, Debug)]
pub struct Costed<'a> {
    /// The model.
    pub model: &'a Model,
    /// The groups.
    pub groups: &'a [Group],
    /// The price of each group.
    pub prices: Vec<Price>,
    /// What hypercalls save of each group.
    pub saved: Vec<Price>,
}

impl<'a> Costed<'a> {
    /// Prices all groups.
    pub fn new(groups: &'a Groups, model: &'a Model) -> Costed<'a> {
        let prices = groups.groups.iter().map(|group| price(group, model)).collect();
        let saved = groups.groups.iter().map(|group| saved_by_hypercalls(group, model)).collect();
        Costed { model, groups: &groups.groups, prices, saved }
    }

    /// The price of everything.
    pub fn total(&self) -> Price {
        sum(&self.prices)
    }

    /// What hypercalls save of everything.
    pub fn total_saved(&self) -> Price {
        sum(&self.saved)
    }

    /// The price of the accesses of one class.
    pub fn of_class(&self, class: ExitClass) -> Price {
        let mut total = Price::default();
        for (group, price) in self.groups.iter().zip(&self.prices) {
            if self.model.class(group.port, group.dir) == class {
                total += *price;
            }
        }
        total
    }

    /// Accesses, price and saving of the groups with each key.
    pub fn by<K: Ord>(&self, key: impl Fn(&Group) -> K) -> BTreeMap<K, Sum> {
        let mut sums: BTreeMap<K, Sum> = BTreeMap::new();
        for ((group, price), saved) in self.groups.iter().zip(&self.prices).zip(&self.saved) {
            let sum = sums.entry(key(group)).or_default();
            sum.accesses += group.accesses;
            sum.price += *price;
            sum.saved += *saved;
        }
        sums
    }
}

/// What groups have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Elements moved.
    pub accesses: u64,
    /// The price.
    pub price: Price,
    /// What hypercalls save.
    pub saved: Price,
}

fn sum(prices: &[Price]) -> Price {
    let mut total = Price::default();
    prices.iter().for_each(|&price| total += price);
    total
}

#[cfg(test)]
mod tests;
