//! Boots the kernel of `qemu-scripts/boot-linux` with a given script and programs.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use cpio::newc::{Builder, ModeFileType, trailer};
use tempfile::TempDir;

use crate::machine::Machine;
use crate::paths;

/// Start of every script: mounts /proc and /dev, and installs busybox's commands.
const PRELUDE: &str = "#!/bin/busybox sh
busybox mkdir -p /proc /sys /dev
busybox mount -t proc proc /proc
busybox mount -t devtmpfs devtmpfs /dev
busybox --install -s /bin
export PATH=/bin
";

/// End of every script: powers off.
const END: &str = "
poweroff -f
";

/// Modules for an IDE disk, in load order, with their options.
///
/// Without DMA the driver moves all data by port instructions.
const DISK: [(&str, &str); 5] = [
    ("scsi_common.ko", ""),
    ("scsi_mod.ko", ""),
    ("libata.ko", "dma=0"),
    ("sd_mod.ko", ""),
    ("ata_piix.ko", ""),
];

/// A driver that a script may load instead of `ata_piix`.
///
/// It reads 16 bits at a time from the port, `ata_piix` reads 32.
const OTHER_DRIVER: &str = "ata_generic.ko";

/// A Linux guest that runs one script.
#[derive(Debug)]
pub struct LinuxGuest {
    arguments: Vec<String>,
    /// Holds the initramfs.
    _directory: TempDir,
}

impl LinuxGuest {
    /// Makes a guest that runs `script` as root and powers off.
    ///
    /// The script's output goes to the console. `files` are executables in the root directory.
    ///
    /// # Errors
    ///
    /// Fails if the kernel cannot be found or downloaded, or if the initramfs cannot be written.
    pub fn new(script: &str, files: &[(&str, &[u8])]) -> Result<LinuxGuest> {
        LinuxGuest::with_arguments(paths::linux_arguments(&[])?, script, files)
    }

    /// Makes a guest with the kernel that these options of `boot-linux` choose.
    ///
    /// The kernel's modules are in the root directory.
    ///
    /// # Errors
    ///
    /// The same as for [`LinuxGuest::new`].
    pub fn with_kernel(options: &[&str], script: &str) -> Result<LinuxGuest> {
        LinuxGuest::with_files(options, script, &[])
    }

    /// Makes a guest like [`LinuxGuest::with_kernel`], with more executables in the root directory.
    pub fn with_files(
        options: &[&str],
        script: &str,
        more: &[(&str, &[u8])],
    ) -> Result<LinuxGuest> {
        let directory = paths::linux_modules(options)?;
        let mut modules = Vec::new();
        for entry in
            std::fs::read_dir(&directory).with_context(|| directory.display().to_string())?
        {
            let entry = entry?;
            modules.push((entry.file_name(), std::fs::read(entry.path())?));
        }
        let modules = modules.iter().map(|(name, module)| (utf8(Path::new(name)), &**module));
        let modules: Vec<(String, &[u8])> = modules.collect();
        let files: Vec<(&str, &[u8])> =
            modules.iter().map(|(name, module)| (&**name, *module)).collect();
        let files = [&files, more].concat();
        LinuxGuest::with_arguments(paths::linux_arguments(options)?, script, &files)
    }

    fn with_arguments(
        mut arguments: Vec<String>,
        script: &str,
        files: &[(&str, &[u8])],
    ) -> Result<LinuxGuest> {
        let directory = tempfile::tempdir()?;
        // Without KASLR the kernel has the same addresses in every run.
        argument(&mut arguments, "-append").push_str(" nokaslr");
        let initrd = argument(&mut arguments, "-initrd");

        // The kernel unpacks one archive after the other; later files replace earlier ones.
        let mut archives = std::fs::read(&*initrd).with_context(|| initrd.clone())?;
        let init = [PRELUDE, script, END].concat();
        add(&mut archives, "init", init.as_bytes())?;
        for (name, contents) in files {
            add(&mut archives, name, contents)?;
        }
        trailer(&mut archives)?;

        let path = directory.path().join("initramfs.cpio");
        std::fs::write(&path, archives)?;
        *initrd = utf8(&path);
        Ok(LinuxGuest { arguments, _directory: directory })
    }

    /// Makes a guest like [`LinuxGuest::new`], with a driver for an IDE disk, `/dev/sda`.
    ///
    /// # Errors
    ///
    /// The same as for [`LinuxGuest::new`].
    pub fn with_disk(script: &str, files: &[(&str, &[u8])]) -> Result<LinuxGuest> {
        let directory = paths::linux_modules(&[])?;
        let names = DISK.iter().map(|&(name, _)| name).chain([OTHER_DRIVER]);
        let read = |name| {
            let path = directory.join(name);
            Ok((name, std::fs::read(&path).with_context(|| path.display().to_string())?))
        };
        let modules = names.map(read).collect::<Result<Vec<(&str, Vec<u8>)>>>()?;
        let modules = modules.iter().map(|(name, module)| (*name, &**module));
        let files: Vec<(&str, &[u8])> = files.iter().copied().chain(modules).collect();
        let load = |(name, options): &(&str, &str)| format!("insmod /{name} {options}\n");
        let mut begin: String = DISK.iter().map(load).collect();
        begin.push_str("until [ -b /dev/sda ]; do sleep 0.1; done\n");
        LinuxGuest::new(&[&begin, script].concat(), &files)
    }

    /// Returns the value of QEMU's argument `name`, for the caller to change.
    ///
    /// # Panics
    ///
    /// Panics if there is no argument `name`.
    pub fn argument(&mut self, name: &str) -> &mut String {
        argument(&mut self.arguments, name)
    }

    /// Adds the guest's arguments to a machine.
    ///
    /// Keep the guest until the machine has started: it owns the initramfs.
    pub fn on(&self, machine: Machine) -> Machine {
        machine.args(&self.arguments)
    }
}

fn argument<'a>(arguments: &'a mut [String], name: &str) -> &'a mut String {
    let position = arguments.iter().position(|argument| argument == name);
    &mut arguments[position.unwrap_or_else(|| panic!("no {name}")) + 1]
}

/// Makes an initramfs with executables in the root directory.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (name, contents) in files {
        add(&mut archive, name, contents)?;
    }
    trailer(&mut archive)?;
    Ok(archive)
}

fn add(archive: &mut Vec<u8>, name: &str, contents: &[u8]) -> Result<()> {
    let entry = Builder::new(name).mode(0o755).set_mode_file_type(ModeFileType::Regular);
    let size = u32::try_from(contents.len()).with_context(|| format!("{name} is too big"))?;
    let mut writer = entry.write(archive, size);
    writer.write_all(contents)?;
    writer.finish()?;
    Ok(())
}

fn utf8(path: &Path) -> String {
    path.to_str().expect("plain names").to_owned()
}
