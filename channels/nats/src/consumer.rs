//! A cursor's consumer on the server: what comes from it and what it is told.
//!
//! One gateway at a time has a consumer: the server pins it to whoever pulls first (NATS 2.11, ADR-42). That keeps events in
//! stored order, which acknowledgements one by one do not. What the gateway before us had in its hands comes again when the
//! server misses its word; until all of that is here, nothing newer is handed out (`gather`).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::{
    HeaderName, HeaderValue, StatusCode, Subject, Subscriber,
    jetstream::consumer::{AckPolicy, Info, PriorityPolicy, pull},
};
use channel::{CursorName, Letters};
use event::Event;
use futures_util::{FutureExt as _, StreamExt};
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    attempts,
    connection::Server,
    cursor::{HELD_MAX, Said, Shared},
    letters::NatsLetters,
    message::{Incoming, NoEvent, incoming},
    reader,
};

/// The consumer's metadata that names its cursor: consumers with it are the channel's register of cursors.
const CURSOR: &str = "dev.headgate/cursor";
/// And the one that says whose it is, where that is known.
const OWNER: &str = "dev.headgate/owner";

/// The one group of a pinned consumer.
const GROUP: &str = "g";
const PIN: &str = "Nats-Pin-Id";

/// A message the server has not heard of for this long is given to whoever pulls: what a gateway had that died.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// A gateway that has not pulled for this long loses the consumer to another.
const PIN_WAIT: Duration = Duration::from_secs(10);

/// What is held and what is pinned is spoken of this often: three times within what the server waits.
const TICK: Duration = Duration::from_secs(3);
/// Events the server heard of more recently are not spoken of.
const FRESH: Duration = Duration::from_secs(2);

/// A pull waits this long for messages; shorter than [`PIN_WAIT`], for each pull keeps the pin.
const PULL: Duration = Duration::from_secs(5);
/// One that is not answered then is lost: the connection broke.
const PULL_GRACE: Duration = Duration::from_secs(2);

/// While gathering: pulls are short, and ask for little until what comes is what was handed out before.
const GATHER_PULL: Duration = Duration::from_secs(1);
const GATHER_LITTLE: usize = 16;
const GATHER_MUCH: usize = 1024;
const GATHER_AGAIN: Duration = Duration::from_millis(250);
/// Three times [`ACK_WAIT`]; then what is here has to do.
const GATHER_MAX: Duration = Duration::from_secs(30);
/// The same on a server that pins no consumer, where another gateway may keep what it has.
const GATHER_SHARED_MAX: Duration = Duration::from_secs(15);

/// Acknowledgements go at once, but not more often than this: each time costs both sides a system call or two.
const TELL_PAUSE: Duration = Duration::from_millis(2);

/// Messages that are here already are taken in a row, so many before anything else is looked at.
const IN_A_ROW: usize = 32;

/// Between tries after something failed.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Whoever waits for its turn looks this often how far the one that has it got.
const STANDBY_LOOK: Duration = Duration::from_secs(15);

/// A close waits this long for the server's last answers.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Bytes of a message that is no event, kept in its letter at most.
const POISON_BYTES_MAX: usize = 256 << 10;

/// How a member's task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Runs,
    /// Tells the server what is settled and gives back the rest.
    Cleanly,
    /// Tells nothing: the cursor is forgotten, or the process plays dead.
    AtOnce,
}

/// Returns when the task is to end. Cancel safe.
async fn stopped(stop: &mut watch::Receiver<Stop>) {
    // Whoever would stop it is gone: that ends it, too.
    let _ = stop.wait_for(|stop| *stop != Stop::Runs).await;
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// A consumer for a cursor that begins with this sequence.
pub(crate) fn config(
    server: &Server,
    name: String,
    cursor: &CursorName,
    owner: Option<&str>,
    start: u64,
) -> pull::Config {
    let mut metadata = HashMap::from([(CURSOR.to_owned(), cursor.to_string())]);
    metadata.extend(owner.map(|owner| (OWNER.to_owned(), owner.to_owned())));
    let plain = pull::Config {
        name: Some(name.clone()),
        durable_name: Some(name),
        deliver_policy: reader::from_sequence(start),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // An event is settled by us, never by having been tried often.
        max_deliver: -1,
        // What one gateway that died had, and as much for the next.
        max_ack_pending: i64::try_from(HELD_MAX * 2).unwrap_or(i64::MAX),
        metadata,
        ..pull::Config::default()
    };
    if pins(server) {
        pull::Config {
            priority_policy: PriorityPolicy::PinnedClient,
            priority_groups: vec![GROUP.to_owned()],
            priority_timeout: PIN_WAIT,
            ..plain
        }
    } else {
        plain
    }
}

/// Whether the server gives a consumer to one gateway at a time.
pub(crate) fn pins(server: &Server) -> bool {
    server.is_at_least(2, 11)
}

/// The cursor a consumer is for; `None` when it is somebody else's.
pub(crate) fn cursor_of(info: &Info) -> Option<CursorName> {
    info.config.metadata.get(CURSOR).map(CursorName::new)
}

/// Whose cursor a consumer is for, where that is known.
pub(crate) fn owner_of(info: &Info) -> Option<&str> {
    info.config.metadata.get(OWNER).map(String::as_str)
}

/// The same consumer, this owner's.
pub(crate) fn owned(info: &Info, owner: &str) -> async_nats::jetstream::consumer::Config {
    let mut config = info.config.clone();
    config.metadata.insert(OWNER.to_owned(), owner.to_owned());
    config
}

/// How far a cursor is, as the server has it.
pub(crate) fn said(info: &Info) -> Said {
    let start = match info.config.deliver_policy {
        async_nats::jetstream::consumer::DeliverPolicy::ByStartSequence { start_sequence } => start_sequence,
        _ => 1,
    };
    let delivered = info.delivered.stream_sequence.max(start - 1);
    Said {
        settled_below: (info.ack_floor.stream_sequence + 1).max(start),
        unsettled: info.num_pending + u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX),
        last: delivered + info.num_pending,
    }
}

#[derive(Serialize)]
struct PullRequest<'a> {
    batch: usize,
    max_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_wait: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

/// A request for messages that is under way. There is one at a time.
#[derive(Clone, Copy)]
struct Pull {
    number: u64,
    /// Messages it may still bring.
    left: usize,
    lost_at: Instant,
}

/// Getting what the gateway before us had.
#[derive(Clone, Copy)]
struct Gather {
    until: Instant,
    /// Something came that had been handed out before.
    again: bool,
    /// Events that somebody has in hand, as the server said last.
    awaited: usize,
}

impl Gather {
    fn new(at_most: Duration) -> Self {
        Self {
            until: Instant::now() + at_most,
            again: false,
            awaited: 0,
        }
    }
}

/// What a member's task is woken for.
enum Now {
    Work,
    Came(async_nats::Message),
    Room,
    Tick,
    Due,
}

pub(crate) struct Member {
    server: Arc<Server>,
    stream: String,
    consumer: String,
    owner: Option<String>,
    attempts: attempts::Place,
    shared: Arc<Shared>,
    letters: Arc<NatsLetters>,
    stop: watch::Receiver<Stop>,
    inbox: Subscriber,
    inbox_prefix: String,
    /// When the stream was made: another time is another stream.
    created: SystemTime,
    pins: bool,
    pin: Option<String>,
    pull: Option<Pull>,
    pulls: u64,
    gather: Option<Gather>,
    /// Nothing is asked for before.
    ask_at: Instant,
    /// The server is to be asked about the consumer then.
    look_at: Option<Instant>,
    /// What is settled is to be told then.
    tell_at: Option<Instant>,
    told_at: Instant,
    last_ack: Option<Subject>,
}

/// Whose consumer it is.
pub(crate) struct Belongs {
    pub(crate) server: Arc<Server>,
    pub(crate) stream: String,
    pub(crate) created: SystemTime,
    pub(crate) owner: Option<String>,
    pub(crate) attempts: attempts::Place,
    pub(crate) shared: Arc<Shared>,
    pub(crate) letters: Arc<NatsLetters>,
}

impl Member {
    /// Begins to pull from a consumer that is there; its task is [`Self::run`].
    pub(crate) async fn join(
        belongs: Belongs,
        stop: watch::Receiver<Stop>,
    ) -> Result<Self, async_nats::client::SubscribeError> {
        let Belongs {
            server,
            stream,
            created,
            owner,
            attempts,
            shared,
            letters,
        } = belongs;
        let inbox_prefix = server.client.new_inbox();
        let inbox = server.client.subscribe(format!("{inbox_prefix}.*")).await?;
        let now = Instant::now();
        let pins = pins(&server);
        Ok(Self {
            consumer: attempts.consumer.clone(),
            pins,
            server,
            stream,
            owner,
            attempts,
            shared,
            letters,
            stop,
            inbox,
            inbox_prefix,
            created,
            pin: None,
            pull: None,
            pulls: 0,
            gather: (!pins).then(|| Gather::new(GATHER_SHARED_MAX)),
            ask_at: now,
            look_at: (!pins).then_some(now),
            tell_at: None,
            told_at: now,
            last_ack: None,
        })
    }

    pub(crate) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.ask().await;
            let asks = self.pull.map(|pull| pull.lost_at);
            let asks = asks.or_else(|| (self.ask_at > Instant::now()).then_some(self.ask_at));
            let due = [asks, self.look_at, self.tell_at].into_iter().flatten().min();
            let now = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => break,
                () = self.shared.work.notified() => Now::Work,
                Some(message) = self.inbox.next() => Now::Came(message),
                () = self.shared.room.notified() => Now::Room,
                _ = tick.tick() => Now::Tick,
                () = until(due) => Now::Due,
            };
            match now {
                Now::Work => self.work().await,
                Now::Came(message) => self.receive(message).await,
                Now::Room => {}
                Now::Tick => {
                    self.tell().await;
                    self.stay().await;
                }
                Now::Due => self.due().await,
            }
        }
        if *self.stop.borrow() == Stop::Cleanly && tokio::time::timeout(CLOSE_MAX, self.leave()).await.is_err() {
            tracing::warn!(stream = self.stream, cursor = %self.shared.name, "NATS did not answer in time: what was settled last may come again");
        }
    }

    /// Asks for messages, if some are wanted and none are on their way.
    async fn ask(&mut self) {
        let now = Instant::now();
        if self.pull.is_some() || self.ask_at > now || !self.server.is_connected() {
            return;
        }
        let room = self.shared.wanted();
        let (batch, expires) = match self.gather {
            // The first message brings the pin; more would come out of order.
            _ if self.pins && self.pin.is_none() => (1, PULL),
            Some(_) if self.look_at.is_some() => return,
            Some(gather) => {
                let most = if gather.again { GATHER_MUCH } else { GATHER_LITTLE };
                (room.min(most), GATHER_PULL)
            }
            None => (room, PULL),
        };
        if batch == 0 {
            return;
        }
        self.pulls += 1;
        let request = PullRequest {
            batch,
            max_bytes: reader::page_bytes(&self.server),
            expires: Some(u64::try_from(expires.as_nanos()).unwrap_or(u64::MAX)),
            no_wait: false,
            group: self.pins.then_some(GROUP),
            id: self.pin.as_deref(),
        };
        if self.request(&request, &self.pulls.to_string()).await {
            self.pull = Some(Pull {
                number: self.pulls,
                left: batch,
                lost_at: now + expires + PULL_GRACE,
            });
        } else {
            self.ask_at = now + TRY_AGAIN;
        }
    }

    async fn request(&self, request: &PullRequest<'_>, name: &str) -> bool {
        let payload = serde_json::to_vec(request).unwrap_or_default();
        let reply = format!("{}.{name}", self.inbox_prefix);
        let subject = self
            .server
            .api(&format!("CONSUMER.MSG.NEXT.{}.{}", self.stream, self.consumer));
        let sent = self
            .server
            .client
            .publish_with_reply(subject, reply, payload.into())
            .await;
        sent.is_ok()
    }

    /// What came, and what else is here already.
    async fn receive(&mut self, mut message: async_nats::Message) {
        for left in (0..IN_A_ROW).rev() {
            match message.status {
                None => self.came(message).await,
                Some(status) => self.answered(status, &message),
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

    /// A message of the stream.
    async fn came(&mut self, message: async_nats::Message) {
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
            context: self.server.context.clone(),
        };
        let Some(reply) = message.reply.clone() else { return };
        let Some(Incoming {
            sequence,
            stored_at,
            again,
            content,
        }) = incoming(&message)
        else {
            return;
        };
        let event = match content {
            Ok(event) => Some((event, stored_at)),
            Err(poison) => {
                if !self.store(self.letter(sequence, poison)).await {
                    return;
                }
                None
            }
        };
        if let Some(gather) = &mut self.gather {
            gather.again |= again;
        }
        self.shared.received(sequence, event, reply, self.pins);
        if let Some(gather) = &self.gather
            && (self.pull.is_none() || self.shared.holding() == gather.awaited)
        {
            self.look_at = Some(Instant::now());
        }
    }

    /// Every message says whom the consumer is pinned to: to us, or it would not have come.
    fn pinned(&mut self, pin: Option<&str>) {
        if pin.is_none() || pin == self.pin.as_deref() {
            return;
        }
        // Another may have had it between.
        if !self.shared.is_gathering() {
            self.shared.lost();
        }
        self.pin = pin.map(str::to_owned);
        self.gather = Some(Gather::new(GATHER_MAX));
    }

    fn unpinned(&mut self) {
        self.pin = None;
        self.gather = (!self.pins).then(|| Gather::new(GATHER_SHARED_MAX));
        self.pull = None;
        self.look_at = (!self.pins).then(Instant::now);
        self.shared.lost();
    }

    /// The server's word about a pull.
    fn answered(&mut self, status: StatusCode, message: &async_nats::Message) {
        let why = message.description.as_deref().unwrap_or_default();
        let name = message.subject.rsplit('.').next().unwrap_or_default();
        let ours = self.pull.is_some_and(|pull| name == pull.number.to_string());
        match status.as_u16() {
            // Others pulled while we did not: the connection was gone for longer than a pin lasts.
            423 => return self.unpinned(),
            100 => return,
            _ if !ours => return,
            _ => self.pull = None,
        }
        let now = Instant::now();
        match status.as_u16() {
            404 | 408 => {
                if self.gather.is_some() {
                    self.look_at = Some(now);
                } else if self.pin.is_none() && self.look_at.is_none() {
                    self.look_at = Some(now + STANDBY_LOOK);
                }
            }
            409 if why.contains("Batch Completed") || why.contains("MaxBytes") => {
                if self.gather.is_some() {
                    self.look_at = Some(now);
                }
            }
            _ => {
                tracing::debug!(stream = self.stream, consumer = self.consumer, %status, why, "a pull ended");
                self.ask_at = now + GATHER_AGAIN;
                self.look_at = Some(now);
            }
        }
    }

    /// Something is settled or was tried: a little of it waits a moment for more.
    async fn work(&mut self) {
        let next = self.told_at + TELL_PAUSE;
        if self.shared.has_little_work() && next > Instant::now() {
            self.tell_at = Some(next);
        } else {
            self.tell().await;
        }
    }

    /// Something to tell, a pull that nobody answered, or something to find out about the consumer.
    async fn due(&mut self) {
        let now = Instant::now();
        if self.tell_at.is_some_and(|tell| tell <= now) {
            self.tell().await;
        }
        if self.pull.is_some_and(|pull| pull.lost_at <= now) {
            self.pull = None;
            self.look_at = Some(now);
        }
        if self.look_at.is_some_and(|look| look <= now) {
            self.look_at = None;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let info = match self.server.consumer_info(&self.stream, &self.consumer).await {
            Ok(info) => info,
            Err(error) if error.is_gone() => return self.restore().await,
            Err(error) => {
                tracing::debug!(stream = self.stream, consumer = self.consumer, %error, "the consumer does not answer");
                self.look_at = Some(Instant::now() + TRY_AGAIN);
                return;
            }
        };
        self.shared.said(said(&info));
        if !self.shared.is_gathering() || self.pins && self.pin.is_none() {
            return;
        }
        let now = Instant::now();
        let missing = info.num_ack_pending.saturating_sub(self.shared.holding());
        if let Some(gather) = &mut self.gather {
            gather.awaited = info.num_ack_pending;
        }
        let late = self.gather.is_some_and(|gather| gather.until <= now);
        if missing > 0 && !late && self.shared.wanted() > 0 {
            // What was acknowledged a moment ago still counts there.
            self.ask_at = now + GATHER_AGAIN;
            return;
        }
        if missing > 0 {
            tracing::warn!(stream = self.stream, cursor = %self.shared.name, missing, "events that an earlier gateway had have not come again, later ones go before them");
        }
        if !self.begin(info.delivered.stream_sequence).await {
            self.look_at = Some(now + TRY_AGAIN);
        }
    }

    /// Everything that had been handed out is here.
    async fn begin(&mut self, delivered: u64) -> bool {
        match self.attempts.load(&self.server).await {
            Ok(attempts) => self.shared.recall(attempts),
            Err(error) => {
                tracing::warn!(stream = self.attempts.stream, %error, "attempts cannot be read, trying again");
                return false;
            }
        }
        let Ok(Some(info)) = self.server.stream_info(&self.stream).await else {
            return false;
        };
        self.gather = None;
        self.shared.begin(info.state.first_sequence, delivered);
        true
    }

    /// The consumer is gone: somebody deleted it, or the whole stream.
    async fn restore(&mut self) {
        self.ask_at = Instant::now() + TRY_AGAIN;
        self.look_at = Some(self.ask_at);
        let (Ok(Some(info)), settled_below) =
            (self.server.stream_info(&self.stream).await, self.shared.settled_below())
        else {
            return;
        };
        let created = info.created.into();
        let start = if created == self.created {
            settled_below.max(1)
        } else {
            1
        };
        let (name, owner) = (self.consumer.clone(), self.owner.as_deref());
        let config = config(&self.server, name, &self.shared.name, owner, start);
        if let Err(error) = self.server.create_consumer(&self.stream, &config).await {
            tracing::warn!(stream = self.stream, consumer = self.consumer, %error, "a deleted consumer cannot be made again, trying again");
            return;
        }
        tracing::warn!(
            stream = self.stream,
            consumer = self.consumer,
            start,
            "a deleted consumer was made again"
        );
        self.unpinned();
        if created != self.created {
            self.created = created;
            self.shared.anew();
            if let Err(error) = self.attempts.forget(&self.server).await {
                tracing::debug!(stream = self.attempts.stream, %error, "attempts of a deleted stream stay");
            }
        }
        self.ask_at = Instant::now();
        self.look_at = (!self.pins).then_some(self.ask_at);
    }

    /// Tells the server what is settled and what was tried.
    async fn tell(&mut self) {
        let now = Instant::now();
        // What is told without a connection may be lost; it stays where it is.
        if !self.server.is_connected() {
            self.tell_at = Some(now + TRY_AGAIN);
            return;
        }
        (self.tell_at, self.told_at) = (None, now);
        let work = self.shared.take_work();
        for reply in work.acks {
            let _ = self.server.client.publish(reply.clone(), "+ACK".into()).await;
            self.last_ack = Some(reply);
        }
        self.attempts.tell(&self.server, work.attempts).await;
    }

    /// Keeps what is held and the pin.
    async fn stay(&mut self) {
        if !self.server.is_connected() {
            return;
        }
        for reply in self.shared.stale(FRESH) {
            let _ = self.server.client.publish(reply, "+WPI".into()).await;
        }
        if self.pull.is_none() && self.pin.is_some() {
            // Too small for any message: it only says that we are here.
            let request = PullRequest {
                batch: 1,
                max_bytes: 1,
                expires: None,
                no_wait: true,
                group: Some(GROUP),
                id: self.pin.as_deref(),
            };
            self.request(&request, "here").await;
        }
    }

    /// Keeps trying: what is no event is not settled before it lies where a person finds it. `false`: stopped before.
    async fn store(&mut self, letter: Option<Event>) -> bool {
        let Some(letter) = letter else { return true };
        loop {
            match self.letters.store(&letter).await {
                Ok(_) => return true,
                Err(error) => tracing::warn!(stream = self.stream, %error, "a letter is not stored, trying again"),
            }
            if tokio::time::timeout(TRY_AGAIN, stopped(&mut self.stop)).await.is_ok() {
                return false;
            }
        }
    }

    /// A letter about a message that is no event: an event that carries its bytes and says where they were.
    fn letter(&self, sequence: u64, poison: NoEvent) -> Option<Event> {
        let why = poison.why;
        tracing::warn!(stream = self.stream, sequence, cursor = %self.shared.name, why, "a message is no CloudEvent, it goes to the dead letters");
        let payload = poison.payload.slice(..poison.payload.len().min(POISON_BYTES_MAX));
        let letter = Event::builder(
            &format!("{}/{sequence}", self.stream),
            &format!("nats:{}", self.stream),
            "dev.headgate.notanevent",
        );
        let letter = letter
            .set("headgatesubscription", self.shared.name.as_str())
            .set("headgatereason", "NotAnEvent")
            .set("headgateattempts", "0")
            .set("headgatedetail", &why)
            .data("application/octet-stream", payload);
        letter
            .finish()
            .inspect_err(|error| tracing::error!(%error, "no letter can be made of a message"))
            .ok()
    }

    /// The server hears everything and answers the last word; the next gateway goes on at once.
    async fn leave(&mut self) {
        // First of all: a pull that still waits would get what is given back, and keep the pin.
        let mut came = Vec::new();
        if self.inbox.drain().await.is_ok() {
            while let Some(message) = self.inbox.next().await {
                came.extend(message.reply);
            }
        }
        self.tell().await;
        let (held, attempts) = self.shared.give_back();
        self.attempts.save(&self.server, &attempts).await;
        for reply in held.into_iter().chain(came) {
            let _ = self.server.client.publish(reply, "-NAK".into()).await;
        }
        // It takes acknowledgements in their order: once this one is answered, all before it are known.
        if let Some(last) = &self.last_ack
            && let Err(error) = self.server.client.request(last.clone(), "+ACK".into()).await
        {
            tracing::debug!(stream = self.stream, %error, "the last acknowledgement has no answer");
        }
        if self.pin.is_some()
            && let Err(error) = self.server.unpin(&self.stream, &self.consumer, GROUP).await
        {
            tracing::debug!(stream = self.stream, %error, "the consumer stays ours for a while");
        }
        let _ = self.server.client.flush().await;
    }
}
