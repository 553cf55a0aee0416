//! Runs several guests at once, and hands out their results in order.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Number of guests, for each thread, that may have ended before an earlier one ends.
///
/// It bounds the memory for results that wait, whatever the number of guests.
const AHEAD: usize = 4;

/// Interval of the calls of `waiting`.
const INTERVAL: Duration = Duration::from_millis(500);

struct State<T> {
    /// The number of the next run.
    next: usize,
    /// The number of results that were handed out.
    taken: usize,
    /// Results that wait for earlier ones.
    results: BTreeMap<usize, T>,
    /// Set to start no more runs.
    stop: bool,
}

/// Calls `run` for 0 to `count` in `jobs` threads, and `take` for each result in order.
///
/// `waiting` is called with the number of a run, and with the time since, twice a second while `take` waits for it. If `take` returns an error,
/// `cancel` is called, and no more runs are started.
///
/// # Errors
///
/// Fails with the error of `take`.
pub fn run_in_order<T: Send, E>(
    count: usize,
    jobs: usize,
    run: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> Result<(), E>,
    mut waiting: impl FnMut(usize, Duration),
    cancel: impl Fn(),
) -> Result<(), E> {
    let state = Mutex::new(State { next: 0, taken: 0, results: BTreeMap::new(), stop: false });
    let changed = Condvar::new();
    let lock = || state.lock().expect("no thread panics with the lock");
    let work = || {
        loop {
            let mut now = lock();
            while !now.stop && now.next < count && now.next >= now.taken + AHEAD * jobs {
                now = changed.wait(now).expect("no thread panics with the lock");
            }
            if now.stop || now.next >= count {
                return;
            }
            let number = now.next;
            now.next += 1;
            drop(now);
            let result = run(number);
            lock().results.insert(number, result);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(count) {
            scope.spawn(work);
        }
        for number in 0..count {
            let since = Instant::now();
            let mut now = lock();
            let result = loop {
                match now.results.remove(&number) {
                    Some(result) => break result,
                    None => {
                        let (woken, timeout) = changed
                            .wait_timeout(now, INTERVAL)
                            .expect("no thread panics with the lock");
                        now = woken;
                        if timeout.timed_out() {
                            waiting(number, since.elapsed());
                        }
                    }
                }
            };
            now.taken += 1;
            drop(now);
            changed.notify_all();
            let taken = take(number, result);
            if taken.is_err() {
                lock().stop = true;
                changed.notify_all();
                cancel();
                return taken;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_in_order_and_few_wait() {
        let (begun, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let most_ahead = AtomicUsize::new(0);
        let run = |number: usize| {
            let ahead = begun.fetch_add(1, Ordering::SeqCst) - taken.load(Ordering::SeqCst);
            most_ahead.fetch_max(ahead, Ordering::SeqCst);
            // The first ends last.
            if number == 0 {
                std::thread::sleep(Duration::from_millis(50));
            }
            number
        };
        let mut results = Vec::new();
        let take = |number: usize, result: usize| {
            taken.fetch_add(1, Ordering::SeqCst);
            results.push((number, result));
            Ok::<(), ()>(())
        };
        run_in_order(500, 3, run, take, |_, _| (), || ()).unwrap();
        assert!(results.iter().copied().eq((0..500).map(|number| (number, number))));
        assert!(most_ahead.into_inner() <= AHEAD * 3 + 1);
    }

    #[test]
    fn error_starts_no_more_runs() {
        let begun = AtomicUsize::new(0);
        let run = |_| begun.fetch_add(1, Ordering::SeqCst);
        let take = |number, _| if number == 5 { Err("enough") } else { Ok(()) };
        assert_eq!(run_in_order(1000, 2, run, take, |_, _| (), || ()), Err("enough"));
        assert!(begun.into_inner() <= 6 + 2 * AHEAD);
    }
}
