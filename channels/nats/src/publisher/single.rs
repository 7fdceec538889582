//! Messages stored one by one, each with an answer of its own.
//!
//! A few appends are sent alone; more are sent in groups, which the connection writes in one go. With 64 publishers that each
//! publish alone, the connection, the server and the publishers wake for every one or two messages: with `bench --only "nats: 64"`,
//! in pairs of runs, groups took 0.77 of the CPU for an event when sixteen appends at a time were still sent alone, and 0.95 of
//! that when none is. With 16 connections, where groups are small and have to wait for a permit, it was 1.07 if none was sent
//! alone.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::{
    Subject,
    jetstream::{context::PublishAckFuture, message::PublishMessage},
};
use tokio::sync::Mutex;

use super::{
    group::{GroupCommit, Message, Next, PendingAppend, Permit, largest, messages},
    outcome::{Fault, Verdict, judge},
};
use crate::{connection::Server, message::Outgoing};

/// Messages of a group at most: while it is sent the server stores its first one.
const GROUP_MAX: usize = 256;

/// So many appends at a time are sent alone; more are sent in groups.
const ALONE_MAX: usize = 16;

/// Groups without a first answer at most.
const GROUPS_MAX: usize = 2;

pub(crate) struct SingleMessages {
    appends: AtomicUsize,
    groups: GroupCommit,
    /// One append or group at a time is sent, so that the messages of one append lie next to each other.
    sending: Mutex<()>,
}

impl Default for SingleMessages {
    fn default() -> Self {
        Self {
            appends: AtomicUsize::new(0),
            groups: GroupCommit::new(GROUPS_MAX, GROUP_MAX),
            sending: Mutex::default(),
        }
    }
}

impl SingleMessages {
    /// Stores messages; the last one's sequence.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have stored them. Other appends of its group are sent again then.
    pub(crate) async fn store(
        &self,
        server: &Server,
        subject: &Subject,
        outgoing: &[Outgoing<'_>],
    ) -> Result<u64, Verdict> {
        let counted = Counted::one_more(&self.appends);
        if counted.others < ALONE_MAX {
            return self.send_alone(server, subject, outgoing).await;
        }
        loop {
            let mut queued = self.groups.join(outgoing);
            let outcome = loop {
                match queued.next().await {
                    Next::Done(outcome) => break outcome,
                    Next::Lead(group, permit) => self.send(server, subject, group, permit).await,
                }
            };
            // Without an outcome it is sent again: the server does not store a message twice.
            if let Some(result) = outcome {
                return result;
            }
        }
    }

    async fn send_alone(&self, server: &Server, subject: &Subject, outgoing: &[Outgoing<'_>]) -> Result<u64, Verdict> {
        let _admitted = server.admit(outgoing.len()).await;
        let sending = self.sending.lock().await;
        let acks = publish(server, subject, messages(outgoing), largest(outgoing)).await?;
        drop(sending);
        last_of(acks, largest(outgoing)).await
    }

    async fn send(&self, server: &Server, subject: &Subject, group: Vec<PendingAppend>, permit: Permit<'_>) {
        let count = group.iter().map(|one| one.messages.len()).sum();
        let admitted = server.admit(count).await;
        let mut sent = Vec::with_capacity(group.len());
        {
            let _alone = self.sending.lock().await;
            for mut one in group {
                let messages = std::mem::take(&mut one.messages);
                match publish(server, subject, messages, one.largest).await {
                    Ok(acks) => sent.push((one, acks)),
                    Err(verdict) => one.finish(Err(verdict)),
                }
            }
        }
        let (mut permit, mut lost) = (Some(permit), None::<String>);
        for (one, acks) in sent {
            let result = match &lost {
                None => last_of(acks, one.largest).await,
                Some(why) => Err(Verdict::Retry(Fault::Group(why.clone()))),
            };
            // The client waits for one answer at a time: where one is lost, those behind it are not waited for as long again.
            if let Err(Verdict::Retry(fault @ Fault::Unknown(_))) = &result {
                lost = Some(fault.to_string());
            }
            one.finish(result);
            // The server stores this group: the next one may be sent.
            permit = None;
        }
        drop((permit, admitted));
    }
}

/// Counts an append until it is over.
struct Counted<'a> {
    all: &'a AtomicUsize,
    /// Appends under way when it came.
    others: usize,
}

impl<'a> Counted<'a> {
    fn one_more(all: &'a AtomicUsize) -> Self {
        let others = all.fetch_add(1, Ordering::Relaxed);
        Self { all, others }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn publish(
    server: &Server,
    subject: &Subject,
    messages: Vec<Message>,
    size: usize,
) -> Result<Vec<PublishAckFuture>, Verdict> {
    let mut acks = Vec::with_capacity(messages.len());
    for (headers, payload) in messages {
        let message = PublishMessage::build().headers(headers).payload(payload);
        let sent = server.context.send_publish(subject.clone(), message).await;
        acks.push(sent.map_err(|error| judge(error, size))?);
    }
    Ok(acks)
}

async fn last_of(acks: Vec<PublishAckFuture>, size: usize) -> Result<u64, Verdict> {
    let mut last = 0;
    for ack in acks {
        last = ack.await.map_err(|error| judge(error, size))?.sequence;
    }
    Ok(last)
}
