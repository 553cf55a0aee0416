//! Conclusions about the claim of 2007, in numbers and sentences.

use serde::Serialize;

use super::metrics::{AllMetrics, Metrics};
use super::part::Part;
use super::today::Today;
use super::workload::{Workload, describe_mix};
use super::{Cell, Mechanism};
use crate::measure::median;

/// The claim of 2007: a trap costs up to this many hypercalls.
const CLAIM: f64 = 16.0;

/// Distribution of a number over operations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// The median.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
}

impl Range {
    /// Describes some numbers; `None` if there are none.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Range> {
        let numbers: Vec<f64> = numbers.into_iter().collect();
        let min = numbers.iter().copied().reduce(f64::min)?;
        let max = numbers.iter().copied().reduce(f64::max)?;
        Some(Range { median: median(numbers), min, max })
    }
}

/// A trap over a hypercall.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The mechanism that traps.
    pub trap: Mechanism,
    /// The hypercall.
    pub hypercall: Mechanism,
    /// Ratio of the monitor's instructions, for operations of one element.
    pub monitor: Option<Range>,
    /// Ratio of the guest's and monitor's instructions, for operations of one element.
    pub total: Range,
    /// The same ratio for strings by string instructions without `rep`, which one hypercall replaces.
    pub total_of_strings: Option<Range>,
    /// Ratio of times, for operations of one element.
    pub time: Option<Range>,
}

/// All conclusions.
#[derive(Clone, Debug, Serialize)]
pub struct Conclusions {
    /// Comparisons of every trap with every hypercall.
    pub comparisons: Vec<Comparison>,
    /// Share of decode in `trap`'s instructions, for operations of one element.
    pub decode_of_trap: Range,
    /// Share of decode in `trap-checked`'s instructions.
    pub decode_of_trap_checked: Range,
    /// Share of the walk and its call in `trap-checked`'s instructions.
    pub walk_of_trap_checked: Range,
    /// Share of decode in the instructions that `trap` needs beyond `int`.
    pub decode_of_difference: Range,
    /// Instructions of `trap` without decode, over `int`.
    pub trap_without_decode_over_int: Range,
    /// Largest ratio of a trap to a hypercall, in all instructions, for one element.
    pub greatest: f64,
    /// Conclusions on today's mechanisms.
    pub today: Today,
    /// The conclusions in sentences.
    pub words: Vec<String>,
}

pub(super) fn of_one_element(
    all: &AllMetrics,
    mechanism: Mechanism,
) -> impl Iterator<Item = &Metrics> {
    all.0.iter().filter(move |row| row.mechanism == mechanism && row.cell.elements == 1)
}

pub(super) fn over(
    all: &AllMetrics,
    (one, other): (Mechanism, Mechanism),
    which: impl Fn(Cell) -> bool,
    metric: impl Fn(&Metrics) -> Option<f64>,
) -> Option<Range> {
    let cells = Cell::all().filter(|&cell| which(cell));
    let ratio = |cell| {
        let other = metric(all.get(other, cell)?)?;
        (other > 0.0).then_some(metric(all.get(one, cell)?)? / other)
    };
    Range::of(cells.filter_map(ratio))
}

fn compare(all: &AllMetrics, trap: Mechanism, hypercall: Mechanism) -> Option<Comparison> {
    let pair = (trap, hypercall);
    let one = |cell: Cell| cell.elements == 1;
    let many = |cell: Cell| !cell.is_one_instruction();
    Some(Comparison {
        trap,
        hypercall,
        monitor: over(all, pair, one, |row| Some(row.each(row.monitor))),
        total: over(all, pair, one, |row| Some(row.each(row.total)))?,
        total_of_strings: over(all, pair, many, |row| Some(row.each(row.total))),
        time: over(all, pair, one, |row| row.cycles),
    })
}

fn share(all: &AllMetrics, mechanism: Mechanism, part: impl Fn(&Metrics) -> u64) -> Range {
    let shares = of_one_element(all, mechanism).map(|row| part(row) as f64 / row.monitor as f64);
    Range::of(shares).expect("every trap was measured")
}

impl Conclusions {
    /// Draws the conclusions.
    pub fn of(all: &AllMetrics, workload: Option<&Workload>) -> Conclusions {
        use Mechanism::{Int, Pvio, PvioMailbox, SvmIoio, SvmVmmcall, Sysenter, Trap, TrapChecked};
        let hypercalls = [Int, Pvio, PvioMailbox, Sysenter];
        let pairs =
            [TrapChecked, Trap].into_iter().flat_map(|trap| hypercalls.map(|call| (trap, call)));
        let comparisons: Vec<Comparison> = pairs
            .chain([(SvmIoio, SvmVmmcall)])
            .filter_map(|(trap, call)| compare(all, trap, call))
            .collect();
        let without_walk = |row: &Metrics| {
            row.monitor - all.get(Trap, row.cell).map_or(row.monitor, |trap| trap.monitor)
        };
        let bare = of_one_element(all, Trap).filter_map(|row| {
            let int = all.get(Int, row.cell)?;
            Some((row.monitor - row.part(Part::Decode)) as f64 / int.monitor as f64)
        });
        let of_difference = of_one_element(all, Trap).filter_map(|row| {
            let int = all.get(Int, row.cell)?;
            let difference = row.monitor.checked_sub(int.monitor).filter(|more| *more > 0)?;
            Some(row.part(Part::Decode) as f64 / difference as f64)
        });
        // pvio runs on the host, so its instructions are not comparable with a monitor's.
        let in_the_guest =
            comparisons.iter().filter(|pair| !pair.hypercall.is_answered_by_plugin());
        let mut conclusions = Conclusions {
            decode_of_trap: share(all, Trap, |row| row.part(Part::Decode)),
            decode_of_trap_checked: share(all, TrapChecked, |row| row.part(Part::Decode)),
            walk_of_trap_checked: share(all, TrapChecked, without_walk),
            decode_of_difference: Range::of(of_difference).expect("a trap takes more than int"),
            trap_without_decode_over_int: Range::of(bare).expect("every trap was measured"),
            greatest: in_the_guest.map(|pair| pair.total.max).fold(0.0, f64::max),
            comparisons,
            today: Today::of(all, workload),
            words: Vec::new(),
        };
        conclusions.words = conclusions.sentences(all, workload);
        conclusions
    }

    fn comparison(&self, trap: Mechanism, hypercall: Mechanism) -> Option<&Comparison> {
        self.comparisons.iter().find(|pair| pair.trap == trap && pair.hypercall == hypercall)
    }

    fn sentences(&self, all: &AllMetrics, workload: Option<&Workload>) -> Vec<String> {
        let mut words = vec![self.about_trap(all), self.about_claim()];
        words.extend(self.about_strings());
        words.push(self.about_decode(all));
        words.push(self.about_walk());
        words.extend(self.about_time());
        words.extend(self.about_svm());
        words.extend(workload.map(about_workload));
        words.extend(self.today.words.iter().cloned());
        words
    }

    fn about_trap(&self, all: &AllMetrics) -> String {
        use Mechanism::{Int, Native, Sysenter, Trap, TrapChecked};
        let cell = Cell { form: pvio_x86::PortForm::OutDxAl, elements: 1 };
        let metric = |way| all.get(way, cell);
        let monitor = |way| metric(way).map_or("-".into(), |row: &Metrics| row.monitor.to_string());
        let total = |way| metric(way).map_or("-".into(), |row: &Metrics| row.total.to_string());
        format!(
            "One `out dx,al` costs the monitor {} instructions by trap with a walk of the page tables, {} by \
             trap without the walk, {} by int and {} by sysenter. With the guest's own instructions it is \
             {}, {}, {} and {}; natively it is {}.",
            monitor(TrapChecked),
            monitor(Trap),
            monitor(Int),
            monitor(Sysenter),
            total(TrapChecked),
            total(Trap),
            total(Int),
            total(Sysenter),
            total(Native),
        )
    }

    fn about_claim(&self) -> String {
        use Mechanism::{Int, Sysenter, Trap, TrapChecked};
        let pair = |trap, call| {
            self.comparison(trap, call).map_or("not measured".into(), |pair| times(pair.total))
        };
        let verdict = match self.greatest >= CLAIM {
            true => "Instructions alone confirm the claim of up to 16",
            false => {
                "Instructions do not explain the claim of up to 16. The rest would have to be the \
                 processor's own cost of a #GP over that of its fast entry, which an emulator cannot show"
            }
        };
        format!(
            "A trap over a hypercall, in instructions per operation of one element: trap-checked over int \
             {}, over sysenter {}; trap over int {}, over sysenter {}. The largest ratio is {:.1}. {verdict}.",
            pair(TrapChecked, Int),
            pair(TrapChecked, Sysenter),
            pair(Trap, Int),
            pair(Trap, Sysenter),
            self.greatest,
        )
    }

    fn about_strings(&self) -> Option<String> {
        let strings = self.comparison(Mechanism::Trap, Mechanism::Int)?.total_of_strings?;
        Some(format!(
            "A string of 512 elements takes 512 traps without `rep`, or one hypercall: trap over int is {}. \
             With `rep` it takes one trap or one hypercall, and the cost of the elements dominates.",
            times(strings)
        ))
    }

    fn about_decode(&self, all: &AllMetrics) -> String {
        let cell = Cell { form: pvio_x86::PortForm::OutDxAl, elements: 1 };
        let decode = all.get(Mechanism::Trap, cell).map_or(0, |row| row.part(Part::Decode));
        let difference = self.decode_of_difference;
        let verdict = match difference.median {
            share if share >= 0.5 => {
                "Decode is the larger part of that, so the objection that decode is only the hypercall's own \
                 switch does not hold"
            }
            _ => "Decode is the smaller part of that, which supports the objection",
        };
        format!(
            "Decode is {} of trap's instructions ({decode} for `out dx,al`), {} of trap-checked's, and {} of \
             the difference between trap and int. {verdict}. With a free decoder, trap would still cost {} \
             an int.",
            percent(self.decode_of_trap),
            percent(self.decode_of_trap_checked),
            percent(difference),
            times(self.trap_without_decode_over_int),
        )
    }

    fn about_walk(&self) -> String {
        let (walk, decode) = (self.walk_of_trap_checked, self.decode_of_trap_checked);
        format!(
            "The walk of the page tables, with its call, is {} of trap-checked's instructions: {} decode.",
            percent(walk),
            if walk.median > decode.median { "more than" } else { "no more than" },
        )
    }

    fn about_time(&self) -> Option<String> {
        use Mechanism::{Int, Pvio, PvioMailbox, Sysenter, Trap, TrapChecked};
        let time = |trap, call| self.comparison(trap, call).and_then(|pair| pair.time);
        Some(format!(
            "In time under TCG, which is not a processor: trap-checked over int {}, trap over int {}, trap \
             over sysenter {}, trap over pvio's hypercall, whose monitor is host code, {}, and trap over \
             pvio's mailbox, which has no strings, {}.",
            times(time(TrapChecked, Int)?),
            times(time(Trap, Int)?),
            time(Trap, Sysenter).map_or("not measured".into(), times),
            time(Trap, Pvio).map_or("not measured".into(), times),
            time(Trap, PvioMailbox).map_or("not measured".into(), times),
        ))
    }

    fn about_svm(&self) -> Option<String> {
        let pair = self.comparison(Mechanism::SvmIoio, Mechanism::SvmVmmcall)?;
        Some(format!(
            "Under SVM the exit describes the instruction, so `in` and `out` need no decode: an intercepted \
             instruction costs {} a VMMCALL.",
            times(pair.total)
        ))
    }
}

fn about_workload(workload: &Workload) -> String {
    use Mechanism::{Int, Pvio, Trap, TrapChecked};
    let accesses: u64 = workload.uses.iter().map(|used| used.accesses).sum();
    let total = |way| workload.prices.get(&way).map(|price| price.total as f64);
    let millions = |way| total(way).map_or("-".into(), |total| format!("{:.1}", total / 1e6));
    let saved = |from, to| match (total(from), total(to)) {
        (Some(from), Some(to)) => format!("{:.0} %", 100.0 * (1.0 - to / from)),
        _ => "-".into(),
    };
    format!(
        "{}: {accesses} accesses ({}). They cost {} million instructions by trap-checked, {} by trap, {} by \
         int, and {} by pvio, in the guest alone. Hypercalls by int save {} over trap and {} over \
         trap-checked.",
        workload.source,
        describe_mix(&workload.uses),
        millions(TrapChecked),
        millions(Trap),
        millions(Int),
        millions(Pvio),
        saved(Trap, Int),
        saved(TrapChecked, Int),
    )
}

pub(super) fn times(range: Range) -> String {
    format!("{:.1} times ({:.1} to {:.1})", range.median, range.min, range.max)
}

pub(super) fn percent(range: Range) -> String {
    let [median, min, max] = [range.median, range.min, range.max].map(|share| 100.0 * share);
    format!("{median:.0} % ({min:.0} to {max:.0})")
}
