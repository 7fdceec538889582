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
    number: u64,
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
    /// These are to be sent, the oldest that wait: ours is among them, or behind them.
    Turn(Vec<Waiting>, Turn<'a>),
}

pub(crate) struct Together {
    /// Those whose callers are there: whoever appends bounds it.
    waiting: Mutex<Queue>,
    turns: Semaphore,
    messages_max: usize,
}

#[derive(Default)]
struct Queue {
    /// By number.
    waiting: VecDeque<Waiting>,
    next_number: u64,
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
        let mut waiting = Waiting {
            number: 0,
            messages: messages(outgoing),
            bytes: outgoing.iter().map(Outgoing::size).sum(),
            largest: largest(outgoing),
            done,
        };
        let mut queue = self.waiting.lock();
        let number = queue.next_number;
        queue.next_number += 1;
        waiting.number = number;
        queue.waiting.push_back(waiting);
        Part {
            all: self,
            number,
            told,
        }
    }

    /// For who goes alone. Cancel safe.
    pub(crate) async fn turn(&self) -> Option<Turn<'_>> {
        // Never closed.
        self.turns.acquire().await.ok()
    }

    fn take(&self) -> Vec<Waiting> {
        let waiting = &mut self.waiting.lock().waiting;
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
    number: u64,
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

/// What nobody has taken along yet does not go any more.
impl Drop for Part<'_> {
    fn drop(&mut self) {
        let waiting = &mut self.all.waiting.lock().waiting;
        if let Ok(place) = waiting.binary_search_by_key(&self.number, |one| one.number) {
            waiting.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use event::Event;

    use super::*;

    fn numbered(number: usize) -> Event {
        let event = Event::builder(&number.to_string(), "/s", "t");
        event.finish().expect("a valid event")
    }

    async fn group(part: &mut Part<'_>) -> usize {
        match part.next().await {
            Next::Turn(group, _) => group.len(),
            Next::Told(_) => 0,
        }
    }

    #[tokio::test]
    async fn what_waits_goes_together_up_to_the_bound_and_without_those_who_went_away() {
        let events: Vec<Event> = (0..6).map(numbered).collect();
        let together = Together::new(1, 4);
        let turn = together.turn().await;
        let mut parts: Vec<Part<'_>> = events
            .iter()
            .map(|event| together.join(&[Outgoing::new(event)]))
            .collect();
        drop(parts.remove(1));
        drop(turn);
        assert_eq!(group(&mut parts[4]).await, 4);
        assert_eq!(group(&mut parts[4]).await, 1);
        assert!(
            matches!(parts[0].next().await, Next::Told(None)),
            "whoever took it along dropped it"
        );
    }
}
