//! Environment variables that configure the tests. `tests/README.md` lists them.

/// The number in an environment variable, or a default.
///
/// # Panics
///
/// If the variable is set to anything but a number.
pub fn number_from_env(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}
