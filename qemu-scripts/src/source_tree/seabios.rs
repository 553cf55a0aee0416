//! pvio's guest support for SeaBIOS: `pvio.h`, what SeaBIOS tells it, and the edits of SeaBIOS's files.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::edit::Change::{After, Around, Before};
use super::edit::Line::{Begins, Is};
use super::edit::{Edit, edit};
use super::{OwnFile, Patched, read};

/// pvio's own files, by their paths in the tree of SeaBIOS.
const FILES: [OwnFile; 3] = [
    own_file!("seabios", "src/pvio.h"),
    own_file!("seabios", "src/pvio16.inc"),
    own_file!("seabios", "src/pvio_ports.h"),
];

/// All edits. SeaBIOS's C code, also that of its VGA BIOS, accesses ports by functions of `x86.h` alone.
const EDITS: [Edit; 4] = [
    edit(
        "src/x86.h",
        Before(Is("static inline void smp_rmb(void) {"), "#include \"pvio_ports.h\""),
    ),
    edit("src/romlayout.S", After(Begins("#include \"x86.h\""), "#include \"pvio16.inc\"")),
    edit("src/romlayout.S", Around(["outb %al, $", ""], ["pvio_keep_outb ", ""])),
    edit("src/romlayout.S", Around(["inb $", ", %al"], ["pvio_keep_inb ", ""])),
];

/// Puts pvio's files into a tree and edits those of SeaBIOS.
///
/// A tree that has been patched before stays as it is, except for own files that have changed since.
///
/// # Errors
///
/// Fails if the directory is not a source tree of SeaBIOS, or if a line that an edit looks for is missing. The tree is
/// then unchanged. Fails if a file cannot be written.
pub fn patch(tree: &Path) -> Result<Patched> {
    let makefile = read(tree, "Makefile")?;
    ensure!(makefile.contains("SeaBIOS"), "{} is not the source of SeaBIOS", tree.display());
    let version = version(tree)?;
    let [files, edited] = super::patch(tree, &format!("SeaBIOS {version}"), &EDITS, &FILES)?;
    Ok(Patched { version, files, edited })
}

/// The version of a release, which has it in a file. A checkout has none: `git`.
fn version(tree: &Path) -> Result<String> {
    match std::fs::read_to_string(tree.join(".version")) {
        Ok(version) => Ok(version.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok("git".to_owned()),
        Err(error) => Err(error).context(tree.join(".version").display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that the edits look for, and little else.
    const TREE: [(&str, &str); 4] = [
        ("Makefile", "# SeaBIOS build system\n"),
        (".version", "1.16.3\n"),
        ("src/x86.h", "first\n/* Why */\nstatic inline void smp_rmb(void) {\n}\n"),
        (
            "src/romlayout.S",
            "#include \"x86.h\" // CR0_*\n\n        outb %al, $PORT_A\n        inb $PORT_B, %al\n        cli\n",
        ),
    ];

    fn tree(without: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("src")).unwrap();
        for (file, text) in TREE {
            let text = if file == without { "nothing\n" } else { text };
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        directory
    }

    #[test]
    fn a_tree_gets_the_files_and_the_lines_once() {
        let tree = tree("");
        let patched = patch(tree.path()).unwrap();
        assert_eq!(patched, Patched { version: "1.16.3".into(), files: 3, edited: 2 });
        let text = |file: &str| std::fs::read_to_string(tree.path().join(file)).unwrap();
        let all = || ["src/x86.h", "src/romlayout.S", "src/pvio.h"].map(text);
        let before = all();
        assert_eq!(
            before[0],
            "first\n/* Why */\n#include \"pvio_ports.h\"\nstatic inline void smp_rmb(void) {\n}\n"
        );
        assert_eq!(
            before[1],
            "#include \"x86.h\" // CR0_*\n#include \"pvio16.inc\"\n\n        pvio_keep_outb PORT_A\n        \
             pvio_keep_inb PORT_B\n        cli\n"
        );
        let again = patch(tree.path()).unwrap();
        assert_eq!((again.files, again.edited), (0, 0));
        assert_eq!(all(), before);
    }

    #[test]
    fn a_tree_without_a_line_is_left_alone_and_the_line_is_named() {
        for (file, wanted) in [("src/x86.h", "smp_rmb"), ("src/romlayout.S", "x86.h")] {
            let tree = tree(file);
            let error = format!("{:#}", patch(tree.path()).unwrap_err());
            assert!(
                error.starts_with(&format!("{file} (SeaBIOS 1.16.3): looked for a line ")),
                "{error}"
            );
            assert!(error.contains(wanted), "{error}");
            assert!(!tree.path().join("src/pvio.h").exists());
        }
        let tree = tree("Makefile");
        let error = format!("{:#}", patch(tree.path()).unwrap_err());
        assert!(error.ends_with("is not the source of SeaBIOS"), "{error}");
    }
}
