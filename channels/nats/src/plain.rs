//! Messages stored one by one, each with an answer of its own.
//!
//! A few appends go by themselves; where there are more, all go in groups, which the connection writes in one go. With 64
//! publishers who each publish by themselves it wakes, and so do the server and they, for every one or two messages: with
//! `bench --only "nats: 64"`, in pairs of runs, groups took 0.77 of the CPU for an event when sixteen appends at a time still went
//! by themselves, and 0.95 of that when none does. With 16 connections, where groups are small and have to wait for their
//! turn, it was 1.07 if nobody went alone.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::{
    Subject,
    jetstream::{context::PublishAckFuture, message::PublishMessage},
};
use tokio::sync::Mutex;

use crate::{
    connection::Server,
    message::Outgoing,
    publisher::{Fault, Verdict, judge},
    together::{Message, Next, Together, Turn, Waiting, largest, messages},
};

/// Messages of a group at most: while it is sent the server stores its first.
const GROUP_MAX: usize = 256;

/// So many appends at a time go by themselves each; where there are more, all go in groups.
const ALONE_MAX: usize = 16;

/// Groups whose first answer is not here.
const TURNS: usize = 2;

pub(crate) struct Plain {
    appends: AtomicUsize,
    together: Together,
    /// One append or group at a time is sent, so that what was appended together lies next to each other.
    sending: Mutex<()>,
}

impl Default for Plain {
    fn default() -> Self {
        Self {
            appends: AtomicUsize::new(0),
            together: Together::new(TURNS, GROUP_MAX),
            sending: Mutex::default(),
        }
    }
}

impl Plain {
    /// Stores messages; the last one's sequence.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have stored them. Those that went together with them go again then.
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
            let mut part = self.together.join(outgoing);
            let told = loop {
                match part.next().await {
                    Next::Told(told) => break told,
                    Next::Turn(group, turn) => self.send(server, subject, group, turn).await,
                }
            };
            // If nobody knows: what is stored already is not stored again.
            if let Some(result) = told {
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

    async fn send(&self, server: &Server, subject: &Subject, group: Vec<Waiting>, turn: Turn<'_>) {
        let count = group.iter().map(|one| one.messages.len()).sum();
        let admitted = server.admit(count).await;
        let mut under_way = Vec::with_capacity(group.len());
        {
            let _alone = self.sending.lock().await;
            for mut one in group {
                let messages = std::mem::take(&mut one.messages);
                match publish(server, subject, messages, one.largest).await {
                    Ok(acks) => under_way.push((one, acks)),
                    Err(verdict) => one.tell(Err(verdict)),
                }
            }
        }
        let (mut turn, mut lost) = (Some(turn), None::<String>);
        for (one, acks) in under_way {
            let result = match &lost {
                None => last_of(acks, one.largest).await,
                Some(why) => Err(Verdict::Again(Fault::Together(why.clone()))),
            };
            // The client waits for one answer at a time: where one is lost, those behind it are not waited for as long again.
            if let Err(Verdict::Again(fault @ Fault::Unknown(_))) = &result {
                lost = Some(fault.to_string());
            }
            one.tell(result);
            // The server is at this group: the next may come.
            turn = None;
        }
        drop((turn, admitted));
    }
}

/// An append, until it is over.
struct Counted<'a> {
    all: &'a AtomicUsize,
    /// There when it came.
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
