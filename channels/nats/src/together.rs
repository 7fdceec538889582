//! Appends that come while others are under way wait, and go together when it is somebody's turn.
//!
//! No task of its own does that: whoever has waited and gets a turn takes the others along. When it goes away in the middle,
//! they are told nothing, and know that much.

use std::collections::VecDeque;

use async_nats::HeaderMap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use crate::{message::Outgoing, publisher::Verdict};

/// Bytes of events that go together at most: large ones gain nothing by it.
const BYTES_MAX: usize = 4 << 20;

pub(crate) type Message = (HeaderMap, Bytes);
type Told = Result<u64, Verdict>;

/// An append that waits, or is under way.
pub(crate) struct Waiting {
    pub(crate) messages: Vec<Message>,
    bytes: usize,
    /// Of one event, bytes.
    pub(crate) largest: usize,
    done: oneshot::Sender<Told>,
}

impl Waiting {
    /// The last one's sequence, or why not.
    pub(crate) fn tell(self, result: Told) {
        // Its caller may have gone away.
        let _ = self.done.send(result);
    }
}

/// The right to have a group under way.
pub(crate) type Turn<'a> = SemaphorePermit<'a>;

pub(crate) enum Next<'a> {
    /// What came of it; `None` when nobody knows: whoever took it along has gone away, or wants it to go alone.
    Told(Option<Told>),
    /// Ours is among these, or was taken along in this very moment: then there may be none.
    Turn(Vec<Waiting>, Turn<'a>),
}

pub(crate) struct Together {
    waiting: Mutex<VecDeque<Waiting>>,
    turns: Semaphore,
    messages_max: usize,
}

impl Together {
    /// So many groups at a time, of so many messages, unless a single append has more.
    pub(crate) fn new(turns: usize, messages_max: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            turns: Semaphore::new(turns),
            messages_max,
        }
    }

    pub(crate) fn join(&self, outgoing: &[Outgoing<'_>]) -> Part<'_> {
        let (done, told) = oneshot::channel();
        self.waiting.lock().push_back(Waiting {
            messages: messages(outgoing),
            bytes: outgoing.iter().map(Outgoing::size).sum(),
            largest: largest(outgoing),
            done,
        });
        Part { all: self, told }
    }

    /// For who goes alone. Cancel safe.
    pub(crate) async fn turn(&self) -> Option<Turn<'_>> {
        // Never closed.
        self.turns.acquire().await.ok()
    }

    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        let (mut next, mut count, mut bytes) = (Vec::new(), 0, 0);
        while let Some(one) = waiting.front() {
            count += one.messages.len();
            bytes += one.bytes;
            if !next.is_empty() && (count > self.messages_max || bytes > BYTES_MAX) {
                break;
            }
            next.extend(waiting.pop_front());
        }
        next
    }
}

pub(crate) fn messages(outgoing: &[Outgoing<'_>]) -> Vec<Message> {
    let messages = outgoing.iter().map(|message| (message.headers(), message.payload()));
    messages.collect()
}

pub(crate) fn largest(outgoing: &[Outgoing<'_>]) -> usize {
    outgoing.iter().map(Outgoing::size).max().unwrap_or(0)
}

/// One append's place among those that wait.
pub(crate) struct Part<'a> {
    all: &'a Together,
    told: oneshot::Receiver<Told>,
}

impl<'a> Part<'a> {
    /// What is to be done next; to be asked until it says [`Next::Told`]. Cancel safe: another may still take it along.
    pub(crate) async fn next(&mut self) -> Next<'a> {
        tokio::select! {
            biased;
            told = &mut self.told => Next::Told(told.ok()),
            Some(turn) = self.all.turn() => {
                let group = self.all.take();
                if group.is_empty() {
                    drop(turn);
                    return Next::Told((&mut self.told).await.ok());
                }
                Next::Turn(group, turn)
            }
        }
    }
}
