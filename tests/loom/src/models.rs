//! The models: what each thread does, and what must hold.

use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::counter_array::CounterArray;
use crate::epoch::MailboxEpoch;
use crate::first_port;
use crate::interrupted::InterruptedStrings;
use crate::keyed_counters::{KeyedCounters, take_room};
use crate::line_changes::LineChanges;
use crate::progress::{Pending, Progress};
use crate::string_attempt::StringAttempt;

/// Every model, with the promise that it checks.
pub(crate) const ALL: [(&str, fn()); 9] = [
    ("a dump while a vCPU counts has no count that was not made", counts_while_counting),
    ("a dump while a vCPU makes rows has each row's own key", keys_while_making_rows),
    ("tables that share their room take no more than there is", room_is_shared),
    ("of two ports, one is a site's first on every vCPU", one_port_is_first),
    ("an interrupt line ends at its last level, and no edge is lost", no_edge_is_lost),
    ("a change is applied before the end of the access that made it", own_change_is_seen),
    ("a pending read is recorded once, with its value", pending_read_is_recorded_once),
    ("an interrupted string resumes on another vCPU, once", string_resumes_once),
    ("no mailbox is valid after the final epoch", final_epoch_is_final),
];

fn counts_while_counting() {
    let counters = Arc::new(CounterArray::<2>::new(130));
    let vcpu = thread::spawn({
        let counters = Arc::clone(&counters);
        move || {
            counters.add(1, 0);
            counters.add(1, 0);
            counters.add_many(129, 1, 7);
        }
    });
    let mut last = 0;
    for (row, counts) in counters.rows() {
        match row {
            1 => {
                assert!(counts[0] >= last && counts[0] <= 2 && counts[1] == 0);
                last = counts[0];
            }
            129 => assert!(counts[0] == 0 && [0, 7].contains(&counts[1])),
            other => panic!("row {other} was never touched"),
        }
    }
    vcpu.join().unwrap();
    // The vCPU has stopped: now all is there.
    assert!(counters.rows().eq([(1, [2, 0]), (129, [0, 7])]));
}

fn keys_while_making_rows() {
    const KEYS: [u32; 2] = [0x3f8, 0x8000_0070];
    let counters = Arc::new(KeyedCounters::new(2));
    let vcpu = thread::spawn({
        let counters = Arc::clone(&counters);
        move || {
            for key in KEYS {
                let row = counters.row(key, || true).expect("there is room");
                counters.add(row, 1, 3);
            }
        }
    });
    for (row, (key, counts)) in counters.rows().enumerate() {
        assert_eq!(key, KEYS[row], "a row that is seen has its key");
        assert!(counts[0] == 0 && [0, 3].contains(&counts[1]));
    }
    vcpu.join().unwrap();
    assert!(counters.rows().eq(KEYS.map(|key| (key, [0, 3]))));
}

fn room_is_shared() {
    let taken = Arc::new(AtomicUsize::new(0));
    let takes = [(); 2].map(|()| {
        let taken = Arc::clone(&taken);
        thread::spawn(move || u32::from(take_room(&taken, 1)))
    });
    let got: u32 = takes.map(|thread| thread.join().unwrap()).iter().sum();
    assert_eq!(got, 1);
}

fn one_port_is_first() {
    let word = Arc::new(AtomicU64::new(0));
    let vcpus = [0, 0x70].map(|port| {
        let word = Arc::clone(&word);
        thread::spawn(move || {
            let answers = [(); 2].map(|()| first_port::is_first(&word, port));
            assert_eq!(answers[0], answers[1], "the answer does not change");
            (port, answers[0])
        })
    });
    let answers = vcpus.map(|vcpu| vcpu.join().unwrap());
    let first: Vec<u16> = answers.into_iter().filter(|(_, is)| *is).map(|(port, _)| port).collect();
    assert_eq!(first, [first_port::get(&word).expect("there was an access")]);
}

/// The levels that QEMU was told, in their order. Its global lock is held while they are taken and told.
#[derive(Default)]
struct Told(Mutex<Vec<bool>>);

impl Told {
    fn apply(&self, changes: &LineChanges) {
        let mut told = self.0.lock().unwrap();
        told.extend(changes.take());
    }
}

fn no_edge_is_lost() {
    let (changes, told) = (Arc::new(LineChanges::default()), Arc::new(Told::default()));
    // A device's own thread raises and lowers the line; the main loop and a vCPU tell QEMU.
    let tellers = [(); 2].map(|()| {
        let (changes, told) = (Arc::clone(&changes), Arc::clone(&told));
        thread::spawn(move || told.apply(&changes))
    });
    changes.add(true);
    changes.add(false);
    for teller in tellers {
        teller.join().unwrap();
    }
    // The bottom half that the last change has scheduled.
    told.apply(&changes);
    let told = told.0.lock().unwrap().clone();
    assert_eq!(told.last(), Some(&false), "the last level is the device's");
    assert!(told.contains(&true), "the edge is there: {told:?}");
}

fn own_change_is_seen() {
    let (changes, told) = (Arc::new(LineChanges::default()), Arc::new(Told::default()));
    let main_loop = thread::spawn({
        let (changes, told) = (Arc::clone(&changes), Arc::clone(&told));
        move || told.apply(&changes)
    });
    // The access: the device raises the line, and the line is settled before the vCPU goes on.
    changes.add(true);
    if changes.take_changed() {
        told.apply(&changes);
    }
    assert!(told.0.lock().unwrap().contains(&true));
    main_loop.join().unwrap();
}

/// The events of a vCPU's trace, under their lock.
#[derive(Default)]
struct Events {
    pending: Option<u32>,
    recorded: Vec<(u32, Option<u32>)>,
}

/// Records what is pending, as `VcpuTrace::settle` does.
fn settle(progress: &Progress, events: &mut Events) {
    let value = match progress.get() {
        Pending::Nothing => return,
        Pending::Retired { eax } => Some(eax),
        Pending::Open | Pending::Started => None,
    };
    progress.set(Pending::Nothing);
    let pending = events.pending.take().expect("what is pending is there");
    events.recorded.push((pending, value));
}

fn pending_read_is_recorded_once() {
    let trace = Arc::new((Progress::default(), Mutex::new(Events::default())));
    let writer = thread::spawn({
        let trace = Arc::clone(&trace);
        move || {
            let (progress, events) = &*trace;
            let mut events = events.lock().unwrap();
            // A writer takes what has retired, and leaves an open event to its vCPU.
            if matches!(progress.get(), Pending::Retired { .. }) {
                settle(progress, &mut events);
            }
        }
    });
    let (progress, events) = &*trace;
    for access in [1, 2] {
        let mut events = events.lock().unwrap();
        settle(progress, &mut events);
        events.pending = Some(access);
        progress.set(Pending::Open);
        drop(events);
        assert_eq!(progress.get(), Pending::Open, "nobody takes an open event");
        progress.set(Pending::Retired { eax: 10 * access });
    }
    writer.join().unwrap();
    let mut events = events.lock().unwrap();
    settle(progress, &mut events);
    assert_eq!(events.recorded, [(1, Some(10)), (2, Some(20))]);
}

fn string_resumes_once() {
    let strings = Arc::new(InterruptedStrings::default());
    let handed_over = Arc::new(AtomicBool::new(false));
    let take = |strings: &InterruptedStrings, number| strings.take(|string| string.0 == number);
    let resumes = thread::spawn({
        let (strings, handed_over) = (Arc::clone(&strings), Arc::clone(&handed_over));
        move || {
            // The guest's own synchronization, as it is on any processor.
            let is_handed_over = handed_over.load(Ordering::Acquire);
            is_handed_over && take(&strings, 7).expect("the string is there") == StringAttempt(7)
        }
    });
    let another = thread::spawn({
        let strings = Arc::clone(&strings);
        move || {
            strings.put(StringAttempt(9));
            assert_eq!(take(&strings, 9), Some(StringAttempt(9)));
        }
    });
    strings.put(StringAttempt(7));
    handed_over.store(true, Ordering::Release);
    let has_resumed = resumes.join().unwrap();
    another.join().unwrap();
    assert_eq!(take(&strings, 7).is_none(), has_resumed);
    assert_eq!(take(&strings, 9), None);
}

fn final_epoch_is_final() {
    let epoch = Arc::new(MailboxEpoch::default());
    let registered = epoch.now();
    let threads = [MailboxEpoch::next, MailboxEpoch::end].map(|change| {
        let epoch = Arc::clone(&epoch);
        thread::spawn(move || change(&epoch))
    });
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(epoch.now(), MailboxEpoch::NO_MAILBOXES);
    assert_ne!(epoch.now(), registered);
}
