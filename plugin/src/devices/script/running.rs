//! A script at work: it runs until a call fails, and again from the next reset of the machine.

use std::sync::Arc;

use rhai::{Dynamic, FuncArgs, Map};

use super::error::{CallError, ScriptError};
use super::host::Host;
use super::mistakes::Mistakes;
use super::program::Program;

/// A script, its state, and what has gone wrong.
pub(super) struct Running {
    program: Program,
    host: Arc<Host>,
    /// The script's `this`.
    state: Dynamic,
    /// True if a call has failed since the last reset.
    is_dead: bool,
    mistakes: Mistakes,
    /// What is true from a failed call until the next reset, for the report.
    then: &'static str,
}

impl Running {
    /// Runs a script that [`try_reset`] has tried.
    pub fn new(program: Program, host: Arc<Host>, then: &'static str) -> Running {
        let (state, mistakes) = (new_state(), Mistakes::default());
        Running { program, host, state, is_dead: false, mistakes, then }
    }

    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Returns true if the script has a function.
    pub fn has(&self, function: &str) -> bool {
        self.program.has(function)
    }

    /// Calls a function, and converts what it returns. `numbers` are its arguments for a report.
    ///
    /// Returns `None` if that fails, or if a call has failed since the last reset.
    pub fn call<T>(
        &mut self,
        function: &'static str,
        arguments: impl FuncArgs,
        numbers: &[u64],
        convert: impl FnOnce(Dynamic) -> Result<T, CallError>,
    ) -> Option<T> {
        if self.is_dead {
            return None;
        }
        let result = self.program.call(function, &mut self.state, arguments).and_then(convert);
        result.map_err(|error| self.fail(function, numbers, &error)).ok()
    }

    /// Reports a call that has failed, and stops the script.
    #[cold]
    fn fail(&mut self, function: &'static str, numbers: &[u64], error: &CallError) {
        self.is_dead = true;
        // Free what the script has allocated.
        self.state = new_state();
        self.host.quiet();
        let mistake = self.program.script_error(function, error).to_string();
        self.mistakes.report(self.host.name(), mistake, (function, numbers), self.then);
    }

    /// Begins anew with an empty state, and calls the script's `reset`, if it has one.
    pub fn reset(&mut self) {
        self.is_dead = false;
        self.state = new_state();
        self.host.quiet();
        if self.has("reset") {
            self.call("reset", (), &[], |_| Ok(()));
        }
    }

    /// Begins anew with another script.
    pub fn replace(&mut self, program: Program) {
        self.program = program;
        self.mistakes.clear();
        self.reset();
    }

    /// The first mistake that was reported.
    #[cfg(any(test, fuzzing))]
    pub fn first_mistake(&self) -> Option<&String> {
        self.mistakes.first()
    }
}

/// Calls the `reset` of a script, if it has one, with a state of its own.
///
/// # Errors
///
/// The call fails.
pub(super) fn try_reset(program: &Program) -> Result<(), ScriptError> {
    if !program.has("reset") {
        return Ok(());
    }
    let result = program.call("reset", &mut new_state(), ());
    result.map(drop).map_err(|error| program.script_error("reset", &error))
}

fn new_state() -> Dynamic {
    Map::new().into()
}

/// Converts what a function returns that must return an integer.
pub(super) fn integer(value: Dynamic) -> Result<i64, CallError> {
    let kind = value.type_name();
    value.as_int().map_err(|_| CallError::NotAnInteger(kind))
}
