//! The file itself: appended to, and replaced whole when it has grown or cannot be trusted.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, BufMut};

use super::{Saved, record};
use crate::storage::{File, Mode, Storage};

const NAME: &str = "cursors.log";
const NEW_NAME: &str = "cursors.new";
const MAGIC: &[u8; 8] = b"hgcursor";
const VERSION: u16 = 1;
const HEADER: usize = 16;
/// Smaller files are not worth replacing.
const REPLACE_BYTES: u64 = 1 << 20;
/// A file is replaced when it has grown this many times over what it says.
const REPLACE_FACTOR: u64 = 4;

pub(crate) struct StateFile {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    /// `None`: there is none yet, or it is not to be trusted; the next save writes a new one.
    file: Option<Arc<dyn File>>,
    length: u64,
    /// Its length when it was new.
    fresh: u64,
    unsynced: bool,
}

impl StateFile {
    /// Reads the state of a folder; nothing is there in a new one. Blocks.
    pub(crate) fn open(storage: Arc<dyn Storage>, dir: &Path) -> io::Result<(Self, Saved)> {
        let mut state = Self {
            storage,
            dir: dir.to_path_buf(),
            file: None,
            length: 0,
            fresh: 0,
            unsynced: false,
        };
        let file = match state.storage.open(&dir.join(NAME), Mode::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((state, Saved::default())),
            file => file?,
        };
        let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX)];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        let sound = check_header(&bytes)?;
        let parsed = record::parse(&bytes, HEADER.min(bytes.len()));
        if parsed.damaged > 0 || !sound {
            tracing::error!(path = %dir.join(NAME).display(), bytes = parsed.damaged, "state file is damaged, events may be delivered again");
        } else {
            state.length = parsed.end as u64;
            state.fresh = state.length;
            state.file = Some(file);
        }
        Ok((state, parsed.saved))
    }

    /// Saves changes: appended, or with everything else in a new file, made by `all`. On an error the next call tries
    /// with a new file. Blocks.
    pub(crate) fn save(&mut self, changes: &[u8], all: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let grown = self.length > REPLACE_BYTES && self.length > self.fresh * REPLACE_FACTOR;
        let result = match &self.file {
            Some(file) if !grown => {
                let written = file.write_at(changes, self.length);
                self.length += changes.len() as u64;
                self.unsynced |= !changes.is_empty();
                written
            }
            _ => self.replace(all),
        };
        if result.is_err() {
            self.file = None;
        }
        result
    }

    /// Makes what was saved durable. Blocks.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.unsynced) {
            if let Err(error) = file.sync() {
                self.file = None;
                return Err(error);
            }
            self.unsynced = false;
        }
        Ok(())
    }

    /// Is something saved that a power cut would lose, or not even saved?
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced || self.file.is_none()
    }

    pub(crate) fn exists(&self) -> bool {
        self.file.is_some()
    }

    fn replace(&mut self, all: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut bytes = header();
        all(&mut bytes);
        self.storage.create_dir(&self.dir)?;
        let path = self.dir.join(NEW_NAME);
        let file = self.storage.open(&path, Mode::New)?;
        let written = file.write_at(&bytes, 0).and_then(|()| file.sync());
        if let Err(error) = written.and_then(|()| self.storage.rename(&path, &self.dir.join(NAME))) {
            let _ = self.storage.remove(&path);
            return Err(error);
        }
        self.storage.sync_dir(&self.dir)?;
        self.file = Some(file);
        self.length = bytes.len() as u64;
        self.fresh = self.length;
        self.unsynced = false;
        Ok(())
    }
}

fn header() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4096);
    bytes.put_slice(MAGIC);
    bytes.put_u16_le(VERSION);
    bytes.put_u16_le(0);
    let checksum = crc32fast::hash(&bytes);
    bytes.put_u32_le(checksum);
    bytes
}

/// `false`: damaged. A later version is an error: reading half of what it says could skip events.
fn check_header(bytes: &[u8]) -> io::Result<bool> {
    let Some(mut fields) = bytes.get(8..HEADER) else {
        return Ok(false);
    };
    let (version, _, checksum) = (fields.get_u16_le(), fields.get_u16_le(), fields.get_u32_le());
    if &bytes[..8] != MAGIC || checksum != crc32fast::hash(&bytes[..HEADER - 4]) {
        return Ok(false);
    }
    if version != VERSION {
        let message = format!("state file has format version {version}, this program reads {VERSION}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    Ok(true)
}
