//! A compiled script, and calls of its functions.

use std::sync::Arc;

use rhai::{AST, CallFnOptions, Dynamic, Engine, FuncArgs, Module, Position, Scope};

use super::error::{CallError, ScriptError};
use super::host::{self, Host};
use super::{engine, state};

/// A function that pvio calls: its name, its parameters, and whether a script must have it.
pub(super) type Function = (&'static str, &'static [&'static str], bool);

/// The functions of a device.
pub(super) const DEVICE: &[Function] = &[
    ("read", &["offset", "size"], true),
    ("write", &["offset", "size", "value"], true),
    ("reset", &[], false),
    ("timer", &["number"], false),
];

/// A script that is ready to run.
pub(super) struct Program {
    path: String,
    engine: Engine,
    /// The functions alone.
    ast: AST,
    functions: &'static [Function],
    /// Where each of them is, for errors without a position.
    positions: Vec<Position>,
}

impl Program {
    /// Compiles a script, computes its constants, and checks its functions.
    ///
    /// # Errors
    ///
    /// The script has a mistake that shows before it runs.
    pub fn load(
        path: &str,
        text: &str,
        operations: u64,
        host: &Arc<Host>,
        functions: &'static [Function],
        more: impl FnOnce(&mut Engine),
    ) -> Result<Program, ScriptError> {
        let path = path.to_owned();
        let mut engine = engine::sandbox(operations);
        host::register(&mut engine, host);
        more(&mut engine);
        let parse_error = |error| ScriptError::parse(&path, &error);
        let statements = engine.compile(text).map_err(parse_error)?;
        let mut variables = Scope::new();
        engine
            .run_ast_with_scope(&mut variables, &statements)
            .map_err(|error| ScriptError::call(&path, &CallError::Rhai(error), Position::START))?;
        let (mut constants, mut module) = (Scope::new(), Module::new());
        for (name, is_constant, value) in variables.iter() {
            if is_constant {
                constants.push_constant_dynamic(name, value.clone());
                module.set_var(name, value);
            }
        }
        engine.register_global_module(module.into());
        // Now that the constants are known, all other names in functions must be variables.
        engine.set_strict_variables(true);
        let ast = engine.compile_with_scope(&constants, text).map_err(parse_error)?;
        let positions: Vec<_> =
            functions.iter().map(|(name, ..)| position_of(text, name)).collect();
        for (&(name, parameters, is_needed), &position) in functions.iter().zip(&positions) {
            check_function(&ast, name, parameters, is_needed)
                .map_err(|text| ScriptError::new(&path, position, &text))?;
        }
        let ast = ast.clone_functions_only();
        Ok(Program { ast, path, engine, functions, positions })
    }

    /// The script's file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns true if the script has a function.
    pub fn has(&self, function: &str) -> bool {
        self.ast.iter_functions().any(|other| other.name == function)
    }

    /// Calls a function with `state` as its `this`, and checks the state after it.
    pub fn call(
        &self,
        function: &str,
        state: &mut Dynamic,
        arguments: impl FuncArgs,
    ) -> Result<Dynamic, CallError> {
        let options = CallFnOptions::new().eval_ast(false).bind_this_ptr(state);
        let result = self.engine.call_fn_with_options(
            options,
            &mut Scope::new(),
            &self.ast,
            function,
            arguments,
        );
        let value: Dynamic = result.map_err(CallError::Rhai)?;
        state::check(state)?;
        Ok(value)
    }

    /// The text for a call that has failed, with its place in the script.
    pub fn script_error(&self, function: &str, error: &CallError) -> ScriptError {
        let index = self.functions.iter().position(|(name, ..)| *name == function);
        let otherwise = index.map_or(Position::START, |index| self.positions[index]);
        ScriptError::call(&self.path, error, otherwise)
    }
}

/// Checks that the script has a function with the right number of parameters.
fn check_function(
    ast: &AST,
    name: &str,
    parameters: &[&str],
    is_needed: bool,
) -> Result<(), String> {
    let signature = format!("fn {name}({})", parameters.join(", "));
    let mut others = None;
    for function in ast.iter_functions().filter(|function| function.name == name) {
        if function.params.len() == parameters.len() {
            return Ok(());
        }
        others = Some(function.params.len());
    }
    match others {
        Some(1) => Err(format!("{name} has 1 parameter; write {signature}")),
        Some(count) => Err(format!("{name} has {count} parameters; write {signature}")),
        None if is_needed => Err(format!("the script has no function {name}; write {signature}")),
        None => Ok(()),
    }
}

/// The place of a function's definition at the beginning of a line; the script's start if there is none.
fn position_of(text: &str, name: &str) -> Position {
    let is_definition = |line: &str| {
        let rest = line.strip_prefix("private ").unwrap_or(line).trim_start();
        let rest = rest.strip_prefix("fn ").map(str::trim_start);
        rest.and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.trim_start().starts_with('('))
    };
    for (number, line) in (1..=u16::MAX).zip(text.lines()) {
        let definition = line.trim_start();
        if is_definition(definition) {
            let column = line[..line.len() - definition.len()].chars().count() + 1;
            return Position::new(number, column.try_into().unwrap_or(u16::MAX));
        }
    }
    Position::START
}
