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
use event::Event;
use parking_lot::Mutex;

use crate::{
    AppendError, Channel, Cursor, CursorName, Delivery, Depth, Letter, Letters, Offset, Promises, ReadError, Record,
    Standing, Start, Stored,
};

/// What a scripted append answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Full,
    DiskFull,
    /// Fails without having stored anything.
    Unavailable,
    /// Stores, and then says it could not tell: the case [`Channel::append`] allows.
    StoredButUnavailable,
    Closed,
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
    letters: FaultyLetters,
    reads: Script,
    replays: AtomicBool,
}

impl FaultyChannel {
    /// Wraps a channel; nothing fails until told to.
    pub fn new(inner: Arc<dyn Channel>) -> Self {
        let letters = FaultyLetters {
            inner: inner.clone(),
            script: Script::default(),
        };
        Self {
            inner,
            appends: Script::default(),
            letters,
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

    /// Adds to the script of `letters().store`.
    pub fn fail_letters(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        extend(&self.letters.script, faults);
    }

    /// The next `count` calls of `Cursor::next`, by whichever cursor, fail with `Unavailable`.
    pub fn fail_reads(&self, count: usize) {
        extend(&self.reads, std::iter::repeat_n(Some(Fault::Unavailable), count));
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

    async fn forget(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError> {
        self.inner.forget(name, owner).await
    }

    async fn read(&self, from: Offset, max: usize) -> Result<Vec<Record>, ReadError> {
        self.inner.read(from, max).await
    }

    async fn stretches(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError> {
        self.inner.stretches(start).await
    }

    fn standing(&self, cursor: &CursorName, place: Offset) -> Option<Standing> {
        self.inner.standing(cursor, place)
    }

    async fn grown(&self, from: Offset) {
        self.inner.grown(from).await;
    }

    fn letters(&self) -> &dyn Letters {
        &self.letters
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
            Some(_) => Err(ReadError::Unavailable(io::Error::other("scripted fault").into())),
        }
    }
}

struct FaultyLetters {
    inner: Arc<dyn Channel>,
    script: Script,
}

#[async_trait]
impl Letters for FaultyLetters {
    async fn store(&self, letter: &Event) -> Result<Stored, AppendError> {
        match take(&self.script) {
            None => self.inner.letters().store(letter).await,
            Some(fault) => {
                if fault == Fault::StoredButUnavailable {
                    let _ = self.inner.letters().store(letter).await?;
                }
                Err(fault.error())
            }
        }
    }

    async fn list(&self, from: Offset, max: usize) -> Result<Vec<Letter>, ReadError> {
        self.inner.letters().list(from, max).await
    }

    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError> {
        self.inner.letters().remove(offsets).await
    }

    fn count(&self) -> u64 {
        self.inner.letters().count()
    }
}
