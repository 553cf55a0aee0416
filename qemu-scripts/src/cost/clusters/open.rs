//! The cluster and the loop that a vCPU is in.

use pvio_x86::{Direction, InsnForm, Port};

use super::{Kind, Rule};

/// The number of different points in a cluster. With more, it ends.
const MAX_POINTS: usize = 256;

/// An instruction: the number of a site, or the address of one without a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum At {
    Site(u32),
    Address(u64),
}

/// An instruction at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RawPoint {
    pub at: At,
    pub form: InsnFormIndex,
    pub port: Port,
}

/// The position of a form, which can be hashed.
pub(super) type InsnFormIndex = u8;

impl RawPoint {
    pub fn dir(self) -> Direction {
        InsnForm::from_index(self.form.into()).direction()
    }
}

/// An access by `in` or `out`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub point: RawPoint,
    pub pc: u64,
    /// The address to which the function of the access returns, if it is known.
    pub caller: Option<u64>,
    pub process: Option<Option<u32>>,
    /// Nanoseconds of the host's clock.
    pub time: u64,
    pub value: Option<u32>,
}

impl Access {
    /// Returns true if the next access belongs to the same cluster.
    fn is_followed_by(&self, next: &Access, rule: Rule) -> bool {
        let are_near = |one: u64, other: u64| one.abs_diff(other) <= rule.near;
        let callers = self.caller.zip(next.caller);
        self.process == next.process
            && next.time.saturating_sub(self.time) <= rule.within
            && (are_near(self.pc, next.pc)
                || callers.is_some_and(|(one, other)| are_near(one, other)))
    }
}

/// The fewest reads of a timer from which it can be told from data that happen to rise.
const TIMER_READS: u64 = 8;
/// The fewest changes of a timer between these reads.
const TIMER_CHANGES: u64 = 4;

/// Whether reads wait for a value: a poll.
///
/// Either all values but the last are one, or two that alternate, as a bit that toggles at each read; or they are those of a
/// timer, which only rise or only fall until it wraps.
#[derive(Clone, Copy, Debug)]
struct Poll {
    /// False for writes and for unknown values.
    are_reads: bool,
    reads: u64,
    repeats: bool,
    /// Up to two different values of all reads but the last.
    values: [Option<u32>; 2],
    last: Option<u32>,
    rising: Timer,
    falling: Timer,
}

/// Values that change in one direction, but for one wrap.
#[derive(Clone, Copy, Debug, Default)]
struct Timer {
    changes: u64,
    wraps: u64,
    goes_back: bool,
}

impl Timer {
    /// Adds a step of a timer that rises. One that falls rises if its values are read backwards.
    fn step(&mut self, from: u32, to: u32) {
        if to >= from {
            self.changes += u64::from(to > from);
        } else if to < from / 2 {
            self.wraps += 1;
        } else {
            self.goes_back = true;
        }
    }

    fn is_timer(self) -> bool {
        !self.goes_back && self.wraps <= 1 && self.changes >= TIMER_CHANGES
    }
}

impl Poll {
    fn new(access: &Access) -> Poll {
        let are_reads = access.point.dir() == Direction::In && access.value.is_some();
        let (rising, falling) = Default::default();
        let last = access.value;
        Poll { are_reads, reads: 1, repeats: true, values: [None; 2], last, rising, falling }
    }

    fn add(&mut self, value: Option<u32>) {
        if !self.values.contains(&self.last) {
            match self.values.iter_mut().find(|known| known.is_none()) {
                Some(known) => *known = self.last,
                None => self.repeats = false,
            }
        }
        if let Some((from, to)) = self.last.zip(value) {
            self.rising.step(from, to);
            self.falling.step(to, from);
        }
        self.are_reads &= value.is_some();
        self.reads += 1;
        self.last = value;
    }

    fn is_poll(&self) -> bool {
        let is_timer =
            self.reads >= TIMER_READS && (self.rising.is_timer() || self.falling.is_timer());
        self.are_reads && (self.repeats || is_timer)
    }
}

/// A cluster that may get more accesses.
#[derive(Clone, Debug)]
pub(super) struct OpenCluster {
    points: Vec<RawPoint>,
    counts: Vec<u64>,
    all: u64,
    poll: Poll,
}

/// A cluster that has ended.
#[derive(Clone, Debug)]
pub(super) struct ClosedCluster {
    pub kind: Kind,
    pub points: Vec<RawPoint>,
    pub counts: Vec<u64>,
}

impl OpenCluster {
    fn new(access: &Access) -> OpenCluster {
        let (points, counts) = (vec![access.point], vec![1]);
        OpenCluster { points, counts, all: 1, poll: Poll::new(access) }
    }

    /// Adds an access. Returns false if there is no room.
    fn add(&mut self, access: &Access, most: u64) -> bool {
        if self.all >= most {
            return false;
        }
        match self.points.iter().position(|point| *point == access.point) {
            Some(index) => self.counts[index] += 1,
            None if self.points.len() >= MAX_POINTS => return false,
            None => {
                self.points.push(access.point);
                self.counts.push(1);
            }
        }
        self.all += 1;
        self.poll.add(access.value);
        true
    }

    fn close(self) -> ClosedCluster {
        let kind = match &self.points[..] {
            [_] if self.poll.is_poll() => Kind::Poll,
            [_] => Kind::Loop,
            [first, _] if first.dir() == Direction::Out => Kind::Pair,
            _ => Kind::Sequence,
        };
        ClosedCluster { kind, points: self.points, counts: self.counts }
    }
}

/// A loop at one port that may go on.
#[derive(Clone, Copy, Debug)]
struct OpenLoop {
    point: RawPoint,
    accesses: u64,
    poll: Poll,
}

/// What a vCPU's accesses add up to.
#[derive(Debug, Default)]
pub(super) struct Vcpu {
    last: Option<Access>,
    cluster: Option<OpenCluster>,
    run: Option<OpenLoop>,
}

/// What has ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub cluster: Option<ClosedCluster>,
    /// A loop that is no poll, and the number of its accesses.
    pub run: Option<(RawPoint, u64)>,
}

impl Vcpu {
    /// Adds an access. Returns what it ends.
    pub fn access(&mut self, access: Access, rule: Rule) -> Ended {
        let follows = self.last.is_some_and(|last| last.is_followed_by(&access, rule));
        self.last = Some(access);
        let mut ended = Ended::default();
        let joins =
            follows && self.cluster.as_mut().is_some_and(|cluster| cluster.add(&access, rule.most));
        if !joins {
            let before = self.cluster.replace(OpenCluster::new(&access));
            ended.cluster = before.map(OpenCluster::close);
        }
        match &mut self.run {
            Some(run) if follows && run.point == access.point => {
                run.accesses += 1;
                run.poll.add(access.value);
            }
            run => {
                let poll = Poll::new(&access);
                let next = OpenLoop { point: access.point, accesses: 1, poll };
                ended.run = run.replace(next).and_then(OpenLoop::close);
            }
        }
        ended
    }

    /// Ends what is open: something else has happened.
    pub fn interrupt(&mut self) -> Ended {
        self.last = None;
        Ended {
            cluster: self.cluster.take().map(OpenCluster::close),
            run: self.run.take().and_then(OpenLoop::close),
        }
    }
}

impl OpenLoop {
    fn close(self) -> Option<(RawPoint, u64)> {
        (self.accesses > 1 && !self.poll.is_poll()).then_some((self.point, self.accesses))
    }
}

#[cfg(test)]
mod tests {
    use pvio_x86::PortForm;

    use super::*;

    const RULE: Rule = Rule { near: 16, within: 1000, most: 1000 };

    fn access(pc: u64, form: PortForm, port: u16, value: u32, time: u64) -> Access {
        let point = RawPoint {
            at: At::Address(pc),
            form: InsnForm::from(form).index() as u8,
            port: Port(port),
        };
        Access { point, pc, caller: None, process: None, time, value: Some(value) }
    }

    /// The clusters as `kind: accesses`, and the loops as lengths.
    fn run(accesses: &[Access]) -> (Vec<(Kind, Vec<u64>)>, Vec<u64>) {
        let mut vcpu = Vcpu::default();
        let mut ended: Vec<Ended> =
            accesses.iter().map(|access| vcpu.access(*access, RULE)).collect();
        ended.push(vcpu.interrupt());
        let loops = ended.iter().filter_map(|ended| Some(ended.run?.1)).collect();
        let clusters = ended.into_iter().filter_map(|ended| ended.cluster);
        (clusters.map(|cluster| (cluster.kind, cluster.counts)).collect(), loops)
    }

    #[test]
    fn index_and_data_are_a_pair() {
        let pair = |time| {
            [
                access(0x100, PortForm::OutImmAl, 0x70, 9, time),
                access(0x102, PortForm::InAlImm, 0x71, 5, time + 100),
            ]
        };
        let accesses = [pair(0), pair(200), pair(5000)].concat();
        assert_eq!(
            run(&accesses),
            (vec![(Kind::Pair, vec![2, 2]), (Kind::Pair, vec![1, 1])], vec![])
        );
    }

    #[test]
    fn reads_that_wait_are_a_poll() {
        let read = |value, time| access(0x100, PortForm::InAlDx, 0x3fd, value, time);
        let reads = |values: &[u32]| -> Vec<Access> {
            values.iter().enumerate().map(|(index, &value)| read(value, index as u64)).collect()
        };
        assert_eq!(run(&reads(&[0, 0, 0, 0x60])), (vec![(Kind::Poll, vec![4])], vec![]));
        assert_eq!(run(&reads(&[7, 7])), (vec![(Kind::Poll, vec![2])], vec![]));
        // A bit that toggles at each read.
        assert_eq!(run(&reads(&[0, 16, 0, 16, 32])), (vec![(Kind::Poll, vec![5])], vec![]));
        assert_eq!(run(&reads(&[1, 2, 3, 4])), (vec![(Kind::Loop, vec![4])], vec![4]));
        let timers: [[u32; 9]; 4] = [
            [1, 2, 3, 3, 3, 7, 8, 9, 12],
            [0xffff_fff0, 0xffff_fff9, 0xffff_ffff, 3, 5, 8, 13, 21, 34],
            [90, 80, 70, 60, 50, 40, 30, 20, 10],
            // One of 16 bits that falls.
            [7, 5, 3, 1, 0xffff, 0xfffd, 0xfffb, 0xfff9, 0xfff7],
        ];
        for values in timers {
            assert_eq!(run(&reads(&values)), (vec![(Kind::Poll, vec![9])], vec![]), "{values:?}");
        }
        // Data: too few, back and forth, mostly zeros, wrapped twice.
        let data: [&[u32]; 4] = [
            &[1, 2, 3, 4, 5, 6, 7],
            &[1, 2, 3, 4, 5, 6, 7, 8, 6],
            &[0, 0, 0, 0, 9, 9, 9, 10, 10],
            &[1, 2, 3, 0, 1, 2, 3, 0, 1, 2],
        ];
        for values in data {
            let count = values.len() as u64;
            assert_eq!(
                run(&reads(values)),
                (vec![(Kind::Loop, vec![count])], vec![count]),
                "{values:?}"
            );
        }
        // A write is never a poll.
        let writes = [0, 1].map(|time| access(0x100, PortForm::OutDxAl, 0x3f8, 65, time));
        assert_eq!(run(&writes), (vec![(Kind::Loop, vec![2])], vec![2]));
    }

    #[test]
    fn distance_time_and_process_end_a_cluster() {
        let first = access(0x100, PortForm::OutDxAl, 0x80, 0, 0);
        let far = access(0x111, PortForm::OutDxAl, 0x80, 0, 1);
        let late = access(0x100, PortForm::OutDxAl, 0x80, 0, 1001);
        let other = Access { process: Some(Some(1)), time: 1, ..first };
        for next in [far, late, other] {
            assert_eq!(run(&[first, next]).0.len(), 2, "{next:?}");
        }
        let near = access(0x110, PortForm::OutDxAl, 0x80, 0, 1000);
        assert_eq!(run(&[first, near]).0.len(), 1);
        // Functions that return to the same place belong together, wherever they are.
        let [one, two] = [first, far].map(|access| Access { caller: Some(0x9000), ..access });
        assert_eq!(run(&[one, two]).0.len(), 1);
    }

    #[test]
    fn cluster_ends_when_it_is_full() {
        let accesses: Vec<Access> =
            (0..300).map(|port| access(0x100, PortForm::InAlDx, port, 0, 0)).collect();
        let counts: Vec<usize> = run(&accesses).0.iter().map(|(_, counts)| counts.len()).collect();
        assert_eq!(counts, [MAX_POINTS, 300 - MAX_POINTS]);
        let mut vcpu = Vcpu::default();
        let rule = Rule { most: 2, ..RULE };
        let ended = accesses[..5].iter().filter_map(|access| vcpu.access(*access, rule).cluster);
        assert_eq!(ended.map(|cluster| cluster.counts.len()).collect::<Vec<_>>(), [2, 2]);
    }
}
