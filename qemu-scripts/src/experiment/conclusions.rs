//! What the metrics answer to the question of 2007, in words and numbers.

use serde::Serialize;

use super::metrics::{AllMetrics, Metrics, Part};
use super::workload::{Workload, mix_in_words};
use super::{Cell, Mechanism};
use crate::measure::median;

/// The claim: a trap costs up to so many hypercalls.
const CLAIM: f64 = 16.0;

/// A number that varies from operation to operation.
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
    fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Range> {
        let numbers: Vec<f64> = numbers.into_iter().collect();
        let min = numbers.iter().copied().reduce(f64::min)?;
        let max = numbers.iter().copied().reduce(f64::max)?;
        Some(Range { median: median(numbers), min, max })
    }
}

/// One way over another.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The dearer way.
    pub trap: Mechanism,
    /// The cheaper.
    pub hypercall: Mechanism,
    /// Instructions that the monitor executes, over the operations of one element.
    pub monitor: Option<Range>,
    /// All instructions.
    pub total: Range,
    /// All instructions, over strings of many elements by plain string instructions, which a hypercall
    /// carries as a whole.
    pub total_of_strings: Option<Range>,
    /// Time, over the operations of one element.
    pub time: Option<Range>,
}

/// All conclusions.
#[derive(Clone, Debug, Serialize)]
pub struct Conclusions {
    /// Every trap over every hypercall.
    pub comparisons: Vec<Comparison>,
    /// What of `trap`'s instructions is decode, over the operations of one element.
    pub decode_of_trap: Range,
    /// And of `trap-checked`'s.
    pub decode_of_trap_checked: Range,
    /// What of `trap-checked`'s instructions `trap` does without: the walk, and to call it.
    pub walk_of_trap_checked: Range,
    /// What of `trap`'s instructions beyond `int`'s is decode.
    pub decode_of_difference: Range,
    /// `trap` without its decoder over `int`, in instructions.
    pub trap_without_decode_over_int: Range,
    /// The greatest of all ratios of a trap to a hypercall, in instructions of all, of one element.
    pub greatest: f64,
    /// The same in words.
    pub words: Vec<String>,
}

fn of_one_element(all: &AllMetrics, mechanism: Mechanism) -> impl Iterator<Item = &Metrics> {
    all.0.iter().filter(move |row| row.mechanism == mechanism && row.cell.elements == 1)
}

fn over(
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
        monitor: over(all, pair, one, |row| Some(row.monitor as f64)),
        total: over(all, pair, one, |row| Some(row.total as f64))?,
        total_of_strings: over(all, pair, many, |row| Some(row.total as f64)),
        time: over(all, pair, one, |row| row.cycles),
    })
}

fn share(all: &AllMetrics, mechanism: Mechanism, part: impl Fn(&Metrics) -> u64) -> Range {
    let shares = of_one_element(all, mechanism).map(|row| part(row) as f64 / row.monitor as f64);
    Range::of(shares).expect("every trap was tried")
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
        // pvio's work is the host's: its instructions are not to be compared with a monitor's.
        let in_the_guest =
            comparisons.iter().filter(|pair| !pair.hypercall.is_answered_by_plugin());
        let mut conclusions = Conclusions {
            decode_of_trap: share(all, Trap, |row| row.part(Part::Decode)),
            decode_of_trap_checked: share(all, TrapChecked, |row| row.part(Part::Decode)),
            walk_of_trap_checked: share(all, TrapChecked, without_walk),
            decode_of_difference: Range::of(of_difference).expect("a trap takes more"),
            trap_without_decode_over_int: Range::of(bare).expect("every trap was tried"),
            greatest: in_the_guest.map(|pair| pair.total.max).fold(0.0, f64::max),
            comparisons,
            words: Vec::new(),
        };
        conclusions.words = conclusions.say(all, workload);
        conclusions
    }

    fn comparison(&self, trap: Mechanism, hypercall: Mechanism) -> Option<&Comparison> {
        self.comparisons.iter().find(|pair| pair.trap == trap && pair.hypercall == hypercall)
    }

    fn say(&self, all: &AllMetrics, workload: Option<&Workload>) -> Vec<String> {
        let mut words = vec![self.say_trap(all), self.say_claim()];
        words.extend(self.say_strings());
        words.push(self.say_decode(all));
        words.push(self.say_walk());
        words.extend(self.say_time());
        words.extend(self.say_svm());
        words.extend(workload.map(say_workload));
        words
    }

    fn say_trap(&self, all: &AllMetrics) -> String {
        use Mechanism::{Int, Native, Sysenter, Trap, TrapChecked};
        let cell = Cell { form: pvio_x86::PortForm::OutDxAl, elements: 1 };
        let metric = |way| all.get(way, cell);
        let monitor = |way| metric(way).map_or("-".into(), |row: &Metrics| row.monitor.to_string());
        let total = |way| metric(way).map_or("-".into(), |row: &Metrics| row.total.to_string());
        format!(
            "One `out dx,al` costs the monitor {} instructions by trap with the page tables walked, {} by \
             trap without, {} by int and {} by sysenter; with the guest's own, {}, {}, {} and {}, where the \
             instruction itself is {}.",
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

    fn say_claim(&self) -> String {
        use Mechanism::{Int, Sysenter, Trap, TrapChecked};
        let pair = |trap, call| {
            self.comparison(trap, call).map_or("not measured".into(), |pair| times(pair.total))
        };
        let verdict = match self.greatest >= CLAIM {
            true => "So the claim of up to 16 holds in instructions alone",
            false => {
                "So the claim of up to 16 does not come from instructions: what lacks would have to be the \
                 processor's own price of a #GP against that of its fast way in, which an emulator cannot \
                 show"
            }
        };
        format!(
            "Trap over hypercall, in instructions per operation of one element: trap-checked over int \
             {}, over sysenter {}; trap over int {}, over sysenter {}. The greatest of all is {:.1}. {verdict}.",
            pair(TrapChecked, Int),
            pair(TrapChecked, Sysenter),
            pair(Trap, Int),
            pair(Trap, Sysenter),
            self.greatest,
        )
    }

    fn say_strings(&self) -> Option<String> {
        let strings = self.comparison(Mechanism::Trap, Mechanism::Int)?.total_of_strings?;
        Some(format!(
            "A string of 512 elements that the guest moves by plain string instructions is 512 traps, and one \
             hypercall: there trap over int is {}. A `rep` is one of either, and the elements' own price \
             decides.",
            times(strings)
        ))
    }

    fn say_decode(&self, all: &AllMetrics) -> String {
        let cell = Cell { form: pvio_x86::PortForm::OutDxAl, elements: 1 };
        let decode = all.get(Mechanism::Trap, cell).map_or(0, |row| row.part(Part::Decode));
        let difference = self.decode_of_difference;
        let verdict = match difference.median {
            share if share >= 0.5 => {
                "decode is the greater part of that, and the doubt, that it is the hypercall's own switch over \
                 again, does not hold"
            }
            _ => "decode is the lesser part of that, as the doubt has it",
        };
        format!(
            "Decode is {} of trap's instructions ({decode} for `out dx,al`), {} of trap-checked's, and {} of \
             what trap takes more than int: {verdict}. With a decoder for nothing, trap would still be {} an \
             int.",
            percent(self.decode_of_trap),
            percent(self.decode_of_trap_checked),
            percent(difference),
            times(self.trap_without_decode_over_int),
        )
    }

    fn say_walk(&self) -> String {
        let (walk, decode) = (self.walk_of_trap_checked, self.decode_of_trap_checked);
        format!(
            "The walk of the page tables, and to call it, is {} of trap-checked's instructions: {} the \
             decoder.",
            percent(walk),
            if walk.median > decode.median { "more than" } else { "no more than" },
        )
    }

    fn say_time(&self) -> Option<String> {
        use Mechanism::{Int, Pvio, PvioMailbox, Sysenter, Trap, TrapChecked};
        let time = |trap, call| self.comparison(trap, call).and_then(|pair| pair.time);
        Some(format!(
            "In time under TCG, which is no processor: trap-checked over int {}, trap over int {}, trap over \
             sysenter {}, trap over pvio's hypercall, whose monitor is the host's own code, {}, and through \
             the mailbox, where there is no string, {}.",
            times(time(TrapChecked, Int)?),
            times(time(Trap, Int)?),
            time(Trap, Sysenter).map_or("not measured".into(), times),
            time(Trap, Pvio).map_or("not measured".into(), times),
            time(Trap, PvioMailbox).map_or("not measured".into(), times),
        ))
    }

    fn say_svm(&self) -> Option<String> {
        let pair = self.comparison(Mechanism::SvmIoio, Mechanism::SvmVmmcall)?;
        Some(format!(
            "Under SVM the exit says what the instruction was: there is nothing to decode for `in` and `out`, \
             and an intercepted instruction costs {} a VMMCALL.",
            times(pair.total)
        ))
    }
}

fn say_workload(workload: &Workload) -> String {
    use Mechanism::{Int, Pvio, Trap, TrapChecked};
    let accesses: u64 = workload.uses.iter().map(|used| used.accesses).sum();
    let total = |way| workload.prices.get(&way).map(|price| price.total as f64);
    let millions = |way| total(way).map_or("-".into(), |total| format!("{:.1}", total / 1e6));
    let saved = |from, to| match (total(from), total(to)) {
        (Some(from), Some(to)) => format!("{:.0} %", 100.0 * (1.0 - to / from)),
        _ => "-".into(),
    };
    format!(
        "{}: {accesses} accesses ({}). By trap-checked they are {} million instructions, by trap {}, by int \
         {}, and {} in the guest by pvio. Hypercalls by int in the place of trap save {} of them, in that of \
         trap-checked {}.",
        workload.source,
        mix_in_words(&workload.uses),
        millions(TrapChecked),
        millions(Trap),
        millions(Int),
        millions(Pvio),
        saved(Trap, Int),
        saved(TrapChecked, Int),
    )
}

fn times(range: Range) -> String {
    format!("{:.1} times ({:.1} to {:.1})", range.median, range.min, range.max)
}

fn percent(range: Range) -> String {
    let [median, min, max] = [range.median, range.min, range.max].map(|share| 100.0 * share);
    format!("{median:.0} % ({min:.0} to {max:.0})")
}
