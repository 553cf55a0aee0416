//! The compilers that the tests of `pvio.h` use.

use std::path::Path;
use std::process::Command;

use pvio_cli::paths;

/// A C or C++ compiler.
#[derive(Debug)]
pub struct Compiler {
    /// The command. It may contain arguments.
    pub name: String,
    /// The Debian package that contains it.
    package: &'static str,
}

impl Compiler {
    /// The compiler in `CC`, or `cc`.
    pub fn gcc() -> Compiler {
        let cc = std::env::var("CC").ok().filter(|cc| !cc.trim().is_empty());
        Compiler { name: cc.unwrap_or_else(|| "cc".to_owned()), package: "gcc" }
    }

    /// The compiler with this name.
    pub fn named(name: &str, package: &'static str) -> Compiler {
        Compiler { name: name.to_owned(), package }
    }

    /// Compiles something. A warning is a failure.
    pub fn compile(&self, arguments: &[&str]) {
        let (succeeded, said) = self.run(arguments);
        assert!(succeeded, "{} {}: {said}", self.name, arguments.join(" "));
        assert_eq!(said, "", "{} {}", self.name, arguments.join(" "));
    }

    /// Compiles something that must not compile. Returns the errors.
    pub fn reject(&self, arguments: &[&str]) -> String {
        let (succeeded, said) = self.run(arguments);
        assert!(!succeeded, "{} {} compiles: {said}", self.name, arguments.join(" "));
        said
    }

    fn run(&self, arguments: &[&str]) -> (bool, String) {
        // CC may be a command with arguments.
        let mut words = self.name.split_whitespace();
        let output = Command::new(words.next().expect("a name"))
            .args(words)
            .args(["-I", &path_str(&paths::repository().join("guest-shim/include"))])
            .args(arguments)
            .output()
            .unwrap_or_else(|error| {
                panic!("{}: {error}: install Debian's package {}", self.name, self.package)
            });
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// A path as text.
pub fn path_str(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
