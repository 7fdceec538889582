//! Several messages stored all or none, next to each other: atomic batches (ADR-50, servers from 2.12).
//!
//! A server makes a store of files for each batch, which costs it as much as some two hundred messages. So appends that come
//! while batches are under way are gathered, and go together in the next one. Where the larger batch is refused, each goes
//! alone: nobody is refused for what another one wrote.

use std::collections::VecDeque;

use async_nats::{
    HeaderMap,
    jetstream::{
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
    },
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

use crate::{
    connection::Server,
    message::Outgoing,
    publisher::{Fault, Verdict, judge},
};

/// The server's bound of an atomic batch (`max_batch_size`).
pub(crate) const BATCH_MAX: usize = 1000;
/// The same in bytes of events, for what is gathered: large events gain nothing from going together.
const GATHERED_BYTES_MAX: usize = 4 << 20;

/// Batches begun and not committed: while one is stored the next is sent. A server takes 50 on one stream, which other
/// gateways share.
const UNDER_WAY: usize = 2;

type Message = (HeaderMap, Bytes);

/// An append that waits for its batch. One that is not told anything goes alone.
struct Waiting {
    messages: Vec<Message>,
    bytes: usize,
    done: oneshot::Sender<Result<u64, Verdict>>,
}

pub(crate) struct Batches {
    waiting: Mutex<VecDeque<Waiting>>,
    under_way: Semaphore,
}

impl Default for Batches {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            under_way: Semaphore::new(UNDER_WAY),
        }
    }
}

impl Batches {
    /// Stores messages, at most [`BATCH_MAX`] of them; the last one's sequence.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have stored them. Those that went together with them go alone then.
    pub(crate) async fn store(
        &self,
        server: &Server,
        subject: &str,
        outgoing: &[Outgoing<'_>],
    ) -> Result<u64, Verdict> {
        let messages = || outgoing.iter().map(|message| (message.headers(), message.payload()));
        let (done, mut result) = oneshot::channel();
        self.waiting.lock().push_back(Waiting {
            messages: messages().collect(),
            bytes: outgoing.iter().map(Outgoing::size).sum(),
            done,
        });
        let told = loop {
            // Never closed.
            let turn = tokio::select! {
                biased;
                told = &mut result => break told,
                turn = self.under_way.acquire() => turn,
            };
            if !self.store_next(server, subject).await {
                // Another has ours.
                drop(turn);
                break (&mut result).await;
            }
        };
        if let Ok(result) = told {
            return result;
        }
        let _turn = self.under_way.acquire().await;
        let largest = outgoing.iter().map(Outgoing::size).max().unwrap_or(0);
        commit(server, subject, messages().collect(), largest).await
    }

    /// Stores those that have waited longest, and tells them; `false` when nobody waits.
    async fn store_next(&self, server: &Server, subject: &str) -> bool {
        let mut next = self.take();
        if next.is_empty() {
            return false;
        }
        let largest = next.iter().map(|one| one.bytes).max().unwrap_or(0);
        let counts: Vec<usize> = next.iter().map(|one| one.messages.len()).collect();
        let messages = next.iter_mut().flat_map(|one| std::mem::take(&mut one.messages));
        let messages: Vec<Message> = messages.collect();
        let mut behind = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        let result = commit(server, subject, messages, largest).await;
        let alone = (next.len() == 1).then(|| next.pop()).flatten();
        match (result, alone) {
            (result, Some(one)) => tell(one, result),
            (Ok(last), None) => {
                for (one, count) in next.into_iter().zip(counts) {
                    // They lie next to each other: the last one's place tells all others'.
                    behind -= u64::try_from(count).unwrap_or(u64::MAX);
                    tell(one, Ok(last - behind));
                }
            }
            (Err(Verdict::Again(fault)), None) => {
                let why = fault.to_string();
                for one in next {
                    tell(one, Err(Verdict::Again(Fault::Together(why.clone()))));
                }
            }
            // Whose fault it is shows when each goes alone.
            (Err(_), None) => {}
        }
        true
    }

    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        let (mut next, mut count, mut bytes) = (Vec::new(), 0, 0);
        while let Some(one) = waiting.front() {
            count += one.messages.len();
            bytes += one.bytes;
            if !next.is_empty() && (count > BATCH_MAX || bytes > GATHERED_BYTES_MAX) {
                break;
            }
            next.extend(waiting.pop_front());
        }
        next
    }
}

fn tell(one: Waiting, result: Result<u64, Verdict>) {
    // Its caller may have gone away.
    let _ = one.done.send(result);
}

/// Publishes messages as one batch; the last one's sequence.
async fn commit(server: &Server, subject: &str, messages: Vec<Message>, largest: usize) -> Result<u64, Verdict> {
    let id = Uuid::now_v7().simple().to_string();
    let count = messages.len();
    for (index, (mut headers, payload)) in messages.into_iter().enumerate() {
        headers.insert("Nats-Batch-Id", &*id);
        headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
        if index + 1 < count {
            let sent = server.client.publish_with_headers(subject.to_owned(), headers, payload);
            sent.await.map_err(|error| match error.kind() {
                async_nats::client::PublishErrorKind::MaxPayloadExceeded => Verdict::Never(Fault::TooLarge(largest)),
                _ => Verdict::Again(Fault::Unknown(PublishError::with_source(
                    PublishErrorKind::Other,
                    error,
                ))),
            })?;
            continue;
        }
        headers.insert("Nats-Batch-Commit", "1");
        let publish = PublishMessage::build().headers(headers).payload(payload);
        let sent = server.context.send_publish(subject.to_owned(), publish).await;
        let ack = sent.map_err(|error| judge(error, largest))?;
        return Ok(ack.await.map_err(|error| judge(error, largest))?.sequence);
    }
    // There was nothing to store.
    Ok(0)
}
