//! Mistakes at run time, each reported once.

use crate::qemu::report::say;

/// The number of different mistakes that are reported.
const MAX_REPORTS: usize = 8;

/// The mistakes that were reported: a guest may repeat one at each reset.
#[derive(Default)]
pub(super) struct Mistakes(Vec<String>);

impl Mistakes {
    /// Reports a mistake in a call of a script. `then` says what happens until the next reset.
    pub fn report(
        &mut self,
        name: &str,
        mistake: String,
        (function, arguments): (&str, &[u64]),
        then: &str,
    ) {
        if self.0.len() >= MAX_REPORTS || self.0.contains(&mistake) {
            return;
        }
        let arguments: Vec<String> = arguments.iter().map(|value| format!("{value:#x}")).collect();
        let arguments = arguments.join(", ");
        say(format_args!(
            "{name}: {mistake}, in the call {function}({arguments}): until the next reset {then}"
        ));
        self.0.push(mistake);
    }

    /// Forgets the mistakes: a new script is in use.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The first mistake that was reported.
    #[cfg(any(test, fuzzing))]
    pub fn first(&self) -> Option<&String> {
        self.0.first()
    }
}
