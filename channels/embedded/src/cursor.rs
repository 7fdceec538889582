//! A cursor of the embedded channel: its progress, what of it is not saved yet, its holder's end, and its receipts.
//!
//! A cursor that keeps up takes decoded events from the tail. One that is behind loads stretches of the log for itself:
//! one ahead of it, and one for places that were released and come again.

use std::{
    ops::Range,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use channel::{
    Attempts, Cursor, CursorName, Delivery, Offset, ReadError, Seat, Settle, SettleError, Standing, Watermark,
    progress::{Holder, Progress},
};
use event::Event;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    clock,
    log::Chunk,
    state::{SavedCursor, put_created, put_owned, put_settled, put_tried},
    store::Store,
};

/// Sum of sizes one `next` hands out, and with it what a cursor that is behind holds beyond its stretches.
const PAGE_BYTES: usize = 4 << 20;
/// A stretch ahead: long enough that a wake-up of a reading thread is shared by hundreds of small events.
const AHEAD_BYTES: usize = 256 << 10;
/// A stretch for a place that comes again: its neighbours are likely to come again soon, the rest is not.
const AGAIN_BYTES: usize = 32 << 10;
/// Releases further ahead than this come back then: far beyond any backoff, and well inside what the clock can add.
const RELEASE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// The part of a cursor that outlives its holder.
pub(crate) struct Shared {
    pub(crate) name: CursorName,
    pub(crate) id: u32,
    owner: OnceLock<String>,
    store: Weak<Store>,
    state: Mutex<State>,
    /// A copy of the progress's own, read without its lock.
    settled_below: AtomicU64,
    pub(crate) seat: Seat,
}

struct State {
    progress: Progress<Instant>,
    /// Settled since the last save.
    settled: Vec<Offset>,
    /// Skipped since the last save: saved as a new lower end.
    skipped: bool,
    /// Tried since the last save.
    tried: Vec<Offset>,
}

impl Shared {
    pub(crate) fn new(store: Weak<Store>, id: u32, name: CursorName, start: Offset) -> Self {
        Self::with(store, id, name, Progress::new(start))
    }

    /// A cursor as it was saved.
    pub(crate) fn restore(store: Weak<Store>, id: u32, saved: SavedCursor) -> Self {
        let progress = Progress::restore(saved.settled, saved.attempts);
        let cursor = Self::with(store, id, CursorName::new(saved.name), progress);
        cursor.belongs_to(saved.owner.as_deref());
        cursor
    }

    fn with(store: Weak<Store>, id: u32, name: CursorName, progress: Progress<Instant>) -> Self {
        Self {
            name,
            id,
            owner: OnceLock::new(),
            store,
            settled_below: AtomicU64::new(progress.settled().settled_below().0),
            state: Mutex::new(State {
                progress,
                settled: Vec::new(),
                skipped: false,
                tried: Vec::new(),
            }),
            seat: Seat::default(),
        }
    }

    pub(crate) fn owner(&self) -> Option<&str> {
        self.owner.get().map(String::as_str)
    }

    /// One of nobody becomes the owner's: true then, and it is to be saved.
    pub(crate) fn belongs_to(&self, owner: Option<&str>) -> bool {
        owner.is_some_and(|owner| self.owner.set(owner.to_owned()).is_ok())
    }

    pub(crate) fn put_owner(&self, out: &mut Vec<u8>) {
        if let Some(owner) = self.owner() {
            put_owned(out, self.id, owner);
        }
    }

    pub(crate) fn settled_below(&self) -> Offset {
        Offset(self.settled_below.load(Ordering::Acquire))
    }

    /// What is settled, and how many places below `next` are not.
    pub(crate) fn status(&self, next: Offset) -> (Offset, u64) {
        let state = self.state.lock();
        (
            state.progress.settled().settled_below(),
            state.progress.settled().unsettled(next),
        )
    }

    pub(crate) fn standing(&self, place: Offset) -> Standing {
        self.state.lock().progress.standing(place)
    }

    /// Settles places that are gone.
    pub(crate) fn skip(&self, places: Range<Offset>) {
        let mut state = self.state.lock();
        state.skip(places);
        self.moved(&state);
        drop(state);
        self.seat.wake();
    }

    fn moved(&self, state: &State) {
        self.settled_below
            .store(state.progress.settled().settled_below().0, Ordering::Release);
    }

    pub(crate) fn changed(&self) {
        if let Some(store) = self.store.upgrade() {
            store.changed();
        }
    }

    /// Takes what changed since the last save.
    pub(crate) fn put_changes(&self, out: &mut Vec<u8>) {
        let mut state = self.state.lock();
        if !state.settled.is_empty() || state.skipped {
            let below = state.progress.settled().settled_below();
            let mut news = Watermark::new(below);
            for place in state.settled.drain(..).filter(|place| *place >= below) {
                news.settle(place);
            }
            put_settled(out, self.id, below, news.above());
            state.skipped = false;
        }
        let State { progress, tried, .. } = &mut *state;
        tried.sort_unstable();
        tried.dedup();
        for place in tried.drain(..) {
            if let Some(attempts) = progress.attempts().get(&place) {
                put_tried(out, self.id, place, attempts);
            }
        }
    }

    /// Everything about it, for a new file. What changed since the last save is saved once more with the next.
    pub(crate) fn put_state(&self, out: &mut Vec<u8>) {
        let state = self.state.lock();
        let settled = state.progress.settled();
        put_created(out, self.id, settled.settled_below(), self.name.as_str());
        self.put_owner(out);
        if settled.ranges() > 0 {
            put_settled(out, self.id, settled.settled_below(), settled.above());
        }
        for (place, attempts) in state.progress.attempts() {
            put_tried(out, self.id, *place, attempts);
        }
    }
}

impl State {
    fn skip(&mut self, places: Range<Offset>) {
        // Above the lower end a skipped place is saved like a settled one; it is found missing again otherwise.
        self.progress.skip(places);
        self.skipped = true;
    }
}

/// The holder of a cursor.
pub(crate) struct EmbeddedCursor {
    store: Arc<Store>,
    shared: Arc<Shared>,
    holder: Holder,
    ahead: Chunk,
    again: Chunk,
}

/// What a look at the log came to.
enum Taken {
    Some(Vec<Delivery>),
    /// Nothing: look again at this time, or when woken.
    None(Option<Instant>),
    /// The next place has to be read from disk; `true` when it was handed out before.
    Load(Offset, bool),
}

enum Found {
    Event(Event, u64),
    /// These places hold nothing any more.
    Gone(u64),
    NotLoaded,
}

impl EmbeddedCursor {
    pub(crate) fn new(store: Arc<Store>, shared: Arc<Shared>) -> Self {
        let holder = shared.state.lock().progress.take_over();
        Self {
            store,
            shared,
            holder,
            ahead: Chunk::default(),
            again: Chunk::default(),
        }
    }

    fn take(&self, max: usize) -> Taken {
        let committed = Offset(self.store.log.committed());
        let mut state = self.shared.state.lock();
        let (mut bytes, mut taken) = (0, Vec::new());
        while taken.len() < max && bytes < PAGE_BYTES {
            let position = state.progress.position();
            let Some(place) = state.progress.take(Instant::now, committed) else {
                break;
            };
            match self.find(place) {
                Found::Event(event, stored_ms) => {
                    bytes += event.size();
                    let receipt = Receipt {
                        shared: self.shared.clone(),
                        holder: self.holder,
                        place,
                    };
                    let attempts = state.progress.attempts_of(place);
                    taken.push(Delivery::new(
                        event,
                        place,
                        clock::from_ms(stored_ms),
                        attempts,
                        Box::new(receipt),
                    ));
                }
                Found::Gone(end) => {
                    state.skip(place..Offset(end));
                    self.shared.moved(&state);
                    self.shared.changed();
                }
                Found::NotLoaded => {
                    state.progress.put_back(place);
                    if taken.is_empty() {
                        return Taken::Load(place, place < position);
                    }
                    break;
                }
            }
        }
        if taken.is_empty() {
            Taken::None(state.progress.next_due())
        } else {
            Taken::Some(taken)
        }
    }

    fn find(&self, place: Offset) -> Found {
        let recent =
            |tail: &crate::tail::Tail| tail.get(place.0).map(|recent| (recent.event.clone(), recent.stored_ms));
        if let Some((event, stored_ms)) = self.store.log.recent(recent) {
            return Found::Event(event, stored_ms);
        }
        for chunk in [&self.ahead, &self.again] {
            if !chunk.covers.contains(&place.0) {
                continue;
            }
            if let Some(read) = chunk.get(place.0) {
                return Found::Event(read.event.clone(), read.stored_ms);
            }
            let after = chunk.records.partition_point(|read| read.place < place.0);
            return Found::Gone(chunk.records.get(after).map_or(chunk.covers.end, |read| read.place));
        }
        Found::NotLoaded
    }

    /// Cancel safe: what was read is kept or read again, and nothing is handed out.
    async fn load(&mut self, place: Offset, again: bool) -> Result<(), ReadError> {
        let log = self.store.log.clone();
        let bytes = if again { AGAIN_BYTES } else { AHEAD_BYTES };
        let chunk = crate::blocking(move || {
            // Retention deletes what every cursor settled; what this one has not was lost in another way.
            log.missing(place.0..log.earliest());
            log.load(place.0, bytes)
        })
        .await?;
        if self.store.log.has_unsaved_gaps() {
            self.store.changed();
        }
        *(if again { &mut self.again } else { &mut self.ahead }) = chunk;
        Ok(())
    }
}

#[async_trait]
impl Cursor for EmbeddedCursor {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, ReadError> {
        loop {
            if self.shared.seat.has_ended() {
                return Err(ReadError::Closed);
            }
            match self.take(max.max(1)) {
                Taken::Some(taken) => return Ok(taken),
                Taken::Load(place, again) => self.load(place, again).await?,
                Taken::None(look_again) => {
                    // Nothing is behind: what was read from disk is not needed any more.
                    (self.ahead, self.again) = (Chunk::default(), Chunk::default());
                    self.shared.seat.woken(look_again).await;
                }
            }
        }
    }
}

impl Drop for EmbeddedCursor {
    fn drop(&mut self) {
        self.shared.seat.leave();
    }
}

struct Receipt {
    shared: Arc<Shared>,
    holder: Holder,
    place: Offset,
}

impl Settle for Receipt {
    fn ack(self: Box<Self>) -> Result<(), SettleError> {
        if self.shared.seat.has_ended() {
            return Err(SettleError);
        }
        let mut state = self.shared.state.lock();
        if state.progress.settle(self.place) {
            self.shared.moved(&state);
        }
        state.settled.push(self.place);
        drop(state);
        self.shared.changed();
        Ok(())
    }

    fn release(self: Box<Self>, after: Duration) {
        let due = (!after.is_zero()).then(|| Instant::now() + after.min(RELEASE_MAX));
        if self.shared.state.lock().progress.release(self.holder, self.place, due) {
            self.shared.seat.wake();
        }
    }

    fn remember(&mut self, attempts: Attempts) {
        let mut state = self.shared.state.lock();
        if state.progress.remember(self.place, attempts) {
            state.tried.push(self.place);
            drop(state);
            self.shared.changed();
        }
    }
}
