//! Looks at a data folder, or one channel of it, from outside: reads everything, changes nothing.
//!
//! What it reports is what the next start of a gateway would find, and what a gateway finds only when somebody reads there:
//! each stretch of bytes that is no record, with its file and where it begins. A folder in use is refused: a log that is
//! being written looks unfinished.

mod segments;

use std::{
    fs::{self, TryLockError},
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use channel::Gap;
use event::Event;

use crate::{
    folder::{CHANNELS, LETTERS, LOCK},
    name,
    state::{self, Saved},
    storage::{File, Mode, Storage},
};

/// Why a folder cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("{path} is used by a running gateway{}: stop it first, or look at a copy", pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    InUse { path: PathBuf, pid: Option<u32> },
    #[error("{path} is no data folder and no channel of one: it has neither a folder `channels` nor segments")]
    NoFolder { path: PathBuf },
    #[error("{path} cannot be read")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Which of a channel's two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    Events,
    Letters,
}

impl Log {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Letters => "letters",
        }
    }
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: PathBuf,
    /// Where it begins in the file, and how many bytes it is; none where records are missing without a trace.
    pub at: u64,
    pub bytes: u64,
    /// Places that are gone with it.
    pub places: Range<u64>,
    /// A phrase.
    pub what: String,
    /// Normal after a crash: never acknowledged, or recorded as a gap already. No damage.
    pub is_harmless: bool,
}

/// One thing seen, in the order of the files.
#[derive(Debug)]
pub enum Seen {
    Cursor {
        name: String,
        settled_below: u64,
        /// Events settled above that place, and events tried and not settled.
        settled_above: u64,
        tried: u64,
    },
    Gap(Gap),
    Record {
        log: Log,
        place: u64,
        stored_at: SystemTime,
        event: Event,
    },
    Fault(Fault),
}

/// What one log of a channel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub segments: usize,
    pub records: u64,
    pub bytes: u64,
    /// The place of the first record, and of the next one.
    pub first: u64,
    pub next: u64,
}

/// What a channel's files hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub name: String,
    pub events: Summary,
    pub letters: Summary,
}

/// Looks at every channel of a data folder, or at the one whose folder this is. Blocks.
///
/// # Errors
/// When the folder is in use, is none, or cannot be read. Damage is no error: it is what `seen` is told.
pub fn inspect(dir: &Path, mut seen: impl FnMut(&str, Seen)) -> Result<Vec<Channel>, InspectError> {
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
    // It was read without being held: a look must never keep a gateway from starting.
    if let Some(lock) = lock
        && Some(ensure_unused(&lock)?) != before
    {
        return Err(InspectError::InUse { path: lock, pid: None });
    }
    Ok(found)
}

/// The data folder, if there is one, and the folders of its channels.
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

/// Refuses while somebody holds the lock; returns when its file was written last.
fn ensure_unused(lock: &Path) -> Result<Option<SystemTime>, InspectError> {
    let mut file = match fs::File::open(lock) {
        Ok(file) => file,
        // A copy, perhaps without it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(InspectError::Io {
                path: lock.to_path_buf(),
                source,
            });
        }
    };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            Err(InspectError::InUse {
                path: lock.parent().unwrap_or(lock).to_path_buf(),
                pid: pid.trim().parse().ok(),
            })
        }
        // Where locks cannot be asked for, nobody can have one.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file.metadata().and_then(|metadata| metadata.modified()).ok()),
    }
}

/// Everything a channel's folder holds.
pub(crate) fn channel(
    storage: &dyn Storage,
    dir: &Path,
    name: &str,
    seen: &mut dyn FnMut(Seen),
) -> Result<Channel, InspectError> {
    let failed = |source| InspectError::Io {
        path: dir.to_path_buf(),
        source,
    };
    let letters_dir = dir.join(LETTERS);
    let events_state = states(storage, dir, seen).map_err(failed)?;
    for cursor in events_state.cursors.values() {
        let above: u64 = cursor.settled.above().map(|range| range.end.0 - range.start.0).sum();
        seen(Seen::Cursor {
            name: cursor.name.clone(),
            settled_below: cursor.settled.settled_below().0,
            settled_above: above,
            tried: cursor.attempts.len() as u64,
        });
    }
    events_state.gaps.iter().for_each(|gap| seen(Seen::Gap(*gap)));
    let events = segments::read(storage, dir, Log::Events, &events_state, None, seen).map_err(failed)?;
    let letters_state = states(storage, &letters_dir, seen).map_err(failed)?;
    letters_state.gaps.iter().for_each(|gap| seen(Seen::Gap(*gap)));
    let salt = events.salt;
    let letters = segments::read(storage, &letters_dir, Log::Letters, &letters_state, salt, seen).map_err(failed)?;
    Ok(Channel {
        name: name.to_owned(),
        events: events.summary,
        letters: letters.summary,
    })
}

/// The state of a log, and what is wrong with its files.
fn states(storage: &dyn Storage, dir: &Path, seen: &mut dyn FnMut(Seen)) -> io::Result<Saved> {
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
                    seen(Seen::Fault(Fault {
                        file: path.clone(),
                        at: range.start as u64,
                        bytes: range.len() as u64,
                        places: 0..0,
                        what: what.to_owned(),
                        is_harmless,
                    }));
                }
                match is_copy {
                    false => saved = parsed.saved,
                    true => saved.complete(parsed.saved),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => seen(Seen::Fault(Fault {
                file: path,
                at: 8,
                bytes: 0,
                places: 0..0,
                what: error.to_string(),
                is_harmless: false,
            })),
            Err(error) => return Err(error),
        }
    }
    Ok(saved)
}

/// The local disk, never written.
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

    fn sync_whole(&self, _: &[&Path]) -> io::Result<bool> {
        Ok(false)
    }
}
