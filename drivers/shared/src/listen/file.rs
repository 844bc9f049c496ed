//! In: the path of a Unix socket. Out: a socket bound there although an old file may lie in its way, and the file gone at the end.
//!
//! A file whose server died refuses connections but still forbids to bind; so does one whose server has not begun to listen. Looking,
//! removing, binding and listening are steps, so two servers that start at once could remove each other's file; a lock on the folder
//! makes them one step.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The file of a Unix socket, removed when this is dropped, if it is ours then and still the same one.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: somebody else may have put another file there.
    identity: Option<(u64, u64)>,
    /// Whether it is ours. Changed from elsewhere when a server hands over to its successor.
    ours: Arc<AtomicBool>,
}

impl SocketFile {
    /// Binds a socket at this path. It is made absolute, since whoever removes the file may have gone to another folder. The lock
    /// is to be kept until the socket listens.
    ///
    /// # Errors
    /// `AddrInUse`: somebody listens there, or what is there is no socket. What the system says, otherwise.
    pub(crate) fn bind(socket: &Socket, path: &Path) -> io::Result<(SocketFile, FolderLock)> {
        let path = std::path::absolute(path)?;
        let address = SockAddr::unix(&path)?;
        let lock = FolderLock::take(&path)?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_if_stale(&path, &address)?;
                socket.bind(&address)?;
            }
            result => result?,
        }
        let ours = Arc::new(AtomicBool::new(true));
        Ok((SocketFile { identity: identity(&path), path, ours }, lock))
    }

    /// The file that is at this path now; `ours` says whether it is.
    pub(crate) fn of(path: &Path, ours: Arc<AtomicBool>) -> Option<SocketFile> {
        let path = std::path::absolute(path).ok()?;
        Some(SocketFile { identity: Some(identity(&path)?), path, ours })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is ours.
    pub(crate) fn mark(&self) -> &Arc<AtomicBool> {
        &self.ours
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours.load(Ordering::Relaxed) && self.identity.is_some() && self.identity == identity(&self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of the Unix socket at this path; `None` if there is none.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    found.file_type().is_socket().then(|| (found.dev(), found.ino()))
}

fn remove_if_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let in_use = |what| Err(io::Error::new(io::ErrorKind::AddrInUse, what));
    if identity(path).is_none() {
        return in_use("a file that is no socket is in its place");
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Without this, a server that is alive but has a full queue would make us wait.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // its server went just now
        _ => in_use("somebody listens there"),
    }
}

/// The lock on a folder, until it is dropped. It leaves no file behind. Without a folder: locks cannot be had here, so nobody has one.
pub(crate) struct FolderLock {
    _folder: Option<File>,
}

impl FolderLock {
    /// How often to try, and how long between. The lock is held for a few system calls only.
    const TRIES: u32 = 100;
    const BETWEEN: Duration = Duration::from_millis(10);

    fn take(path: &Path) -> io::Result<FolderLock> {
        use rustix::fs::{FlockOperation, flock};
        use rustix::io::Errno;
        let none = Ok(FolderLock { _folder: None });
        let Some(Ok(folder)) = path.parent().map(File::open) else { return none };
        for _ in 0..Self::TRIES {
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(FolderLock { _folder: Some(folder) }),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(Self::BETWEEN),
                Err(Errno::INTR) => {}
                Err(_) => return none,
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "somebody holds a lock on its folder"))
    }
}
