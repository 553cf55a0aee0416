//! The guest's own command line, among QEMU's arguments.

use std::ffi::{OsStr, OsString};

use super::BootKind;

/// The file of QEMU's fw_cfg device that has the command line of a guest whose boot has none.
pub(super) const FILE: &str = "opt/pvio/arguments";

/// Returns true if a guest of this kind gets a command line when it boots.
pub(super) fn has_one(kind: BootKind) -> bool {
    matches!(kind, BootKind::Kernel | BootKind::Efi)
}

/// Joins texts by spaces.
pub(super) fn joined(texts: &[OsString]) -> OsString {
    texts.join(OsStr::new(" "))
}

fn position(arguments: &[OsString]) -> Option<usize> {
    let is_name = |argument: &OsString| argument == "-append" || argument == "--append";
    arguments.iter().rposition(is_name).filter(|at| at + 1 < arguments.len())
}

/// Returns true if QEMU's arguments have a command line of the guest.
pub(super) fn is_in(arguments: &[OsString]) -> bool {
    position(arguments).is_some()
}

/// Adds texts to the guest's command line, after that of QEMU's arguments.
pub(super) fn add(arguments: &mut Vec<OsString>, kind: BootKind, texts: &[OsString]) {
    if texts.is_empty() {
        return;
    }
    let text = joined(texts);
    if !has_one(kind) {
        let mut file = OsString::from(format!("name={FILE},string="));
        file.push(text.to_string_lossy().replace(',', ",,"));
        arguments.extend(["-fw_cfg".into(), file]);
        return;
    }
    match position(arguments) {
        Some(at) => {
            let line = &mut arguments[at + 1];
            line.push(" ");
            line.push(text);
        }
        None => arguments.extend(["-append".into(), text]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(arguments: &[&str], kind: BootKind, texts: &[&str]) -> Vec<OsString> {
        let mut all = arguments.iter().map(OsString::from).collect();
        add(&mut all, kind, &texts.iter().map(OsString::from).collect::<Vec<_>>());
        all
    }

    #[test]
    fn texts_follow_the_command_line_of_the_arguments() {
        let kernel = BootKind::Kernel;
        assert_eq!(with(&["-m", "64"], kernel, &["a", "b"]), ["-m", "64", "-append", "a b"]);
        let own = ["-append", "x", "--append", "console=ttyS0", "-S"];
        let all = ["-append", "x", "--append", "console=ttyS0 a", "-S"];
        assert_eq!(with(&own, kernel, &["a"]), all);
        assert_eq!(with(&own, kernel, &[]), own);
        // QEMU itself refuses it.
        assert_eq!(with(&["-append"], kernel, &["a"]), ["-append", "-append", "a"]);
    }

    #[test]
    fn guest_without_a_command_line_gets_a_file() {
        assert_eq!(
            with(&[], BootKind::Disk, &["a,b", "c"]),
            ["-fw_cfg", "name=opt/pvio/arguments,string=a,,b c"]
        );
    }
}
