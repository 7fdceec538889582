//! Small durable state of one source: how far upstream was read, and what was made there.
//!
//! Two texts, each replaced whole. The *mark* says which upstream facts are stored, and moves only with proof of storage
//! (CONTRACT SR-1). The *notes* say what was done upstream (a webhook's id, a hash of its secret): facts about the upstream
//! and not about events. Neither holds a secret.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::Accepted;

/// A source that watches fifty thousand objects needs about 3 MiB; more is a mistake and would make each save slow.
pub const MARK_MAX_BYTES: usize = 16 * 1024 * 1024;

const MARK: &str = "mark";
const NOTES: &str = "notes";

/// The state could not be read or written. What was saved before is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} the source's state {}", path.display())]
pub struct StateError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StateError {
    /// `act` is "read" or "write", `path` names the place.
    pub fn new(act: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self {
            act,
            path: path.into(),
            source,
        }
    }
}

/// One source's state.
#[async_trait]
pub trait Checkpoint: Send + Sync {
    /// Reads the last saved mark; `None` if none was saved yet.
    async fn mark(&self) -> Result<Option<Vec<u8>>, StateError>;

    /// A longer mark is not taken.
    fn mark_max_bytes(&self) -> usize {
        MARK_MAX_BYTES
    }

    /// Returns once the mark is on disk; where each write costs others something, once it is certain to be within seconds, or
    /// with [`Checkpoint::flush`]. An error may then be the one of the mark before. Not cancel safe: dropped, either mark may
    /// be the one that stays.
    async fn save_mark(&self, proof: &Accepted, mark: Vec<u8>) -> Result<(), StateError>;

    /// Returns once every mark that was saved is where it is kept. Called when the source's run has ended.
    async fn flush(&self) -> Result<(), StateError> {
        Ok(())
    }

    async fn notes(&self) -> Result<Option<Vec<u8>>, StateError>;

    /// Returns once the notes are on disk.
    async fn save_notes(&self, notes: Vec<u8>) -> Result<(), StateError>;
}

/// State in a folder of the source's own.
#[derive(Debug)]
pub struct FileCheckpoint {
    folder: PathBuf,
    /// One write at a time: both texts go through a file of the same name before they are renamed.
    writing: tokio::sync::Mutex<()>,
}

impl FileCheckpoint {
    /// The folder is made when something is saved.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            writing: tokio::sync::Mutex::new(()),
        }
    }

    /// Removes all that is known of the source.
    pub async fn remove(&self) -> Result<(), StateError> {
        let _alone = self.writing.lock().await;
        let folder = self.folder.clone();
        let removed = blocking(move || match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        removed.await.map_err(|source| self.error("remove", "", source))
    }

    async fn read(&self, name: &'static str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.folder.join(name);
        let read = blocking(move || match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        read.await.map_err(|source| self.error("read", name, source))
    }

    async fn write(&self, name: &'static str, bytes: Vec<u8>) -> Result<(), StateError> {
        if bytes.len() > MARK_MAX_BYTES {
            let source = io::Error::other(format!("{} bytes exceed the limit of {MARK_MAX_BYTES}", bytes.len()));
            return Err(self.error("write", name, source));
        }
        let _alone = self.writing.lock().await;
        let folder = self.folder.clone();
        let written = blocking(move || replace_file(&folder, name, &bytes));
        written.await.map_err(|source| self.error("write", name, source))
    }

    fn error(&self, act: &'static str, name: &str, source: io::Error) -> StateError {
        StateError {
            act,
            path: self.folder.join(name),
            source,
        }
    }
}

#[async_trait]
impl Checkpoint for FileCheckpoint {
    async fn mark(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.read(MARK).await
    }

    async fn save_mark(&self, _: &Accepted, mark: Vec<u8>) -> Result<(), StateError> {
        self.write(MARK, mark).await
    }

    async fn notes(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.read(NOTES).await
    }

    async fn save_notes(&self, notes: Vec<u8>) -> Result<(), StateError> {
        self.write(NOTES, notes).await
    }
}

/// State that ends with the process: where there is no folder, and in tests.
#[derive(Debug, Default)]
pub struct MemoryCheckpoint {
    mark: Mutex<Option<Vec<u8>>>,
    notes: Mutex<Option<Vec<u8>>>,
}

#[async_trait]
impl Checkpoint for MemoryCheckpoint {
    async fn mark(&self) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.mark.lock().clone())
    }

    async fn save_mark(&self, _: &Accepted, mark: Vec<u8>) -> Result<(), StateError> {
        *self.mark.lock() = Some(mark);
        Ok(())
    }

    async fn notes(&self) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.notes.lock().clone())
    }

    async fn save_notes(&self, notes: Vec<u8>) -> Result<(), StateError> {
        *self.notes.lock() = Some(notes);
        Ok(())
    }
}

/// Reads and writes files on the blocking pool.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Replaces a file so that a reader sees the old content or the new one, also after a crash. The content is on disk when this
/// returns. Blocks; one caller at a time in a folder.
pub fn replace_file(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let (new, path) = (folder.join("new"), folder.join(name));
    let mut file = fs::File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use channel::{Durability, Offset, Stored};

    use super::*;

    fn proof() -> Accepted {
        Accepted::stored(Stored::at(Durability::Disk, Offset(0)))
    }

    /// Proves: SR-1
    #[tokio::test]
    async fn a_mark_outlives_its_process_and_goes_with_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let open = || FileCheckpoint::new(folder.path().join("sources/one"));
        assert_eq!(open().mark().await.unwrap(), None);
        open().save_mark(&proof(), b"first".to_vec()).await.unwrap();
        open().save_notes(b"hook 7".to_vec()).await.unwrap();
        open().save_mark(&proof(), b"second".to_vec()).await.unwrap();
        assert_eq!(open().mark().await.unwrap().unwrap(), b"second");
        assert_eq!(open().notes().await.unwrap().unwrap(), b"hook 7");
        open().remove().await.unwrap();
        open().remove().await.unwrap();
        assert_eq!(open().mark().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_said_and_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = FileCheckpoint::new(folder.path().join("one"));
        checkpoint.save_mark(&proof(), b"first".to_vec()).await.unwrap();
        let error = checkpoint
            .save_mark(&proof(), vec![0; MARK_MAX_BYTES + 1])
            .await
            .unwrap_err();
        assert!(error.to_string().contains("one/mark"), "{error}");
        assert_eq!(checkpoint.mark().await.unwrap().unwrap(), b"first");
    }
}
