//! The data folder: one process at a time, its threads, and the channels in it.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use channel::Offset;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    EmbeddedChannel, Settings,
    committers::Committers,
    headroom::{HEADROOM_BYTES, Headroom},
    letters::LetterLog,
    log::{Found, LogError, Opening, Purpose},
    name,
    state::{StateFile, StateFound},
    storage::{Disk, Storage, is_read_only},
    store::Store,
    syncs::Syncs,
    tail::Budget,
    upkeep::Upkeep,
};

pub(crate) const LOCK: &str = "LOCK";
pub(crate) const CHANNELS: &str = "channels";
pub(crate) const LETTERS: &str = "letters";

/// Why a data folder or a channel in it cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// CONTRACT OP-5.
    #[error("data folder {path} is used by another process{}", pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Locked { path: PathBuf, pid: Option<u32> },
    #[error("channel {name} is open already")]
    InUse { name: String },
    #[error("{path} cannot be opened")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It was written by a later version of the program.
    #[error(
        "{path} has format version {version}, this program reads version {}",
        crate::format::VERSION
    )]
    Version { path: PathBuf, version: u16 },
    /// It was written by a later version of the program, with features that must be known to read it.
    #[error("{path} has features {features:#x}, which only a later version of this program can read")]
    Features { path: PathBuf, features: u16 },
}

/// A folder on local disk that channels live in, held by this process alone.
///
/// Cheap to clone. The folder is given up when it and every channel opened from it are dropped; the drop then waits for
/// writes that have begun.
#[derive(Clone)]
pub struct DataFolder {
    folder: Arc<Folder>,
}

impl fmt::Debug for DataFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataFolder").field(&self.folder.root).finish()
    }
}

impl DataFolder {
    /// Opens a folder, creating it and its parents.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process, or another part of this one, has it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let root = path.as_ref();
        let failed = |source| OpenError::Io {
            path: root.to_path_buf(),
            source,
        };
        let disk = Disk::default();
        // On a read-only disk a folder that is there will do.
        disk.create_dir(root).or_else(|error| match root.is_dir() {
            true => Ok(()),
            false => Err(failed(error)),
        })?;
        let lock = lock(root)?;
        // Opened once more: a copy of the handle would keep the lock as long as anybody has the disk.
        let disk = match fs::File::open(root.join(LOCK)) {
            Ok(file) => disk.syncing_by(file),
            Err(_) => disk,
        };
        Self::with(Arc::new(disk), root, Some(lock), HEADROOM_BYTES).map_err(failed)
    }

    pub(crate) fn with(
        storage: Arc<dyn Storage>,
        root: &Path,
        lock: Option<fs::File>,
        headroom_bytes: u64,
    ) -> io::Result<Self> {
        let headroom = Headroom::new(storage.clone(), root, headroom_bytes);
        let syncs = Syncs::new(storage.clone());
        let (upkeep, upkeep_thread) = Upkeep::start(headroom.clone(), syncs.clone())?;
        let folder = Folder {
            storage,
            headroom,
            root: root.to_path_buf(),
            names: Mutex::new(BTreeSet::new()),
            budget: Budget::default(),
            committers: Committers::start(syncs)?,
            upkeep,
            upkeep_thread: Mutex::new(Some(upkeep_thread)),
            _lock: lock,
        };
        Ok(Self {
            folder: Arc::new(folder),
        })
    }

    pub fn path(&self) -> &Path {
        &self.folder.root
    }

    /// Lets appends of all channels gather until it is called again.
    #[cfg(test)]
    pub(crate) fn hold(&self, held: bool) {
        self.folder.committers.hold(held);
    }

    /// How many syncs it has taken since it was opened to make events durable; many channels may share one.
    pub fn syncs(&self) -> u64 {
        self.folder.committers.syncs().count()
    }

    /// Bytes of the room for cursors and dead letters that a full disk has taken; while it is not 0 no event is taken.
    pub fn headroom_used(&self) -> u64 {
        self.folder.headroom.used()
    }

    /// Opens a channel of this folder, new or with what it held. Blocks: a few hundred microseconds after a clean close,
    /// after a crash as long as it takes to read what was written since the last checkpoint (a second's worth).
    ///
    /// # Errors
    /// [`OpenError::InUse`] while a channel of that name is open.
    pub fn channel(&self, name: &str, settings: Settings) -> Result<EmbeddedChannel, OpenError> {
        let folder = &self.folder;
        let claim = Claim::new(folder, name).ok_or_else(|| OpenError::InUse { name: name.to_owned() })?;
        let dir = folder.dir(name);
        let failed = |error| match error {
            LogError::Io(source) => OpenError::Io {
                path: dir.clone(),
                source,
            },
            LogError::Version { path, version } => OpenError::Version { path, version },
            LogError::Features { path, features } => OpenError::Features { path, features },
        };
        folder.headroom.fill();
        let store = folder.store(&dir, settings.bounded(), claim).map_err(failed)?;
        folder.upkeep.adopt(Arc::downgrade(&store));
        Ok(EmbeddedChannel::new(store))
    }

    /// Deletes a closed channel with all its events, cursors and letters; nothing happens when there is none. Blocks.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while it is open.
    pub fn remove(&self, name: &str) -> Result<(), OpenError> {
        let _claim = Claim::new(&self.folder, name).ok_or_else(|| OpenError::InUse { name: name.to_owned() })?;
        let dir = self.folder.dir(name);
        match fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(OpenError::Io { path: dir, source }),
            _ => Ok(()),
        }
    }

    /// The names of the channels that are there, open or not, in no order.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn channels(&self) -> Result<Vec<String>, OpenError> {
        let dir = self.folder.root.join(CHANNELS);
        let names = self
            .folder
            .storage
            .list(&dir)
            .map_err(|source| OpenError::Io { path: dir, source })?;
        Ok(names
            .iter()
            .filter_map(|(escaped, _)| name::unescape(escaped))
            .collect())
    }
}

/// What a folder's channels share.
pub(crate) struct Folder {
    storage: Arc<dyn Storage>,
    headroom: Arc<Headroom>,
    root: PathBuf,
    names: Mutex<BTreeSet<String>>,
    budget: Budget,
    committers: Arc<Committers>,
    pub(crate) upkeep: Arc<Upkeep>,
    upkeep_thread: Mutex<Option<JoinHandle<()>>>,
    /// Held as long as the folder is; the lock goes with it.
    _lock: Option<fs::File>,
}

impl Folder {
    fn dir(&self, name: &str) -> PathBuf {
        self.root.join(CHANNELS).join(name::escape(name))
    }

    fn store(self: &Arc<Self>, dir: &Path, settings: Settings, claim: Claim) -> Result<Arc<Store>, LogError> {
        let started = Instant::now();
        let opening = |dir: &Path, purpose| Opening {
            storage: self.storage.clone(),
            dir: dir.to_path_buf(),
            segment_bytes: settings.effective_segment_bytes(),
            budget: self.budget.clone(),
            committers: self.committers.clone(),
            headroom: self.headroom.clone(),
            purpose,
            checkpoint: None,
            floor: 0,
            gaps: Vec::new(),
            salt: None,
        };
        let (file, mut saved, state) = StateFile::open(self.storage.clone(), self.headroom.clone(), dir)?;
        let (log, events) = Opening {
            checkpoint: saved.checkpoint,
            floor: saved.floor(),
            gaps: saved.gaps.clone(),
            ..opening(dir, Purpose::Events)
        }
        .open()?;
        for id in &state.from_copy {
            // What it settled since the copy was made is lost; what retention deleted is among that.
            if let Some(cursor) = saved.cursors.get_mut(id) {
                cursor.settled.settle_range(Offset(0)..Offset(log.earliest()));
            }
        }
        let (letters, letters_found, letters_state) = LetterLog::open(Opening {
            salt: Some(log.salt()),
            ..opening(&dir.join(LETTERS), Purpose::Letters)
        })?;
        let recovery = Recovery {
            events,
            letters: letters_found,
            state,
            letters_state,
        };
        recovery.tell(dir, started.elapsed());
        let dedup = settings.dedup;
        let store = Store::new(log, letters, settings, file, saved, self.clone(), claim);
        store.log.dedup(dedup);
        store.log.date_backlogs(true);
        if store.log.has_unsaved_gaps() {
            // What recovery dropped must stay dropped, whatever is written behind it.
            store.save(true)?;
        }
        Ok(store)
    }
}

/// What opening a channel found.
struct Recovery {
    events: Found,
    letters: Found,
    state: StateFound,
    letters_state: StateFound,
}

impl Recovery {
    /// One line, where there is something to say: a channel that was closed cleanly and is whole opens without a word.
    fn tell(&self, dir: &Path, took: Duration) {
        let Self {
            events,
            letters,
            state,
            letters_state,
        } = self;
        let states = [state, letters_state];
        let unfinished: usize = states.iter().map(|state| state.unfinished.len()).sum();
        let is_quiet = *events == Found::default() && *letters == Found::default();
        let damaged: usize = states
            .iter()
            .flat_map(|state| state.damaged.iter().chain(&state.bad_copy))
            .map(ExactSizeIterator::len)
            .sum();
        if is_quiet && unfinished == 0 && damaged == 0 && state.from_copy.is_empty() {
            return;
        }
        let is_bad = events.missing + letters.missing + damaged as u64 > 0 || !state.from_copy.is_empty();
        macro_rules! recovered {
            ($level:ident) => {
                tracing::$level!(
                    path = %dir.display(),
                    records = events.records,
                    cut_bytes = events.cut_bytes,
                    missing = events.missing,
                    letters = letters.records,
                    letters_cut_bytes = letters.cut_bytes,
                    letters_missing = letters.missing,
                    bad_headers = events.bad_headers + letters.bad_headers,
                    state_unfinished_bytes = unfinished,
                    state_damaged_bytes = damaged,
                    cursors_from_copy = state.from_copy.len(),
                    ?took,
                    "channel recovered"
                )
            };
        }
        if is_bad {
            recovered!(error);
        } else {
            recovered!(info);
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.committers.stop();
        self.upkeep.stop();
        if let Some(thread) = self.upkeep_thread.lock().take()
            // The upkeep thread may be the one that lets go of the last channel.
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
        self.committers.join();
    }
}

/// The right to open a channel of a name; given back when dropped.
pub(crate) struct Claim {
    folder: Arc<Folder>,
    name: String,
}

impl Claim {
    fn new(folder: &Arc<Folder>, name: &str) -> Option<Self> {
        let name = name.to_owned();
        folder.names.lock().insert(name.clone()).then(|| Self {
            folder: folder.clone(),
            name,
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.folder.names.lock().remove(&self.name);
    }
}

/// A folder that this process has just let go of may be held a moment longer: by the upkeep thread, while it saves what the
/// last channel had settled. One pass takes as long as a few syncs; this is half a second.
const LET_GO_LOOKS: u32 = 250;
const LET_GO_LOOK_EVERY: Duration = Duration::from_millis(2);

/// Takes the folder's lock, and leaves our pid for whoever comes second.
fn lock(root: &Path) -> Result<fs::File, OpenError> {
    for _ in 0..LET_GO_LOOKS {
        match try_lock(root) {
            Err(OpenError::Locked { pid: Some(pid), .. }) if pid == std::process::id() => {
                thread::park_timeout(LET_GO_LOOK_EVERY);
            }
            done => return done,
        }
    }
    try_lock(root)
}

fn try_lock(root: &Path) -> Result<fs::File, OpenError> {
    let path = root.join(LOCK);
    let failed = |source| OpenError::Io {
        path: path.clone(),
        source,
    };
    let mut options = fs::OpenOptions::new();
    let mut file = match options.read(true).write(true).create(true).truncate(false).open(&path) {
        Err(error) if is_read_only(&error) => fs::File::open(&path).map_err(failed)?,
        file => file.map_err(failed)?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(OpenError::Locked {
                path: root.to_path_buf(),
                pid: pid.trim().parse().ok(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // The pid is only a courtesy: a disk that is full or read-only does not matter here.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}
