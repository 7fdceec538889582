//! A file that one owner writes to now and then: closed while nothing is written, opened again by its name.

use std::{io, path::PathBuf, sync::Arc};

use super::{File, Mode, Storage};

/// Its owner rests it only when everything written is durable: a handle that is closed takes the news of a failed write with it.
pub(crate) struct RestingFile {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    /// Since it was last rested.
    is_used: bool,
}

impl RestingFile {
    pub(crate) fn new(storage: Arc<dyn Storage>, path: PathBuf, file: Arc<dyn File>) -> Self {
        Self {
            storage,
            path,
            file: Some(file),
            is_used: true,
        }
    }

    /// The open file. An error says that it could not be opened again; nothing was done to it then.
    pub(crate) fn open(&mut self) -> io::Result<Arc<dyn File>> {
        self.is_used = true;
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = self.storage.open(&self.path, Mode::Existing)?;
        self.file = Some(file.clone());
        Ok(file)
    }

    /// Closes it, unless it was used since the last time.
    pub(crate) fn rest(&mut self) {
        if !std::mem::take(&mut self.is_used) {
            self.file = None;
        }
    }
}
