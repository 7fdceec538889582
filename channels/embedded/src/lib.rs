//! A channel on local disk: an own segmented log, synced before anything is acknowledged.
//!
//! It promises `Disk`: once an append returns, the events survive `kill -9` and a power cut. What cursors settled and
//! how often an event was tried survive too, up to a few milliseconds of a killed process. Settled events are kept for
//! replay as long as the retention says; letters until somebody removes them.
//!
//! The parts, from the outside in: a [`DataFolder`] is held by one process and has the threads; a channel is a log
//! (log.rs) with a state file beside it (state.rs), kept in step by store.rs; a log is segments (segment.rs) of records
//! (format.rs), found by index.rs, read back by frames.rs and, after a crash, by recovery.rs. Every touch of the disk goes through
//! storage.rs; headroom.rs keeps room for what must be written on a full disk. docs/embedded-format.md describes the
//! files, and inspect.rs reads them from outside.

mod clock;
mod committers;
mod cursor;
mod dedup;
mod folder;
mod format;
mod frames;
mod headroom;
mod index;
pub mod inspect;
mod letters;
mod log;
mod name;
mod recovery;
mod retention;
mod segment;
mod state;
mod stats;
mod storage;
mod store;
mod syncs;
mod tail;
mod upkeep;

use std::{io, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use channel::{
    AppendError, Channel, Cursor, CursorName, CursorStatus, Depth, Durability, Gap, Letters, Offset, Promises,
    ReadError, Record, Standing, Start, Stored,
};
use event::Event;

use crate::{
    cursor::EmbeddedCursor,
    store::{Store, unavailable},
};
pub use crate::{
    folder::{DataFolder, OpenError},
    stats::{SLOW_SYNC, SYNC_BUCKETS_SECONDS, Stats},
};

/// Bytes one [`Channel::read`] returns at most.
const PAGE_BYTES: usize = 4 << 20;
/// What is read at once for it: as much as so many events of this size have, and never less than a stretch between two marks.
const LIKELY_BYTES: usize = 1 << 10;
const LOOK_BYTES: usize = 64 << 10;

/// How a channel keeps its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest event taken, in bytes of attributes and data together; at most [`Settings::EVENT_BYTES_MAX`].
    pub max_event_bytes: usize,
    /// How long what every subscription settled is kept for replay.
    pub retention_age: Duration,
    /// How many bytes are kept for replay.
    pub retention_bytes: u64,
    /// Drops what is older although it is unsettled; the gap is recorded.
    pub limit_age: Option<Duration>,
    /// Drops the oldest of what is unsettled beyond so many bytes; the gap is recorded.
    pub limit_bytes: Option<u64>,
    /// A repeat of an event (same `source` and `id`) stored no longer ago than this is not stored again.
    pub dedup: Option<Duration>,
    /// Bytes of one segment file: what is deleted at once, and the most a recovery without a checkpoint reads.
    pub segment_bytes: u64,
}

impl Settings {
    /// The limit of CONTRACT IN-3.
    pub const EVENT_BYTES_MAX: usize = 32 << 20;
    /// A size limit is kept to about an eighth, so segments are at most that large; smaller than this they only cost.
    const SEGMENT_BYTES_MIN: u64 = 256 << 10;

    fn bounded(mut self) -> Self {
        self.max_event_bytes = self.max_event_bytes.min(Self::EVENT_BYTES_MAX);
        self
    }

    fn effective_segment_bytes(&self) -> u64 {
        let limit = self.limit_bytes.unwrap_or(u64::MAX).min(self.retention_bytes);
        self.segment_bytes.min((limit / 8).max(Self::SEGMENT_BYTES_MIN))
    }
}

impl Default for Settings {
    /// As API.md says: a day and 1 GiB for replay, no limit on what is unsettled; 64 MiB a segment.
    fn default() -> Self {
        Self {
            max_event_bytes: Self::EVENT_BYTES_MAX,
            retention_age: Duration::from_secs(24 * 3600),
            retention_bytes: 1 << 30,
            limit_age: None,
            limit_bytes: None,
            dedup: None,
            segment_bytes: 64 << 20,
        }
    }
}

/// A channel on local disk.
///
/// Dropped without [`Channel::close`], it loses nothing that was acknowledged to it, but the last few milliseconds of
/// settlements.
pub struct EmbeddedChannel {
    store: Arc<Store>,
}

impl EmbeddedChannel {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Changes the settings of a channel in use. Blocks where a dedup window is new or longer: what it is to know is read.
    pub fn configure(&self, settings: Settings) {
        let settings = settings.bounded();
        self.store.log.set_segment_bytes(settings.effective_segment_bytes());
        self.store.log.dedup(settings.dedup);
        *self.store.settings.lock() = settings;
    }

    /// Places whose events are gone although not everybody had settled them, oldest first.
    pub fn gaps(&self) -> Vec<Gap> {
        self.store.log.gaps()
    }

    /// After [`Channel::close`]; its folder may be opened again.
    pub fn is_closed(&self) -> bool {
        self.store.log.is_closed()
    }

    /// What the channel counted since it was opened.
    pub fn stats(&self) -> Stats {
        self.store.log.stats()
    }

    /// Applies retention and limits now instead of within seconds. Blocks.
    ///
    /// # Errors
    /// When segments cannot be deleted, or a gap cannot be recorded.
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

    async fn forget(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError> {
        let (store, name, owner) = (self.store.clone(), name.clone(), owner.map(str::to_owned));
        spawn_blocking(move || store.forget(&name, owner.as_deref())).await
    }

    async fn read(&self, from: Offset, max: usize) -> Result<Vec<Record>, ReadError> {
        if self.store.log.is_closed() {
            return Err(ReadError::Closed);
        }
        let store = self.store.clone();
        blocking(move || store.read(from, max)).await
    }

    async fn stretches(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError> {
        if self.store.log.is_closed() {
            return Err(ReadError::Closed);
        }
        let store = self.store.clone();
        let begin = blocking(move || store.place(start)).await?;
        let end = self.store.log.committed();
        Ok(vec![Offset(begin)..Offset(end.max(begin))])
    }

    fn standing(&self, cursor: &CursorName, place: Offset) -> Option<Standing> {
        Some(self.store.existing(cursor)?.standing(place))
    }

    async fn grown(&self, from: Offset) {
        self.store.log.grown(from.0).await;
    }

    fn letters(&self) -> &dyn Letters {
        &self.store.letters
    }

    fn depth(&self) -> Depth {
        let log = &self.store.log;
        let next = Offset(log.committed());
        let status = |cursor: &Arc<cursor::Shared>| {
            let (settled_below, unsettled) = cursor.status(next);
            let oldest = (unsettled > 0).then(|| log.stored_about(settled_below.0)).flatten();
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
            bytes: Some(log.bytes() + self.store.letters.bytes()),
            cursors: log.cursors().iter().map(status).collect(),
            gaps: log.gaps(),
            refusing: log.refusing(),
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
        let (mut place, mut bytes, mut page) = (from.0, 0, Vec::new());
        while place < self.log.committed() && page.len() < max && bytes < PAGE_BYTES {
            // A look at one event must not read four MiB for it.
            let likely = (max - page.len()).saturating_mul(LIKELY_BYTES).max(LOOK_BYTES);
            let chunk = self.log.load(place, likely.min(PAGE_BYTES - bytes))?;
            if self.log.has_unsaved_gaps() {
                self.changed();
            }
            place = chunk.covers.end;
            for read in chunk.records.into_iter().take(max - page.len()) {
                bytes += read.event.size();
                let stored_at = clock::from_ms(read.stored_ms);
                page.push(Record {
                    offset: Offset(read.place),
                    stored_at,
                    event: read.event,
                });
            }
        }
        Ok(page)
    }
}

/// Runs something that touches the disk where it may block.
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
