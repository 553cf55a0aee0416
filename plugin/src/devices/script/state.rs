//! Checks what a script keeps from call to call.

use rhai::{Array, Blob, Dynamic, FnPtr, ImmutableString, Map};

use super::error::CallError;

/// The size of a script's state in bytes, about.
const STATE_BYTES: usize = 1 << 20;

/// The bytes of a value beside its contents: the size of a `Dynamic`, and of a map's key.
const VALUE_BYTES: usize = 16;

/// Checks the size of the state, which Rhai limits for each value only, and that it holds nothing else
/// than data.
pub(super) fn check(state: &Dynamic) -> Result<(), CallError> {
    if !state.is_map() {
        return Err(CallError::StateIsNotAMap(state.type_name()));
    }
    match add(state, 0)? {
        bytes if bytes > STATE_BYTES => Err(CallError::StateTooLarge(STATE_BYTES)),
        _ => Ok(()),
    }
}

/// Adds a value's bytes to `sum`.
fn add(value: &Dynamic, sum: usize) -> Result<usize, CallError> {
    let sum = sum + VALUE_BYTES;
    if value.is_int() || value.is_unit() || value.is_bool() || value.is_char() {
        return Ok(sum);
    }
    if let Some(blob) = value.read_lock::<Blob>() {
        return Ok(sum + blob.len());
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Ok(sum + text.len());
    }
    if let Some(array) = value.read_lock::<Array>() {
        return array.iter().try_fold(sum, |sum, element| add(element, sum));
    }
    if let Some(map) = value.read_lock::<Map>() {
        return map.iter().try_fold(sum, |sum, (key, value)| add(value, sum + key.len()));
    }
    match value.is::<FnPtr>() {
        true => Ok(sum),
        false => Err(CallError::StateHolds(value.type_name())),
    }
}
