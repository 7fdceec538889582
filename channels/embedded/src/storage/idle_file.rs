//! A file with one owner that is closed while nothing is written, and reopened by its name.

use std::{io, path::PathBuf, sync::Arc};

use super::{File, Mode, Storage};

/// The owner may close it only when everything written is durable: closing a handle loses the report of a failed
/// write.
pub(crate) struct IdleFile {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    /// Used since the last call of [`Self::rest`].
    is_used: bool,
}

impl IdleFile {
    pub(crate) fn new(storage: Arc<dyn Storage>, path: PathBuf, file: Arc<dyn File>) -> Self {
        Self {
            storage,
            path,
            file: Some(file),
            is_used: true,
        }
    }

    /// Returns the open file. An error says that it could not be reopened; the file was not changed.
    pub(crate) fn open(&mut self) -> io::Result<Arc<dyn File>> {
        self.is_used = true;
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = self.storage.open(&self.path, Mode::Existing)?;
        self.file = Some(file.clone());
        Ok(file)
    }

    /// Closes the file if it was not used since the last call.
    pub(crate) fn rest(&mut self) {
        if !std::mem::take(&mut self.is_used) {
            self.file = None;
        }
    }
}
