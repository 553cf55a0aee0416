//! Paths of the repository, of downloads, and of built and installed files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The file of the plugin.
const PLUGIN: &str = "libpvio.so";

/// The root of the repository from which this program was built.
///
/// It need not exist: an installed program may run elsewhere.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("qemu-scripts is in the repository")
}

/// Fails if this program does not run beside its repository.
fn need_repository() -> Result<()> {
    ensure!(
        repository().join("qemu-scripts/setup").exists(),
        "this needs pvio's repository, which is not at {}: run the script of this name in qemu-scripts there",
        repository().display()
    );
    Ok(())
}

/// The directory of downloads: `$PVIO_DIR`, or `target/pvio`.
fn downloads() -> PathBuf {
    match std::env::var_os("PVIO_DIR") {
        Some(directory) => directory.into(),
        None => repository().join("target/pvio"),
    }
}

/// The plugin: `$PVIO_PLUGIN`, the one that was built with this program, or the one that was installed with it.
///
/// # Errors
///
/// Fails if there is none.
pub fn plugin() -> Result<PathBuf> {
    if let Some(plugin) = std::env::var_os("PVIO_PLUGIN").filter(|plugin| !plugin.is_empty()) {
        let plugin = PathBuf::from(plugin);
        ensure!(plugin.is_file(), "PVIO_PLUGIN={}: there is no such file", plugin.display());
        return Ok(plugin);
    }
    if let Ok(built) = library(PLUGIN) {
        return Ok(built);
    }
    let program = std::env::current_exe()?.canonicalize()?;
    let beside = program.parent().context("the program has no directory")?;
    let installed = [beside.join(PLUGIN), beside.join("../lib/pvio").join(PLUGIN)];
    let found = installed.into_iter().find(|plugin| plugin.is_file());
    found.with_context(|| {
        format!(
            "the plugin {PLUGIN} is neither beside {} nor installed with it: name it in PVIO_PLUGIN, or build it with \
             qemu-scripts/setup",
            program.display()
        )
    })
}

/// The plugin that does nothing (`qemu-scripts/empty-plugin`).
///
/// # Errors
///
/// Fails if it is not built.
pub fn empty_plugin() -> Result<PathBuf> {
    need_repository()?;
    library("libpvio_empty.so")
}

fn library(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let beside = program.parent().context("the program has no directory")?;
    // Tests are in `deps`; other programs are beside it.
    let library = match beside.ends_with("deps") {
        true => beside.join(name),
        false => beside.join("deps").join(name),
    };
    ensure!(library.exists(), "{} is not built: run qemu-scripts/setup", library.display());
    Ok(library)
}

/// A built file of a guest in `tests/guests`, such as `forms.bin`.
///
/// # Errors
///
/// Fails if it is not built.
pub fn guest(name: &str) -> Result<PathBuf> {
    need_repository()?;
    let path = repository().join("target/guests").join(name);
    ensure!(path.exists(), "the guest {} is not built: run qemu-scripts/setup", path.display());
    Ok(path)
}

/// The QEMU that commands run: `$PVIO_QEMU`, the one that setup chose, or the one on the PATH.
///
/// # Errors
///
/// Fails if there is none.
pub fn chosen_qemu() -> Result<PathBuf> {
    if let Some(qemu) = std::env::var_os("PVIO_QEMU").filter(|qemu| !qemu.is_empty()) {
        return Ok(qemu.into());
    }
    let file = downloads().join("qemu/chosen");
    if let Ok(chosen) = std::fs::read_to_string(&file) {
        return Ok(chosen.trim_end().into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join(QEMU));
    programs
        .find(|program| program.is_file())
        .with_context(|| format!("no {QEMU}: run qemu-scripts/setup, or name one in PVIO_QEMU"))
}

/// The program that runs x86 guests.
const QEMU: &str = "qemu-system-x86_64";

/// A program of a private QEMU for tests, by its directory below `$PVIO_DIR/qemu`.
///
/// # Errors
///
/// Fails if it is missing.
pub fn private_qemu(folder: &str, program: &str) -> Result<PathBuf> {
    let qemu = downloads().join("qemu").join(folder).join(program);
    ensure!(qemu.exists(), "{} is missing: run qemu-scripts/setup --tests", qemu.display());
    Ok(qemu)
}

/// The directory of a kernel that `qemu-scripts/paravirt-linux` has built.
///
/// # Errors
///
/// Fails if it is missing.
pub fn paravirt_linux(version: &str, arch: &str) -> Result<PathBuf> {
    let directory = downloads().join(format!("linux/{version}-{arch}"));
    ensure!(
        directory.exists(),
        "{} is missing: run qemu-scripts/paravirt-linux --kernel {version} --arch {arch} --build-only",
        directory.display()
    );
    Ok(directory)
}

/// The directory of the firmware that `qemu-scripts/paravirt-seabios` has built.
///
/// # Errors
///
/// Fails if it is missing.
pub fn paravirt_seabios() -> Result<PathBuf> {
    let directory = downloads().join("seabios");
    ensure!(
        directory.exists(),
        "{} is missing: run qemu-scripts/setup --tests",
        directory.display()
    );
    Ok(directory)
}

/// GRUB's rescue image, a CD-ROM.
///
/// # Errors
///
/// Fails if it is missing.
pub fn grub_image() -> Result<PathBuf> {
    let image = downloads().join("grub/rescue.iso");
    ensure!(image.exists(), "{} is missing: run qemu-scripts/setup --tests", image.display());
    Ok(image)
}

/// Python with the private packages of the tests.
///
/// # Errors
///
/// Fails if it is missing.
pub fn python() -> Result<PathBuf> {
    let python = downloads().join("python/python3");
    ensure!(python.exists(), "{} is missing: run qemu-scripts/setup --tests", python.display());
    Ok(python)
}

/// The two flash images of UEFI firmware: its code and its variables.
///
/// The private copy, if there is one; else those that `qemu-scripts/uefi-firmware` finds or downloads.
///
/// # Errors
///
/// Fails if the script fails.
pub fn uefi_firmware(bits: u32) -> Result<[PathBuf; 2]> {
    let directory = downloads().join(if bits == 32 { "ovmf-ia32" } else { "ovmf" });
    let files = ["code.fd", "variables.fd"].map(|file| directory.join(file));
    if files.iter().all(|file| file.exists()) {
        return Ok(files);
    }
    let lines = script_lines("uefi-firmware", &[&bits.to_string()])?;
    let files = <[String; 2]>::try_from(lines).ok().context("uefi-firmware names no two files")?;
    Ok(files.map(PathBuf::from))
}

/// Directory of the kernel modules that `qemu-scripts/boot-linux` keeps with these options.
///
/// # Errors
///
/// The same as for [`linux_arguments`].
pub fn linux_modules(options: &[&str]) -> Result<PathBuf> {
    let arguments = linux_arguments(options)?;
    let kernel = arguments.iter().skip_while(|argument| *argument != "-kernel").nth(1);
    Ok(Path::new(kernel.context("boot-linux names no kernel")?).with_file_name("modules"))
}

/// QEMU's arguments of `qemu-scripts/boot-linux` with these options.
///
/// Downloads the kernel if it is missing.
///
/// # Errors
///
/// Fails if the script fails.
pub fn linux_arguments(options: &[&str]) -> Result<Vec<String>> {
    script_lines("boot-linux", &[options, &["--print-args"]].concat())
}

/// Runs a script in `qemu-scripts`, and returns the lines that it prints.
fn script_lines(name: &str, arguments: &[&str]) -> Result<Vec<String>> {
    need_repository()?;
    let script = repository().join("qemu-scripts").join(name);
    let output = Command::new(&script)
        .args(arguments)
        .output()
        .with_context(|| format!("{} cannot be run", script.display()))?;
    if !output.status.success() {
        bail!("qemu-scripts/{name}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}
