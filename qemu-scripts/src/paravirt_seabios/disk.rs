//! A disk from which `guest-shim/seabios/test/boot.S` loads Linux.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::linux::archive;
use crate::paravirt_linux::{Layout, PARAMETERS};
use crate::paths;

const SECTOR: usize = 512;

/// Bytes that the boot sector reads at once.
const CHUNK: usize = 64 * SECTOR;

/// The end of the initramfs in memory. The machine has twice that.
const INITRAMFS_END: u32 = 128 << 20;

/// Bytes of the second sector before the command line.
const TABLE: usize = 32;

/// A kernel with its initramfs and parameters.
pub struct Kernel {
    /// Version and architecture.
    pub name: String,
    image: Vec<u8>,
    initramfs: Vec<u8>,
    pub(super) parameters: String,
    pub(super) layout: Layout,
}

impl Kernel {
    /// The distribution's kernel, of `qemu-scripts/boot-linux`. It is downloaded if it is missing.
    ///
    /// # Errors
    ///
    /// Fails if the kernel cannot be had.
    pub fn of_the_distribution() -> Result<Kernel> {
        let arguments = paths::linux_arguments(&[])?;
        let value = |name: &str| {
            let mut values = arguments.iter().skip_while(|argument| *argument != name).skip(1);
            values.next().with_context(|| format!("boot-linux gives no {name}"))
        };
        Kernel::new(
            "Debian's kernel".to_owned(),
            read(Path::new(value("-kernel")?))?,
            read(Path::new(value("-initrd")?))?,
            value("-append")?.clone(),
        )
    }

    /// A kernel that `qemu-scripts/paravirt-linux` has built.
    ///
    /// # Errors
    ///
    /// Fails if a file is missing.
    pub fn paravirt(build: &Path) -> Result<Kernel> {
        let name = String::from_utf8_lossy(&read(&build.join("name"))?).trim_end().to_owned();
        let initramfs = archive(&[("init", &read(&build.join("init"))?)])?;
        Kernel::new(name, read(&build.join("bzImage"))?, initramfs, PARAMETERS.to_owned())
    }

    fn new(name: String, image: Vec<u8>, initramfs: Vec<u8>, parameters: String) -> Result<Kernel> {
        let layout = Layout::of(&image).with_context(|| format!("{name} is not a Linux kernel"))?;
        Ok(Kernel { name, image, initramfs, parameters, layout })
    }

    /// A disk that boots this kernel with parameters.
    ///
    /// # Errors
    ///
    /// Fails if the boot sector is not one, or if the parameters are too long for it.
    pub(super) fn disk(&self, boot_sector: &[u8], parameters: &str) -> Result<Vec<u8>> {
        ensure!(boot_sector.len() == SECTOR, "the boot sector has {} bytes", boot_sector.len());
        ensure!(parameters.len() < SECTOR - TABLE, "the kernel's parameters are too long");
        // Documentation/arch/x86/boot.rst: setup_sects, where 0 means 4.
        let setup = match self.image[0x1f1] {
            0 => 5,
            sectors => usize::from(sectors) + 1,
        };
        let code = self.image.get(setup * SECTOR..).context("the kernel is cut off")?;
        let kernel_at = 2;
        let initramfs_at = kernel_at + setup + chunks(code);
        let length = u32::try_from(self.initramfs.len())?;
        let address =
            INITRAMFS_END.checked_sub(length).context("the initramfs is too large")? & !0xfff;
        let numbers = [
            u32::try_from(kernel_at)?,
            u32::try_from(setup)?,
            u32::try_from(kernel_at + setup)?,
            u32::try_from(code.len())?,
            u32::try_from(initramfs_at)?,
            length,
            address,
        ];
        let mut disk = boot_sector.to_vec();
        disk.extend(numbers.into_iter().flat_map(u32::to_le_bytes));
        disk.resize(SECTOR + TABLE, 0);
        disk.extend(parameters.bytes());
        disk.resize(kernel_at * SECTOR, 0);
        disk.extend(&self.image);
        disk.resize(initramfs_at * SECTOR, 0);
        disk.extend(&self.initramfs);
        // The boot sector reads whole chunks, and the BIOS has cylinders.
        disk.resize(
            (initramfs_at * SECTOR + chunks(&self.initramfs) * SECTOR).next_multiple_of(1 << 20),
            0,
        );
        Ok(disk)
    }
}

/// Sectors that the boot sector reads for these bytes.
fn chunks(bytes: &[u8]) -> usize {
    bytes.len().next_multiple_of(CHUNK) / SECTOR
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}
