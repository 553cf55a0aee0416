//! Environment variables that change what tests do. `tests/README.md` lists them.

/// The number in an environment variable, or a default.
///
/// # Panics
///
/// If the variable is set to something else.
pub fn number_from_env(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}
