//! The disk below a data folder: whether the gateway may write to it, and how much of it is free.
//!
//! The upkeep thread probes it, so that channels report a problem before the first event is refused, and its end
//! without waiting for an event. The result decides nothing: a write is always tried.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use channel::DiskTrouble;
use parking_lot::Mutex;

use crate::{
    name::CHANNELS,
    storage::{Storage, is_read_only},
};

/// A disk is nearly full if less than this share of it is free ...
const NEARLY_FULL_SHARE: u64 = 10;
/// ... and less than this many bytes: a tenth of a large disk is still a lot, and 1 GiB is what one channel keeps for
/// replay by default.
const NEARLY_FULL_BYTES: u64 = 1 << 30;
/// It stops being nearly full above this many eighths of the bound, so that a disk at the bound does not alternate.
const ROOM_AGAIN_EIGHTHS: u64 = 10;

/// Size of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free: u64,
    /// Bytes of the whole file system.
    pub total: u64,
}

impl Space {
    fn nearly_full_below(self) -> u64 {
        (self.total / NEARLY_FULL_SHARE).min(NEARLY_FULL_BYTES)
    }
}

/// Watches the disk of one data folder.
pub(crate) struct DiskWatch {
    storage: Arc<dyn Storage>,
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    space: Option<Space>,
    is_nearly_full: bool,
    read_only: Option<String>,
}

impl DiskWatch {
    pub(crate) fn new(storage: Arc<dyn Storage>, root: &Path) -> Arc<Self> {
        Arc::new(Self {
            storage,
            root: root.to_path_buf(),
            state: Mutex::default(),
        })
    }

    /// Probes the file system, and logs what changed. Blocks.
    pub(crate) fn probe(&self) {
        let read_only = [self.root.clone(), self.root.join(CHANNELS)]
            .iter()
            .find_map(|dir| {
                self.storage
                    .ensure_writable(dir)
                    .err()
                    .map(|error| (dir.clone(), error))
            })
            .filter(|(_, error)| is_read_only(error))
            .map(|(dir, error)| format!("{} is read-only: {error}", dir.display()));
        // A file system that does not report its size leaves the space unknown; no condition is set for it.
        let space = self.storage.space(&self.root).unwrap_or(None);
        let mut state = self.state.lock();
        if state.read_only != read_only {
            match &read_only {
                Some(why) => tracing::error!(
                    data = %self.root.display(), why,
                    "data folder cannot be written: events are refused, what is stored is delivered; make it writable"
                ),
                None => tracing::info!(data = %self.root.display(), "data folder can be written again"),
            }
            state.read_only = read_only;
        }
        let is_nearly_full = space.is_some_and(|space| {
            let bound = if state.is_nearly_full {
                space.nearly_full_below() / 8 * ROOM_AGAIN_EIGHTHS
            } else {
                space.nearly_full_below()
            };
            space.free < bound
        });
        if let Some(space) = space.filter(|_| is_nearly_full != state.is_nearly_full) {
            if is_nearly_full {
                tracing::warn!(
                    data = %self.root.display(), free_bytes = space.free, total_bytes = space.total,
                    "disk of the data folder is nearly full: when it is full, events are refused with 507; free space or lower spec.arguments.retention"
                );
            } else {
                tracing::info!(
                    data = %self.root.display(), free_bytes = space.free, "disk of the data folder has room again"
                );
            }
        }
        state.is_nearly_full = is_nearly_full;
        state.space = space;
    }

    /// Returns the current size and free space. Blocks for a system call.
    pub(crate) fn space(&self) -> Option<Space> {
        self.storage.space(&self.root).unwrap_or(None)
    }

    /// Why the folder cannot be written, if it cannot.
    pub(crate) fn read_only(&self) -> Option<String> {
        self.state.lock().read_only.clone()
    }

    /// Returns the trouble that a channel's condition reports; `short` while the reserved space is incomplete.
    pub(crate) fn trouble(&self, short: bool) -> Option<DiskTrouble> {
        let state = self.state.lock();
        if let Some(why) = &state.read_only {
            let message = format!(
                "{why}: events are refused, what is stored is delivered. Make the folder writable for the gateway; it goes on by itself"
            );
            return Some(DiskTrouble::ReadOnly(message));
        }
        let free = state.space.map_or(String::new(), |space| {
            format!(", {} of {} bytes are free", space.free, space.total)
        });
        if short {
            let message = format!(
                "the disk of {} is full{free}: events are refused, what is stored is delivered. Free space; it goes on by itself",
                self.root.display()
            );
            return Some(DiskTrouble::Full(message));
        }
        state.is_nearly_full.then(|| {
            DiskTrouble::NearlyFull(format!(
                "the disk of {} is nearly full{free}: when it is full, events are refused with 507. Free space or lower spec.arguments.retention",
                self.root.display()
            ))
        })
    }
}

/// Adds to a write error that the folder is read-only, if that is the cause.
pub(crate) fn explain_read_only(error: io::Error) -> io::Error {
    if is_read_only(&error) {
        io::Error::new(error.kind(), format!("the data folder is read-only: {error}"))
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::twin::{Fault, Twin};

    fn watch(twin: &Twin) -> Arc<DiskWatch> {
        DiskWatch::new(Arc::new(twin.clone()), Path::new("/data"))
    }

    fn is_nearly_full(watch: &DiskWatch) -> bool {
        watch.probe();
        matches!(watch.trouble(false), Some(DiskTrouble::NearlyFull(_)))
    }

    /// Proves: OP-4
    #[test]
    fn a_disk_is_nearly_full_below_a_tenth_and_has_room_again_a_little_above_it() {
        let twin = Twin::new(1);
        let watch = watch(&twin);
        let total = 1000 << 20;
        for (free, expected) in [
            (200, false),
            (101, false),
            (99, true),
            (110, true),
            (126, false),
            (110, false),
            (0, true),
        ] {
            twin.space(Some(Space {
                free: free << 20,
                total,
            }));
            assert_eq!(is_nearly_full(&watch), expected, "{free} MiB free of 1000");
        }
        twin.space(Some(Space {
            free: 2 << 30,
            total: 1 << 40,
        }));
        assert!(!is_nearly_full(&watch), "2 GiB are enough on any disk");
        twin.space(Some(Space {
            free: (1 << 30) - 1,
            total: 1 << 40,
        }));
        assert!(is_nearly_full(&watch));
        assert!(
            matches!(watch.trouble(true), Some(DiskTrouble::Full(_))),
            "full comes before nearly full"
        );
        twin.space(None);
        assert!(!is_nearly_full(&watch), "nothing is said of what is not known");
    }

    /// Proves: OP-4
    #[test]
    fn a_folder_is_read_only_until_it_is_writable() {
        let twin = Twin::new(1);
        let watch = watch(&twin);
        watch.probe();
        assert_eq!((watch.trouble(false), watch.read_only()), (None, None));
        twin.fail(Some(Fault::ReadOnly), 0);
        watch.probe();
        assert!(matches!(watch.trouble(true), Some(DiskTrouble::ReadOnly(why)) if why.contains("/data is read-only")));
        twin.fail(None, 0);
        watch.probe();
        assert_eq!(watch.trouble(false), None);
    }
}
