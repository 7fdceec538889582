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
    log::{Found, Log, LogError, Opening},
    state::{Checkpoint, Saved, StateFile, StateFound, put_checkpoint, put_created, put_gap, put_settled},
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
    saved: Option<Checkpoint>,
}

impl LetterLog {
    /// Opens the letters of a channel; nothing is created before the first one. Blocks.
    pub(crate) fn open(opening: Opening) -> Result<(Self, Found, StateFound), LogError> {
        let (file, saved, state_found) =
            StateFile::open(opening.storage.clone(), opening.headroom.clone(), &opening.dir)?;
        let Saved {
            mut cursors,
            mut orphans,
            gaps,
            checkpoint,
            ..
        } = saved;
        let removed = cursors.remove(&ID).map(|cursor| cursor.settled);
        let removed = removed.or_else(|| orphans.remove(&ID)).unwrap_or_default();
        let (log, found) = Opening {
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
        });
        let inner = Arc::new(Inner {
            log: Arc::new(log),
            state,
        });
        Ok((Self { inner }, found, state_found))
    }

    /// Saves how far the log is good, and gaps that were found. Blocks.
    pub(crate) fn keep(&self) {
        let inner = &self.inner;
        if inner.log.committed() == 0 {
            return;
        }
        let mut state = inner.state.lock();
        if state.saved == Some(inner.log.checkpoint()) && !inner.log.has_unsaved_gaps() {
            return;
        }
        if let Err(error) = inner.save(&mut state, &[]) {
            tracing::debug!(path = %inner.log.dir().display(), %error, "letters' state cannot be saved");
        }
    }

    /// Closes files that nothing is written to.
    pub(crate) fn rest(&self) {
        self.inner.log.rest_writer();
        self.inner.state.lock().file.rest();
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
        let State { file, removed, saved } = state;
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

    /// Letters that nobody removed and that cannot be read back.
    fn missing(&self, removed: &Watermark) -> u64 {
        let places = |gap: &channel::Gap| {
            (gap.from.0..gap.to.0)
                .filter(|place| !removed.is_settled(Offset(*place)))
                .count()
        };
        self.log.gaps().iter().map(|gap| places(gap) as u64).sum()
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
        let letters = self.clone();
        crate::blocking(move || {
            let page = letters.inner.list(from, max);
            if letters.inner.log.has_unsaved_gaps() {
                letters.keep();
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
}
