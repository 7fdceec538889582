//! A channel that fails when told to: for tests of what stands on top of a channel.
//!
//! It wraps a real one and consults a script first: each append, letter or read takes the next entry of its own list.
//! `None`, and the end of the list, mean that the call goes through. Everything else is passed on untouched.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use event::Event;
use parking_lot::Mutex;

use crate::{
    AppendError, Channel, Cursor, CursorName, DeadLetterLog, Delivery, Depth, Offset, Promises, ReadError, Record,
    SettlementState, Start, Stored, StoredDeadLetter, Watch,
};

/// The answer of a scripted append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Full,
    DiskFull,
    /// Fails without having stored anything.
    Unavailable,
    /// Stores, and then says it could not tell: the case [`Channel::append`] allows.
    StoredButUnavailable,
    Closed,
    /// No other try will help.
    TooLarge,
}

/// The retry hint of every scripted refusal.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Fault {
    fn error(self) -> AppendError {
        match self {
            Self::Full => AppendError::Full {
                retry_after: RETRY_AFTER,
            },
            Self::DiskFull => AppendError::DiskFull {
                retry_after: RETRY_AFTER,
            },
            Self::Unavailable | Self::StoredButUnavailable => AppendError::Unavailable {
                retry_after: RETRY_AFTER,
                source: io::Error::other("scripted fault").into(),
            },
            Self::Closed => AppendError::Closed,
            Self::TooLarge => AppendError::TooLarge { bytes: 1, limit: 0 },
        }
    }
}

type Script = Arc<Mutex<VecDeque<Option<Fault>>>>;

fn take(script: &Script) -> Option<Fault> {
    script.lock().pop_front().flatten()
}

fn extend(script: &Script, faults: impl IntoIterator<Item = Option<Fault>>) {
    script.lock().extend(faults);
}

/// A channel that fails by script.
pub struct FaultyChannel {
    inner: Arc<dyn Channel>,
    appends: Script,
    dead_letters: FaultyDeadLetters,
    reads: Script,
    replays: AtomicBool,
}

impl FaultyChannel {
    /// Wraps a channel; nothing fails until told to.
    pub fn new(inner: Arc<dyn Channel>) -> Self {
        let dead_letters = FaultyDeadLetters {
            inner: inner.clone(),
            script: Script::default(),
        };
        Self {
            inner,
            appends: Script::default(),
            dead_letters,
            reads: Script::default(),
            replays: AtomicBool::new(false),
        }
    }

    /// From now on it promises replay: of what another cursor still holds, where the channel itself keeps nothing else.
    pub fn promise_replay(&self) {
        self.replays.store(true, Ordering::Relaxed);
    }

    /// Adds to the script of `append`.
    pub fn fail_appends(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        extend(&self.appends, faults);
    }

    /// Adds to the script of `dead_letters().store`.
    pub fn fail_dead_letters(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        extend(&self.dead_letters.script, faults);
    }

    /// The next `count` calls of `Cursor::next`, by whichever cursor, fail with `Unavailable`.
    pub fn fail_reads(&self, count: usize) {
        extend(&self.reads, std::iter::repeat_n(Some(Fault::Unavailable), count));
    }

    /// The next `count` calls of `Cursor::next` fail with `Closed` although the channel is open: as when a task that serves a
    /// cursor has died.
    pub fn end_reads(&self, count: usize) {
        extend(&self.reads, std::iter::repeat_n(Some(Fault::Closed), count));
    }
}

#[async_trait]
impl Channel for FaultyChannel {
    fn promises(&self) -> Promises {
        let promises = self.inner.promises();
        Promises {
            replay: promises.replay || self.replays.load(Ordering::Relaxed),
            ..promises
        }
    }

    async fn append(&self, events: &[Event]) -> Result<Stored, AppendError> {
        match take(&self.appends) {
            None => self.inner.append(events).await,
            Some(fault) => {
                if fault == Fault::StoredButUnavailable {
                    let _ = self.inner.append(events).await?;
                }
                Err(fault.error())
            }
        }
    }

    async fn subscribe(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<Box<dyn Cursor>, ReadError> {
        let inner = self.inner.subscribe(name, owner, start).await?;
        Ok(Box::new(FaultyCursor {
            inner,
            script: self.reads.clone(),
        }))
    }

    async fn delete(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError> {
        self.inner.delete(name, owner).await
    }

    async fn read(&self, from: Offset, max: usize) -> Result<Vec<Record>, ReadError> {
        self.inner.read(from, max).await
    }

    async fn ranges(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError> {
        self.inner.ranges(start).await
    }

    fn settlement_state(&self, cursor: &CursorName, offset: Offset) -> Option<SettlementState> {
        self.inner.settlement_state(cursor, offset)
    }

    async fn grown(&self, from: Offset) {
        self.inner.grown(from).await;
    }

    fn watch(&self) -> Option<Box<dyn Watch>> {
        self.inner.watch()
    }

    fn dead_letters(&self) -> &dyn DeadLetterLog {
        &self.dead_letters
    }

    fn depth(&self) -> Depth {
        self.inner.depth()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

struct FaultyCursor {
    inner: Box<dyn Cursor>,
    script: Script,
}

#[async_trait]
impl Cursor for FaultyCursor {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, ReadError> {
        match take(&self.script) {
            None => self.inner.next(max).await,
            Some(Fault::Closed) => Err(ReadError::Closed),
            Some(_) => Err(ReadError::Unavailable(io::Error::other("scripted fault").into())),
        }
    }
}

struct FaultyDeadLetters {
    inner: Arc<dyn Channel>,
    script: Script,
}

#[async_trait]
impl DeadLetterLog for FaultyDeadLetters {
    async fn store(&self, event: &Event, facts: &Bytes) -> Result<Stored, AppendError> {
        match take(&self.script) {
            None => self.inner.dead_letters().store(event, facts).await,
            Some(fault) => {
                if fault == Fault::StoredButUnavailable {
                    let _ = self.inner.dead_letters().store(event, facts).await?;
                }
                Err(fault.error())
            }
        }
    }

    async fn list(&self, from: Offset, max: usize) -> Result<Vec<StoredDeadLetter>, ReadError> {
        self.inner.dead_letters().list(from, max).await
    }

    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError> {
        self.inner.dead_letters().remove(offsets).await
    }

    async fn end(&self) -> Result<Offset, ReadError> {
        self.inner.dead_letters().end().await
    }

    fn count(&self) -> u64 {
        self.inner.dead_letters().count()
    }
}
