//! A device's program as its device sees it: requests and answers, resets, interrupts, and its death.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::connection::{Connection, Event};
use super::fault::{Fault, NoAnswer};
use super::frame::{Frame, kind};
use super::patience::Patience;
use crate::devices::Interrupt;

/// The program, alive or dead.
pub(super) struct Session {
    state: State,
    patience: Patience,
    /// Without `irq=`, there is none.
    line: Option<Box<dyn Interrupt>>,
    /// The request to reset that is yet to be answered. Interrupts from before it do not count.
    reset: Option<u32>,
    /// True if the program has set a line that it does not have.
    needs_line: bool,
    /// True if that was reported.
    needs_line_reported: bool,
    /// True if an access has had no answer because QEMU stopped.
    was_stopped: bool,
}

enum State {
    Alive(Box<Connection>),
    /// Shut down, so that the worker wakes and takes it.
    Dead(Option<UnixStream>),
}

impl Session {
    pub fn new(
        connection: Connection,
        patience: Patience,
        line: Option<Box<dyn Interrupt>>,
    ) -> Session {
        let state = State::Alive(Box::new(connection));
        Session {
            state,
            patience,
            line,
            reset: None,
            needs_line: false,
            needs_line_reported: false,
            was_stopped: false,
        }
    }

    /// The connection, if the program is alive.
    pub fn connection(&self) -> Option<&Connection> {
        match &self.state {
            State::Alive(connection) => Some(connection),
            State::Dead(_) => None,
        }
    }

    /// The socket, also of a program that has just died.
    pub fn stream(&self) -> Option<&UnixStream> {
        match &self.state {
            State::Alive(connection) => Some(connection.stream()),
            State::Dead(stream) => stream.as_ref(),
        }
    }

    /// Closes the connection to a dead program. Returns true if it is dead.
    pub fn close_dead(&mut self) -> bool {
        match &mut self.state {
            State::Alive(_) => false,
            State::Dead(stream) => {
                *stream = None;
                true
            }
        }
    }

    /// Goes on with a new program, which is reset first.
    pub fn revive(&mut self, connection: Connection) -> Result<(), Fault> {
        self.state = State::Alive(Box::new(connection));
        self.reset()
    }

    /// Gives the program up. The device reads as all ones from now on.
    pub fn bury(&mut self) {
        if let Some(line) = &self.line {
            line.set(false);
        }
        self.reset = None;
        if let State::Alive(connection) = &self.state {
            let _ = connection.stream().shutdown(Shutdown::Both);
            let stream = connection.stream().try_clone().ok();
            self.state = State::Dead(stream);
        }
    }

    /// Returns true once, after the program has set a line that it does not have.
    pub fn take_needs_line(&mut self) -> bool {
        self.needs_line && !std::mem::replace(&mut self.needs_line_reported, self.needs_line)
    }

    /// Returns true the first time.
    pub fn is_first_stop(&mut self) -> bool {
        !std::mem::replace(&mut self.was_stopped, true)
    }

    /// Sends a request, and waits for its answer. Returns its value; its data fill `data`.
    ///
    /// Returns `None` if the program is dead.
    pub fn ask(
        &mut self,
        request: Frame,
        written: &[u8],
        data: &mut [u8],
    ) -> Result<Option<u32>, NoAnswer> {
        let State::Alive(connection) = &mut self.state else { return Ok(None) };
        let wait = self.patience.begin()?;
        let id = connection.request(request, written)?;
        let mut value = None;
        loop {
            while let Some(event) = connection.take_event()? {
                match event {
                    Event::Answer(number, answer, range) if number == id => {
                        data.copy_from_slice(connection.data(range));
                        value = Some(answer);
                    }
                    Event::Answer(number, ..) => answered(&mut self.reset, number),
                    Event::Irq(level) => {
                        self.needs_line |= !set(self.line.as_deref(), self.reset, level);
                    }
                }
            }
            if value.is_some() {
                self.patience.end(&wait)?;
                return Ok(value);
            }
            connection.flush()?;
            match connection.receive()? {
                // Frames may come faster than they are taken.
                true => drop(self.patience.check(&wait)?),
                false => {
                    let interest = connection.interest();
                    self.patience.wait(&wait, connection.stream(), interest)?;
                }
            }
        }
    }

    /// Sends a frame that wants no answer. Waits only for room.
    pub fn tell(&mut self, frame: Frame, written: &[u8]) -> Result<(), NoAnswer> {
        let State::Alive(connection) = &mut self.state else { return Ok(()) };
        connection.flush()?;
        connection.post(frame, written)?;
        connection.drain(&mut self.patience)
    }

    /// Asks the program to reset itself, and lowers the interrupt line. Does not wait.
    pub fn reset(&mut self) -> Result<(), Fault> {
        if let Some(line) = &self.line {
            line.set(false);
        }
        let State::Alive(connection) = &mut self.state else { return Ok(()) };
        let frame = Frame { kind: kind::RESET, ..Frame::default() };
        self.reset = Some(connection.request(frame, &[])?);
        Ok(())
    }

    /// Says that the machine has ended. Does not wait.
    pub fn end(&mut self) {
        let State::Alive(connection) = &mut self.state else { return };
        // The program notices the end of the connection in any case.
        let _ = connection.post(Frame { kind: kind::END, ..Frame::default() }, &[]);
        let _ = connection.stream().shutdown(Shutdown::Both);
    }

    /// Takes what has come between accesses. Does not wait.
    pub fn catch_up(&mut self) -> Result<(), Fault> {
        let State::Alive(connection) = &mut self.state else { return Ok(()) };
        connection.flush()?;
        connection.receive()?;
        while let Some(event) = connection.take_event()? {
            match event {
                Event::Answer(number, ..) => answered(&mut self.reset, number),
                Event::Irq(level) => {
                    self.needs_line |= !set(self.line.as_deref(), self.reset, level);
                }
            }
        }
        Ok(())
    }
}

/// Notes an answer that nobody waits for: to a reset, or to an access that QEMU has ended.
fn answered(reset: &mut Option<u32>, number: u32) {
    if *reset == Some(number) {
        *reset = None;
    }
}

/// Sets the interrupt line. Returns false if there is none.
fn set(line: Option<&dyn Interrupt>, reset: Option<u32>, level: bool) -> bool {
    match (line, reset) {
        (Some(line), None) => line.set(level),
        (Some(_), Some(_)) => {}
        (None, _) => return false,
    }
    true
}
