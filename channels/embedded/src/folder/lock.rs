//! The lock of a data folder: one process at a time may use it.

use std::{
    fs::{self, TryLockError},
    io::{self, Read, Seek, Write},
    path::Path,
    thread,
    time::Duration,
};

use super::OpenError;
use crate::{name::LOCK, storage::is_read_only};

/// The upkeep thread may hold a folder that this process has just dropped a moment longer, while it saves the last
/// settlements of a channel. One pass takes a few syncs; this is half a second.
const UNLOCK_ATTEMPTS: u32 = 250;
const UNLOCK_INTERVAL: Duration = Duration::from_millis(2);

/// Takes the folder's lock, and writes this process's pid for a second process to report.
pub(super) fn lock(root: &Path) -> Result<fs::File, OpenError> {
    for _ in 0..UNLOCK_ATTEMPTS {
        match try_lock(root) {
            Err(OpenError::Locked { pid: Some(pid), .. }) if pid == std::process::id() => {
                thread::park_timeout(UNLOCK_INTERVAL);
            }
            done => return done,
        }
    }
    try_lock(root)
}

/// Builds the error that says which permission is missing and how to grant it.
pub(super) fn forbidden(root: &Path, what: &str, dir: &Path, source: io::Error) -> OpenError {
    let (dir, uid) = (dir.display(), rustix::process::geteuid());
    let missing = match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "{dir} is on a read-only file system and holds no data of a gateway: make it writable, or choose another folder with --data"
            )
        }
        _ => {
            format!("user {uid} may not {what} {dir}: run `chown -R {uid} {dir}`, or choose another folder with --data")
        }
    };
    OpenError::Forbidden {
        path: root.to_path_buf(),
        missing,
        source,
    }
}

fn try_lock(root: &Path) -> Result<fs::File, OpenError> {
    let path = root.join(LOCK);
    let failed = |source| OpenError::Io {
        path: path.clone(),
        source,
    };
    let mut options = fs::OpenOptions::new();
    let mut file = match options.read(true).write(true).create(true).truncate(false).open(&path) {
        // Events stored on a read-only disk can still be delivered.
        Err(error) if is_read_only(&error) => match fs::File::open(&path) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                return Err(forbidden(root, "create files in", root, error));
            }
            Err(error) if is_read_only(&error) => return Err(forbidden(root, "open", &path, error)),
            file => file.map_err(failed)?,
        },
        file => file.map_err(failed)?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::Locked {
                path: root.to_path_buf(),
                pid: holder(&mut file),
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // The pid only helps the reader of an error message, so a failure to write it does not matter.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Reads the pid of the process that holds the lock from its file.
pub(crate) fn holder(file: &mut fs::File) -> Option<u32> {
    let mut pid = String::new();
    let _ = file.read_to_string(&mut pid);
    pid.trim().parse().ok()
}
