//! Every touch of the disk: a small trait, and the real one.
//!
//! It exists so that crash safety is a property test: the twin in the tests loses, tears and refuses what a disk may.
//! All calls block; they are made from the folder's own threads or from `spawn_blocking`, never from a task.

#[cfg(target_os = "linux")]
mod resting;
mod whole;

use std::{
    collections::BTreeSet,
    fs, io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

pub(crate) use self::resting::RestingFile;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It must be there. Read-only when the disk is.
    Existing,
    /// Created empty, emptied when it is there.
    New,
}

/// A file system, as far as a log needs one.
pub(crate) trait Storage: Send + Sync + 'static {
    /// Creates a folder and its parents, and makes them durable.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names and lengths of the files in a folder; none when there is no such folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes what was created, renamed and removed in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes all that was written, created, renamed and removed so far in these folders durable at once. `false`: this
    /// file system cannot, and nothing is known to be. After an error each file's own sync says whether it is.
    fn sync_whole(&self, dirs: &[&Path]) -> io::Result<bool>;
}

/// An open file.
pub(crate) trait File: Send + Sync + 'static {
    fn length(&self) -> io::Result<u64>;
    /// Fills the buffer as far as the file goes; returns how far.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes everything or fails; a failure may have written some of it.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Makes contents and length durable. After a failure the handle must not be trusted again: the system may have
    /// dropped what it could not write, and the next sync would succeed.
    fn sync(&self) -> io::Result<()>;
}

/// Bytes written again at once.
const AGAIN_CHUNK: usize = 1 << 20;

/// Writes what can be read of a file once more, for a sync to follow. A sync that failed before a process ended may have
/// left it in the system's cache alone, and the next would succeed without writing it.
pub(crate) fn write_again(file: &dyn File, places: Range<u64>) -> io::Result<()> {
    let room = |from: u64| usize::try_from(places.end.saturating_sub(from)).unwrap_or(usize::MAX);
    let (mut at, mut bytes) = (places.start, vec![0; room(places.start).min(AGAIN_CHUNK)]);
    while at < places.end {
        let wanted = room(at).min(bytes.len());
        let read = file.read_at(&mut bytes[..wanted], at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(&bytes[..read], at)?;
        at += read as u64;
    }
    Ok(())
}

/// Is there no room left? Everything else that goes wrong is not the user's to fix by deleting files.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// The local disk.
#[derive(Default)]
pub(crate) struct Disk {
    /// Folders whose names this process has made durable. One that is there may be left by a process that was killed
    /// before it synced the name, or by a sync that failed.
    durable: Mutex<BTreeSet<PathBuf>>,
    #[cfg(target_os = "linux")]
    whole: Option<whole::Whole>,
}

impl Disk {
    /// Lets files of the file system of this regular file be synced together.
    pub(crate) fn syncing_by(self, file: fs::File) -> Self {
        #[cfg(target_os = "linux")]
        let disk = Self {
            whole: whole::Whole::of(file),
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
                // Somebody else's folder far above, which may neither be read nor written,
                // or cannot be synced.
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
            Err(error) if mode == Mode::Existing && is_read_only(&error) => fs::File::open(path)?,
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
    fn sync_whole(&self, dirs: &[&Path]) -> io::Result<bool> {
        self.whole.as_ref().map_or(Ok(false), |whole| whole.sync(dirs))
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_whole(&self, _: &[&Path]) -> io::Result<bool> {
        Ok(false)
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
