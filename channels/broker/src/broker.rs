//! The channel around a broker: what the data plane calls.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use channel::{
    AppendError, Channel, Cursor, CursorName, CursorStatus, DeadLetterLog, Depth, Gap, Offset, Promises, ReadError,
    Record, SettlementState, Start, Stored, supervised,
};
use event::Event;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

use crate::{
    Page,
    cursor::{BrokerCursor, Held},
    member::{OpenCursor, Stop},
};

/// The operations that differ between kinds of brokers. No method but [`Self::finish`] and [`Self::release`] is called
/// after the channel was closed. Cancel safety is that of the [`Channel`] method that calls it.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    type Cursor: BrokerCursor;

    fn state(&self) -> &ChannelState<Self::Cursor>;

    /// The topic or stream, for log lines.
    fn name(&self) -> &str;

    /// See [`Channel::promises`].
    fn promises(&self) -> Promises;

    /// Appends the events, which are not empty and none larger than the limit. Returns the offset of the last one.
    async fn append(&self, events: &[Event]) -> Result<Offset, AppendError>;

    /// Opens a cursor, creating it if it does not exist. `current` is the one that is open under its name: it is returned when
    /// it serves the owner and runs, and ended otherwise. Called for one cursor at a time.
    async fn open(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
        current: Option<Arc<OpenCursor<Self::Cursor>>>,
    ) -> Result<Arc<OpenCursor<Self::Cursor>>, ReadError>;

    /// Deletes the owner's cursor. `current` is the one that is open under its name. Called for one cursor at a time.
    async fn delete(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        current: Option<Arc<OpenCursor<Self::Cursor>>>,
    ) -> Result<(), ReadError>;

    /// Fills a page with the events from `from` on.
    async fn read(&self, from: Offset, page: Page<Record>) -> Result<Page<Record>, ReadError>;

    /// See [`Channel::ranges`].
    async fn ranges(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError>;

    /// See [`Channel::settlement_state`].
    fn settlement_state(&self, cursor: &Self::Cursor, offset: Offset) -> Option<SettlementState>;

    /// Whether an event at or after `from` may be readable.
    fn reaches(&self, from: Offset) -> bool;

    /// See [`Channel::dead_letters`].
    fn dead_letters(&self) -> &dyn DeadLetterLog;

    /// See [`Channel::findings`].
    fn findings(&self) -> Vec<String>;

    /// See [`Channel::held_back`].
    fn held_back(&self) -> Option<String> {
        None
    }

    /// The offset of the oldest event, and the one that the next event gets.
    fn extent(&self) -> Range<Offset>;

    /// See [`Depth::bytes`].
    fn bytes(&self) -> Option<u64> {
        None
    }

    /// See [`Depth::refusing`].
    fn refusing(&self) -> Option<String>;

    /// The status of every cursor of the channel, those without a member in this process included.
    fn cursors(&self) -> Vec<CursorStatus>;

    /// Waits for what was begun, when the channel is closed and its cursors ended.
    async fn finish(&self) {}

    /// Gives up what the channel uses of a shared connection. Called once, when the channel is closed or dropped; must not
    /// block.
    fn release(&self);
}

/// Whether something is open or was closed.
#[derive(Debug, Default)]
pub struct OpenGate(AtomicBool);

impl OpenGate {
    /// Closes it. Returns whether it was open.
    pub fn close(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }

    /// Whether the channel was closed.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// # Errors
    /// [`ReadError::Closed`] once it is closed.
    pub fn readable(&self) -> Result<(), ReadError> {
        if self.is_closed() {
            Err(ReadError::Closed)
        } else {
            Ok(())
        }
    }

    /// # Errors
    /// [`AppendError::Closed`] once it is closed.
    pub fn writable(&self) -> Result<(), AppendError> {
        if self.is_closed() {
            Err(AppendError::Closed)
        } else {
            Ok(())
        }
    }
}

/// State of a channel that does not depend on the broker.
pub struct ChannelState<C> {
    gate: OpenGate,
    open: Mutex<BTreeMap<CursorName, Arc<OpenCursor<C>>>>,
    /// Held while a cursor is opened or deleted.
    registering: tokio::sync::Mutex<()>,
    grown: Notify,
    watchers: AtomicUsize,
    max_event_bytes: AtomicUsize,
}

impl<C: BrokerCursor> ChannelState<C> {
    /// An open channel without cursors.
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            gate: OpenGate::default(),
            open: Mutex::default(),
            registering: tokio::sync::Mutex::default(),
            grown: Notify::new(),
            watchers: AtomicUsize::new(0),
            max_event_bytes: AtomicUsize::new(max_event_bytes),
        }
    }

    /// The cursors that have a member in this process.
    pub fn open_cursors(&self) -> Vec<Arc<OpenCursor<C>>> {
        self.open.lock().values().cloned().collect()
    }

    /// The one of that name.
    pub fn open_cursor(&self, name: &CursorName) -> Option<Arc<OpenCursor<C>>> {
        self.open.lock().get(name).cloned()
    }

    /// Ends a cursor that is deleted.
    pub async fn end_deleted(&self, cursor: &OpenCursor<C>) {
        self.open.lock().remove(&cursor.cursor.core().name);
        cursor.end(Stop::AtOnce).await;
    }

    /// Wakes those who wait for the channel to grow.
    pub fn notify_grown(&self) {
        self.grown.notify_waiters();
    }

    /// Whether any caller waits for the channel to grow.
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::SeqCst) > 0
    }

    /// Size of the largest event that is accepted, bytes.
    pub fn max_event_bytes(&self) -> usize {
        self.max_event_bytes.load(Ordering::Relaxed)
    }

    /// Changes the size of the largest event that is accepted, bytes.
    pub fn set_max_event_bytes(&self, limit: usize) {
        self.max_event_bytes.store(limit, Ordering::Relaxed);
    }
}

/// A channel on a broker.
pub struct BrokerChannel<B: Broker> {
    broker: Arc<B>,
    tasks: Vec<JoinHandle<()>>,
}

impl<B: Broker> BrokerChannel<B> {
    /// Opens the channel around a broker that is ready.
    pub fn new(broker: B) -> Self {
        Self {
            broker: Arc::new(broker),
            tasks: Vec::new(),
        }
    }

    /// Runs a loop until the channel is closed or dropped. A loop that panics is started again.
    #[must_use]
    pub fn with_loop<F>(mut self, task: &'static str, run: impl Fn(Arc<B>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let broker = self.broker.clone();
        let work = supervised::until_done(task, self.broker.name().to_owned(), move || run(broker.clone()));
        self.tasks.push(tokio::spawn(work));
        self
    }

    /// The broker, for what is configured while the channel is in use.
    pub fn broker(&self) -> &B {
        &self.broker
    }

    /// Whether [`Channel::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.broker.state().gate.is_closed()
    }
}

#[async_trait]
impl<B: Broker> Channel for BrokerChannel<B> {
    fn promises(&self) -> Promises {
        self.broker.promises()
    }

    async fn append(&self, events: &[Event]) -> Result<Stored, AppendError> {
        let state = self.broker.state();
        state.gate.writable()?;
        let limit = state.max_event_bytes();
        if let Some(large) = events.iter().find(|event| event.size() > limit) {
            return Err(AppendError::TooLarge {
                bytes: large.size(),
                limit,
            });
        }
        let last = if events.is_empty() {
            Offset(0)
        } else {
            self.broker.append(events).await?
        };
        Ok(Stored::at(self.broker.promises().durability, last))
    }

    async fn subscribe(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<Box<dyn Cursor>, ReadError> {
        let state = self.broker.state();
        let _alone = state.registering.lock().await;
        state.gate.readable()?;
        let open = self.broker.open(name, owner, start, state.open_cursor(name)).await?;
        state.open.lock().insert(name.clone(), open.clone());
        match Held::new(&open.cursor) {
            Some(held) => Ok(Box::new(held)),
            None => Err(ReadError::InUse { name: name.to_string() }),
        }
    }

    async fn delete(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError> {
        let state = self.broker.state();
        let _alone = state.registering.lock().await;
        state.gate.readable()?;
        let current = state.open_cursor(name);
        self.broker.delete(name, owner, current).await
    }

    async fn read(&self, from: Offset, max: usize) -> Result<Vec<Record>, ReadError> {
        self.broker.state().gate.readable()?;
        Ok(self.broker.read(from, Page::new(max)).await?.into_items())
    }

    async fn ranges(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError> {
        self.broker.state().gate.readable()?;
        self.broker.ranges(start).await
    }

    fn settlement_state(&self, cursor: &CursorName, offset: Offset) -> Option<SettlementState> {
        let open = self.broker.state().open_cursor(cursor)?;
        self.broker.settlement_state(&open.cursor, offset)
    }

    async fn grown(&self, from: Offset) {
        let state = self.broker.state();
        state.watchers.fetch_add(1, Ordering::SeqCst);
        let _watching = supervised::at_end(|| {
            state.watchers.fetch_sub(1, Ordering::SeqCst);
        });
        loop {
            let grown = state.grown.notified();
            if self.broker.reaches(from) || state.gate.is_closed() {
                return;
            }
            grown.await;
        }
    }

    fn dead_letters(&self) -> &dyn DeadLetterLog {
        self.broker.dead_letters()
    }

    fn findings(&self) -> Vec<String> {
        self.broker.findings()
    }

    fn held_back(&self) -> Option<String> {
        self.broker.held_back()
    }

    fn depth(&self) -> Depth {
        let (extent, cursors) = (self.broker.extent(), self.broker.cursors());
        let open = self.broker.state().open_cursors();
        let mut gaps: Vec<Gap> = open.iter().flat_map(|open| open.cursor.core().gaps()).collect();
        gaps.sort_by_key(|gap| gap.found_at);
        Depth {
            earliest: extent.start,
            next: extent.end,
            unsettled: cursors.iter().map(|cursor| cursor.unsettled).max().unwrap_or(0),
            bytes: self.broker.bytes(),
            cursors,
            gaps,
            refusing: self.broker.refusing(),
            disk: None,
            slow: None,
        }
    }

    async fn close(&self) {
        let state = self.broker.state();
        if !state.gate.close() {
            return;
        }
        state.notify_grown();
        for task in &self.tasks {
            task.abort();
        }
        let open = std::mem::take(&mut *state.open.lock());
        // Side by side: each waits for servers.
        let mut ending: JoinSet<()> = open
            .into_values()
            .map(|open| async move { open.end(Stop::Cleanly).await })
            .collect();
        while ending.join_next().await.is_some() {}
        self.broker.finish().await;
        self.broker.release();
    }
}

/// Saves nothing that was not saved: a caller that wants a clean end closes the channel first.
impl<B: Broker> Drop for BrokerChannel<B> {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        let state = self.broker.state();
        for open in state.open.lock().values() {
            open.abandon();
        }
        if !state.gate.is_closed() {
            self.broker.release();
        }
    }
}
