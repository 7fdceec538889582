//! The file itself: changes are appended; a file that has grown too large or cannot be trusted is replaced; and its
//! copy.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, BufMut};

use super::{Saved, record};
use crate::{
    reserved_space::{Need, ReservedSpace},
    storage::{File, IdleFile, Mode, Storage, rewrite},
};

pub(crate) const NAME: &str = "cursors.log";
pub(crate) const COPY_NAME: &str = "cursors.copy";
const NEW_NAME: &str = "cursors.new";
const MAGIC: &[u8; 8] = b"hgcursor";
const VERSION: u16 = 1;
const HEADER: usize = 16;
/// Smaller files are not worth replacing.
const REPLACE_BYTES: u64 = 1 << 20;
/// The same while the reserved space is incomplete: the file must not use it up while a long backlog is settled.
const REPLACE_SHORT_BYTES: u64 = 32 << 10;
/// A file is replaced when it has grown to this many times the size it had when it was new.
const REPLACE_FACTOR: u64 = 4;

pub(crate) struct StateFile {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    reserved_space: Arc<ReservedSpace>,
    /// `None` if there is none yet, or it cannot be trusted. The next save writes a new one.
    file: Option<IdleFile>,
    length: u64,
    /// Its length when it was new.
    fresh: u64,
    unsynced: bool,
    /// Number of writes so far.
    writes: u64,
    /// An earlier process wrote it. If a sync failed then, some of it may be in the page cache only.
    unproven: bool,
    /// The process that wrote the file may have been killed before its name was durable.
    unsynced_name: bool,
    /// A copy exists and contains the current cursors.
    is_copied: bool,
}

/// The result of reading a state file and its copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StateReport {
    /// Byte ranges before the last intact record that are no record.
    pub(crate) damaged: Vec<Range<usize>>,
    /// An unfinished record at the end.
    pub(crate) unfinished: Range<usize>,
    /// Cursors found only in the copy.
    pub(crate) restored_from_copy: Vec<u32>,
    /// Damaged byte ranges of the copy, which is rewritten.
    pub(crate) damaged_copy: Vec<Range<usize>>,
}

impl StateFile {
    /// Reads the state of a folder; a new folder has none. Blocks.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        reserved_space: Arc<ReservedSpace>,
        dir: &Path,
    ) -> io::Result<(Self, Saved, StateReport)> {
        let mut state = Self {
            storage,
            dir: dir.to_path_buf(),
            reserved_space,
            file: None,
            length: 0,
            fresh: 0,
            unsynced: false,
            writes: 0,
            unproven: false,
            unsynced_name: true,
            is_copied: true,
        };
        let (mut saved, mut found) = (Saved::default(), StateReport::default());
        let path = dir.join(NAME);
        if let Some((file, parsed)) = read(&*state.storage, &path)? {
            if parsed.damaged.is_empty() {
                state.length = parsed.end as u64;
                state.fresh = state.length;
                state.file = Some(IdleFile::new(state.storage.clone(), path, file));
                (state.unsynced, state.unproven) = (true, true);
            }
            (saved, found.damaged, found.unfinished) = (parsed.saved, parsed.damaged, parsed.end..parsed.length);
        }
        match read(&*state.storage, &dir.join(COPY_NAME))? {
            Some((_, copy)) => {
                let known: Vec<u32> = saved.cursors.keys().copied().collect();
                let whole = copy.damaged.is_empty() && copy.end == copy.length;
                let agrees = copy.saved.cursors.keys().eq(saved.cursors.keys());
                saved.complete(copy.saved);
                found.restored_from_copy = saved.cursors.keys().copied().filter(|id| !known.contains(id)).collect();
                state.is_copied = whole && agrees;
                if !whole {
                    found.damaged_copy = copy.damaged;
                    found
                        .damaged_copy
                        .extend((copy.end < copy.length).then_some(copy.end..copy.length));
                }
            }
            None => state.is_copied = saved.cursors.is_empty(),
        }
        if !found.restored_from_copy.is_empty() {
            // The file lacks a cursor, so it is rewritten.
            state.file = None;
        }
        Ok((state, saved, found))
    }

    /// Saves changes: appends them, or writes everything, which `all` encodes, to a new file. After an error the next
    /// call writes a new file. Blocks.
    pub(crate) fn save(&mut self, changes: &[u8], all: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let small = if self.reserved_space.is_whole() {
            REPLACE_BYTES
        } else {
            REPLACE_SHORT_BYTES
        };
        let grown = self.length > small && self.length > self.fresh * REPLACE_FACTOR;
        let result = match &mut self.file {
            Some(_) if !grown && changes.is_empty() => Ok(()),
            Some(file) if !grown => {
                let written = self.reserved_space.lend(changes.len() as u64, Need::State, || {
                    file.open()?.write_at(changes, self.length)
                });
                self.length += changes.len() as u64;
                self.unsynced = true;
                written
            }
            _ => self.replace(all),
        };
        self.writes += 1;
        if result.is_err() {
            self.file = None;
        }
        result
    }

    /// The number of the last write, if there is something that a group commit can make durable.
    pub(crate) fn written(&self) -> Option<u64> {
        (self.unsynced && !self.unproven && self.exists()).then_some(self.writes)
    }

    /// Called after a group commit that began when [`Self::written`] returned `written`. Returns `true` if nothing was
    /// written since.
    pub(crate) fn is_synced(&mut self, written: u64) -> bool {
        let all = self.written() == Some(written);
        if all {
            (self.unsynced, self.unsynced_name) = (false, false);
        }
        all
    }

    /// Makes what was saved durable. Blocks.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_mut().filter(|_| self.unsynced) {
            let synced = file.open().and_then(|file| {
                if self.unproven {
                    rewrite(&*file, 0..self.length)?;
                }
                file.sync()?;
                if self.unsynced_name {
                    self.storage.sync_dir(&self.dir)
                } else {
                    Ok(())
                }
            });
            if let Err(error) = synced {
                self.file = None;
                return Err(error);
            }
            (self.unsynced, self.unsynced_name, self.unproven) = (false, false, false);
        }
        Ok(())
    }

    /// Marks the copy as outdated, after a cursor was created or deleted.
    pub(crate) fn outdate_copy(&mut self) {
        self.is_copied = false;
    }

    pub(crate) fn needs_copy(&self) -> bool {
        !self.is_copied
    }

    /// Rewrites the copy, durably. Blocks.
    pub(crate) fn copy(&mut self, all: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.put_file(COPY_NAME, all)?;
        self.is_copied = true;
        Ok(())
    }

    /// Whether a power cut would lose some of the saved state, or the next save must write a new file.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced || self.file.is_none()
    }

    pub(crate) fn exists(&self) -> bool {
        self.file.is_some()
    }

    /// Closes the file if it is durable and nothing was written to it since the last call.
    pub(crate) fn rest(&mut self) {
        if let Some(file) = self.file.as_mut().filter(|_| !self.unsynced) {
            file.rest();
        }
    }

    fn replace(&mut self, all: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let (file, length) = self.put_file(NAME, all)?;
        self.file = Some(IdleFile::new(self.storage.clone(), self.dir.join(NAME), file));
        self.length = length;
        self.fresh = length;
        (self.unsynced, self.unsynced_name, self.unproven) = (false, false, false);
        Ok(())
    }

    /// Replaces the file `name` atomically and durably: new file, sync, rename, sync of the folder.
    fn put_file(&self, name: &str, all: impl FnOnce(&mut Vec<u8>)) -> io::Result<(Arc<dyn File>, u64)> {
        let mut bytes = header();
        all(&mut bytes);
        let path = self.dir.join(NEW_NAME);
        let write = || {
            self.storage.create_dir(&self.dir)?;
            let file = self.storage.open(&path, Mode::New)?;
            let written = file.write_at(&bytes, 0).and_then(|()| file.sync());
            match written.and_then(|()| self.storage.rename(&path, &self.dir.join(name))) {
                Ok(()) => Ok(file),
                Err(error) => {
                    let _ = self.storage.remove(&path);
                    Err(error)
                }
            }
        };
        let file = self.reserved_space.lend(bytes.len() as u64, Need::State, write)?;
        self.storage.sync_dir(&self.dir)?;
        Ok((file, bytes.len() as u64))
    }
}

/// The contents of a state file.
pub(crate) struct Parsed {
    pub(crate) saved: Saved,
    /// Byte ranges before `end` that are no record.
    pub(crate) damaged: Vec<Range<usize>>,
    /// Where the last intact record ends.
    pub(crate) end: usize,
    /// Length of the file in bytes.
    pub(crate) length: usize,
    /// The bytes behind `end` may be the beginning of an unfinished record.
    pub(crate) is_cut: bool,
}

/// Reads a whole state file; `None` if there is none. Blocks.
pub(crate) fn read(storage: &dyn Storage, path: &Path) -> io::Result<Option<(Arc<dyn File>, Parsed)>> {
    let file = match storage.open(path, Mode::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX)];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let sound = check_header(&bytes)?;
    let start = HEADER.min(bytes.len());
    let record::Parsed {
        saved,
        end,
        mut damaged,
    } = record::parse(&bytes, start);
    if !sound {
        damaged.insert(0, 0..start);
    }
    let parsed = Parsed {
        saved,
        damaged,
        end,
        length: bytes.len(),
        is_cut: record::is_cut(&bytes[end..]),
    };
    Ok(Some((file, parsed)))
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

/// Returns `false` if the header is damaged. A later version is an error: reading half of its contents could skip
/// events.
fn check_header(bytes: &[u8]) -> io::Result<bool> {
    let Some(mut fields) = bytes.get(8..HEADER) else {
        return Ok(false);
    };
    let (version, features, checksum) = (fields.get_u16_le(), fields.get_u16_le(), fields.get_u32_le());
    if &bytes[..8] != MAGIC || checksum != crc32fast::hash(&bytes[..HEADER - 4]) {
        return Ok(false);
    }
    let refused = |message| Err(io::Error::new(io::ErrorKind::Unsupported, message));
    if version != VERSION {
        return refused(format!(
            "state file has format version {version}, this program reads {VERSION}"
        ));
    }
    if features != 0 {
        return refused(format!(
            "state file has features {features:#x}, which only a later version of this program can read"
        ));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_version_and_features_nobody_knows_are_refused_and_damage_is_told_from_them() {
        let changed = |at: usize, to: u8| {
            let mut bytes = header();
            bytes[at] = to;
            let checksum = crc32fast::hash(&bytes[..HEADER - 4]);
            bytes[HEADER - 4..].copy_from_slice(&checksum.to_le_bytes());
            bytes
        };
        assert!(matches!(check_header(&header()), Ok(true)));
        assert!(matches!(check_header(&header()[..15]), Ok(false)));
        for at in [8, 10] {
            let refused = check_header(&changed(at, 2)).map_err(|error| error.kind());
            assert_eq!(refused, Err(io::ErrorKind::Unsupported), "byte {at}");
        }
        for at in 0..HEADER {
            let mut flipped = header();
            flipped[at] ^= 1;
            assert!(matches!(check_header(&flipped), Ok(false)), "byte {at}");
        }
    }
}
