//! `qemu-scripts/install`: what it installs works, and it touches nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pvio_cli::paths;
use pvio_tests::{Host, guest};

fn install(prefix: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(paths::repository().join("qemu-scripts/install"));
    command.arg("--prefix").arg(prefix).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn installed_command_finds_its_plugin_and_all_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("a prefix");
    std::fs::create_dir_all(prefix.join("bin")).unwrap();
    std::fs::write(prefix.join("bin/mine"), "").unwrap();

    // Twice: a second installation replaces the first.
    for _ in 0..2 {
        let output = install(&prefix, &["--no-build"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let plugin = prefix.join("lib/pvio/libpvio.so");
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(Path::new(said.trim_end()), plugin);
    }
    for path in ["include/pvio.h", "share/pkgconfig/pvio.pc", "share/man/man1/pvio-show.1"] {
        assert!(prefix.join(path).is_file(), "{path}");
    }
    // The program asks for the path of its socket, so it has found the module beside itself.
    let alarm = prefix.join("share/pvio/socket-device/alarm.py");
    let output = Command::new(paths::python().unwrap()).args(["-B".as_ref(), &*alarm]).output();
    assert!(stderr(&output.unwrap()).ends_with("IndexError: list index out of range\n"));
    for target in ["x86_64", "i386"] {
        // No plugin answers here.
        let call = prefix.join("lib/pvio/guest").join(target).join("pvio-call");
        let output = Command::new(call).arg("status").output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    }
    let library = std::fs::read(prefix.join("lib/pvio/libpvio.so")).unwrap();
    let library = object::File::parse(&*library).unwrap();
    use object::{Object, ObjectSection};
    assert!(library.sections().all(|section| !section.name().unwrap().starts_with(".debug")));

    // Away from the repository, with the QEMU of its own choice.
    let pvio = |arguments: &[&str]| {
        let mut command = Command::new(prefix.join("bin/pvio"));
        command.args(arguments).current_dir(directory.path()).env_remove("PVIO_PLUGIN");
        command.env("PVIO_QEMU", Host::NEWEST.program("qemu-system-x86_64")).output().unwrap()
    };
    let verdict = guest("verdict.bin");
    let tested = pvio(&["test", verdict.to_str().unwrap()]);
    assert!(tested.status.success(), "{}", stderr(&tested));
    std::fs::remove_file(prefix.join("lib/pvio/libpvio.so")).unwrap();
    let tested = pvio(&["test", verdict.to_str().unwrap()]);
    let said = [&*String::from_utf8_lossy(&tested.stdout), &*stderr(&tested)].concat();
    assert!(!tested.status.success() && said.contains("PVIO_PLUGIN"), "{said}");

    let output = install(&prefix, &["--uninstall"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(files(&prefix), [prefix.join("bin/mine")]);
    assert!(!prefix.join("lib/pvio").exists() && !prefix.join("share/pvio").exists());
    assert!(!prefix.join("share/doc/pvio").exists());
    let output = install(&prefix, &["--uninstall"]);
    assert!(!output.status.success() && stderr(&output).contains("is not installed"));
}

#[test]
fn files_of_others_are_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path();
    let header = prefix.join("include/pvio.h");
    std::fs::create_dir_all(header.parent().unwrap()).unwrap();
    std::fs::write(&header, "of somebody else").unwrap();
    let output = install(prefix, &["--no-build"]);
    assert!(!output.status.success() && stderr(&output).contains("include/pvio.h exists"));
    assert_eq!(files(prefix), [&*header]);
    assert_eq!(std::fs::read_to_string(&header).unwrap(), "of somebody else");
}

/// A list that was changed must not make `--uninstall` remove files elsewhere.
#[test]
fn list_of_installed_files_reaches_nothing_outside() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("prefix");
    std::fs::create_dir_all(prefix.join("lib/pvio")).unwrap();
    let outside = directory.path().join("outside");
    for line in ["../outside", outside.to_str().unwrap(), "lib/../../outside"] {
        std::fs::write(&outside, "").unwrap();
        std::fs::write(prefix.join("lib/pvio/installed-files"), format!("{line}\n")).unwrap();
        let output = install(&prefix, &["--uninstall"]);
        assert!(!output.status.success() && outside.exists(), "{line}: {}", stderr(&output));
    }
}

#[test]
fn destdir_is_before_each_path_and_in_none() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(paths::repository().join("qemu-scripts/install"));
    command.args(["--no-build", "--prefix", "/usr"]).env("DESTDIR", directory.path());
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/usr/lib/pvio/libpvio.so\n");
    let config = directory.path().join("usr/share/pkgconfig/pvio.pc");
    let config = std::fs::read_to_string(config).unwrap();
    assert!(config.starts_with("prefix=/usr\n"), "{config}");
    assert!(!config.contains(directory.path().to_str().unwrap()), "{config}");
}
