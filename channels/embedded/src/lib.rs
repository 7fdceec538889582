//! A channel on local disk: a segmented log of our own, synced before anything is acknowledged.
//!
//! It promises `Disk`: once an append returns, the events survive `kill -9` and a power cut. Settlements and attempts
//! survive too, except for the last few milliseconds before a kill. Settled events are kept for replay as long as
//! retention allows, dead letters until they are removed.
//!
//! The layers, from top to bottom:
//!
//! | module | what it does |
//! |--|--|
//! | folder.rs | [`DataFolder`]: the lock, the threads, opening and removing channels |
//! | cursor.rs | the holder of a cursor: polls events, settles, releases |
//! | store.rs | a channel's log and state file kept in step: cursors, saving, retention, the upkeep thread |
//! | dead_letters.rs | a second log with a quota |
//! | cursor_state.rs, state.rs | a cursor's progress, and the file that saves it |
//! | log.rs | appends, commits, reading, gaps; knows no store |
//! | segment.rs, format.rs, frames.rs, index.rs, recovery.rs | the files of a log |
//! | storage.rs | every disk access, so that tests can lose, tear and refuse |
//!
//! reserved_space.rs keeps disk space for what must be written on a full disk. docs/reference/embedded-format.md describes the
//! files, and inspect.rs reads them from outside.

mod clock;
mod cursor;
mod cursor_state;
mod dead_letters;
mod dedup;
mod disk;
mod folder;
mod format;
mod frames;
mod group_sync;
mod index;
pub mod inspect;
mod log;
mod name;
mod permissions;
mod recovery;
mod reserved_space;
mod retention;
mod segment;
mod state;
mod stats;
mod storage;
mod store;
mod tail;

use std::{io, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use channel::{
    AppendError, Channel, Cursor, CursorName, CursorStatus, DeadLetterLog, Depth, DiskTrouble, Durability, Gap, Offset,
    Promises, ReadError, Record, SettlementState, Start, Stored,
};
use event::Event;

use crate::{
    cursor::EmbeddedCursor,
    cursor_state::CursorState,
    store::{Store, unavailable},
};
pub use crate::{
    disk::Space,
    folder::{DataFolder, Held, OpenError},
    stats::{SLOW_SYNC, SYNC_BUCKETS_SECONDS, Stats},
};

/// Bytes one [`Channel::read`] returns at most.
const PAGE_BYTES: usize = 4 << 20;
/// Estimated size of an event, and the least read at once: the bytes between two marks. A page read loads about this
/// much per event.
const EVENT_BYTES_ESTIMATE: usize = 1 << 10;
const READ_BYTES_MIN: usize = 64 << 10;

/// Configuration of an embedded channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest event accepted, in bytes of attributes and data together; at most [`Settings::EVENT_BYTES_MAX`].
    pub max_event_bytes: usize,
    /// How long events that every subscription settled are kept for replay.
    pub retention_age: Duration,
    /// Bytes kept for replay.
    pub retention_bytes: u64,
    /// Drops older events even if they are unsettled, and records the gap.
    pub limit_age: Option<Duration>,
    /// Drops the oldest unsettled events beyond this many bytes, and records the gap.
    pub limit_bytes: Option<u64>,
    /// A repeat of an event (same `source` and `id`) stored no longer ago than this is not stored again.
    pub dedup: Option<Duration>,
    /// Quota of the dead letters, in bytes. Beyond it they are refused, and their events wait in the channel.
    pub dead_letters_bytes: u64,
    /// Bytes of one segment file: the unit of deletion, and the most that a recovery without a checkpoint reads.
    pub segment_bytes: u64,
}

impl Settings {
    /// The limit of CONTRACT IN-3.
    pub const EVENT_BYTES_MAX: usize = 32 << 20;
    /// A segment is at most an eighth of a size limit, so that the limit is kept to about that. Segments smaller than
    /// this only cost.
    const SEGMENT_BYTES_MIN: u64 = 256 << 10;

    fn bounded(mut self) -> Self {
        self.max_event_bytes = self.max_event_bytes.min(Self::EVENT_BYTES_MAX);
        self
    }

    fn effective_segment_bytes(&self) -> u64 {
        let limit = self.limit_bytes.unwrap_or(u64::MAX).min(self.retention_bytes);
        self.segment_bytes.min((limit / 8).max(Self::SEGMENT_BYTES_MIN))
    }

    /// A segment of dead letters is deleted once all in it were removed, so it must be a small part of the quota.
    fn dead_letters_segment_bytes(&self) -> u64 {
        self.segment_bytes
            .min((self.dead_letters_bytes / 8).max(Self::SEGMENT_BYTES_MIN))
    }
}

impl Default for Settings {
    /// The defaults of API.md: a day and 1 GiB for replay, no limit on unsettled events; 64 MiB a segment.
    fn default() -> Self {
        Self {
            max_event_bytes: Self::EVENT_BYTES_MAX,
            retention_age: Duration::from_secs(24 * 3600),
            retention_bytes: 1 << 30,
            limit_age: None,
            limit_bytes: None,
            dedup: None,
            dead_letters_bytes: 1 << 30,
            segment_bytes: 64 << 20,
        }
    }
}

/// A channel on local disk.
///
/// If it is dropped without [`Channel::close`], it loses nothing that it acknowledged, except for the settlements of
/// the last few milliseconds.
pub struct EmbeddedChannel {
    store: Arc<Store>,
}

impl EmbeddedChannel {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    pub(crate) fn into_store(self) -> Arc<Store> {
        self.store
    }

    /// Changes the settings of an open channel. Blocks while the log is read if a dedup window is new or longer.
    pub fn configure(&self, settings: Settings) {
        let settings = settings.bounded();
        self.store.log.set_segment_bytes(settings.effective_segment_bytes());
        self.store.log.dedup(settings.dedup);
        self.store
            .dead_letters
            .configure(settings.dead_letters_bytes, settings.dead_letters_segment_bytes());
        *self.store.settings.lock() = settings;
    }

    /// Ranges of lost events that not every cursor had settled, oldest first.
    pub fn gaps(&self) -> Vec<Gap> {
        self.store.log.gaps()
    }

    /// Whether [`Channel::close`] was called. The channel may then be opened again.
    pub fn is_closed(&self) -> bool {
        self.store.log.is_closed()
    }

    /// Counters since the channel was opened.
    pub fn stats(&self) -> Stats {
        self.store.log.stats()
    }

    /// Applies retention and limits now, instead of within seconds. Blocks.
    ///
    /// # Errors
    /// If segments cannot be deleted, or a gap cannot be recorded.
    pub fn retain(&self) -> io::Result<()> {
        self.store.retain()
    }
}

#[async_trait]
impl Channel for EmbeddedChannel {
    fn promises(&self) -> Promises {
        Promises {
            durability: Durability::Disk,
            survives_restart: true,
            total_order: true,
            replay: true,
            remembers_attempts: true,
            max_event_bytes: self.store.settings.lock().max_event_bytes,
        }
    }

    async fn append(&self, events: &[Event]) -> Result<Stored, AppendError> {
        let limit = self.store.settings.lock().max_event_bytes;
        if let Some(bytes) = events.iter().map(Event::size).find(|bytes| *bytes > limit) {
            return Err(AppendError::TooLarge { bytes, limit });
        }
        let last = self.store.log.append(events).await?;
        Ok(Stored::at(Durability::Disk, Offset(last)))
    }

    async fn subscribe(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<Box<dyn Cursor>, ReadError> {
        if self.store.log.is_closed() {
            return Err(ReadError::Closed);
        }
        let (store, name, owner) = (self.store.clone(), name.clone(), owner.map(str::to_owned));
        let shared = spawn_blocking(move || store.subscribe(&name, owner.as_deref(), start)).await?;
        Ok(Box::new(EmbeddedCursor::new(self.store.clone(), shared)))
    }

    async fn delete(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError> {
        let (store, name, owner) = (self.store.clone(), name.clone(), owner.map(str::to_owned));
        spawn_blocking(move || store.delete(&name, owner.as_deref())).await
    }

    async fn read(&self, from: Offset, max: usize) -> Result<Vec<Record>, ReadError> {
        if self.store.log.is_closed() {
            return Err(ReadError::Closed);
        }
        let store = self.store.clone();
        blocking(move || store.read(from, max)).await
    }

    async fn ranges(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError> {
        if self.store.log.is_closed() {
            return Err(ReadError::Closed);
        }
        let store = self.store.clone();
        let begin = blocking(move || store.offset(start)).await?;
        let end = self.store.log.committed();
        Ok(vec![Offset(begin)..Offset(end.max(begin))])
    }

    fn settlement_state(&self, cursor: &CursorName, offset: Offset) -> Option<SettlementState> {
        Some(self.store.existing(cursor)?.settlement_state(offset))
    }

    async fn grown(&self, from: Offset) {
        self.store.log.grown(from.0).await;
    }

    fn dead_letters(&self) -> &dyn DeadLetterLog {
        &self.store.dead_letters
    }

    fn depth(&self) -> Depth {
        let log = &self.store.log;
        let (next, disk) = (Offset(log.committed()), self.store.disk_trouble());
        let refusing = disk.as_ref().and_then(DiskTrouble::refusing).map(str::to_owned);
        let status = |cursor: &Arc<CursorState>| {
            let (settled_below, unsettled) = cursor.status(next);
            let oldest = (unsettled > 0)
                .then(|| log.approximate_stored_at(settled_below.0))
                .flatten();
            CursorStatus {
                name: cursor.name.clone(),
                owner: cursor.owner().map(str::to_owned),
                settled_below,
                unsettled,
                oldest,
            }
        };
        Depth {
            earliest: Offset(log.earliest()),
            next,
            unsettled: next.0.saturating_sub(log.low()),
            bytes: Some(log.bytes() + self.store.dead_letters.bytes()),
            cursors: log.cursors().iter().map(status).collect(),
            gaps: log.gaps(),
            refusing: refusing.or_else(|| log.refusing()),
            disk,
            slow: log.slow(),
        }
    }

    async fn close(&self) {
        let store = self.store.clone();
        let _ = spawn_blocking(move || {
            store.close();
            Ok(())
        })
        .await;
    }
}

impl Store {
    fn read(&self, from: Offset, max: usize) -> io::Result<Vec<Record>> {
        let (mut offset, mut bytes, mut page) = (from.0, 0, Vec::new());
        while offset < self.log.committed() && page.len() < max && bytes < PAGE_BYTES {
            // Reading one event must not read 4 MiB.
            let likely = (max - page.len())
                .saturating_mul(EVENT_BYTES_ESTIMATE)
                .max(READ_BYTES_MIN);
            let chunk = self.log.load(offset, likely.min(PAGE_BYTES - bytes))?;
            if self.log.has_unsaved_gaps() {
                self.changed();
            }
            offset = chunk.covers.end;
            for read in chunk.records.into_iter().take(max - page.len()) {
                bytes += read.event.size();
                let stored_at = clock::from_ms(read.stored_ms);
                page.push(Record {
                    offset: Offset(read.offset),
                    stored_at,
                    event: read.event,
                });
            }
        }
        Ok(page)
    }
}

/// Runs disk access on a thread that may block.
async fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ReadError::Unavailable(Box::new(error))),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, ReadError> {
    spawn_blocking(move || work().map_err(unavailable)).await
}

#[cfg(test)]
mod tests;
