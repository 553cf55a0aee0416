//! `control=PATH`: a socket for requests from outside while the machine runs.
//!
//! One thread serves it. It takes no lock that a vCPU waits for longer than a read of the counters, so
//! that no client stops or slows the guest. What a client may hold is bounded.
//!
//! | part | what it does |
//! | --- | --- |
//! | `client` | one connection's input and output |
//! | `request` | requests and answers as JSON |
//! | `command` | the commands, with their arguments |
//! | `commands` | what each command does |
//! | `rates` | accesses per second, for subscribers |

mod client;
mod command;
mod commands;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod rates;
mod request;

pub use commands::Commands;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::breakpoints::Hit;
use crate::listening_socket::ListeningSocket;
use client::Client;
use rates::Subscription;
use request::{answer, event};

/// The most connections at a time.
const MAX_CLIENTS: usize = 16;

/// The pause after the process had no descriptor left for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// The most hits of breakpoints that wait for the thread.
const MAX_HITS: usize = 64;

/// The running server.
pub struct Control {
    shared: Arc<Shared>,
}

struct Shared {
    socket: ListeningSocket,
    is_over: AtomicBool,
    /// Wakes the thread when it is written to.
    waker: UnixStream,
    /// Hits of breakpoints that clients are yet to be told of.
    hits: Mutex<Vec<Hit>>,
}

impl Shared {
    /// Has clients told of a hit. Called on a vCPU's thread.
    fn add(&self, hit: Hit) {
        let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        // The machine stands after each, so there are seldom two.
        if hits.len() < MAX_HITS {
            hits.push(hit);
        }
        self.wake();
    }

    fn wake(&self) {
        // If it is full, the thread wakes anyway.
        let _ = (&self.waker).write(&[0]);
    }
}

impl Control {
    /// Starts a thread that serves the socket.
    ///
    /// QEMU has forked for `-daemonize` before it loads plugins, so the thread stays.
    ///
    /// # Errors
    ///
    /// The process has no descriptor or thread left.
    pub fn start(socket: ListeningSocket, commands: Commands) -> std::io::Result<Control> {
        let (waker, wakes) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        wakes.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            socket,
            is_over: AtomicBool::new(false),
            waker,
            hits: Mutex::default(),
        });
        if let Ok(breakpoints) = commands.breakpoints() {
            let shared = Arc::clone(&shared);
            breakpoints.on_hit(move |hit| shared.add(hit.clone()));
        }
        let server = Server {
            shared: Arc::clone(&shared),
            wakes,
            commands,
            clients: Vec::new(),
            rests: None,
        };
        std::thread::Builder::new().name("pvio-control".into()).spawn(move || server.run())?;
        Ok(Control { shared })
    }

    /// Removes the socket and answers no more requests. Does not wait for the thread: it may wait for a lock of
    /// QEMU's that this thread holds.
    pub fn finish(&self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.shared.socket.remove();
        self.shared.wake();
    }
}

/// The thread's own.
struct Server {
    shared: Arc<Shared>,
    wakes: UnixStream,
    commands: Commands,
    clients: Vec<Client>,
    /// Until when no connection is accepted.
    rests: Option<Instant>,
}

impl Server {
    fn run(mut self) {
        loop {
            self.wait();
            if self.shared.is_over.load(Ordering::Relaxed) {
                return;
            }
            self.accept();
            self.tell_hits();
            let now = Instant::now();
            for client in &mut self.clients {
                client.flush();
                if !client.is_writing() {
                    client.receive();
                }
                // One at a time, so that each client has its turn.
                if let Some(line) = client.next_line() {
                    let line = self.commands.serve(&line, &mut client.subscription);
                    client.send(line);
                }
                let is_free = !client.is_writing();
                if let Some(subscription) = &mut client.subscription
                    && let Some(event) = self.commands.rates(subscription, now, is_free)
                {
                    client.send(event);
                }
            }
            self.clients.retain(|client| !client.is_over(now));
        }
    }

    /// Waits until a client wants something, or it is time for something.
    fn wait(&mut self) {
        let now = Instant::now();
        self.rests = self.rests.filter(|&until| until > now);
        let is_open = self.rests.is_none();
        let mut fds = vec![PollFd::new(&self.wakes, PollFlags::IN)];
        fds.extend(
            self.clients
                .iter()
                .map(|client| PollFd::from_borrowed_fd(client.fd(), client.interest())),
        );
        if is_open {
            fds.push(PollFd::new(self.shared.socket.listener(), PollFlags::IN));
        }
        let has_line = self.clients.iter().any(Client::has_line);
        let due = self.clients.iter().flat_map(|client| {
            [client.deadline(), client.subscription.as_ref().map(Subscription::due)]
        });
        let due = due.chain([self.rests, has_line.then_some(now)]).flatten().min();
        let timeout = due.map(|due| {
            // Rounded up, so that the time has come then.
            let left =
                due.saturating_duration_since(now) + Duration::from_millis(u64::from(due > now));
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        // An interruption by a signal is a turn without news.
        let _ = poll(&mut fds, timeout.as_ref());
        let ends = PollFlags::HUP | PollFlags::ERR;
        let is_gone: Vec<bool> = fds[1..].iter().map(|fd| fd.revents().intersects(ends)).collect();
        for (client, is_gone) in self.clients.iter_mut().zip(is_gone) {
            if is_gone {
                client.hang_up();
            }
        }
    }

    /// Tells all clients of hits. One that does not read its answers is left out.
    fn tell_hits(&mut self) {
        let mut bytes = [0; 64];
        while (&self.wakes).read(&mut bytes).is_ok_and(|len| len > 0) {}
        let mut hits = self.shared.hits.lock().unwrap_or_else(PoisonError::into_inner);
        for hit in std::mem::take(&mut *hits) {
            for client in self.clients.iter_mut().filter(|client| !client.is_writing()) {
                client.send(event("break", hit.to_json()));
            }
        }
    }

    fn accept(&mut self) {
        if self.rests.is_some() {
            return;
        }
        loop {
            match self.shared.socket.listener().accept() {
                Ok((mut stream, _)) if self.clients.len() == MAX_CLIENTS => {
                    let why = format!("{MAX_CLIENTS} clients are connected already");
                    // The new socket's buffer has room for a line.
                    let _ = stream.set_nonblocking(true);
                    let _ = stream.write(&answer(Err(why), None));
                }
                Ok((stream, _)) => self.clients.extend(Client::new(stream).ok()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.rests = Some(Instant::now() + PAUSE);
                    return;
                }
            }
        }
    }
}
