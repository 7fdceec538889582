//! The data folder: its lock, its threads, and the channels in it.

pub(crate) mod lock;
mod open_store;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use channel::{DeadLetterLog, Offset};

use self::lock::{forbidden, lock};
use crate::{
    EmbeddedChannel, Settings,
    disk::Space,
    log::LogError,
    name::{self, CHANNELS, LOCK},
    permissions,
    reserved_space::RESERVED_BYTES,
    storage::{Disk, Storage, is_read_only},
    store::{Claim, Services},
};

/// Why a data folder or a channel in it cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the folder (CONTRACT OP-5).
    #[error("data folder {path} is used by another process{}", pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Locked { path: PathBuf, pid: Option<u32> },
    /// The channel is open already in this process.
    #[error("channel {name} is open already")]
    InUse { name: String },
    /// This process may not write to the folder. `missing` says what the user lacks.
    #[error("data folder {path} cannot be used: {missing}")]
    Forbidden {
        path: PathBuf,
        missing: String,
        #[source]
        source: io::Error,
    },
    /// A file cannot be opened or read.
    #[error("{path} cannot be opened")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A later version of the program wrote it.
    #[error(
        "{path} has format version {version}, this program reads up to version {}",
        crate::format::VERSION
    )]
    Version { path: PathBuf, version: u16 },
    /// A later version of the program wrote it, with features that a reader must support.
    #[error("{path} has features {features:#x}, which only a later version of this program can read")]
    Features { path: PathBuf, features: u16 },
}

/// A folder on local disk that holds channels, locked by this process.
///
/// Cheap to clone. The lock is released when the folder and every channel opened from it are dropped. The drop blocks
/// until writes that have begun are finished.
#[derive(Clone)]
pub struct DataFolder {
    services: Arc<Services>,
}

impl fmt::Debug for DataFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataFolder").field(&self.services.root).finish()
    }
}

impl DataFolder {
    /// Opens a folder; creates it and its parents. Blocks.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process, or another part of this one, holds it; [`OpenError::Forbidden`] if
    /// this process may not write there.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let root = path.as_ref();
        let failed = |source| OpenError::Io {
            path: root.to_path_buf(),
            source,
        };
        let disk = Disk::default();
        // On a read-only disk an existing folder is enough.
        disk.create_dir(root).or_else(|error| match root.is_dir() {
            true => Ok(()),
            false if is_read_only(&error) => {
                let parent = root.ancestors().skip(1).find(|dir| dir.is_dir());
                Err(forbidden(
                    root,
                    "create a folder in",
                    parent.unwrap_or(Path::new(".")),
                    error,
                ))
            }
            false => Err(failed(error)),
        })?;
        let lock = lock(root)?;
        permissions::make_private(root);
        // Opened a second time: a duplicated handle would keep the lock as long as the disk is in use.
        let disk = match fs::File::open(root.join(LOCK)) {
            Ok(file) => disk.syncing_by(file),
            Err(_) => disk,
        };
        Self::with(Arc::new(disk), root, Some(lock), RESERVED_BYTES).map_err(failed)
    }

    pub(crate) fn with(
        storage: Arc<dyn Storage>,
        root: &Path,
        lock: Option<fs::File>,
        reserved_bytes: u64,
    ) -> io::Result<Self> {
        let services = Services::start(storage, root, lock, reserved_bytes)?;
        Ok(Self { services })
    }

    /// The path of the folder, as it was given to [`Self::open`].
    pub fn path(&self) -> &Path {
        &self.services.root
    }

    /// Makes appends of all channels wait for the committers until it is called with `false`.
    #[cfg(test)]
    pub(crate) fn hold(&self, held: bool) {
        self.services.committers.hold(held);
    }

    /// Syncs since the folder was opened that made events durable. Many channels may share one.
    pub fn syncs(&self) -> u64 {
        self.services.committers.syncs().count()
    }

    /// Bytes of the reserved space that a full disk has taken. While it is not 0, events are refused.
    pub fn reserved_space_used(&self) -> u64 {
        self.services.reserved_space.used()
    }

    /// Returns the size and the free space of the folder's file system; `None` if it does not report them. Blocks for
    /// a system call.
    pub fn space(&self) -> Option<Space> {
        self.services.disk.space()
    }

    /// Why the folder cannot be written, if it cannot.
    pub fn read_only(&self) -> Option<String> {
        self.services.disk.read_only()
    }

    /// Opens a channel of this folder, creating it if it does not exist.
    ///
    /// Blocks: a few hundred microseconds after a clean close; after a crash until everything written since the last
    /// checkpoint (about a second's worth) is read.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while a channel of that name is open.
    pub fn channel(&self, name: &str, settings: Settings) -> Result<EmbeddedChannel, OpenError> {
        let services = &self.services;
        let claim = Claim::new(services, name).ok_or_else(|| OpenError::InUse { name: name.to_owned() })?;
        let dir = self.path_of(name);
        let failed = |error| match error {
            LogError::Io(source) => OpenError::Io {
                path: dir.clone(),
                source,
            },
            LogError::Version { path, version } => OpenError::Version { path, version },
            LogError::Features { path, features } => OpenError::Features { path, features },
        };
        services.reserved_space.fill();
        let store = self.open_store(&dir, settings.bounded(), claim).map_err(failed)?;
        services.upkeep.adopt(Arc::downgrade(&store));
        Ok(EmbeddedChannel::new(store))
    }

    /// The folder of a channel of this name, whether it exists or not.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.services.root.join(CHANNELS).join(name::escape(name))
    }

    /// Counts the unsettled events and the dead letters in the files of a channel that is not open; zero if it has no
    /// files. Blocks: it opens and closes the channel.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while the channel is open.
    pub fn held(&self, name: &str) -> Result<Held, OpenError> {
        if !self.path_of(name).is_dir() {
            return Ok(Held::default());
        }
        // Without limits, so that reading deletes nothing.
        let settings = Settings {
            retention_age: Duration::MAX,
            retention_bytes: u64::MAX,
            ..Settings::default()
        };
        let store = self.channel(name, settings)?.into_store();
        let next = Offset(store.log.committed());
        let unsettled = store.log.cursors().iter().map(|cursor| cursor.status(next).1).max();
        let held = Held {
            unsettled: unsettled.unwrap_or(0),
            dead_letters: store.dead_letters.count(),
        };
        store.close();
        Ok(held)
    }

    /// Deletes a closed channel with all its events, cursors and dead letters. Does nothing if there is none. Blocks.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while the channel is open.
    pub fn remove(&self, name: &str) -> Result<(), OpenError> {
        let _claim = Claim::new(&self.services, name).ok_or_else(|| OpenError::InUse { name: name.to_owned() })?;
        let dir = self.path_of(name);
        match fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(OpenError::Io { path: dir, source }),
            _ => Ok(()),
        }
    }

    /// Lists the names of the existing channels, open or not, in no order. Blocks.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn channels(&self) -> Result<Vec<String>, OpenError> {
        let dir = self.services.root.join(CHANNELS);
        let names = self
            .services
            .storage
            .list(&dir)
            .map_err(|source| OpenError::Io { path: dir, source })?;
        Ok(names
            .iter()
            .filter_map(|(escaped, _)| name::unescape(escaped))
            .collect())
    }
}

/// Counts of the events and dead letters in a channel's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Events that the slowest subscription has not settled.
    pub unsettled: u64,
    /// Dead letters.
    pub dead_letters: u64,
}
