//! The member of a cursor: the task that pulls messages from its consumer, and reports what is settled and tried.
//!
//! [`Phase`] says whether the member hands out events; `member/recovery.rs` has how it gets there.

mod pull;
mod recovery;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::{HeaderName, HeaderValue, Subject, Subscriber};
use channel_broker::{BrokerCursor, MalformedMessages, Stop, StopSignal, TRY_AGAIN};
use futures_util::{FutureExt as _, StreamExt};
use tokio::time::{Instant, MissedTickBehavior};

use self::{pull::Pull, recovery::Phase};
use crate::{
    attempts::AttemptLog,
    connection::Server,
    consumer::{GROUP, pins},
    cursor::NatsCursor,
    dead_letters::NatsDeadLetters,
    message::{Incoming, incoming},
};

const PIN: &str = "Nats-Pin-Id";

/// Time between heartbeats, which extend the ack deadline of held messages and renew the pin: three in the time that the server
/// waits.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// A heartbeat skips messages whose deadline began more recently.
const EXTEND_AFTER: Duration = Duration::from_secs(2);

/// Between requests while the member recovers.
const RECOVERY_PAUSE: Duration = Duration::from_millis(250);

/// Acknowledgements go at once, but not more often than this: each time costs both sides a system call or two.
const REPORT_PAUSE: Duration = Duration::from_millis(2);

/// Messages that are here already are handled in a row, so many before any other work.
const IN_A_ROW: usize = 32;

/// Leaving waits this long for the server's last answers.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// An event that a member's task handles.
enum Wake {
    Work,
    Message(async_nats::Message),
    Room,
    Heartbeat,
    Due,
}

/// The stream and the parts of the channel that a member works with.
pub(crate) struct Context {
    pub(crate) server: Arc<Server>,
    pub(crate) stream: String,
    /// When the stream was created: a different time means a different stream.
    pub(crate) created: SystemTime,
    pub(crate) owner: Option<String>,
    pub(crate) attempts: AttemptLog,
    pub(crate) cursor: Arc<NatsCursor>,
    pub(crate) dead_letters: Arc<NatsDeadLetters>,
}

/// The member of a cursor.
pub(crate) struct Member {
    context: Context,
    consumer: String,
    /// Whether the server pins the consumer to one gateway.
    pins: bool,
    phase: Phase,
    malformed: MalformedMessages,
    stop: StopSignal,
    inbox: Subscriber,
    inbox_prefix: String,
    pull: Option<Pull>,
    pulls: u64,
    /// The next pull is not sent before.
    pull_at: Instant,
    /// The consumer's state is refreshed then.
    refresh_at: Option<Instant>,
    /// The next report is due then.
    report_at: Option<Instant>,
    reported_at: Instant,
    last_ack: Option<Subject>,
}

impl Member {
    /// Subscribes to the answers of a consumer that exists.
    pub(crate) async fn join(context: Context, stop: StopSignal) -> Result<Self, async_nats::client::SubscribeError> {
        let inbox_prefix = context.server.client.new_inbox();
        let inbox = context.server.client.subscribe(format!("{inbox_prefix}.*")).await?;
        let (now, pins) = (Instant::now(), pins(&context.server));
        Ok(Self {
            consumer: context.attempts.consumer.clone(),
            pins,
            phase: Phase::first(pins),
            malformed: MalformedMessages::new("nats", &context.stream, &context.cursor.core().name),
            context,
            stop,
            inbox,
            inbox_prefix,
            pull: None,
            pulls: 0,
            pull_at: now,
            refresh_at: (!pins).then_some(now),
            report_at: None,
            reported_at: now,
            last_ack: None,
        })
    }

    /// When the member has something to do, if nothing else wakes it before.
    fn due(&self) -> Option<Instant> {
        let pull = match self.pull {
            Some(pull) => Some(pull.lost_at),
            None => Some(self.pull_at).filter(|at| *at > Instant::now()),
        };
        [pull, self.refresh_at, self.report_at].into_iter().flatten().min()
    }

    /// Handles a message, and those that are here already.
    async fn received(&mut self, mut message: async_nats::Message) {
        for left in (0..IN_A_ROW).rev() {
            match message.status {
                None => self.stored_message(message).await,
                Some(status) => self.pull_status(status, &message),
            }
            if left == 0 {
                return;
            }
            message = match self.inbox.next().now_or_never() {
                Some(Some(next)) => next,
                _ => return,
            };
        }
    }

    /// Handles a message of the stream.
    async fn stored_message(&mut self, message: async_nats::Message) {
        if let Some(pull) = &mut self.pull {
            pull.left = pull.left.saturating_sub(1);
            if pull.left == 0 {
                self.pull = None;
            }
        }
        if self.pins {
            let headers = message.headers.as_ref();
            let pin = headers.and_then(|headers| headers.get(HeaderName::from_static(PIN)));
            self.pinned(pin.map(HeaderValue::as_str));
        }
        let message = async_nats::jetstream::Message {
            message,
            context: self.context.server.context.clone(),
        };
        let (Some(reply), Some(message)) = (message.reply.clone(), incoming(&message)) else {
            return;
        };
        let Incoming {
            sequence,
            stored_at,
            redelivered,
            content,
        } = message;
        let event = match content {
            Ok(event) => Some((event, stored_at)),
            Err(malformed) => {
                let (position, why) = (sequence.to_string(), malformed.why);
                let (log, stop) = (&*self.context.dead_letters, &mut self.stop);
                let stored = self.malformed.store(log, &position, why, &malformed.payload, stop);
                if !stored.await {
                    return;
                }
                None
            }
        };
        self.context.cursor.received(sequence, event, reply, self.pins);
        let held = self.context.cursor.held();
        if self.phase.received(redelivered, held, self.pull.is_none()) {
            self.refresh_at = Some(Instant::now());
        }
    }

    /// Reports what is settled or was tried; a little of it waits a moment for more.
    async fn report_soon(&mut self) {
        let next = self.reported_at + REPORT_PAUSE;
        if self.context.cursor.has_little_work() && next > Instant::now() {
            self.report_at = Some(next);
        } else {
            self.report().await;
        }
    }

    /// Does what is due: a report, a pull without an answer, a refresh.
    async fn do_due(&mut self) {
        let now = Instant::now();
        if self.report_at.is_some_and(|at| at <= now) {
            self.report().await;
        }
        if self.pull.is_some_and(|pull| pull.lost_at <= now) {
            self.pull = None;
            self.refresh_at = Some(now);
        }
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_at = None;
            self.refresh().await;
        }
    }

    /// Reports to the server what is settled and what was tried.
    async fn report(&mut self) {
        let now = Instant::now();
        // A report without a connection may be lost, so it waits.
        if !self.context.server.is_connected() {
            self.report_at = Some(now + TRY_AGAIN);
            return;
        }
        (self.report_at, self.reported_at) = (None, now);
        let work = self.context.cursor.take_work();
        for reply in work.acks {
            let _ = self.context.server.client.publish(reply.clone(), "+ACK".into()).await;
            self.last_ack = Some(reply);
        }
        self.context.attempts.report(&self.context.server, work.attempts).await;
    }

    /// Extends the ack deadline of held messages and renews the pin.
    async fn heartbeat(&mut self) {
        if !self.context.server.is_connected() {
            return;
        }
        for reply in self.context.cursor.extend_deadlines(EXTEND_AFTER) {
            let _ = self.context.server.client.publish(reply, "+WPI".into()).await;
        }
        self.renew_pin().await;
    }

    /// Reports everything and waits until the server has it, so that the next gateway takes over at once.
    async fn finish(&mut self) {
        // First of all: a pull that still waits would receive the returned messages, and keep the pin.
        let mut unread = Vec::new();
        if self.inbox.drain().await.is_ok() {
            while let Some(message) = self.inbox.next().await {
                unread.extend(message.reply);
            }
        }
        self.report().await;
        let Context {
            server,
            stream,
            attempts,
            cursor,
            ..
        } = &self.context;
        let (held, tried) = cursor.return_all();
        attempts.save(server, &tried).await;
        for reply in held.into_iter().chain(unread) {
            let _ = server.client.publish(reply, "-NAK".into()).await;
        }
        // The server handles acknowledgements in order: its answer to this one covers all before it.
        if let Some(last) = &self.last_ack
            && let Err(error) = server.client.request(last.clone(), "+ACK".into()).await
        {
            tracing::debug!(stream, %error, "the last acknowledgement has no answer");
        }
        if self.phase.pin().is_some()
            && let Err(error) = server.unpin(stream, &self.consumer, GROUP).await
        {
            tracing::debug!(stream, %error, "the consumer stays pinned to this gateway for a while");
        }
        let _ = server.client.flush().await;
    }
}

impl channel_broker::Member for Member {
    async fn work(&mut self) {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            #[cfg(test)]
            assert!(
                !self.context.cursor.panics.load(std::sync::atomic::Ordering::SeqCst),
                "a test asks for it"
            );
            self.pull().await;
            let due = self.due();
            let wake = tokio::select! {
                biased;
                () = self.stop.stopped() => break,
                () = self.context.cursor.work.notified() => Wake::Work,
                Some(message) = self.inbox.next() => Wake::Message(message),
                () = self.context.cursor.core().room.notified() => Wake::Room,
                _ = heartbeat.tick() => Wake::Heartbeat,
                () = channel_broker::sleep_until(due) => Wake::Due,
            };
            match wake {
                Wake::Work => self.report_soon().await,
                Wake::Message(message) => self.received(message).await,
                Wake::Room => {}
                Wake::Heartbeat => {
                    self.report().await;
                    self.heartbeat().await;
                }
                Wake::Due => self.do_due().await,
            }
        }
    }

    /// Hands over after a panic, too: the server would otherwise keep what is held and the pin until their timeouts.
    async fn leave(mut self, stop: Option<Stop>) {
        if stop == Some(Stop::AtOnce) {
            return;
        }
        if tokio::time::timeout(LEAVE_MAX, self.finish()).await.is_err() {
            tracing::warn!(stream = self.context.stream, cursor = %self.context.cursor.core().name, "NATS did not answer in time: what was settled last may come again");
        }
    }
}
