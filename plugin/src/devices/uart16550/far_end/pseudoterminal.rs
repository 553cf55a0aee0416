//! A pseudoterminal: a terminal program opens it as it opens a serial port.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::ioctl_fionread;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

const PAUSE: Duration = Duration::from_millis(5);

/// The near side of a pseudoterminal.
pub(super) struct Pseudoterminal {
    near: OwnedFd,
    /// The device file of the far side.
    name: PathBuf,
}

impl Pseudoterminal {
    /// Makes a pseudoterminal that passes all bytes as they are (pty(7)).
    pub fn open() -> io::Result<Pseudoterminal> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let near = openpt(flags)?;
        grantpt(&near)?;
        unlockpt(&near)?;
        let name = ptsname(&near, Vec::new())?;
        let name = PathBuf::from(name.to_string_lossy().into_owned());
        // Until the far side is opened for the first time, `poll` does not tell that it is closed.
        let far = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
        let mut attributes = tcgetattr(&far)?;
        attributes.make_raw();
        tcsetattr(&far, OptionalActions::Now, &attributes)?;
        rustix::fs::fcntl_setfl(&near, OFlags::NONBLOCK)?;
        Ok(Pseudoterminal { near, name })
    }

    /// The device file of the far side, `/dev/pts/N`.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Returns true if a program has the far side open.
    pub fn is_open(&self) -> bool {
        let mut end = [PollFd::new(&self.near, PollFlags::empty())];
        let is_known = poll(&mut end, Some(&Timespec::default())).is_ok();
        is_known && !end[0].revents().contains(PollFlags::HUP)
    }
}

impl Pseudoterminal {
    /// Waits until the program at the far side has read all, for the system discards the rest when the near side closes.
    pub fn wait_until_read(&self, patience: Duration) {
        if !self.is_open() {
            return;
        }
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
        let Ok(far) = rustix::fs::open(&self.name, flags, Mode::empty()) else { return };
        let begun = Instant::now();
        let mut times_empty = 0;
        // What was written a moment ago may not have arrived yet.
        while times_empty < 3 && begun.elapsed() < patience {
            std::thread::sleep(PAUSE);
            match ioctl_fionread(&far) {
                Ok(0) => times_empty += 1,
                Ok(_) => times_empty = 0,
                Err(_) => return,
            }
        }
    }
}

impl AsFd for Pseudoterminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.near.as_fd()
    }
}

/// A symbolic link to a pseudoterminal. It is removed when this is dropped.
pub(super) struct Link {
    /// Absolute, since QEMU may change its directory.
    path: PathBuf,
    target: PathBuf,
}

impl Link {
    /// Makes the link. One that a QEMU left which was killed is replaced.
    ///
    /// # Errors
    ///
    /// Something else has this name, or no link can be made there.
    pub fn make(path: &Path, target: &Path) -> Result<Link, String> {
        let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
        if fs::read_link(&absolute).is_ok_and(|old| is_dead(&old)) {
            // If it stays, the next step fails.
            let _ = fs::remove_file(&absolute);
        }
        match std::os::unix::fs::symlink(target, &absolute) {
            Ok(()) => Ok(Link { path: absolute, target: target.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err("it exists; name a path that is free, for a link to the terminal".to_owned())
            }
            Err(error) => Err(format!("no link can be made there: {error}")),
        }
    }
}

/// Returns true if a link led to a pseudoterminal that is gone.
fn is_dead(target: &Path) -> bool {
    target.starts_with("/dev/pts") && !target.exists()
}

impl Drop for Link {
    fn drop(&mut self) {
        if fs::read_link(&self.path).is_ok_and(|target| target == self.target) {
            // After -chroot it may stay. The next QEMU replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_terminals_that_are_gone_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("port");
        let terminal = Pseudoterminal::open().unwrap();
        let link = Link::make(&path, terminal.name()).unwrap();
        assert!(Link::make(&path, terminal.name()).err().unwrap().starts_with("it exists; "));
        drop(link);
        assert!(path.symlink_metadata().is_err());
        std::os::unix::fs::symlink("/dev/pts/4000000", &path).unwrap();
        let link = Link::make(&path, terminal.name()).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        drop(link);
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("elsewhere"));
        assert!(Link::make(&path, terminal.name()).is_err());
        let missing = directory.path().join("missing/port");
        let error = Link::make(&missing, terminal.name()).err().unwrap();
        assert!(error.starts_with("no link can be made there: No such file"), "{error}");
    }

    #[test]
    fn a_terminal_is_open_while_a_program_has_it() {
        let terminal = Pseudoterminal::open().unwrap();
        assert!(!terminal.is_open());
        for _ in 0..2 {
            let far = fs::OpenOptions::new().read(true).write(true).open(terminal.name()).unwrap();
            assert!(terminal.is_open());
            drop(far);
            assert!(!terminal.is_open());
        }
    }
}
