//! A Unix socket that listens: how it is made, taken over from a QEMU that died, and removed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// The longest path of a socket, in bytes: `sun_path` in unix(7), without the NUL.
pub(crate) const MAX_PATH: usize = 107;

/// Maximum number of connections that wait until they are accepted.
const BACKLOG: i32 = 16;

/// The longest wait for another QEMU that takes over a socket in the same directory.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path does not fit into an address.
    #[error("the path has {0} bytes, and a socket's has {MAX_PATH} at most; name a shorter one")]
    TooLong(usize),
    /// Something else has this name.
    #[error("{0} exists and is not a socket; name a path that is free")]
    Taken(PathBuf),
    /// Another user's socket has this name.
    #[error("{0} is another user's socket; name a path that is free")]
    Foreign(PathBuf),
    /// Another program serves the socket.
    #[error("another program listens on {0}; name another path")]
    Alive(PathBuf),
    /// A system call failed.
    #[error("{0} cannot be made: {1}; name a path in a directory that you may write to")]
    Failed(PathBuf, io::Error),
}

/// A socket that listens. It is removed when this is dropped.
#[derive(Debug)]
pub struct ListeningSocket {
    /// Absolute, since QEMU may change its directory.
    path: PathBuf,
    /// Device and inode number: only this socket is removed.
    inode: (u64, u64),
    listener: UnixListener,
}

impl ListeningSocket {
    /// Makes a socket that only its owner may connect to.
    ///
    /// A socket that nobody serves is replaced.
    ///
    /// # Errors
    ///
    /// The path is too long, is taken, or no socket can be made there.
    pub fn open(path: &Path) -> Result<ListeningSocket, SocketError> {
        let failed = |error: io::Error| SocketError::Failed(path.to_owned(), error);
        let absolute = std::path::absolute(path).map_err(failed)?;
        // The shorter of the two counts, since both name it now.
        let address = [path, &absolute].into_iter().min_by_key(|path| path.as_os_str().len());
        let address = address.expect("two paths");
        let len = address.as_os_str().len();
        if len > MAX_PATH {
            return Err(SocketError::TooLong(len));
        }
        // Two QEMUs that find the same dead socket must not remove each other's new one.
        let _directory = lock_directory(address).map_err(failed)?;
        let listener = match bound(address) {
            Err(Errno::ADDRINUSE) => take_over(path, address)?,
            result => result.map_err(|error| failed(error.into()))?,
        };
        let there = fs::symlink_metadata(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(ListeningSocket { path: absolute, inode: (there.dev(), there.ino()), listener })
    }

    /// The listening socket, which does not block.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Removes the socket, unless something else has its name by now.
    pub fn remove(&self) {
        let there = fs::symlink_metadata(&self.path);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == self.inode) {
            // After -chroot or -run-with user= it may stay. The next QEMU replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for ListeningSocket {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Binds a new socket to a path and listens on it.
fn bound(path: &Path) -> Result<UnixListener, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Linux makes the file with the mode of the socket, so nobody else can ever connect, whatever the umask is.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Replaces a socket whose QEMU died.
fn take_over(path: &Path, address: &Path) -> Result<UnixListener, SocketError> {
    let failed = |error: io::Error| SocketError::Failed(path.to_owned(), error);
    let named = || path.to_owned();
    let there = fs::symlink_metadata(address).map_err(failed)?;
    if !there.file_type().is_socket() {
        return Err(SocketError::Taken(named()));
    }
    if there.uid() != rustix::process::geteuid().as_raw() {
        return Err(SocketError::Foreign(named()));
    }
    match try_connect(address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(address).map_err(failed)?,
        Err(Errno::NOENT) => {}
        _ => return Err(SocketError::Alive(named())),
    }
    match bound(address) {
        Err(Errno::ADDRINUSE) => Err(SocketError::Alive(named())),
        result => result.map_err(|error| failed(error.into())),
    }
}

/// Connects to a socket, without waiting for a server that is busy.
fn try_connect(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

/// Locks the directory of a path against other QEMUs with pvio.
fn lock_directory(path: &Path) -> io::Result<fs::File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = fs::File::open(parent.unwrap_or(Path::new(".")))?;
    let mut waited = Duration::ZERO;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if waited < PATIENCE => {
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::other("another program has locked its directory"));
            }
            result => return result.map(|()| directory).map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn only_the_owner_may_connect_and_the_socket_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = ListeningSocket::open(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_there_is_not_replaced_unless_it_is_a_dead_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let error = |path: &Path| ListeningSocket::open(path).unwrap_err().to_string();
        let alive = ListeningSocket::open(&path).unwrap();
        assert!(error(&path).starts_with("another program listens on "));
        // A listener that is closed leaves its file, as a QEMU that was killed does.
        let other = directory.path().join("other");
        drop(UnixListener::bind(&other).unwrap());
        let replaced = ListeningSocket::open(&other).unwrap();
        assert_eq!(mode(&other), 0o600);
        let file = directory.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(error(&file).ends_with("exists and is not a socket; name a path that is free"));
        assert_eq!(fs::read(&file).unwrap(), b"kept");
        let missing = directory.path().join("missing/socket");
        assert!(error(&missing).contains("cannot be made: No such file or directory"));
        drop((alive, replaced));
    }

    #[test]
    fn a_long_path_is_refused_with_its_length() {
        let path = Path::new("/tmp").join("x".repeat(104));
        let error = ListeningSocket::open(&path).unwrap_err().to_string();
        assert_eq!(
            error,
            "the path has 109 bytes, and a socket's has 107 at most; name a shorter one"
        );
    }

    #[test]
    fn a_file_that_took_the_name_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = ListeningSocket::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(socket);
        assert_eq!(fs::read(&path).unwrap(), b"another's");
    }
}
