//! Group commit: appends that come while others are under way wait, and are sent as one group.
//!
//! No task of its own does that: an append that waited and gets a permit leads the group. When its call is dropped in the middle,
//! the others get no outcome, and send again.

use std::collections::VecDeque;

use async_nats::HeaderMap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::outcome::Verdict;
use crate::message::Outgoing;

/// Bytes of events in one group at most: large events gain nothing by it.
const BYTES_MAX: usize = 4 << 20;

pub(crate) type Message = (HeaderMap, Bytes);
type Outcome = Result<u64, Verdict>;

/// An append that waits, or is under way in a group.
pub(crate) struct PendingAppend {
    number: u64,
    pub(crate) messages: Vec<Message>,
    bytes: usize,
    /// Bytes of its largest event.
    pub(crate) largest: usize,
    done: oneshot::Sender<Outcome>,
}

impl PendingAppend {
    /// Reports the last message's sequence, or why they are not stored.
    pub(crate) fn finish(self, result: Outcome) {
        // An error means that the call was dropped.
        let _ = self.done.send(result);
    }
}

/// The permit to have a group under way.
pub(crate) type Permit<'a> = SemaphorePermit<'a>;

pub(crate) enum Next<'a> {
    /// The append is done. `None`: its outcome is unknown, because the leader's call was dropped, or it is to be sent alone.
    Done(Option<Outcome>),
    /// The caller leads this group and sends it: the oldest appends that wait. Its own is among them, or behind them.
    Lead(Vec<PendingAppend>, Permit<'a>),
}

pub(crate) struct GroupCommit {
    /// Appends whose calls are alive, which bounds their number.
    waiting: Mutex<Queue>,
    permits: Semaphore,
    messages_max: usize,
}

#[derive(Default)]
struct Queue {
    /// By number.
    waiting: VecDeque<PendingAppend>,
    next_number: u64,
}

impl GroupCommit {
    /// At most `permits` groups at a time, each of `messages_max` messages, unless a single append has more.
    pub(crate) fn new(permits: usize, messages_max: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            permits: Semaphore::new(permits),
            messages_max,
        }
    }

    pub(crate) fn join(&self, outgoing: &[Outgoing<'_>]) -> Queued<'_> {
        let (done, outcome) = oneshot::channel();
        let mut waiting = PendingAppend {
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
        Queued {
            all: self,
            number,
            outcome,
        }
    }

    /// Waits for a permit to send something alone. Cancel safe.
    pub(crate) async fn permit(&self) -> Option<Permit<'_>> {
        // Never closed.
        self.permits.acquire().await.ok()
    }

    fn take(&self) -> Vec<PendingAppend> {
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

/// One append in the queue.
pub(crate) struct Queued<'a> {
    all: &'a GroupCommit,
    number: u64,
    outcome: oneshot::Receiver<Outcome>,
}

impl<'a> Queued<'a> {
    /// Waits for what the caller does next; called until it returns [`Next::Done`]. Cancel safe: another call may lead the group.
    pub(crate) async fn next(&mut self) -> Next<'a> {
        tokio::select! {
            biased;
            outcome = &mut self.outcome => Next::Done(outcome.ok()),
            Some(permit) = self.all.permit() => {
                let group = self.all.take();
                if group.is_empty() {
                    drop(permit);
                    return Next::Done((&mut self.outcome).await.ok());
                }
                Next::Lead(group, permit)
            }
        }
    }
}

/// An append that is in no group yet is not sent any more.
impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let waiting = &mut self.all.waiting.lock().waiting;
        if let Ok(index) = waiting.binary_search_by_key(&self.number, |one| one.number) {
            waiting.remove(index);
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

    async fn group(queued: &mut Queued<'_>) -> usize {
        match queued.next().await {
            Next::Lead(group, _) => group.len(),
            Next::Done(_) => 0,
        }
    }

    #[tokio::test]
    async fn what_waits_goes_together_up_to_the_bound_and_without_those_who_went_away() {
        let events: Vec<Event> = (0..6).map(numbered).collect();
        let groups = GroupCommit::new(1, 4);
        let permit = groups.permit().await;
        let mut queued: Vec<Queued<'_>> = events
            .iter()
            .map(|event| groups.join(&[Outgoing::new(event)]))
            .collect();
        drop(queued.remove(1));
        drop(permit);
        assert_eq!(group(&mut queued[4]).await, 4);
        assert_eq!(group(&mut queued[4]).await, 1);
        assert!(
            matches!(queued[0].next().await, Next::Done(None)),
            "whoever took it along dropped it"
        );
    }
}
