//! The thread that listens to a device's program between accesses, and reconnects.
//!
//! While an access waits, it reads the socket itself: that saves a switch between threads. The thread then
//! sleeps, because the socket is disarmed in its epoll.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::connect::{Address, ConnectError};
use super::connection::Connection;
use super::fault::{Fault, NoAnswer};
use super::session::Session;
use crate::devices::StopRequest;
use crate::qemu::report::say;

/// The pause after the program has been listened to. Limits the interrupts of a flood to 10,000 a second.
const PAUSE: Duration = Duration::from_micros(100);

/// The time between two attempts to reconnect.
const RETRY: Duration = Duration::from_millis(200);

/// The number of lines about one device. A program may die again and again.
const MAX_REPORTS: usize = 8;

/// What the device and its thread share.
///
/// Lock order: the device's own lock on the bus, then the session's. No lock of QEMU's is taken under the
/// session's.
pub(super) struct Shared {
    /// The device, for messages.
    pub name: String,
    pub address: Address,
    pub reconnects: bool,
    session: Mutex<Session>,
    epoll: OwnedFd,
    is_over: AtomicBool,
    reports: Mutex<usize>,
}

impl Shared {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The process has no descriptor or thread left.
    pub fn start(
        name: String,
        address: Address,
        reconnects: bool,
        session: Session,
        stop: StopRequest,
    ) -> io::Result<Arc<Shared>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        if let Some(stream) = session.stream() {
            epoll::add(&epoll, stream, data(), armed(&session))?;
        }
        let shared = Arc::new(Shared {
            name,
            address,
            reconnects,
            session: Mutex::new(session),
            epoll,
            is_over: AtomicBool::new(false),
            reports: Mutex::new(0),
        });
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new().name("pvio-socket".into());
        thread.spawn(move || worker.run(&stop))?;
        Ok(shared)
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an access wait for the program, while the thread sleeps. Returns `None` if there is no answer.
    pub fn ask(
        &self,
        work: impl FnOnce(&mut Session) -> Result<Option<u32>, NoAnswer>,
    ) -> Option<u32> {
        let mut session = self.lock();
        session.connection()?;
        self.arm(&session, epoll::EventFlags::ONESHOT);
        let (value, no_answer) = match work(&mut session) {
            Ok(value) => (value, None),
            Err(no_answer) => (None, Some(no_answer)),
        };
        self.settle(&mut session, no_answer);
        value
    }

    /// Sends to the program without an answer.
    pub fn tell(&self, work: impl FnOnce(&mut Session) -> Result<(), NoAnswer>) {
        let mut session = self.lock();
        if session.connection().is_some() {
            let no_room = work(&mut session).err();
            // The thread is armed already, unless the program is dead or must be waited for.
            if no_room.is_some() || session.connection().is_some_and(Connection::is_writing) {
                self.settle(&mut session, no_room);
            }
        }
    }

    /// Says that the machine has ended, and ends the thread.
    pub fn end(&self) {
        // Relaxed: the session's lock orders it, and the thread is woken after it.
        self.is_over.store(true, Ordering::Relaxed);
        self.lock().end();
    }

    /// Ends a use of the session: reports what went wrong, and lets the thread listen again.
    fn settle(&self, session: &mut Session, no_answer: Option<NoAnswer>) {
        match no_answer {
            Some(NoAnswer::Fault(fault)) => self.bury(session, &fault),
            Some(NoAnswer::Stopped) if session.is_first_stop() => {
                self.report(
                    "an access had no answer when QEMU stopped or ended: it reads as all ones",
                );
            }
            Some(NoAnswer::Stopped) | None => {}
        }
        if session.take_needs_line() {
            self.report(
                "the program sets an interrupt line, but has none; add irq=LINE to the option",
            );
        }
        self.arm(session, armed(session));
    }

    fn bury(&self, session: &mut Session, fault: &Fault) {
        session.bury();
        let until = if self.reconnects { "until it is connected again" } else { "from now on" };
        self.report(&format!(
            "the program at {} {fault}: {until} the device reads as all ones, and writes to it are lost",
            self.address.path
        ));
    }

    fn report(&self, text: &str) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        *reports += 1;
        match (*reports).cmp(&MAX_REPORTS) {
            std::cmp::Ordering::Less => say(format_args!("{}: {text}", self.name)),
            std::cmp::Ordering::Equal => {
                say(format_args!("{}: {text} (no more is reported of this device)", self.name));
            }
            std::cmp::Ordering::Greater => {}
        }
    }

    /// Lets the thread wake at these events, once.
    fn arm(&self, session: &Session, events: epoll::EventFlags) {
        if let Some(stream) = session.stream() {
            // It fails only for a descriptor that is not in the epoll, and each is.
            let _ = epoll::modify(&self.epoll, stream, data(), events);
        }
    }

    fn is_over(&self) -> bool {
        // Relaxed: as in `end`.
        self.is_over.load(Ordering::Relaxed)
    }

    fn run(&self, stop: &StopRequest) {
        let mut events = Vec::with_capacity(1);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return,
            }
            if self.is_over() {
                return;
            }
            let mut session = self.lock();
            let fault = session.catch_up().err();
            self.settle(&mut session, fault.map(NoAnswer::Fault));
            let is_dead = session.close_dead();
            drop(session);
            match is_dead {
                false => thread::sleep(PAUSE),
                true if self.reconnects && self.reconnect(stop) => {}
                true => return,
            }
        }
    }

    /// Connects to a program that listens again. Returns false if the machine has ended.
    fn reconnect(&self, stop: &StopRequest) -> bool {
        let mut last_error = String::new();
        loop {
            thread::sleep(RETRY);
            if self.is_over() {
                return false;
            }
            let connection = match self.address.connect(Arc::clone(stop)) {
                Ok(connection) => connection,
                Err(ConnectError::Nobody | ConnectError::Stopped) => continue,
                Err(error) => {
                    let error = error.to_string();
                    if error != last_error {
                        self.report(&format!("path={}: {error}", self.address.path));
                        last_error = error;
                    }
                    continue;
                }
            };
            let mut session = self.lock();
            if self.is_over() {
                return false;
            }
            let revived = session.revive(connection).map_err(NoAnswer::Fault);
            if let Some(stream) = session.stream() {
                // Without it, the program would be silent between accesses.
                if epoll::add(&self.epoll, stream, data(), epoll::EventFlags::ONESHOT).is_err() {
                    return false;
                }
            }
            if revived.is_ok() {
                self.report(&format!("the program at {} is connected again", self.address.path));
            }
            self.settle(&mut session, revived.err());
            return true;
        }
    }
}

/// There is one descriptor in the epoll, so events need no number.
fn data() -> epoll::EventData {
    epoll::EventData::new_u64(0)
}

/// The events that wake the thread between accesses.
fn armed(session: &Session) -> epoll::EventFlags {
    let is_writing = session.connection().is_some_and(Connection::is_writing);
    let output = if is_writing { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
    epoll::EventFlags::ONESHOT | epoll::EventFlags::IN | output
}
