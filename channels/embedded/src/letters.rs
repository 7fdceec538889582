//! The dead-letter log of an embedded channel: a second log beside the first, and the set of removed letters.
//!
//! Retention never touches it: a segment goes when every letter in it was removed by somebody.

use std::{io, sync::Arc};

use async_trait::async_trait;
use channel::{AppendError, Durability, Letter, Letters, Offset, ReadError, Stored, Watermark};
use event::Event;
use parking_lot::Mutex;

use crate::{
    clock,
    log::{Log, Opening},
    state::{Saved, StateFile, put_checkpoint, put_created, put_gap, put_settled},
};

/// The removed set is stored as the settled places of the only cursor.
const ID: u32 = 0;
/// Bytes one page holds at most.
const PAGE_BYTES: usize = 4 << 20;

#[derive(Clone)]
pub(crate) struct LetterLog {
    inner: Arc<Inner>,
}

struct Inner {
    log: Arc<Log>,
    state: Mutex<State>,
}

struct State {
    file: StateFile,
    removed: Watermark,
}

impl LetterLog {
    /// Opens the letters of a channel; nothing is created before the first one. Blocks.
    pub(crate) fn open(opening: Opening) -> Result<Self, crate::log::LogError> {
        let (file, saved) = StateFile::open(opening.storage.clone(), &opening.dir)?;
        let Saved {
            mut cursors,
            gaps,
            checkpoint,
        } = saved;
        let removed = cursors
            .remove(&ID)
            .map_or_else(Watermark::default, |cursor| cursor.settled);
        let log = Opening {
            checkpoint,
            gaps,
            floor: removed.top().0,
            ..opening
        }
        .open()?;
        let state = Mutex::new(State { file, removed });
        Ok(Self {
            inner: Arc::new(Inner {
                log: Arc::new(log),
                state,
            }),
        })
    }

    /// Blocks.
    pub(crate) fn close(&self) {
        self.inner.log.close();
        let mut state = self.inner.state.lock();
        if self.inner.log.committed() > 0
            && let Err(error) = self.inner.save(&mut state, &[])
        {
            tracing::warn!(path = %self.inner.log.dir().display(), %error, "letters' state cannot be saved");
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
        let State { file, removed } = state;
        let mut changes = changes.to_vec();
        let checkpoint = self.log.checkpoint();
        if let Some(checkpoint) = &checkpoint {
            put_checkpoint(&mut changes, checkpoint);
        }
        file.save(&changes, |out| {
            put_created(out, ID, removed.settled_below(), "removed");
            put_settled(out, ID, removed.settled_below(), removed.above());
            for gap in self.log.gaps() {
                put_gap(out, &gap);
            }
            if let Some(checkpoint) = &checkpoint {
                put_checkpoint(out, checkpoint);
            }
        })?;
        file.sync()
    }

    fn list(&self, from: Offset, max: usize) -> io::Result<Vec<Letter>> {
        let removed = self.state.lock().removed.clone();
        let (mut place, mut bytes, mut page) = (removed.next_unsettled(from), 0, Vec::new());
        while place.0 < self.log.committed() && page.len() < max && bytes < PAGE_BYTES {
            let chunk = self.log.load(place.0, PAGE_BYTES - bytes)?;
            let next = Offset(chunk.covers.end);
            for read in chunk.records {
                let offset = Offset(read.place);
                if page.len() < max && bytes < PAGE_BYTES && !removed.is_settled(offset) {
                    bytes += read.event.size();
                    page.push(Letter {
                        offset,
                        stored_at: clock::from_ms(read.stored_ms),
                        event: read.event,
                    });
                }
            }
            place = removed.next_unsettled(next);
        }
        Ok(page)
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
        let sealed = self.log.sealed();
        let doomed: Vec<_> = sealed
            .into_iter()
            .take_while(|(_, end)| *end <= below)
            .map(|(segment, _)| segment)
            .collect();
        self.log.unlink(&doomed)?;
        Ok(count)
    }

    fn is_missing(&self, place: Offset) -> bool {
        self.log.gaps().iter().any(|gap| gap.from <= place && place < gap.to)
    }
}

#[async_trait]
impl Letters for LetterLog {
    async fn store(&self, letter: &Event) -> Result<Stored, AppendError> {
        let last = self.inner.log.append(std::slice::from_ref(letter)).await?;
        Ok(Stored::at(Durability::Disk, Offset(last)))
    }

    async fn list(&self, from: Offset, max: usize) -> Result<Vec<Letter>, ReadError> {
        self.ensure_open()?;
        let inner = self.inner.clone();
        crate::blocking(move || inner.list(from, max)).await
    }

    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError> {
        self.ensure_open()?;
        let (inner, offsets) = (self.inner.clone(), offsets.to_vec());
        crate::blocking(move || inner.remove(&offsets)).await
    }

    fn count(&self) -> u64 {
        let state = self.inner.state.lock();
        let missing: u64 = self.inner.log.gaps().iter().map(|gap| gap.to.0 - gap.from.0).sum();
        state
            .removed
            .unsettled(Offset(self.inner.log.committed()))
            .saturating_sub(missing)
    }
}
