//! How far one source has read: what the checkpoint holds. Pure.
//!
//! Two facts say it. The *version* is the cluster's revision up to which everything is stored: a watch goes on from there. And
//! for each Event object that is still there, which version of it is stored: when the watch cannot go on (410), the objects are
//! listed and compared with these. While a list is read, what it stores is kept apart from what was known before, so that a
//! list that is cut off, or a process that dies in it, loses and repeats nothing.
//!
//! A gap is possible only where an event may have come and expired between two looks (CONTRACT SR-4). Any object that was known
//! and is still there unchanged proves that nothing later has expired.

mod gap;
mod text;

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

pub(crate) use gap::Gap;

/// The API server's default of `--event-ttl`. It cannot be asked for; where it is shorter, see gap.rs.
pub(crate) const RETENTION: Duration = Duration::from_secs(3600);

/// About 7 MiB as text, below `adapter::MARK_MAX_BYTES` twice over, and 10 MiB in memory. Beyond it only the order of versions
/// tells new objects from old ones, as it does on every cluster whose etcd was never restored.
const KNOWN_MAX: usize = 100_000;

type Versions = HashMap<Box<str>, u64>;

/// The progress of a source: which versions of which objects are stored.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Mark {
    /// The API server and the namespace that the rest is about.
    scope: String,
    /// `None` before the first list was read to its end.
    version: Option<u64>,
    /// When everything up to `version` had been read and nothing more was there.
    synced: Timestamp,
    /// When the newest of `known` was read.
    newest: Timestamp,
    known: Versions,
    /// The versions that the current list has stored; `None` while no list is read.
    found: Option<Versions>,
    /// Objects that are not in `known` and whose version is not above this are stored.
    floor: u64,
    /// The last gap, for the condition after a restart.
    gap: Option<Gap>,
}

/// A list that is being read.
#[derive(Debug, Default)]
pub(crate) struct List {
    unchanged: bool,
    survivors: bool,
    overflow: bool,
}

impl Mark {
    /// For another cluster or namespace no version is known; the objects may be the same under another address.
    pub(crate) fn set_scope(&mut self, scope: &str) {
        if self.scope != scope {
            scope.clone_into(&mut self.scope);
            (self.version, self.floor) = (None, 0);
        }
    }

    /// Where a watch goes on; `None` when the objects must be listed.
    pub(crate) fn resume(&self) -> Option<u64> {
        self.version.filter(|_| self.found.is_none())
    }

    /// Whether there was an earlier look.
    pub(crate) fn has_looked(&self) -> bool {
        self.version.is_some()
    }

    pub(crate) fn gap(&self) -> Option<&Gap> {
        self.gap.as_ref()
    }

    /// Whether a version that the watch brings is not stored yet.
    pub(crate) fn is_new(&self, uid: &str, version: u64) -> bool {
        version > self.stored(uid).unwrap_or(self.floor)
    }

    /// This version is stored, or not wanted.
    pub(crate) fn learn(&mut self, uid: Box<str>, version: u64, now: Timestamp) {
        if let Some(found) = &mut self.found {
            if found.len() < KNOWN_MAX || found.contains_key(&uid) {
                found.insert(uid, version);
            }
            return;
        }
        self.newest = now;
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&uid) {
            // Everything up to the version is stored, so that its order says it all.
            let floor = self.version.unwrap_or_default();
            self.floor = floor;
            self.known.retain(|_, version| *version > floor);
        }
        let stored = self.known.entry(uid).or_default();
        *stored = version.max(*stored);
    }

    /// Removes an object that was deleted.
    pub(crate) fn remove(&mut self, uid: &str) {
        self.known.remove(uid);
    }

    /// Records that everything up to this version came by the watch and is stored.
    pub(crate) fn advance(&mut self, version: u64) {
        self.version = self.version.max(Some(version));
    }

    /// Records that everything that had happened by then has been read.
    pub(crate) fn synced(&mut self, at: Timestamp) {
        self.synced = self.synced.max(at);
    }

    /// Begins a list of the cluster at this version. An earlier list that was cut off counts.
    pub(crate) fn begin_list(&mut self, version: u64) -> List {
        self.found.get_or_insert_default();
        if self.version.is_some_and(|stored| version < stored) {
            // The cluster has gone back: its etcd was restored, or another cluster has the address.
            self.floor = 0;
        }
        List::default()
    }

    /// Notes an object of the list; returns whether this version of it is not stored yet.
    pub(crate) fn meet(&mut self, list: &mut List, uid: &str, version: u64) -> bool {
        let known = self.known.get(uid).copied();
        list.survivors |= known.is_some();
        list.unchanged |= known == Some(version);
        let stored = self.stored(uid);
        let is_new = stored.map_or(version > self.floor, |stored| stored != version);
        if let (Some(found), Some(stored)) = (&mut self.found, stored) {
            list.overflow |= found.len() >= KNOWN_MAX;
            if found.len() < KNOWN_MAX {
                found.entry(uid.into()).or_insert(stored);
            }
        }
        is_new
    }

    /// After the whole list: the gap that there may be between the last look and this one. gap.rs has the reasons.
    pub(crate) fn judge(&self, list: &List, now: Timestamp) -> Option<Gap> {
        if self.version.is_none() || list.unchanged {
            return None;
        }
        let away = now.duration_since(self.synced).unsigned_abs();
        let youngest = now.duration_since(self.newest).unsigned_abs();
        let reason = if away > RETENTION {
            gap::EXCEEDED
        } else if !self.known.is_empty() && !list.survivors && youngest < RETENTION {
            gap::VANISHED
        } else {
            return None;
        };
        Some(Gap {
            from: self.synced,
            to: now,
            reason: reason.into(),
        })
    }

    /// The list was read to its end, and everything in it is stored but for versions from `first_held` on; `gap` too.
    pub(crate) fn finish_list(
        &mut self,
        list: &List,
        version: u64,
        first_held: Option<u64>,
        now: Timestamp,
        gap: Option<Gap>,
    ) {
        let found = self.found.take().unwrap_or_default();
        if list.overflow || found.len() >= KNOWN_MAX {
            self.floor = version;
        }
        self.known = found;
        self.version = Some(first_held.map_or(version, |held| version.min(held.saturating_sub(1))));
        (self.synced, self.newest) = (now, now);
        self.gap = gap.or(self.gap.take());
    }

    fn stored(&self, uid: &str) -> Option<u64> {
        let found = self.found.as_ref().and_then(|found| found.get(uid));
        found.or_else(|| self.known.get(uid)).copied()
    }
}

#[cfg(test)]
mod tests;
