//! The file itself: appended to, and replaced whole when it has grown or cannot be trusted; and its copy.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, BufMut};

use super::{Saved, record};
use crate::{
    headroom::{Headroom, Need},
    storage::{File, Mode, RestingFile, Storage, write_again},
};

pub(crate) const NAME: &str = "cursors.log";
pub(crate) const COPY_NAME: &str = "cursors.copy";
const NEW_NAME: &str = "cursors.new";
const MAGIC: &[u8; 8] = b"hgcursor";
const VERSION: u16 = 1;
const HEADER: usize = 16;
/// Smaller files are not worth replacing.
const REPLACE_BYTES: u64 = 1 << 20;
/// As above while the headroom is short: the file must not use it up while a long backlog is settled.
const REPLACE_SHORT_BYTES: u64 = 32 << 10;
/// A file is replaced when it has grown this many times over what it says.
const REPLACE_FACTOR: u64 = 4;

pub(crate) struct StateFile {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    headroom: Arc<Headroom>,
    /// `None`: there is none yet, or it is not to be trusted; the next save writes a new one.
    file: Option<RestingFile>,
    length: u64,
    /// Its length when it was new.
    fresh: u64,
    unsynced: bool,
    /// How often something was written.
    writes: u64,
    /// An earlier process wrote it. A sync that failed then may have left some of it in the system's cache alone.
    unproven: bool,
    /// Whoever wrote the file may have been killed before its name was durable.
    unsynced_name: bool,
    /// Is there a copy, and does it know the cursors there are?
    is_copied: bool,
}

/// What reading a state came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StateFound {
    /// Stretches that are no record, before the last whole one.
    pub(crate) damaged: Vec<Range<usize>>,
    /// An unfinished record at the end.
    pub(crate) unfinished: Range<usize>,
    /// Cursors that only the copy had.
    pub(crate) from_copy: Vec<u32>,
    /// The copy is damaged itself; it is made anew.
    pub(crate) bad_copy: Vec<Range<usize>>,
}

impl StateFile {
    /// Reads the state of a folder; nothing is there in a new one. Blocks.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        headroom: Arc<Headroom>,
        dir: &Path,
    ) -> io::Result<(Self, Saved, StateFound)> {
        let mut state = Self {
            storage,
            dir: dir.to_path_buf(),
            headroom,
            file: None,
            length: 0,
            fresh: 0,
            unsynced: false,
            writes: 0,
            unproven: false,
            unsynced_name: true,
            is_copied: true,
        };
        let (mut saved, mut found) = (Saved::default(), StateFound::default());
        let path = dir.join(NAME);
        if let Some((file, parsed)) = read(&*state.storage, &path)? {
            if parsed.damaged.is_empty() {
                state.length = parsed.end as u64;
                state.fresh = state.length;
                state.file = Some(RestingFile::new(state.storage.clone(), path, file));
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
                found.from_copy = saved.cursors.keys().copied().filter(|id| !known.contains(id)).collect();
                state.is_copied = whole && agrees;
                if !whole {
                    found.bad_copy = copy.damaged;
                    found
                        .bad_copy
                        .extend((copy.end < copy.length).then_some(copy.end..copy.length));
                }
            }
            None => state.is_copied = saved.cursors.is_empty(),
        }
        if !found.from_copy.is_empty() {
            // What the file says is not all there is: it is written anew.
            state.file = None;
        }
        Ok((state, saved, found))
    }

    /// Saves changes: appended, or with everything else in a new file, made by `all`. On an error the next call tries
    /// with a new file. Blocks.
    pub(crate) fn save(&mut self, changes: &[u8], all: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let small = match self.headroom.is_whole() {
            true => REPLACE_BYTES,
            false => REPLACE_SHORT_BYTES,
        };
        let grown = self.length > small && self.length > self.fresh * REPLACE_FACTOR;
        let result = match &mut self.file {
            Some(_) if !grown && changes.is_empty() => Ok(()),
            Some(file) if !grown => {
                let written = self.headroom.lend(changes.len() as u64, Need::State, || {
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

    /// What there is for a sync to make durable, by a number that changes with every write; `None` when there is nothing.
    pub(crate) fn written(&self) -> Option<u64> {
        (self.unsynced && !self.unproven && self.exists()).then_some(self.writes)
    }

    /// A sync of everything began after this was written; `true` when nothing was since.
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
                    write_again(&*file, 0..self.length)?;
                }
                file.sync()?;
                match self.unsynced_name {
                    true => self.storage.sync_dir(&self.dir),
                    false => Ok(()),
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

    /// The copy does not know all cursors any more, or knows one too many.
    pub(crate) fn outdate_copy(&mut self) {
        self.is_copied = false;
    }

    pub(crate) fn needs_copy(&self) -> bool {
        !self.is_copied
    }

    /// Makes the copy anew, durably. Blocks.
    pub(crate) fn copy(&mut self, all: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.put_file(COPY_NAME, all)?;
        self.is_copied = true;
        Ok(())
    }

    /// Is something saved that a power cut would lose, or not even saved?
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced || self.file.is_none()
    }

    pub(crate) fn exists(&self) -> bool {
        self.file.is_some()
    }

    /// Closes a file that is not written to, once all of it is durable.
    pub(crate) fn rest(&mut self) {
        if let Some(file) = self.file.as_mut().filter(|_| !self.unsynced) {
            file.rest();
        }
    }

    fn replace(&mut self, all: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let (file, length) = self.put_file(NAME, all)?;
        self.file = Some(RestingFile::new(self.storage.clone(), self.dir.join(NAME), file));
        self.length = length;
        self.fresh = length;
        (self.unsynced, self.unsynced_name, self.unproven) = (false, false, false);
        Ok(())
    }

    /// Writes a whole file that takes a name when it is durable.
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
        let file = self.headroom.lend(bytes.len() as u64, Need::State, write)?;
        self.storage.sync_dir(&self.dir)?;
        Ok((file, bytes.len() as u64))
    }
}

/// What a state file says.
pub(crate) struct Parsed {
    pub(crate) saved: Saved,
    /// Stretches before `end` that are no record.
    pub(crate) damaged: Vec<Range<usize>>,
    /// Where the last whole record ends.
    pub(crate) end: usize,
    /// Bytes of the file.
    pub(crate) length: usize,
    /// What is behind `end` may be the beginning of a record, of which the rest was never written.
    pub(crate) is_cut: bool,
}

/// Reads a whole state file; `None` when there is none. Blocks.
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

/// `false`: damaged. A later version is an error: reading half of what it says could skip events.
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
