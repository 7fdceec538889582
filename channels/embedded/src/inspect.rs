//! Inspects a data folder, or one channel of it, from outside: reads everything, changes nothing.
//!
//! It reports what the next start of a gateway would find, and also what a gateway finds only when a client reads
//! there: each range of bytes that is no record, with its file and position. A folder in use is refused, because a log
//! that is being written looks unfinished.

mod segments;

use std::{
    fs::{self, TryLockError},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use channel::Gap;
use event::Event;

use crate::{
    folder::lock::holder,
    name::{self, CHANNELS, DEAD_LETTERS, LOCK},
    state::{self, Saved},
    storage::{File, Mode, Storage},
};

/// Why a folder cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A running process holds the folder, or started while it was read.
    #[error("{path} is used by a running gateway{}: stop it first, or inspect a copy", pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    InUse { path: PathBuf, pid: Option<u32> },
    /// The folder has neither channels nor segments.
    #[error("{path} is neither a data folder nor a channel of one: it has no folder `channels` and no segments")]
    NoFolder { path: PathBuf },
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// One of the two logs of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// The events.
    Events,
    /// The dead letters.
    DeadLetters,
}

impl LogKind {
    /// The name of the log in the output of `headgate log`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::DeadLetters => "dead letters",
        }
    }
}

/// A difference between the files and what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The damaged file.
    pub file: PathBuf,
    /// Position in the file, and length in bytes; 0 bytes if records are missing without a trace.
    pub at: u64,
    /// The size of the file, bytes.
    pub bytes: u64,
    /// Offsets lost with it.
    pub offsets: Range<u64>,
    /// One phrase for the user.
    pub what: String,
    /// Expected after a crash: it was never acknowledged, or is recorded as a gap already. Not damage.
    pub is_harmless: bool,
}

/// One finding, in the order of the files.
#[derive(Debug)]
pub enum Finding {
    /// A saved cursor.
    Cursor {
        name: String,
        settled_below: u64,
        /// Events settled above that offset, and events tried and not settled.
        settled_above: u64,
        tried: u64,
    },
    /// A gap recorded in the state.
    Gap(Gap),
    /// An intact record.
    Record {
        log: LogKind,
        offset: u64,
        stored_at: SystemTime,
        event: Event,
        /// The facts of a dead letter (`channel::DeadLetterFacts`). Empty for an event.
        facts: Bytes,
    },
    /// Damage, or something harmless that looks like it.
    Fault(Fault),
}

/// Summary of one log of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Segment files.
    pub segments: usize,
    /// Intact records.
    pub records: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// The offset of the first record, and of the next one to be written.
    pub first: u64,
    /// The offset that the next event would get.
    pub next: u64,
}

/// Summary of a channel's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The channel's name, as `namespace/name`.
    pub name: String,
    /// Its log of events.
    pub events: Summary,
    /// Its dead letters.
    pub dead_letters: Summary,
}

/// Inspects every channel of a data folder, or the channel whose folder `dir` is. Blocks.
///
/// # Errors
/// If the folder is in use, is no data folder, or cannot be read. Damage is not an error: `seen` receives it as
/// [`Finding::Fault`].
pub fn inspect(dir: &Path, mut seen: impl FnMut(&str, Finding)) -> Result<Vec<Channel>, InspectError> {
    let (root, channels) = find(dir)?;
    let lock = root.map(|root| root.join(LOCK));
    let before = lock.as_deref().map(ensure_unused).transpose()?;
    let mut found = Vec::new();
    for dir in channels {
        let escaped = dir.file_name().map(|name| name.to_string_lossy().into_owned());
        let escaped = escaped.unwrap_or_default();
        let name = name::unescape(&escaped).unwrap_or(escaped);
        found.push(channel(&ReadOnly, &dir, &name, &mut |what| seen(&name, what))?);
    }
    // The files were read without the lock, because an inspection must never keep a gateway from starting.
    if let Some(lock) = lock
        && Some(ensure_unused(&lock)?) != before
    {
        return Err(InspectError::InUse { path: lock, pid: None });
    }
    Ok(found)
}

/// Returns the data folder, if there is one, and the folders of its channels.
fn find(dir: &Path) -> Result<(Option<PathBuf>, Vec<PathBuf>), InspectError> {
    let failed = |source| InspectError::Io {
        path: dir.to_path_buf(),
        source,
    };
    let names: Vec<_> = fs::read_dir(dir)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(failed)?
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if names.iter().any(|name| name == CHANNELS) {
        let mut channels: Vec<_> = fs::read_dir(dir.join(CHANNELS))
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(failed)?
            .iter()
            .map(fs::DirEntry::path)
            .collect();
        channels.sort();
        return Ok((Some(dir.to_path_buf()), channels));
    }
    if names.iter().any(|name| name == LOCK) {
        return Ok((Some(dir.to_path_buf()), Vec::new()));
    }
    let is_channel = |name: &String| name == state::NAME || crate::segment::Segment::parse_name(name).is_some();
    if !names.iter().any(is_channel) {
        return Err(InspectError::NoFolder {
            path: dir.to_path_buf(),
        });
    }
    let dir = fs::canonicalize(dir).map_err(failed)?;
    let root = dir.ancestors().nth(2).filter(|root| root.join(LOCK).exists());
    Ok((root.map(Path::to_path_buf), vec![dir.clone()]))
}

/// Fails while another process holds the lock; returns when the lock file was last written.
fn ensure_unused(lock: &Path) -> Result<Option<SystemTime>, InspectError> {
    let mut file = match fs::File::open(lock) {
        Ok(file) => file,
        // A copy of a data folder may lack the file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(InspectError::Io {
                path: lock.to_path_buf(),
                source,
            });
        }
    };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(InspectError::InUse {
            path: lock.parent().unwrap_or(lock).to_path_buf(),
            pid: holder(&mut file),
        }),
        // Where the file system does not support locks, no process can hold one.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file.metadata().and_then(|metadata| metadata.modified()).ok()),
    }
}

/// Inspects one channel's folder.
pub(crate) fn channel(
    storage: &dyn Storage,
    dir: &Path,
    name: &str,
    seen: &mut dyn FnMut(Finding),
) -> Result<Channel, InspectError> {
    let failed = |source| InspectError::Io {
        path: dir.to_path_buf(),
        source,
    };
    let dead_letters_dir = dir.join(DEAD_LETTERS);
    let events_state = states(storage, dir, seen).map_err(failed)?;
    for cursor in events_state.cursors.values() {
        let above: u64 = cursor.settled.above().map(|range| range.end.0 - range.start.0).sum();
        seen(Finding::Cursor {
            name: cursor.name.clone(),
            settled_below: cursor.settled.settled_below().0,
            settled_above: above,
            tried: cursor.attempts.len() as u64,
        });
    }
    events_state.gaps.iter().for_each(|gap| seen(Finding::Gap(*gap)));
    let events = segments::read(storage, dir, LogKind::Events, &events_state, None, seen).map_err(failed)?;
    let dead_letters_state = states(storage, &dead_letters_dir, seen).map_err(failed)?;
    dead_letters_state.gaps.iter().for_each(|gap| seen(Finding::Gap(*gap)));
    let salt = events.salt;
    let dead_letters = segments::read(
        storage,
        &dead_letters_dir,
        LogKind::DeadLetters,
        &dead_letters_state,
        salt,
        seen,
    )
    .map_err(failed)?;
    Ok(Channel {
        name: name.to_owned(),
        events: events.summary,
        dead_letters: dead_letters.summary,
    })
}

/// Reads the state of a log, and reports what is wrong with its files.
fn states(storage: &dyn Storage, dir: &Path, seen: &mut dyn FnMut(Finding)) -> io::Result<Saved> {
    let mut saved = Saved::default();
    for name in [state::NAME, state::COPY_NAME] {
        let path = dir.join(name);
        let is_copy = name == state::COPY_NAME;
        match state::read(storage, &path) {
            Ok(None) => {}
            Ok(Some((_, parsed))) => {
                let tail = parsed.end..parsed.length;
                let is_cut = !is_copy && parsed.is_cut;
                let damaged = parsed.damaged.iter().map(|range| (range.clone(), false));
                for (range, is_harmless) in damaged.chain((!tail.is_empty()).then_some((tail.clone(), is_cut))) {
                    let what = if is_harmless {
                        "unfinished record"
                    } else {
                        "no whole record"
                    };
                    seen(Finding::Fault(Fault {
                        file: path.clone(),
                        at: range.start as u64,
                        bytes: range.len() as u64,
                        offsets: 0..0,
                        what: what.to_owned(),
                        is_harmless,
                    }));
                }
                if is_copy {
                    saved.complete(parsed.saved);
                } else {
                    saved = parsed.saved;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => seen(Finding::Fault(Fault {
                file: path,
                at: 8,
                bytes: 0,
                offsets: 0..0,
                what: error.to_string(),
                is_harmless: false,
            })),
            Err(error) => return Err(error),
        }
    }
    Ok(saved)
}

/// The local disk, read-only.
struct ReadOnly;

impl Storage for ReadOnly {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        crate::storage::Disk::default().list(dir)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        match mode {
            Mode::Existing => Ok(Arc::new(fs::File::open(path)?)),
            Mode::New => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_filesystem(&self, _: &[&Path]) -> io::Result<bool> {
        Ok(false)
    }
}
