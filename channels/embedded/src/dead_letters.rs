//! The dead-letter log of an embedded channel: a second log beside the events, and the set of removed dead letters.
//!
//! Retention never deletes dead letters: a segment goes once every dead letter in it was removed. A quota keeps
//! undeliverable events from filling the disk for all channels: beyond it dead letters are refused, and their events
//! stay in the channel, unsettled.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use channel::{AppendError, DeadLetterLog, Durability, Offset, ReadError, Stored, StoredDeadLetter, Watermark};
use event::Event;
use parking_lot::Mutex;

use crate::{
    clock,
    log::{Log, LogError, OpenReport, Opening},
    state::{Checkpoint, Saved, StateFile, StateReport, put_checkpoint, put_created, put_gap, put_settled},
};

/// The removed set is stored as the settled offsets of the only cursor.
const ID: u32 = 0;
/// The files may take this many times the quota: one old dead letter keeps all later segments.
const DISK_FACTOR: u64 = 2;
/// Once all dead letters are removed, the active segment is sealed and deleted too if it is larger than this fraction
/// of the quota.
const SEAL_FRACTION: u64 = 16;
/// A person has to make room, so there is no hurry.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Bytes one page holds at most.
const PAGE_BYTES: usize = 4 << 20;

#[derive(Clone)]
pub(crate) struct EmbeddedDeadLetters {
    inner: Arc<Inner>,
}

struct Inner {
    log: Arc<Log>,
    state: Mutex<State>,
    /// Quota in bytes.
    quota: AtomicU64,
    /// Bytes of the last dead letter if the quota refused it, else 0.
    refused: AtomicU64,
}

struct State {
    file: StateFile,
    removed: Watermark,
    saved: Option<Checkpoint>,
    /// Bytes of dead letters that are being stored.
    reserved: u64,
}

/// The share of the quota that one dead letter takes while it is being stored.
struct Reservation<'a> {
    inner: &'a Inner,
    size: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.inner.state.lock().reserved -= self.size;
    }
}

impl EmbeddedDeadLetters {
    /// Opens the dead letters of a channel. Creates no file before the first one is stored. Blocks.
    pub(crate) fn open(opening: Opening) -> Result<(Self, OpenReport, StateReport), LogError> {
        let (file, saved, state_found) =
            StateFile::open(opening.storage.clone(), opening.reserved_space.clone(), &opening.dir)?;
        let Saved {
            mut cursors,
            mut orphans,
            gaps,
            checkpoint,
            ..
        } = saved;
        let removed = cursors.remove(&ID).map(|cursor| cursor.settled);
        let removed = removed.or_else(|| orphans.remove(&ID)).unwrap_or_default();
        let (log, report) = Opening {
            checkpoint,
            gaps,
            floor: removed.top().0,
            ..opening
        }
        .open()?;
        let state = Mutex::new(State {
            file,
            removed,
            saved: checkpoint,
            reserved: 0,
        });
        let inner = Arc::new(Inner {
            log: Arc::new(log),
            state,
            quota: AtomicU64::new(u64::MAX),
            refused: AtomicU64::new(0),
        });
        Ok((Self { inner }, report, state_found))
    }

    /// Sets the quota and the segment size, both in bytes.
    pub(crate) fn configure(&self, quota: u64, segment_bytes: u64) {
        self.inner.quota.store(quota, Ordering::Relaxed);
        self.inner.log.set_segment_bytes(segment_bytes);
    }

    /// Saves the checkpoint and newly found gaps. Blocks.
    pub(crate) fn save_if_changed(&self) {
        let inner = &self.inner;
        if inner.log.committed() == 0 {
            return;
        }
        let mut state = inner.state.lock();
        if state.saved == Some(inner.log.checkpoint()) && !inner.log.has_unsaved_gaps() {
            return;
        }
        if let Err(error) = inner.save(&mut state, &[]) {
            tracing::debug!(path = %inner.log.dir().display(), %error, "state of the dead letters cannot be saved");
        }
    }

    /// Closes files that nothing is written to.
    pub(crate) fn rest(&self) {
        self.inner.log.close_idle_writer();
        self.inner.state.lock().file.rest();
    }

    /// Saves the state durably and refuses further calls. Blocks.
    pub(crate) fn close(&self) {
        self.inner.log.close();
        let mut state = self.inner.state.lock();
        if self.inner.log.committed() > 0
            && let Err(error) = self.inner.save(&mut state, &[])
        {
            tracing::warn!(path = %self.inner.log.dir().display(), %error, "state of the dead letters cannot be saved");
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.inner.log.bytes()
    }

    fn ensure_open(&self) -> Result<(), ReadError> {
        if self.inner.log.is_closed() {
            Err(ReadError::Closed)
        } else {
            Ok(())
        }
    }
}

impl Inner {
    fn save(&self, state: &mut State, changes: &[u8]) -> io::Result<()> {
        let State {
            file, removed, saved, ..
        } = state;
        let mut changes = changes.to_vec();
        for gap in self.log.unsaved_gaps() {
            put_gap(&mut changes, &gap);
        }
        let checkpoint = self.log.checkpoint();
        put_checkpoint(&mut changes, &checkpoint);
        *saved = None;
        file.save(&changes, |out| {
            put_created(out, ID, removed.settled_below(), "removed");
            put_settled(out, ID, removed.settled_below(), removed.above());
            for gap in self.log.gaps() {
                put_gap(out, &gap);
            }
            put_checkpoint(out, &checkpoint);
        })?;
        file.sync()?;
        *saved = Some(checkpoint);
        Ok(())
    }

    fn list(&self, from: Offset, max: usize) -> io::Result<Vec<StoredDeadLetter>> {
        let removed = self.state.lock().removed.clone();
        let (mut offset, mut bytes, mut page) = (removed.next_unsettled(from), 0, Vec::new());
        while offset.0 < self.log.committed() && page.len() < max && bytes < PAGE_BYTES {
            let chunk = self.log.load(offset.0, PAGE_BYTES - bytes)?;
            let next = Offset(chunk.covers.end);
            for read in chunk.records {
                let offset = Offset(read.offset);
                if page.len() < max && bytes < PAGE_BYTES && !removed.is_settled(offset) {
                    bytes += read.event.size() + read.facts.len();
                    page.push(StoredDeadLetter {
                        offset,
                        stored_at: clock::from_ms(read.stored_ms),
                        event: read.event,
                        facts: read.facts,
                    });
                }
            }
            offset = removed.next_unsettled(next);
        }
        Ok(page)
    }

    /// Estimates the bytes of dead letters that are not removed. Removed ones lie among them until their segment is
    /// deleted, and their sizes are not known, so all are taken to be of average size.
    fn held_bytes(&self, removed: &Watermark) -> u64 {
        let (end, bytes) = (self.log.committed(), self.log.bytes());
        let (stored, held) = (end.saturating_sub(self.log.earliest()), removed.unsettled(Offset(end)));
        match stored {
            0 => 0,
            stored => {
                u64::try_from(u128::from(bytes) * u128::from(held.min(stored)) / u128::from(stored)).unwrap_or(bytes)
            }
        }
    }

    /// Whether the quota allows a dead letter of this size. The first one is always allowed.
    fn has_room(&self, state: &State, size: u64) -> bool {
        let quota = self.quota.load(Ordering::Relaxed);
        let held = self.held_bytes(&state.removed);
        let coming = state.reserved.saturating_add(size);
        let fits_on_disk = self.log.bytes().saturating_add(coming) <= quota.saturating_mul(DISK_FACTOR);
        (held == 0 && state.reserved == 0) || (held.saturating_add(coming) <= quota && fits_on_disk)
    }

    /// Reserves quota for a dead letter; `None` if there is none left. Concurrent calls cannot exceed the quota
    /// together.
    fn reserve(&self, size: u64) -> Option<Reservation<'_>> {
        let mut state = self.state.lock();
        if !self.has_room(&state, size) {
            self.refused.store(size.max(1), Ordering::Relaxed);
            return None;
        }
        self.refused.store(0, Ordering::Relaxed);
        state.reserved += size;
        Some(Reservation { inner: self, size })
    }

    fn remove(&self, offsets: &[Offset]) -> io::Result<usize> {
        let mut state = self.state.lock();
        let (mut removed, committed) = (state.removed.clone(), Offset(self.log.committed()));
        let mut news = Watermark::default();
        let mut count = 0;
        for offset in offsets.iter().copied().filter(|offset| *offset < committed) {
            if removed.settle(offset) {
                news.settle(offset);
                count += usize::from(!self.is_missing(offset));
            }
        }
        let before = std::mem::replace(&mut state.removed, removed);
        let mut changes = Vec::new();
        put_settled(&mut changes, ID, news.settled_below(), news.above());
        if let Err(error) = self.save(&mut state, &changes) {
            state.removed = before;
            return Err(error);
        }
        let below = state.removed.settled_below().0;
        let segment_min = self.quota.load(Ordering::Relaxed) / SEAL_FRACTION;
        if below == self.log.committed() && self.log.active().is_some_and(|active| active.length() > segment_min) {
            // A full disk has no space for a new segment. The dead letters are removed all the same.
            if let Err(error) = self.log.seal() {
                tracing::debug!(path = %self.log.dir().display(), %error, "segment of removed dead letters cannot be sealed");
            }
        }
        let sealed = self.log.sealed();
        let doomed: Vec<_> = sealed
            .into_iter()
            .take_while(|(_, end)| *end <= below)
            .map(|(segment, _)| segment)
            .collect();
        self.log.unlink(&doomed)?;
        Ok(count)
    }

    /// Counts dead letters that are neither removed nor readable.
    fn missing(&self, removed: &Watermark) -> u64 {
        let gap_length = |gap: &channel::Gap| {
            (gap.from.0..gap.to.0)
                .filter(|offset| !removed.is_settled(Offset(*offset)))
                .count()
        };
        self.log.gaps().iter().map(|gap| gap_length(gap) as u64).sum()
    }

    fn is_missing(&self, offset: Offset) -> bool {
        self.log.gaps().iter().any(|gap| gap.from <= offset && offset < gap.to)
    }
}

#[async_trait]
impl DeadLetterLog for EmbeddedDeadLetters {
    async fn store(&self, event: &Event, facts: &Bytes) -> Result<Stored, AppendError> {
        let Some(_reservation) = self.inner.reserve((event.size() + facts.len()) as u64) else {
            return Err(AppendError::Full {
                retry_after: RETRY_AFTER,
            });
        };
        let last = self.inner.log.append_dead_letter(event, facts).await?;
        Ok(Stored::at(Durability::Disk, Offset(last)))
    }

    async fn list(&self, from: Offset, max: usize) -> Result<Vec<StoredDeadLetter>, ReadError> {
        self.ensure_open()?;
        let dead_letters = self.clone();
        crate::blocking(move || {
            let page = dead_letters.inner.list(from, max);
            if dead_letters.inner.log.has_unsaved_gaps() {
                dead_letters.save_if_changed();
            }
            page
        })
        .await
    }

    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError> {
        self.ensure_open()?;
        let (inner, offsets) = (self.inner.clone(), offsets.to_vec());
        crate::blocking(move || inner.remove(&offsets)).await
    }

    async fn end(&self) -> Result<Offset, ReadError> {
        self.ensure_open()?;
        Ok(Offset(self.inner.log.committed()))
    }

    fn count(&self) -> u64 {
        let state = self.inner.state.lock();
        state
            .removed
            .unsettled(Offset(self.inner.log.committed()))
            .saturating_sub(self.inner.missing(&state.removed))
    }

    fn missing(&self) -> u64 {
        self.inner.missing(&self.inner.state.lock().removed)
    }

    fn refusing(&self) -> Option<String> {
        let inner = &self.inner;
        let refused = inner.refused.load(Ordering::Relaxed);
        let held = {
            let state = inner.state.lock();
            if refused == 0 || inner.has_room(&state, refused) {
                return None;
            }
            inner.held_bytes(&state.removed)
        };
        Some(format!(
            "{} dead letters are kept, about {} of {} bytes (spec.arguments.deadLetters.bytes)",
            self.count(),
            held,
            inner.quota.load(Ordering::Relaxed)
        ))
    }
}
