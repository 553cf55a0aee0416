//! Conclusions on today's mechanisms: what the argument of 2007 is in each of them.

use pvio_x86::PortForm;
use serde::Serialize;

use super::conclusions::{Range, of_one_element, over, percent, times};
use super::metrics::{AllMetrics, Metrics};
use super::part::Part;
use super::tables::each;
use super::workload::Workload;
use super::{BATCH, Cell, Mechanism};

/// The share of decode in an intercept that was reported for Xen in 2010.
const REPORTED_DECODE: f64 = 1.0 / 3.0;

/// How far a share may be from [`REPORTED_DECODE`] and still be about as much.
const TOLERANCE: f64 = 0.1;

/// One of today's mechanisms, for operations of one element.
#[derive(Clone, Debug, Serialize)]
pub struct WayToday {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// Instructions of guest and monitor over those of [`Mechanism::Int`].
    pub over_int: Range,
    /// Instructions of guest and monitor over those of [`Mechanism::Trap`].
    pub over_trap: Range,
    /// Share of decode in the instructions.
    pub decode: Range,
}

/// All conclusions on today's mechanisms.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Today {
    /// The mechanisms.
    pub ways: Vec<WayToday>,
    /// The conclusions in sentences.
    pub words: Vec<String>,
}

fn total(row: &Metrics) -> Option<f64> {
    Some(row.each(row.total))
}

fn one_element(cell: Cell) -> bool {
    cell.elements == 1
}

/// Compares two mechanisms, for operations of one element that satisfy a condition.
fn compare(
    all: &AllMetrics,
    one: Mechanism,
    other: Mechanism,
    which: impl Fn(Cell) -> bool,
) -> Option<Range> {
    over(all, (one, other), |cell| one_element(cell) && which(cell), total)
}

/// Returns the share that a mechanism saves over another.
fn saved(ratio: Range) -> Range {
    Range { median: 1.0 - ratio.median, min: 1.0 - ratio.max, max: 1.0 - ratio.min }
}

fn sum(row: &Metrics, parts: &[Part]) -> u64 {
    parts.iter().map(|&part| row.part(part)).sum()
}

impl Today {
    /// Draws the conclusions.
    pub fn of(all: &AllMetrics, workload: Option<&Workload>) -> Today {
        let ways = Mechanism::OF_TODAY.into_iter().filter_map(|mechanism| {
            Some(WayToday {
                mechanism,
                over_int: compare(all, mechanism, Mechanism::Int, |_| true)?,
                over_trap: compare(all, mechanism, Mechanism::Trap, |_| true)?,
                decode: Range::of(of_one_element(all, mechanism).map(Metrics::decode_share))?,
            })
        });
        let mut today = Today { ways: ways.collect(), words: Vec::new() };
        let words = [
            today.about_third(),
            today.about_ve(all),
            today.about_vc(all),
            about_direct(all),
            about_batch(all),
            about_user_space(all),
            workload.and_then(about_workload),
        ];
        today.words = words.into_iter().flatten().collect();
        today
    }

    fn way(&self, mechanism: Mechanism) -> Option<&WayToday> {
        self.ways.iter().find(|way| way.mechanism == mechanism)
    }

    fn about_third(&self) -> Option<String> {
        let (trap, vc) = (self.way(Mechanism::Trap)?, self.way(Mechanism::Vc)?);
        let verdict = match trap.decode.median - REPORTED_DECODE {
            more if more.abs() <= TOLERANCE => "This monitor agrees",
            more if more > 0.0 => "In this monitor it is more",
            _ => "In this monitor it is less",
        };
        Some(format!(
            "For Xen, decode was reported in 2010 to be a third of an intercept. {verdict}: decode is {} of trap's \
             instructions. It is {} of vc's, where the guest decodes, and none of ve's and direct's.",
            percent(trap.decode),
            percent(vc.decode),
        ))
    }

    fn about_ve(&self, all: &AllMetrics) -> Option<String> {
        let (row, way) = (sample(all, Mechanism::Ve)?, self.way(Mechanism::Ve)?);
        let scalars = compare(all, Mechanism::Ve, Mechanism::Trap, |cell| !cell.form.is_string())?;
        Some(format!(
            "#VE (TDX): the guest's handler is told what was intercepted, so no software decodes, and the argument \
             of 2007 is void. One `out dx,al` costs {} instructions: {} of the guest's handler and its call, {} of \
             the monitor. For `in` and `out` that is {} a trap with decode, because the hypercall comes on top of \
             the exception, and with the loops in place of strings {} an int.",
            each(row, row.total),
            sum(row, &[Part::Handler, Part::Call]),
            row.monitor,
            times(scalars),
            times(way.over_int),
        ))
    }

    fn about_vc(&self, all: &AllMetrics) -> Option<String> {
        let (row, way) = (sample(all, Mechanism::Vc)?, self.way(Mechanism::Vc)?);
        Some(format!(
            "#VC (SEV-ES): the guest's handler must decode its own instruction: the decode of 2007 is back, on the \
             guest's side, and the hypercall comes on top. One `out dx,al` costs {} instructions, {} of them for \
             decode; the monitor, which checks the guest's request, needs {}. That is {} a trap and {} an int.",
            each(row, row.total),
            row.part(Part::GuestDecode),
            row.monitor,
            times(way.over_trap),
            times(way.over_int),
        ))
    }
}

fn sample(all: &AllMetrics, mechanism: Mechanism) -> Option<&Metrics> {
    all.get(mechanism, Cell { form: PortForm::OutDxAl, elements: 1 })
}

fn about_direct(all: &AllMetrics) -> Option<String> {
    use Mechanism::{Direct, Int, Vc, Ve};
    let row = sample(all, Direct)?;
    let over = |other| compare(all, Direct, other, |_| true);
    Some(format!(
        "A hypercall in place of the instruction is what was proposed in 2007, and today's firmware for TDX does it. \
         One `out dx,al` costs {} instructions: {} an int, whose operation has a number instead of size and \
         direction. It saves {} of ve's instructions and {} of vc's, and an exception each time.",
        each(row, row.total),
        times(over(Int)?),
        percent(saved(over(Ve)?)),
        percent(saved(over(Vc)?)),
    ))
}

fn about_batch(all: &AllMetrics) -> Option<String> {
    let row = sample(all, Mechanism::Batch)?;
    let ratio = compare(all, Mechanism::Batch, Mechanism::Int, |_| true)?;
    Some(format!(
        "{BATCH} operations in one hypercall cost {} instructions each for `out dx,al`: {} an int. A record costs the \
         guest and the monitor what they save on the way; what a batch saves is {} of {BATCH} exits.",
        each(row, row.total),
        times(ratio),
        BATCH - 1,
    ))
}

fn about_user_space(all: &AllMetrics) -> Option<String> {
    use Mechanism::{Coalesced, Trap, TrapUser};
    let (user, posted) = (sample(all, TrapUser)?, sample(all, Coalesced)?);
    let is_out = |cell: Cell| Coalesced.has(cell) && !cell.form.is_string();
    let over_user = compare(all, Coalesced, TrapUser, is_out)?;
    let over_trap = compare(all, Coalesced, Trap, is_out)?;
    Some(format!(
        "A device in user space, as QEMU's are under KVM: one `out dx,al` costs {} instructions, and {} if writes are \
         posted. For `out`, posting saves {} of that, but neither the trap nor its decode: it is {} a trap whose \
         device is in the monitor.",
        each(user, user.total),
        each(posted, posted.total),
        percent(saved(over_user)),
        times(over_trap),
    ))
}

fn about_workload(workload: &Workload) -> Option<String> {
    use Mechanism::{Direct, TrapUser, Vc, Ve};
    let millions = |way| {
        let price = workload.prices.get(&way)?;
        Some(format!("{:.1}", price.total as f64 / 1e6))
    };
    Some(format!(
        "The same accesses cost {} million instructions by vc, {} by ve, {} by direct, and {} by trap with the \
         devices in user space.",
        millions(Vc)?,
        millions(Ve)?,
        millions(Direct)?,
        millions(TrapUser)?,
    ))
}
