//! The store of a channel: its log and its state file, kept in step. Shared by the channel's handle, its cursors and
//! the upkeep thread.

mod retain;
mod services;
mod upkeep;

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use channel::{CursorName, DiskTrouble, Gap, Offset, ReadError, Start, is_anothers};
use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) use self::services::{Claim, Services};
use crate::{
    Settings,
    cursor_state::CursorState,
    dead_letters::EmbeddedDeadLetters,
    log::Log,
    state::{Checkpoint, Saved, StateFile, put_checkpoint, put_created, put_deleted, put_gap},
    storage::is_read_only,
};

/// Delay after a failed save: a full disk does not improve by trying 200 times a second.
const SAVE_RETRY: Duration = Duration::from_secs(1);

/// A channel on disk.
pub(crate) struct Store {
    pub(crate) log: Arc<Log>,
    pub(crate) dead_letters: EmbeddedDeadLetters,
    pub(crate) settings: Mutex<Settings>,
    saver: Mutex<StateSaver>,
    /// There are changes since the last save began.
    changed: AtomicBool,
    services: Arc<Services>,
    /// The right to the channel's name. Released on close.
    claim: Mutex<Option<Claim>>,
    this: Weak<Self>,
}

struct StateSaver {
    file: StateFile,
    next_id: u32,
    saved: Option<Checkpoint>,
    /// Deleted cursors that the copy of the state may still contain.
    deleted: BTreeSet<u32>,
    /// The cursors in the file may not be durable: an earlier process wrote it and may have been killed before the
    /// sync, or a cursor could not be created or deleted durably.
    is_doubtful: bool,
    /// Earliest time of the next save, after a failed one.
    retry_at: Option<Instant>,
}

impl Store {
    pub(crate) fn new(
        log: Log,
        dead_letters: EmbeddedDeadLetters,
        settings: Settings,
        file: StateFile,
        saved: Saved,
        services: Arc<Services>,
        claim: Claim,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let next_id = saved.next_id();
            let is_new = saved.cursors.is_empty() && saved.deleted.is_empty() && saved.checkpoint.is_none();
            let cursors = saved
                .cursors
                .into_iter()
                .map(|(id, saved)| Arc::new(CursorState::restore(id, saved)));
            log.set_cursors(cursors.collect());
            let store = this.clone();
            log.notify_commits(move || {
                if let Some(store) = store.upgrade() {
                    store.changed();
                }
            });
            let saver = StateSaver {
                file,
                next_id,
                saved: saved.checkpoint,
                deleted: saved.deleted,
                is_doubtful: !is_new,
                retry_at: None,
            };
            Self {
                log: Arc::new(log),
                dead_letters,
                settings: Mutex::new(settings),
                saver: Mutex::new(saver),
                changed: AtomicBool::new(false),
                services,
                claim: Mutex::new(Some(claim)),
                this: this.clone(),
            }
        })
    }

    /// Schedules a save within milliseconds. Cheap if one is scheduled already.
    pub(crate) fn changed(&self) {
        if !self.changed.load(Ordering::Relaxed) && !self.changed.swap(true, Ordering::SeqCst) {
            self.services.upkeep.submit(self.this.clone());
        }
    }

    /// Writes the changes; with `sync`, makes them durable. Blocks.
    pub(crate) fn save(&self, sync: bool) -> io::Result<()> {
        let mut saver = self.saver.lock();
        self.save_with(&mut saver, sync, &[])
    }

    /// Like [`Self::save`], but skipped shortly after a failure. Returns `true` if a sync is still due. Blocks.
    pub(crate) fn save_in_the_background(&self, sync: bool) -> bool {
        let mut saver = self.saver.lock();
        if saver.retry_at.is_some_and(|time| Instant::now() < time) {
            return true;
        }
        match self.save_with(&mut saver, sync, &[]) {
            Ok(()) => saver.file.is_unsynced(),
            Err(error) => {
                if saver.retry_at.is_none() {
                    tracing::warn!(path = %self.log.dir().display(), %error, "cursors cannot be saved, events may be repeated after a crash");
                }
                saver.retry_at = Some(Instant::now() + SAVE_RETRY);
                true
            }
        }
    }

    pub(crate) fn disk_trouble(&self) -> Option<DiskTrouble> {
        self.services.disk_trouble()
    }

    /// See [`StateFile::written`].
    pub(crate) fn written_state(&self) -> Option<u64> {
        self.saver.lock().file.written()
    }

    /// See [`StateFile::is_synced`].
    pub(crate) fn state_is_synced(&self, written: u64) -> bool {
        let mut saver = self.saver.lock();
        let all = saver.file.is_synced(written);
        saver.is_doubtful &= !all;
        all
    }

    /// Frees memory and files that a quiet channel does not need. Blocks.
    pub(crate) fn rest(&self) {
        self.log.rest();
        self.dead_letters.rest();
        self.saver.lock().file.rest();
    }

    fn save_with(&self, saver: &mut StateSaver, sync: bool, more: &[u8]) -> io::Result<()> {
        self.changed.store(false, Ordering::SeqCst);
        let mut changes = more.to_vec();
        let cursors = self.log.cursors();
        for cursor in &*cursors {
            cursor.put_changes(&mut changes);
        }
        // Taken after the cursors: a cursor that has skipped a newer gap is saved the next time.
        let gaps = self.log.unsaved_gaps();
        let (deleted, checkpoint) = (saver.deleted.clone(), self.log.checkpoint());
        let all = |out: &mut Vec<u8>| {
            for id in &deleted {
                put_deleted(out, *id);
            }
            for cursor in &*cursors {
                cursor.put_state(out);
            }
            for gap in self.log.gaps() {
                put_gap(out, &gap);
            }
            put_checkpoint(out, &checkpoint);
        };
        if !gaps.is_empty() {
            self.save_gaps(saver, &gaps, all)?;
        }
        let is_worth_it = checkpoint.next > 0 || !changes.is_empty() || saver.file.exists();
        if saver.saved.as_ref() != Some(&checkpoint) && is_worth_it {
            put_checkpoint(&mut changes, &checkpoint);
            saver.saved = Some(checkpoint);
        }
        let is_due = if saver.file.exists() {
            saver.file.is_unsynced()
        } else {
            // The state may exist in memory only, so a new file is written.
            sync && saver.is_doubtful
        };
        if changes.is_empty() && !is_due {
            return Ok(());
        }
        // Later changes are in neither, and are saved the next time.
        let saved = saver.file.save(&changes, all);
        let result = saved.and_then(|()| if sync { saver.file.sync() } else { Ok(()) });
        match &result {
            Ok(()) => {
                saver.retry_at = None;
                saver.is_doubtful &= !sync;
            }
            Err(_) => {
                saver.saved = None;
                self.changed();
            }
        }
        if result.is_ok() && sync && saver.file.needs_copy() {
            match saver.file.copy(all) {
                Ok(()) => saver.deleted.clear(),
                // The state itself is safe. The next synced save makes the copy.
                Err(error) => {
                    tracing::debug!(path = %self.log.dir().display(), %error, "state cannot be copied");
                }
            }
        }
        result
    }

    /// Makes gaps durable before any cursor that has skipped one is saved. A write may reach the disk in part, and a
    /// cursor behind an unrecorded gap would be a silent loss.
    fn save_gaps(&self, saver: &mut StateSaver, gaps: &[Gap], all: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut changes = Vec::new();
        gaps.iter().for_each(|gap| put_gap(&mut changes, gap));
        let saved = saver.file.save(&changes, all).and_then(|()| saver.file.sync());
        if saved.is_err() {
            // The next save writes a new file with everything, including these gaps.
            saver.saved = None;
            self.changed();
        }
        saved
    }

    /// Opens a cursor and takes its lease; creates the cursor durably if it does not exist. Blocks.
    pub(crate) fn subscribe(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<Arc<CursorState>, ReadError> {
        let mut saver = self.saver.lock();
        if self.log.is_closed() {
            return Err(ReadError::Closed);
        }
        let existing = self.existing(name);
        if let Some(another) = existing.as_ref().filter(|found| is_anothers(found.owner(), owner)) {
            self.delete_cursor(&mut saver, another)?;
            tracing::info!(cursor = %name, "cursor belonged to an earlier subscription of this name and was recreated");
        } else if let Some(cursor) = existing {
            let mut changes = Vec::new();
            if cursor.belongs_to(owner) {
                cursor.put_owner(&mut changes);
                saver.file.outdate_copy();
            }
            if saver.is_doubtful || !changes.is_empty() {
                match self.save_with(&mut saver, true, &changes) {
                    // Stored events are delivered from a read-only disk; new ones are refused.
                    Err(error) if is_read_only(&error) => {}
                    saved => saved.map_err(unavailable)?,
                }
            }
            return hold(&cursor);
        }
        let offset = Offset(self.offset(start).map_err(unavailable)?);
        let cursor = Arc::new(CursorState::new(saver.next_id, name.clone(), offset));
        cursor.belongs_to(owner);
        saver.next_id += 1;
        // Added to the list first, so that a new state file contains it; removed again if it could not be saved.
        self.log
            .set_cursors(self.log.cursors().iter().cloned().chain([cursor.clone()]).collect());
        let mut created = Vec::new();
        put_created(&mut created, cursor.id, offset, name.as_str());
        cursor.put_owner(&mut created);
        saver.file.outdate_copy();
        if let Err(error) = self.save_with(&mut saver, true, &created) {
            self.remove(&cursor);
            // The record may have reached the disk all the same.
            saver.deleted.insert(cursor.id);
            saver.is_doubtful = true;
            return Err(unavailable(error));
        }
        hold(&cursor)
    }

    /// Deletes a cursor durably, unless it belongs to another owner. Blocks.
    pub(crate) fn delete(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError> {
        let mut saver = self.saver.lock();
        if self.log.is_closed() {
            return Err(ReadError::Closed);
        }
        let existing = self.existing(name);
        match existing.filter(|found| !is_anothers(found.owner(), owner)) {
            Some(cursor) => self.delete_cursor(&mut saver, &cursor),
            // The cursor may be deleted in memory only.
            None if saver.is_doubtful => self.save_with(&mut saver, true, &[]).map_err(unavailable),
            None => Ok(()),
        }
    }

    fn delete_cursor(&self, saver: &mut StateSaver, cursor: &Arc<CursorState>) -> Result<(), ReadError> {
        self.remove(cursor);
        let mut deleted = Vec::new();
        put_deleted(&mut deleted, cursor.id);
        saver.deleted.insert(cursor.id);
        saver.file.outdate_copy();
        if let Err(error) = self.save_with(saver, true, &deleted) {
            saver.deleted.remove(&cursor.id);
            saver.is_doubtful = true;
            let all = self.log.cursors().iter().cloned().chain([cursor.clone()]).collect();
            self.log.set_cursors(all);
            return Err(unavailable(error));
        }
        cursor.lease.end();
        Ok(())
    }

    pub(crate) fn existing(&self, name: &CursorName) -> Option<Arc<CursorState>> {
        self.log.cursors().iter().find(|cursor| cursor.name == *name).cloned()
    }

    fn remove(&self, cursor: &Arc<CursorState>) {
        self.log.set_cursors(
            self.log
                .cursors()
                .iter()
                .filter(|kept| kept.id != cursor.id)
                .cloned()
                .collect(),
        );
    }

    pub(crate) fn offset(&self, start: Start) -> io::Result<u64> {
        Ok(match start {
            Start::Latest => self.log.committed(),
            Start::Earliest => self.log.earliest(),
            Start::Offset(offset) => offset.0.clamp(self.log.earliest(), self.log.committed()),
            Start::Time(time) => self.log.offset_at(time)?,
        })
    }

    /// Saves everything durably and refuses further calls. Blocks.
    pub(crate) fn close(&self) {
        self.log.close();
        self.dead_letters.close();
        for cursor in &*self.log.cursors() {
            cursor.lease.end();
        }
        if let Err(error) = self.save(true) {
            tracing::error!(path = %self.log.dir().display(), %error, "cursors cannot be saved, events will be repeated");
        }
        self.claim.lock().take();
    }
}

fn hold(cursor: &Arc<CursorState>) -> Result<Arc<CursorState>, ReadError> {
    if cursor.lease.take() {
        Ok(cursor.clone())
    } else {
        Err(ReadError::InUse {
            name: cursor.name.to_string(),
        })
    }
}

pub(crate) fn unavailable(error: io::Error) -> ReadError {
    ReadError::Unavailable(Box::new(error))
}
