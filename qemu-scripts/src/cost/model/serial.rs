//! Finds a model in the log of a serial line.

/// The line before a model.
const BEGIN: &str = "# pvio.model begin";

/// The line after a model.
const END: &str = "# pvio.model end";

/// A log without a complete model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// No model begins.
    #[error("has no line {BEGIN:?}; name the log of a guest that prints a model")]
    NoBegin,
    /// The last model has no end.
    #[error("has no line {END:?} after the one with {BEGIN:?}; the log is cut off")]
    NoEnd,
}

/// Returns the last complete model of a log.
///
/// Carriage returns are left out. Each line before the model is an empty line, so that places of mistakes are those in
/// the log.
///
/// # Errors
///
/// The log has no complete model.
pub fn extract(log: &str) -> Result<String, SerialError> {
    let mut last = Err(SerialError::NoBegin);
    let mut model: Option<String> = None;
    for (number, line) in log.split('\n').enumerate() {
        let line = line.trim_matches('\r');
        match line.trim() {
            BEGIN => {
                model = Some("\n".repeat(number + 1));
                last = last.or(Err(SerialError::NoEnd));
            }
            END => {
                if let Some(model) = model.take() {
                    last = Ok(model);
                }
            }
            _ => {
                if let Some(model) = &mut model {
                    *model += line;
                    model.push('\n');
                }
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_complete_model_is_found_among_other_lines() {
        let log = "SeaBIOS\r\n# pvio.model begin\r\nold = 1\r\n# pvio.model end\r\n\
                   boot\r\n# pvio.model begin\r\nname = \"x\"\r\nmhz = 2\r\n# pvio.model end\r\nbye";
        assert_eq!(extract(log).unwrap(), format!("{}name = \"x\"\nmhz = 2\n", "\n".repeat(6)));
    }

    #[test]
    fn model_that_is_cut_off_does_not_replace_a_complete_one() {
        let log = "# pvio.model begin\na = 1\n# pvio.model end\n# pvio.model begin\nb = 2\n";
        assert_eq!(extract(log).unwrap(), "\na = 1\n");
    }

    #[test]
    fn log_without_a_complete_model_is_refused() {
        assert_eq!(extract("a\nb\n"), Err(SerialError::NoBegin));
        assert_eq!(extract("# pvio.model begin\na = 1\n"), Err(SerialError::NoEnd));
        assert_eq!(extract("# pvio.model end\n"), Err(SerialError::NoBegin));
    }
}
