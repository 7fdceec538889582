//! Several messages stored all or none, next to each other: atomic batches (ADR-50, servers from 2.12).
//!
//! A server creates a store of files for each batch, which costs it as much as some two hundred messages. So appends that come
//! while batches are under way are committed as a group, in the next batch. When the larger batch is refused, each append is sent
//! alone: no append is refused because of another one.

use async_nats::{
    Subject,
    jetstream::{
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
    },
};
use uuid::Uuid;

use super::{
    group::{GroupCommit, Message, Next, PendingAppend, Permit, largest, messages},
    outcome::{Fault, Verdict, judge},
};
use crate::{connection::Server, message::Outgoing};

/// The server's bound of an atomic batch (`max_batch_size`).
pub(crate) const BATCH_MAX: usize = 1000;

/// Batches begun and not committed: while one is stored the next is sent. A server takes 50 on one stream, which other
/// gateways share.
const GROUPS_MAX: usize = 2;

pub(crate) struct AtomicBatches {
    groups: GroupCommit,
}

impl Default for AtomicBatches {
    fn default() -> Self {
        Self {
            groups: GroupCommit::new(GROUPS_MAX, BATCH_MAX),
        }
    }
}

impl AtomicBatches {
    /// Stores messages, at most [`BATCH_MAX`] of them; the last one's sequence.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have stored them. Other appends of its group are sent alone then.
    pub(crate) async fn store(
        &self,
        server: &Server,
        subject: &Subject,
        outgoing: &[Outgoing<'_>],
    ) -> Result<u64, Verdict> {
        let mut queued = self.groups.join(outgoing);
        loop {
            match queued.next().await {
                Next::Done(Some(result)) => return result,
                Next::Done(None) => break,
                Next::Lead(group, permit) => store_group(server, subject, group, permit).await,
            }
        }
        let _turn = self.groups.permit().await;
        commit(server, subject, messages(outgoing), largest(outgoing)).await
    }
}

/// Stores a group as one batch, and finishes each append of it.
async fn store_group(server: &Server, subject: &Subject, mut group: Vec<PendingAppend>, _turn: Permit<'_>) {
    let largest = group.iter().map(|one| one.largest).max().unwrap_or(0);
    let counts: Vec<usize> = group.iter().map(|one| one.messages.len()).collect();
    let messages = group.iter_mut().flat_map(|one| std::mem::take(&mut one.messages));
    let messages: Vec<Message> = messages.collect();
    let mut behind = u64::try_from(messages.len()).unwrap_or(u64::MAX);
    let result = commit(server, subject, messages, largest).await;
    let alone = (group.len() == 1).then(|| group.pop()).flatten();
    match (result, alone) {
        (result, Some(one)) => one.finish(result),
        (Ok(last), None) => {
            for (one, count) in group.into_iter().zip(counts) {
                // They lie next to each other: the last one's sequence gives all others'.
                behind -= u64::try_from(count).unwrap_or(u64::MAX);
                one.finish(Ok(last - behind));
            }
        }
        (Err(Verdict::Retry(fault)), None) => {
            let why = fault.to_string();
            for one in group {
                one.finish(Err(Verdict::Retry(Fault::Group(why.clone()))));
            }
        }
        // Which append is at fault shows when each is sent alone.
        (Err(_), None) => {}
    }
}

/// Publishes messages as one batch; the last one's sequence.
async fn commit(server: &Server, subject: &Subject, messages: Vec<Message>, largest: usize) -> Result<u64, Verdict> {
    let id = Uuid::now_v7().simple().to_string();
    let count = messages.len();
    for (index, (mut headers, payload)) in messages.into_iter().enumerate() {
        headers.insert("Nats-Batch-Id", &*id);
        headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
        if index + 1 < count {
            let sent = server.client.publish_with_headers(subject.clone(), headers, payload);
            sent.await.map_err(|error| match error.kind() {
                async_nats::client::PublishErrorKind::MaxPayloadExceeded => Verdict::GiveUp(Fault::TooLarge(largest)),
                _ => Verdict::Retry(Fault::Unknown(PublishError::with_source(
                    PublishErrorKind::Other,
                    error,
                ))),
            })?;
            continue;
        }
        headers.insert("Nats-Batch-Commit", "1");
        let publish = PublishMessage::build().headers(headers).payload(payload);
        let sent = server.context.send_publish(subject.clone(), publish).await;
        let ack = sent.map_err(|error| judge(error, largest))?;
        return Ok(ack.await.map_err(|error| judge(error, largest))?.sequence);
    }
    // There was nothing to store.
    Ok(0)
}
