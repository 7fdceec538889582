//! All disk access: a small trait, and its implementation on the local disk.
//!
//! The trait exists so that crash safety can be a property test: the twin in the tests loses, tears and refuses writes
//! as a disk may. All calls block. They run on the folder's own threads or in `spawn_blocking`, never in a task.

#[cfg(target_os = "linux")]
mod idle_file;
mod syncfs;

use std::{
    collections::BTreeSet,
    fs, io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

pub(crate) use self::idle_file::IdleFile;
use crate::disk::Space;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The file must exist. Opened read-only if the disk is.
    Existing,
    /// Created, or truncated if it exists.
    New,
}

/// A file system, as far as a log needs one.
pub(crate) trait Storage: Send + Sync + 'static {
    /// Creates a folder and its parents, and makes them durable.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names and lengths of the files in a folder; empty if there is no such folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes files created, renamed and removed in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes everything written, created, renamed and removed so far in these folders durable at once. `false`: the
    /// file system cannot, and nothing is known to be durable. After an error, each file's own sync tells whether that
    /// file is durable.
    fn sync_filesystem(&self, dirs: &[&Path]) -> io::Result<bool>;
    /// Fails if this process may not create files in a folder. Succeeds if the folder does not exist.
    fn ensure_writable(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
    /// Size of the folder's file system; `None` if unknown.
    fn space(&self, _dir: &Path) -> io::Result<Option<Space>> {
        Ok(None)
    }
}

/// An open file.
pub(crate) trait File: Send + Sync + 'static {
    fn length(&self) -> io::Result<u64>;
    /// Fills the buffer up to the end of the file; returns the bytes read.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes everything or fails. A failed call may have written a part.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Makes contents and length durable. After a failure the handle must not be used again: the kernel may have
    /// dropped what it could not write, and the next sync would succeed.
    fn sync(&self) -> io::Result<()>;
}

/// Bytes read at once when looking for zeros; there are few.
const BLANK_CHUNK: usize = 64 << 10;
/// Bytes rewritten at once.
const REWRITE_CHUNK: usize = 1 << 20;

/// Writes a range of a file once more, for a sync to follow. A sync that failed in an earlier process may have left
/// data in the page cache only, and the next sync would succeed without writing it.
pub(crate) fn rewrite(file: &dyn File, range: Range<u64>) -> io::Result<()> {
    let room = |from: u64| usize::try_from(range.end.saturating_sub(from)).unwrap_or(usize::MAX);
    let (mut at, mut bytes) = (range.start, vec![0; room(range.start).min(REWRITE_CHUNK)]);
    while at < range.end {
        let needed = room(at).min(bytes.len());
        let read = file.read_at(&mut bytes[..needed], at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(&bytes[..read], at)?;
        at += read as u64;
    }
    Ok(())
}

/// Whether a range of a file holds only zeros, as preallocation leaves it; `false` if the file is shorter. Blocks.
pub(crate) fn is_blank(file: &dyn File, range: Range<u64>) -> io::Result<bool> {
    let (mut at, mut bytes) = (range.start, vec![0; BLANK_CHUNK]);
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let length = left.min(bytes.len());
        let read = file.read_at(&mut bytes[..length], at)?;
        if read == 0 || bytes[..read].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += read as u64;
    }
    Ok(true)
}

/// Whether the disk is full. The user cannot fix any other error by deleting files.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// The local disk.
#[derive(Default)]
pub(crate) struct Disk {
    /// Folders whose names this process has made durable. An existing folder may come from a process that was killed
    /// before it synced the name, or whose sync failed.
    durable: Mutex<BTreeSet<PathBuf>>,
    #[cfg(target_os = "linux")]
    syncfs: Option<syncfs::Syncfs>,
}

impl Disk {
    /// Enables `syncfs` on the file system of this regular file.
    pub(crate) fn syncing_by(self, file: fs::File) -> Self {
        #[cfg(target_os = "linux")]
        let disk = Self {
            syncfs: syncfs::Syncfs::of(file),
            ..self
        };
        #[cfg(not(target_os = "linux"))]
        let disk = {
            drop(file);
            self
        };
        disk
    }
}

impl Storage for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let was_there = dir.is_dir();
        if was_there && self.durable.lock().contains(dir) {
            return Ok(());
        }
        if let Some(parent) = dir.parent() {
            let here = parent.as_os_str().is_empty();
            let parent = if here { Path::new(".") } else { parent };
            if !here {
                self.create_dir(parent)?;
            }
            match fs::create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !was_there => return Err(error),
                _ => {}
            }
            match self.sync_dir(parent) {
                // A folder far above that this process may neither read nor write, or that cannot be synced.
                Err(error) if was_there && (is_read_only(&error) || error.kind() == io::ErrorKind::InvalidInput) => {}
                synced => synced?,
            }
        }
        self.durable.lock().insert(dir.to_path_buf());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            files.push((
                entry.file_name().to_string_lossy().into_owned(),
                entry.metadata()?.len(),
            ));
        }
        Ok(files)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true);
        if mode == Mode::New {
            options.create(true).truncate(true);
        }
        let file = match options.open(path) {
            Err(error) if mode == Mode::Existing && is_read_only(&error) => {
                let (file, kind) = (fs::File::open(path)?, error.kind());
                return Ok(Arc::new(ReadOnlyFile { file, kind }));
            }
            other => other?,
        };
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    #[cfg(target_os = "linux")]
    fn sync_filesystem(&self, dirs: &[&Path]) -> io::Result<bool> {
        self.syncfs.as_ref().map_or(Ok(false), |syncfs| syncfs.sync(dirs))
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_filesystem(&self, _: &[&Path]) -> io::Result<bool> {
        Ok(false)
    }

    fn ensure_writable(&self, dir: &Path) -> io::Result<()> {
        use rustix::fs::Access;
        match rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            allowed => Ok(allowed?),
        }
    }

    fn space(&self, dir: &Path) -> io::Result<Option<Space>> {
        let found = rustix::fs::statvfs(dir)?;
        // Some file systems do not report their size.
        Ok((found.f_blocks > 0).then(|| Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        }))
    }
}

/// A file that can be read and not written. Writing reports why, where a plain handle reports "bad file descriptor".
struct ReadOnlyFile {
    file: fs::File,
    kind: io::ErrorKind,
}

impl File for ReadOnlyFile {
    fn length(&self) -> io::Result<u64> {
        File::length(&self.file)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        File::read_at(&self.file, buffer, at)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(self.kind.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(self.kind.into())
    }

    fn sync(&self) -> io::Result<()> {
        File::sync(&self.file)
    }
}

pub(crate) fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

impl File for fs::File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
