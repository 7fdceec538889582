//! Reads a subscription: messages are taken in batches, stored, and acknowledged with the proof of it.
//!
//! One batch is stored at a time, in the order Google has them, so the order of every key is kept. While the sink refuses,
//! messages are read as far as hand.rs goes, and the client renews their leases.

use std::time::Duration;

use adapter::{Accepted, Source, Truth, Unstored, Weight};
use event::Event;
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use google_cloud_gax::error::Error;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    confirm::Confirmations,
    convert::{Origin, published},
    fault::{Fault, ORDERING_OFF},
    hand::Hand,
    look::{LOOK_AFTER, Seen, look},
    parked::{PARKED_FOR, Parked},
    subscription::{Found, no_topic},
    upstream::{Messages, Taken, Upstream},
};

/// Conditions of a Pub/Sub source, beside those that every source has.
pub(crate) const SUBSCRIBED: &str = "Subscribed";
const ORDERED: &str = "Ordered";
const STORABLE: &str = "Storable";

/// A stream that Google does not take is ended within a round trip; one that lasted this long is taken.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// How long messages are held while the sink refuses them, before they are given back for others to take.
const HOLD_MAX: Duration = Duration::from_secs(10 * 60);

/// A message that could not be stored was given back, came again and was stored: Google waits a minute at most in between.
const STORABLE_AFTER: Duration = Duration::from_secs(3 * PARKED_FOR.as_secs());

/// For what is in hand when the stream has ended: its acknowledgements may still be taken.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// For a batch that is being stored when the source stops: dropped, it would come twice.
const STOP_MAX: Duration = Duration::from_secs(2);
/// For the last acknowledgements when the source stops: the client sends them every 100 ms.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Why reading ended.
pub(crate) enum Ended {
    /// It was asked to.
    Stopped,
    /// Google says no, or nothing.
    Fault(Fault),
    /// Google ended the stream without saying why.
    Closed,
    /// The sink refused for too long: all messages are given back.
    Held,
    /// Our own subscription lost its topic and has nothing left to read.
    Orphaned,
}

/// What the loop does next.
enum Next {
    Stop,
    Answered,
    Release,
    Stored(Stored),
    Item(Option<Result<Taken, Error>>),
    Look,
    Seen(Seen),
    End,
}

/// What became of a batch.
#[derive(Clone, Copy)]
enum Stored {
    Proven(Accepted),
    TooLarge,
    /// Refused for too long.
    Held,
}

/// A batch on its way into the sink's channel.
struct Storing {
    batch: Vec<Taken>,
    work: BoxFuture<'static, Stored>,
}

/// Nothing more is read; what is in hand is finished until then.
struct Ending {
    ended: Ended,
    until: Instant,
}

pub(crate) struct Reader<'a> {
    config: &'a Config,
    source: &'a Source,
    upstream: Upstream,
    found: Found,
    origin: Origin,
    messages: Messages,
    hand: Hand,
    storing: Option<Storing>,
    ending: Option<Ending>,
    confirmations: &'a mut Confirmations,
    parked: Parked,
    last_parked: Option<Instant>,
    /// Looks since the last message.
    looks: u32,
    /// Whether Google took the stream.
    pub(crate) settled: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        config: &'a Config,
        source: &'a Source,
        upstream: Upstream,
        found: Found,
        confirmations: &'a mut Confirmations,
    ) -> Self {
        Self {
            config,
            source,
            messages: upstream.read(&found.name),
            upstream,
            found,
            origin: Origin::new(config),
            hand: Hand::default(),
            storing: None,
            ending: None,
            confirmations,
            parked: Parked::default(),
            last_parked: None,
            looks: 0,
            settled: false,
        }
    }

    /// Reads until something ends it. What is in hand then is given back by [`Reader::close`].
    pub(crate) async fn run(&mut self, stop: &CancellationToken) -> Ended {
        let mut look_at = Instant::now() + SETTLED_AFTER;
        let mut looking: Option<BoxFuture<'static, Seen>> = None;
        loop {
            if self.storing.is_none() {
                self.store_next();
            }
            if self.storing.is_none()
                && let Some(Ending { ended, .. }) = self.ending.take()
            {
                return ended;
            }
            let reading = self.ending.is_none();
            let stopping = matches!(&self.ending, Some(ending) if matches!(ending.ended, Ended::Stopped));
            let next = tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => Next::Stop,
                () = self.confirmations.answered(), if self.confirmations.is_waiting() => Next::Answered,
                () = self.parked.due() => Next::Release,
                stored = stored(&mut self.storing) => Next::Stored(stored),
                item = self.messages.stream.next(), if reading && !self.hand.is_full() => Next::Item(item),
                seen = seen(&mut looking), if reading => Next::Seen(seen),
                () = sleep_until(look_at), if reading && looking.is_none() => Next::Look,
                () = end(self.ending.as_ref()) => Next::End,
            };
            match next {
                Next::Stop => {
                    self.hand.drop_all();
                    self.end(Ended::Stopped, STOP_MAX);
                }
                Next::Answered => {}
                Next::Release => self.parked.release(),
                Next::Stored(stored) => {
                    if let Err(ended) = self.stored(stored) {
                        return ended;
                    }
                }
                Next::Item(None) => self.end(Ended::Closed, DRAIN_MAX),
                Next::Item(Some(Err(error))) => {
                    let fault = Fault::of(&format!("read {}", self.found.name), &error);
                    self.end(Ended::Fault(fault), DRAIN_MAX);
                }
                Next::Item(Some(Ok(taken))) => {
                    // A stream on which messages come needs no second one.
                    (looking, self.looks, look_at) = (None, 0, Instant::now() + LOOK_AFTER);
                    self.settle();
                    self.hand.push(taken);
                }
                Next::Look if !self.settled => {
                    self.settle();
                    look_at = Instant::now() + LOOK_AFTER;
                }
                // Google may have sent all that it lets us have.
                Next::Look if self.storing.is_some() => look_at = Instant::now() + LOOK_AFTER,
                Next::Look => {
                    self.looks = self.looks.wrapping_add(1);
                    let (access, found) = (self.config.access.clone(), self.found.clone());
                    looking = Some(look(self.upstream.clone(), access, found, self.looks).boxed());
                }
                Next::Seen(seen) => {
                    (looking, look_at) = (None, Instant::now() + LOOK_AFTER);
                    self.saw(seen);
                }
                Next::End => {
                    let ending = self.ending.take();
                    return ending.map_or(Ended::Closed, |ending| ending.ended);
                }
            }
        }
    }

    /// Gives back what is in hand and sends the last acknowledgements.
    pub(crate) async fn close(self) {
        drop((self.hand, self.storing, self.parked));
        self.messages.close(CLOSE_PATIENCE).await;
    }

    fn end(&mut self, ended: Ended, patience: Duration) {
        let until = Instant::now() + patience;
        self.ending = Some(Ending { ended, until });
    }

    fn saw(&mut self, seen: Seen) {
        match seen {
            Seen::Fault(fault) => self.end(Ended::Fault(fault), DRAIN_MAX),
            Seen::Quiet { found, empty } => {
                let drained = found.orphaned && found.own && empty && self.parked.is_empty();
                self.found = found;
                self.settle();
                self.storable();
                if drained && self.config.delete {
                    self.end(Ended::Orphaned, DRAIN_MAX);
                }
            }
            Seen::Silent(other) => {
                tracing::warn!(
                    source = self.source.name,
                    subscription = self.found.name,
                    "nothing comes on the stream, it is replaced"
                );
                self.messages = other.read(&self.found.name);
                (self.upstream, self.looks) = (*other, 0);
            }
        }
    }

    /// Begins to store what is in hand, if there is something.
    fn store_next(&mut self) {
        while !self.hand.is_empty() {
            let batch = self.hand.batch();
            let (batch, events) = self.convert(batch);
            if batch.is_empty() {
                continue;
            }
            let source = self.source.clone();
            let work = async move {
                // Stopping is seen to here: a batch is given a moment to be stored.
                match timeout(HOLD_MAX, source.store(events, &CancellationToken::new())).await {
                    Ok(Ok(proof)) => Stored::Proven(proof),
                    Ok(Err(Unstored::TooLarge { .. })) => Stored::TooLarge,
                    Ok(Err(Unstored::Stopped)) | Err(_) => Stored::Held,
                }
            };
            let work = work.boxed();
            self.storing = Some(Storing { batch, work });
            return;
        }
    }

    fn stored(&mut self, stored: Stored) -> Result<(), Ended> {
        let mut batch = self.storing.take().map(|storing| storing.batch).unwrap_or_default();
        match stored {
            Stored::Proven(proof) => self.acknowledge(proof, batch),
            Stored::TooLarge if batch.len() > 1 => self.hand.put_back(batch),
            Stored::TooLarge => {
                if let Some(taken) = batch.pop() {
                    let why = "it is larger than the sink's channel takes: raise maxEventBytes there";
                    self.park(taken, "TooLarge", why);
                }
            }
            Stored::Held => return Err(Ended::Held),
        }
        self.storable();
        Ok(())
    }

    /// The messages that are to be stored, with their events.
    fn convert(&mut self, batch: Vec<Taken>) -> (Vec<Taken>, Vec<Event>) {
        let (mut kept, mut events) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for taken in batch {
            if let Some(proof) = self.confirmations.proof(&taken.0.message_id) {
                self.confirmations.acknowledge(proof, taken);
                continue;
            }
            let Some(taken) = self.parked.waits(taken) else {
                continue;
            };
            match self.origin.convert(&taken.0, taken.1.delivery_attempt()) {
                Ok(event) => {
                    events.push(event);
                    kept.push(taken);
                }
                Err(why) => {
                    let why = format!("it cannot become an event: {why}: correct ceOverrides");
                    self.park(taken, "Invalid", &why);
                }
            }
        }
        (kept, events)
    }

    fn acknowledge(&mut self, proof: Accepted, batch: Vec<Taken>) {
        let newest = batch.iter().filter_map(|(message, _)| published(message)).max();
        if let Some(newest) = newest {
            // A clock behind Google's makes a negative age.
            let age = Duration::try_from(Timestamp::now().duration_since(newest)).unwrap_or_default();
            self.source.counters.lag(age);
        }
        for taken in batch {
            self.confirmations.acknowledge(proof, taken);
        }
    }

    fn park(&mut self, taken: Taken, reason: &'static str, why: &str) {
        self.source.counters.invalid(1);
        self.last_parked = Some(Instant::now());
        let message = format!(
            "message {} of {} bytes cannot be stored: {why}. It stays in Pub/Sub and is tried again",
            taken.0.message_id,
            taken.0.data.len()
        );
        self.source
            .report
            .note(STORABLE, (Truth::False, Weight::Warning), reason, message);
        let key = if self.config.ordering {
            taken.0.ordering_key.clone()
        } else {
            String::new()
        };
        self.parked.park(taken, &key);
    }

    /// Takes the condition back when what could not be stored has not come again.
    fn storable(&mut self) {
        let quiet = |parked: Instant| self.parked.is_empty() && parked.elapsed() > STORABLE_AFTER;
        if self.last_parked.is_some_and(quiet) {
            self.last_parked = None;
            self.source
                .report
                .note(STORABLE, (Truth::True, Weight::Warning), "", "");
        }
    }

    /// Google takes the stream: says so, and what is short of it.
    fn settle(&mut self) {
        self.settled = true;
        let report = &self.source.report;
        if self.found.orphaned {
            let fault = no_topic(self.config);
            let message = format!("{}; what {} still has is read", fault.message, self.found.name);
            report.unmet(SUBSCRIBED, fault.reason, message);
        } else {
            report.met(SUBSCRIBED);
        }
        match self.found.ordered {
            Some(false) if self.config.ordering => {
                let message = format!(
                    "{} was made without message ordering, which cannot be changed: Google may send the messages of a key in any order. Delete it, or use another one",
                    self.found.name
                );
                report.note(ORDERED, (Truth::False, Weight::Warning), ORDERING_OFF, message);
            }
            Some(true) if self.config.ordering => report.note(ORDERED, (Truth::True, Weight::Warning), "", ""),
            _ => report.withdraw(ORDERED),
        }
    }
}

/// What becomes of the batch that is being stored, if one is.
async fn stored(storing: &mut Option<Storing>) -> Stored {
    match storing {
        Some(storing) => (&mut storing.work).await,
        None => std::future::pending().await,
    }
}

async fn end(ending: Option<&Ending>) {
    match ending {
        Some(ending) => sleep_until(ending.until).await,
        None => std::future::pending().await,
    }
}

/// The answer of the look that is under way, if one is.
async fn seen(looking: &mut Option<BoxFuture<'static, Seen>>) -> Seen {
    match looking {
        Some(looking) => looking.await,
        None => std::future::pending().await,
    }
}
