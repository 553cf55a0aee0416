//! Observers, without QEMU.

use std::io;

use super::*;
use crate::devices::{Clock, Interrupt};
use crate::x86::{AccessSize, Direction, Width};

struct NoMachine;

impl Services for NoMachine {
    fn interrupt(&self, _line: u8) -> Option<Box<dyn Interrupt>> {
        None
    }

    fn exit(&self) -> Box<dyn Fn(u8) + Send> {
        Box::new(|_| {})
    }

    fn clock(&self) -> Option<Clock> {
        None
    }

    fn is_recorded(&self) -> bool {
        false
    }
}

/// Panics at 13. Its last error is the number of accesses.
struct Counter(u32);

impl Observer for Counter {
    fn access(&mut self, access: &ObservedAccess) {
        assert_ne!(access.value, Some(13), "unlucky");
        self.0 += 1 << (8 * access.offset);
    }

    fn reset(&mut self) {
        self.0 = 0;
    }

    fn finish(&mut self) -> io::Result<()> {
        Err(io::Error::other(format!("{:#x}", self.0)))
    }
}

const KIND: ObserverKind =
    ObserverKind { name: "counter", ports: 1, build: |_| Ok(Box::new(Counter(0))) };

fn observers(ranges: &[&str]) -> Arc<Observers> {
    let requests = ranges.iter().map(|range| DeviceRequest {
        kind: KIND,
        range: PortRange::parse(range, 1).unwrap(),
        kind_and_ports: String::new(),
        settings: Vec::new(),
    });
    let clock = ValueClock { name: "guest", now: Box::new(|| 5) };
    Arc::new(Observers::build(requests.collect(), &NoMachine, clock).unwrap())
}

const CODE: ObservedCode = ObservedCode { pc: 0, by_hypercall: false };
const READ: (Direction, AccessSize) = (Direction::In, AccessSize(Some(Width::Byte)));

#[test]
fn several_observers_share_a_port() {
    let observers = observers(&["0x80", "0x7f-0x81", "0x81"]);
    assert!(observers.cover(Port(0x7f)) && observers.cover(Port(0x81)));
    assert!(!observers.cover(Port(0x7e)) && !observers.cover(Port(0x82)));
    let vcpu = VcpuObservers::new(Arc::clone(&observers), 0);
    vcpu.access(CODE, READ, Port(0x80), 1);
    vcpu.access(CODE, READ, Port(0x81), 1);
    let counts = ["0x80: 0x1", "0x7f-0x81: 0x10100", "0x81: 0x1"];
    for (line, count) in observers.finish().iter().zip(counts) {
        let (ports, count) = count.split_once(": ").unwrap();
        let range = PortRange::parse(ports, 1).unwrap();
        assert_eq!(*line, format!("counter at {range}: its output is incomplete: {count}"));
    }
}

#[test]
fn access_that_faults_is_not_seen_and_one_that_is_pending_at_the_end_is() {
    let observers = observers(&["0x80"]);
    let vcpu = VcpuObservers::new(Arc::clone(&observers), 0);
    let start = || vcpu.start(CODE, READ, Port(0x80), None, false);
    start();
    vcpu.discard();
    start();
    vcpu.retire(|| 7);
    // The next one shows that this one has retired.
    start();
    start();
    assert_eq!(observers.finish(), ["counter at 0x0080: its output is incomplete: 0x3"]);
}

#[test]
fn observer_that_panics_sees_nothing_more_and_others_do() {
    let observers = observers(&["0x80", "0x80-0x81"]);
    let vcpu = VcpuObservers::new(Arc::clone(&observers), 0);
    let see = |port, value| vcpu.access(CODE, READ, Port(port), value);
    see(0x80, 13);
    observers.reset();
    see(0x80, 1);
    assert_eq!(observers.finish(), Vec::<String>::new(), "both have panicked");
}
