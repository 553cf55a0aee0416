//! Demangles names of C++ and Rust code.

use std::fmt::{self, Write};

/// The longest demangled name in bytes: a short mangled name can stand for a very long one.
const LONGEST: usize = 1024;

/// A text that takes no more than [`LONGEST`] bytes.
struct Limited(String);

impl Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > LONGEST {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// Demangles a name; `None` if it is not mangled, or too long when demangled.
pub(super) fn demangle(name: &str) -> Option<String> {
    let mut text = Limited(String::new());
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        // Without the hash.
        write!(text, "{rust:#}").ok()?;
    } else if name.starts_with("_Z") {
        let cpp = cpp_demangle::Symbol::new(name).ok()?;
        let options = cpp_demangle::DemangleOptions::new().no_return_type();
        cpp.structured_demangle(&mut text, &options).ok()?;
    } else {
        return None;
    }
    Some(text.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_cpp_and_rust_are_demangled() {
        let is = |mangled: &str, expected: &str| {
            assert_eq!(demangle(mangled).as_deref(), Some(expected))
        };
        is("_ZN4Uart4sendEhj", "Uart::send(unsigned char, unsigned int)");
        is("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt");
        is("_RNvNtCs1234_5mylib3foo3bar", "mylib::foo::bar");
        assert_eq!(demangle("io_serial_in"), None);
        assert_eq!(demangle("_Z"), None);
    }

    #[test]
    fn a_name_that_would_fill_memory_stays_as_it_is() {
        // Each pair has the one before twice.
        let mut name = "_Z1fSt4pairIiiE".to_owned();
        for substitution in
            ["S0_", "S1_", "S2_", "S3_", "S4_", "S5_", "S6_", "S7_", "S8_", "S9_", "SA_", "SB_"]
        {
            name += &format!("St4pairI{substitution}{substitution}E");
        }
        assert!(demangle(&name).is_none_or(|name| name.len() <= LONGEST));
    }
}
