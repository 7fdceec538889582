//! What a channel's handle, its cursors and the upkeep thread share: the log, its state file, and keeping the two in step.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use channel::{CursorName, Gap, GapReason, Offset, ReadError, Start, is_anothers};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    Settings, clock,
    cursor::Shared,
    folder::{Claim, Folder},
    letters::LetterLog,
    log::Log,
    retention::{Limits, Verdict, View, judge},
    state::{Checkpoint, Saved, StateFile, put_checkpoint, put_created, put_forgotten, put_gap},
    storage::{is_full, is_read_only},
};

/// After a failed save the state is left alone this long: a full disk does not get better by trying 200 times a second.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// The segment being written is sealed when it spans this fraction of an age limit, so that ages are kept to about that.
const SEAL_FRACTION: u64 = 8;

pub(crate) struct Store {
    pub(crate) log: Arc<Log>,
    pub(crate) letters: LetterLog,
    pub(crate) settings: Mutex<Settings>,
    keeper: Mutex<Keeper>,
    /// Something changed since the last save began.
    changed: AtomicBool,
    folder: Arc<Folder>,
    /// The right to the channel's name; given up on close.
    claim: Mutex<Option<Claim>>,
    this: Weak<Self>,
}

struct Keeper {
    file: StateFile,
    next_id: u32,
    saved: Option<Checkpoint>,
    /// Forgotten cursors that the copy of the state may still know.
    forgotten: BTreeSet<u32>,
    /// What the file says of cursors is not known to be durable: an earlier process wrote it and may have been killed before
    /// it synced it; or a cursor could not be created or forgotten durably.
    is_doubtful: bool,
    /// Do not save before.
    again_at: Option<Instant>,
}

impl Store {
    pub(crate) fn new(
        log: Log,
        letters: LetterLog,
        settings: Settings,
        file: StateFile,
        saved: Saved,
        folder: Arc<Folder>,
        claim: Claim,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let next_id = saved.next_id();
            let is_new = saved.cursors.is_empty() && saved.forgotten.is_empty() && saved.checkpoint.is_none();
            let cursors = saved
                .cursors
                .into_iter()
                .map(|(id, saved)| Arc::new(Shared::restore(this.clone(), id, saved)));
            log.set_cursors(cursors.collect());
            let keeper = Keeper {
                file,
                next_id,
                saved: saved.checkpoint,
                forgotten: saved.forgotten,
                is_doubtful: !is_new,
                again_at: None,
            };
            Self {
                log: Arc::new(log),
                letters,
                settings: Mutex::new(settings),
                keeper: Mutex::new(keeper),
                changed: AtomicBool::new(false),
                folder,
                claim: Mutex::new(Some(claim)),
                this: this.clone(),
            }
        })
    }

    /// Something is to be saved soon. Cheap when that is known already.
    pub(crate) fn changed(&self) {
        if !self.changed.load(Ordering::Relaxed) && !self.changed.swap(true, Ordering::SeqCst) {
            self.folder.upkeep.submit(self.this.clone());
        }
    }

    /// Writes what changed; with `sync`, also how far the log is good, and makes it durable. Blocks.
    pub(crate) fn save(&self, sync: bool) -> io::Result<()> {
        let mut keeper = self.keeper.lock();
        self.save_with(&mut keeper, sync, &[])
    }

    /// As [`Self::save`], unless it failed a moment ago. `true` when a sync is still due.
    pub(crate) fn save_in_the_background(&self, sync: bool) -> bool {
        let mut keeper = self.keeper.lock();
        if keeper.again_at.is_some_and(|time| Instant::now() < time) {
            return true;
        }
        match self.save_with(&mut keeper, sync, &[]) {
            Ok(()) => keeper.file.is_unsynced(),
            Err(error) => {
                if keeper.again_at.is_none() {
                    tracing::warn!(path = %self.log.dir().display(), %error, "cursors cannot be saved, events may be repeated after a crash");
                }
                keeper.again_at = Some(Instant::now() + SAVE_AGAIN);
                true
            }
        }
    }

    /// As [`StateFile::written`].
    pub(crate) fn written_state(&self) -> Option<u64> {
        self.keeper.lock().file.written()
    }

    /// As [`StateFile::is_synced`].
    pub(crate) fn state_is_synced(&self, written: u64) -> bool {
        let mut keeper = self.keeper.lock();
        let all = keeper.file.is_synced(written);
        keeper.is_doubtful &= !all;
        all
    }

    /// Gives back what a quiet channel does not need: memory and open files. Blocks.
    pub(crate) fn rest(&self) {
        self.log.rest();
        self.letters.rest();
        self.keeper.lock().file.rest();
    }

    fn save_with(&self, keeper: &mut Keeper, sync: bool, more: &[u8]) -> io::Result<()> {
        self.changed.store(false, Ordering::SeqCst);
        let mut changes = more.to_vec();
        let cursors = self.log.cursors();
        for cursor in &*cursors {
            cursor.put_changes(&mut changes);
        }
        // After the cursors: one that has stepped over a gap since is saved the next time.
        let gaps = self.log.unsaved_gaps();
        let (forgotten, checkpoint) = (keeper.forgotten.clone(), self.log.checkpoint());
        let all = |out: &mut Vec<u8>| {
            for id in &forgotten {
                put_forgotten(out, *id);
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
            self.save_gaps(keeper, &gaps, all)?;
        }
        let is_worth_it = checkpoint.next > 0 || !changes.is_empty() || keeper.file.exists();
        if keeper.saved.as_ref() != Some(&checkpoint) && is_worth_it {
            put_checkpoint(&mut changes, &checkpoint);
            keeper.saved = Some(checkpoint);
        }
        let is_due = match keeper.file.exists() {
            true => keeper.file.is_unsynced(),
            // What is in memory may be there and nowhere else, so a new one is made.
            false => sync && keeper.is_doubtful,
        };
        if changes.is_empty() && !is_due {
            return Ok(());
        }
        // What comes after this is in neither, and saved the next time.
        let saved = keeper.file.save(&changes, all);
        let result = saved.and_then(|()| if sync { keeper.file.sync() } else { Ok(()) });
        match &result {
            Ok(()) => {
                keeper.again_at = None;
                keeper.is_doubtful &= !sync;
            }
            Err(_) => {
                keeper.saved = None;
                self.changed();
            }
        }
        if result.is_ok() && sync && keeper.file.needs_copy() {
            match keeper.file.copy(all) {
                Ok(()) => keeper.forgotten.clear(),
                // The state itself is safe; the copy is made with the next synced save.
                Err(error) => {
                    tracing::debug!(path = %self.log.dir().display(), %error, "state cannot be copied");
                }
            }
        }
        result
    }

    /// Makes gaps durable before any cursor is saved that has stepped over one: half of a write may reach the disk, and a
    /// cursor behind a gap that nobody knows of would be a silent loss.
    fn save_gaps(&self, keeper: &mut Keeper, gaps: &[Gap], all: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut changes = Vec::new();
        gaps.iter().for_each(|gap| put_gap(&mut changes, gap));
        let saved = keeper.file.save(&changes, all).and_then(|()| keeper.file.sync());
        if saved.is_err() {
            // What is not in the file goes into the next one, which is made of everything.
            keeper.saved = None;
            self.changed();
        }
        saved
    }

    /// Opens a cursor, creating it durably when there is none. Blocks.
    pub(crate) fn subscribe(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<Arc<Shared>, ReadError> {
        let mut keeper = self.keeper.lock();
        if self.log.is_closed() {
            return Err(ReadError::Closed);
        }
        let existing = self.existing(name);
        if let Some(another) = existing.as_ref().filter(|found| is_anothers(found.owner(), owner)) {
            self.forget_cursor(&mut keeper, another)?;
            tracing::info!(cursor = %name, "a cursor is its subscription's no more, one of its name is made anew");
        } else if let Some(cursor) = existing {
            let mut changes = Vec::new();
            if cursor.belongs_to(owner) {
                cursor.put_owner(&mut changes);
                keeper.file.outdate_copy();
            }
            if keeper.is_doubtful || !changes.is_empty() {
                match self.save_with(&mut keeper, true, &changes) {
                    // Delivery of what is stored goes on, and nothing new is stored there.
                    Err(error) if is_read_only(&error) => {}
                    saved => saved.map_err(unavailable)?,
                }
            }
            return hold(&cursor);
        }
        let place = Offset(self.place(start).map_err(unavailable)?);
        let cursor = Arc::new(Shared::new(self.this.clone(), keeper.next_id, name.clone(), place));
        cursor.belongs_to(owner);
        keeper.next_id += 1;
        // In the list first, so that a new state file has it; out again when it could not be stored.
        self.log
            .set_cursors(self.log.cursors().iter().cloned().chain([cursor.clone()]).collect());
        let mut created = Vec::new();
        put_created(&mut created, cursor.id, place, name.as_str());
        cursor.put_owner(&mut created);
        keeper.file.outdate_copy();
        if let Err(error) = self.save_with(&mut keeper, true, &created) {
            self.remove(&cursor);
            // The record may be on the disk all the same.
            keeper.forgotten.insert(cursor.id);
            keeper.is_doubtful = true;
            return Err(unavailable(error));
        }
        hold(&cursor)
    }

    /// Deletes a cursor durably, unless it is another's. Blocks.
    pub(crate) fn forget(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError> {
        let mut keeper = self.keeper.lock();
        if self.log.is_closed() {
            return Err(ReadError::Closed);
        }
        let existing = self.existing(name);
        match existing.filter(|found| !is_anothers(found.owner(), owner)) {
            Some(cursor) => self.forget_cursor(&mut keeper, &cursor),
            // It may be gone in memory alone.
            None if keeper.is_doubtful => self.save_with(&mut keeper, true, &[]).map_err(unavailable),
            None => Ok(()),
        }
    }

    fn forget_cursor(&self, keeper: &mut Keeper, cursor: &Arc<Shared>) -> Result<(), ReadError> {
        self.remove(cursor);
        let mut forgotten = Vec::new();
        put_forgotten(&mut forgotten, cursor.id);
        keeper.forgotten.insert(cursor.id);
        keeper.file.outdate_copy();
        if let Err(error) = self.save_with(keeper, true, &forgotten) {
            keeper.forgotten.remove(&cursor.id);
            keeper.is_doubtful = true;
            let all = self.log.cursors().iter().cloned().chain([cursor.clone()]).collect();
            self.log.set_cursors(all);
            return Err(unavailable(error));
        }
        cursor.seat.end();
        Ok(())
    }

    pub(crate) fn existing(&self, name: &CursorName) -> Option<Arc<Shared>> {
        self.log.cursors().iter().find(|cursor| cursor.name == *name).cloned()
    }

    fn remove(&self, cursor: &Arc<Shared>) {
        self.log.set_cursors(
            self.log
                .cursors()
                .iter()
                .filter(|kept| kept.id != cursor.id)
                .cloned()
                .collect(),
        );
    }

    pub(crate) fn place(&self, start: Start) -> io::Result<u64> {
        Ok(match start {
            Start::Latest => self.log.committed(),
            Start::Earliest => self.log.earliest(),
            Start::Offset(place) => place.0.clamp(self.log.earliest(), self.log.committed()),
            Start::Time(time) => self.log.place_of(time)?,
        })
    }

    /// Deletes what retention allows and limits demand. Blocks.
    pub(crate) fn retain(&self) -> io::Result<()> {
        let now_ms = clock::to_ms(SystemTime::now());
        let limits = Limits::of(&self.settings.lock());
        self.seal_old(now_ms, &limits)?;
        // No cursor comes meanwhile, to begin in a segment that goes.
        let mut keeper = self.keeper.lock();
        let sealed = self.log.sealed();
        let mut views = Vec::with_capacity(sealed.len());
        for (index, (segment, end)) in sealed.iter().enumerate() {
            let last_ms = match (segment.last_ms(), sealed.get(index + 1)) {
                (Some(known), _) => Some(known),
                (None, Some((next, _))) => self.log.begun_ms(next)?,
                (None, None) => self.log.last_begun_ms()?,
            };
            views.push(View {
                base: segment.base,
                end: *end,
                bytes: segment.length(),
                last_ms,
            });
        }
        let active_bytes = self
            .log
            .bytes()
            .saturating_sub(views.iter().map(|view| view.bytes).sum());
        let verdict = judge(&views, active_bytes, self.log.low(), now_ms, &limits);
        self.carry_out(&mut keeper, &verdict)?;
        let doomed: Vec<_> = sealed
            .into_iter()
            .take(verdict.delete)
            .map(|(segment, _)| segment)
            .collect();
        if !doomed.is_empty() {
            tracing::debug!(path = %self.log.dir().display(), segments = doomed.len(), "segments deleted");
        }
        self.log.unlink(&doomed)
    }

    /// What goes is recorded first, durably: the gap that a limit makes, and that the rest is settled. A cursor that came
    /// back from before what it had settled would find it missing.
    fn carry_out(&self, keeper: &mut Keeper, verdict: &Verdict) -> io::Result<()> {
        if let Some(dropped) = verdict.dropped.clone() {
            self.log.add_gap(dropped.clone(), GapReason::Limit);
            for cursor in &*self.log.cursors() {
                cursor.skip(Offset(0)..Offset(dropped.end));
            }
        } else if verdict.delete == 0 {
            return Ok(());
        }
        let is_limited = self.log.gaps().iter().any(|gap| gap.reason == GapReason::Limit);
        match self.save_with(keeper, true, &[]) {
            // Nothing but a deletion makes room now, and a gap reported too much is better than a disk that stays full. One
            // that a limit made must be there.
            Err(error) if is_full(&error) && !is_limited => Ok(()),
            saved => saved,
        }
    }

    fn seal_old(&self, now_ms: u64, limits: &Limits) -> io::Result<()> {
        let age = limits
            .limit_age_ms
            .map_or(limits.age_ms, |limit| limit.min(limits.age_ms));
        if let Some(active) = self.log.active()
            && let Some(begun) = self.log.begun_ms(&active)?
            && begun + age / SEAL_FRACTION <= now_ms
        {
            self.log.seal()?;
        }
        Ok(())
    }

    /// Saves everything durably and takes no more. Blocks.
    pub(crate) fn close(&self) {
        self.log.close();
        self.letters.close();
        for cursor in &*self.log.cursors() {
            cursor.seat.end();
        }
        if let Err(error) = self.save(true) {
            tracing::error!(path = %self.log.dir().display(), %error, "cursors cannot be saved, events will be repeated");
        }
        self.claim.lock().take();
    }
}

fn hold(cursor: &Arc<Shared>) -> Result<Arc<Shared>, ReadError> {
    if cursor.seat.take() {
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
