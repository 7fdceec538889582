//! Reads a subscription: stores messages in batches, and acknowledges them with the proof of it.
//!
//! One batch is stored at a time, in Google's order, so the order of every key is kept. While the sink refuses, messages are
//! read until in_flight.rs is full, and the client renews their leases.

use std::time::Duration;

use adapter::{Accepted, Cause, Reason, Severity, Source, Truth, Unstored};
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
    in_flight::InFlight,
    probe::{PROBE_AFTER, ProbeResult, probe},
    subscription::{ReadableSubscription, no_topic},
    unstorable::{HELD_FOR, Unstorable},
    upstream::{LeasedMessage, Messages, Upstream},
};

/// Conditions of a Pub/Sub source, besides those that every source has.
pub(crate) const SUBSCRIBED: &str = "Subscribed";
const ORDERED: &str = "Ordered";
const STORABLE: &str = "Storable";

/// Google ends a stream that it does not accept within a round trip; one that lasted this long is accepted.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// How long messages are held while the sink refuses them, before they are released to other subscribers.
const HOLD_MAX: Duration = Duration::from_secs(10 * 60);

/// By then a message that could not be stored was released, came again and was stored: Google waits a minute at most.
const STORABLE_AFTER: Duration = Duration::from_secs(3 * HELD_FOR.as_secs());

/// For messages in flight when the stream has ended: Google may still accept their acknowledgements.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// For a batch that is being stored when the source stops: dropped, it would come twice.
const STOP_MAX: Duration = Duration::from_secs(2);
/// For the last acknowledgements when the source stops: the client sends them every 100 ms.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Why reading ended.
pub(crate) enum Ended {
    /// The source stops.
    Stopped,
    /// Google refuses, or does not answer.
    Fault(Fault),
    /// Google ended the stream without saying why.
    Closed,
    /// The sink refused for too long: all messages are released.
    Held,
    /// Our own subscription lost its topic and has nothing left to read.
    Orphaned,
}

/// The next step of the loop.
enum Next {
    Stop,
    Answered,
    Release,
    Stored(Stored),
    Item(Option<Result<LeasedMessage, Error>>),
    ProbeNow,
    ProbeResult(ProbeResult),
    End,
}

/// The end of storing a batch.
#[derive(Clone, Copy)]
enum Stored {
    Proven(Accepted),
    TooLarge,
    /// Refused for too long.
    Held,
}

/// A batch on its way into the sink's channel.
struct Storing {
    batch: Vec<LeasedMessage>,
    work: BoxFuture<'static, Stored>,
}

/// Nothing more is read; messages in flight are finished until then.
struct Ending {
    ended: Ended,
    until: Instant,
}

pub(crate) struct Reader<'a> {
    config: &'a Config,
    source: &'a Source,
    upstream: Upstream,
    found: ReadableSubscription,
    origin: Origin,
    messages: Messages,
    in_flight: InFlight,
    storing: Option<Storing>,
    ending: Option<Ending>,
    confirmations: &'a mut Confirmations,
    unstorable: Unstorable,
    last_unstorable: Option<Instant>,
    /// Probes since the last message.
    probes: u32,
    /// Whether Google accepted the stream.
    pub(crate) settled: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        config: &'a Config,
        source: &'a Source,
        upstream: Upstream,
        found: ReadableSubscription,
        confirmations: &'a mut Confirmations,
    ) -> Self {
        Self {
            config,
            source,
            messages: upstream.read(&found.name),
            upstream,
            found,
            origin: Origin::new(config),
            in_flight: InFlight::default(),
            storing: None,
            ending: None,
            confirmations,
            unstorable: Unstorable::default(),
            last_unstorable: None,
            probes: 0,
            settled: false,
        }
    }

    /// Reads until something ends it. [`Reader::close`] releases the messages that are in flight then.
    pub(crate) async fn run(&mut self, stop: &CancellationToken) -> Ended {
        let mut probe_at = Instant::now() + SETTLED_AFTER;
        let mut probing: Option<BoxFuture<'static, ProbeResult>> = None;
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
                () = self.unstorable.due() => Next::Release,
                stored = or_never(self.storing.as_mut().map(|storing| &mut storing.work)) => Next::Stored(stored),
                item = self.messages.stream.next(), if reading && !self.in_flight.is_full() => Next::Item(item),
                probed = or_never(probing.as_mut()), if reading => Next::ProbeResult(probed),
                () = sleep_until(probe_at), if reading && probing.is_none() => Next::ProbeNow,
                () = or_never(self.ending.as_ref().map(|ending| sleep_until(ending.until))) => Next::End,
            };
            match next {
                Next::Stop => {
                    self.in_flight.drop_all();
                    self.end(Ended::Stopped, STOP_MAX);
                }
                Next::Answered => {}
                Next::Release => self.unstorable.release(),
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
                Next::Item(Some(Ok(leased))) => {
                    // A stream on which messages come needs no second one.
                    (probing, self.probes, probe_at) = (None, 0, Instant::now() + PROBE_AFTER);
                    self.settle();
                    self.in_flight.push(leased);
                }
                Next::ProbeNow if !self.settled => {
                    self.settle();
                    probe_at = Instant::now() + PROBE_AFTER;
                }
                // Google may have sent all that it leases to us.
                Next::ProbeNow if self.storing.is_some() => probe_at = Instant::now() + PROBE_AFTER,
                Next::ProbeNow => {
                    self.probes = self.probes.wrapping_add(1);
                    let (access, found) = (self.config.access.clone(), self.found.clone());
                    probing = Some(probe(self.upstream.clone(), access, found, self.probes).boxed());
                }
                Next::ProbeResult(probed) => {
                    (probing, probe_at) = (None, Instant::now() + PROBE_AFTER);
                    self.apply_probe(probed);
                }
                Next::End => {
                    let ending = self.ending.take();
                    return ending.map_or(Ended::Closed, |ending| ending.ended);
                }
            }
        }
    }

    /// Releases the messages in flight and sends the last acknowledgements.
    pub(crate) async fn close(self) {
        drop((self.in_flight, self.storing, self.unstorable));
        self.messages.close(CLOSE_PATIENCE).await;
    }

    fn end(&mut self, ended: Ended, patience: Duration) {
        let until = Instant::now() + patience;
        self.ending = Some(Ending { ended, until });
    }

    fn apply_probe(&mut self, probed: ProbeResult) {
        match probed {
            ProbeResult::Fault(fault) => self.end(Ended::Fault(fault), DRAIN_MAX),
            ProbeResult::Quiet { found, empty } => {
                let drained = found.orphaned && found.own && empty && self.unstorable.is_empty();
                self.found = found;
                self.settle();
                self.storable();
                if drained && self.config.delete {
                    self.end(Ended::Orphaned, DRAIN_MAX);
                }
            }
            ProbeResult::Silent(other) => {
                tracing::warn!(
                    source = self.source.name,
                    subscription = self.found.name,
                    "nothing comes on the stream, it is replaced"
                );
                self.messages = other.read(&self.found.name);
                (self.upstream, self.probes) = (*other, 0);
            }
        }
    }

    /// Begins to store the next batch in flight, if there is one.
    fn store_next(&mut self) {
        while !self.in_flight.is_empty() {
            let batch = self.in_flight.batch();
            let (batch, events) = self.convert(batch);
            if batch.is_empty() {
                continue;
            }
            let source = self.source.clone();
            let work = async move {
                // Not stopped with the source: a batch has a moment to be stored.
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
            Stored::TooLarge if batch.len() > 1 => self.in_flight.put_back(batch),
            Stored::TooLarge => {
                if let Some(leased) = batch.pop() {
                    let why = "it is larger than the sink's channel takes: raise maxEventBytes there";
                    self.hold_unstorable(leased, Reason::TooLarge, why);
                }
            }
            Stored::Held => return Err(Ended::Held),
        }
        self.storable();
        Ok(())
    }

    /// Converts a batch to events; returns them with their messages, without those that are stored or held already.
    fn convert(&mut self, batch: Vec<LeasedMessage>) -> (Vec<LeasedMessage>, Vec<Event>) {
        let (mut kept, mut events) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for leased in batch {
            if let Some(proof) = self.confirmations.proof(&leased.0.message_id) {
                self.confirmations.acknowledge(proof, leased);
                continue;
            }
            let Some(leased) = self.unstorable.waits(leased) else {
                continue;
            };
            match self.origin.convert(&leased.0, leased.1.delivery_attempt()) {
                Ok(event) => {
                    events.push(event);
                    kept.push(leased);
                }
                Err(why) => {
                    let why = format!("it cannot become an event: {why}: correct ceOverrides");
                    self.hold_unstorable(leased, Reason::Invalid, &why);
                }
            }
        }
        (kept, events)
    }

    fn acknowledge(&mut self, proof: Accepted, batch: Vec<LeasedMessage>) {
        let newest = batch.iter().filter_map(|(message, _)| published(message)).max();
        if let Some(newest) = newest {
            // A clock behind Google's makes a negative age.
            let age = Duration::try_from(Timestamp::now().duration_since(newest)).unwrap_or_default();
            self.source.counters.lag(age);
        }
        for leased in batch {
            self.confirmations.acknowledge(proof, leased);
        }
    }

    fn hold_unstorable(&mut self, leased: LeasedMessage, reason: Reason, why: &str) {
        self.source.counters.invalid(1);
        self.last_unstorable = Some(Instant::now());
        let message = format!(
            "message {} of {} bytes cannot be stored: {why}. It stays in Pub/Sub and is tried again",
            leased.0.message_id,
            leased.0.data.len()
        );
        self.source
            .report
            .note(STORABLE, (Truth::False, Severity::Warning), Cause::new(reason, message));
        let key = if self.config.ordering {
            leased.0.ordering_key.clone()
        } else {
            String::new()
        };
        self.unstorable.hold_unstorable(leased, &key);
    }

    /// Clears the condition when the messages that could not be stored have not come again.
    fn storable(&mut self) {
        let quiet = |unstorable: Instant| self.unstorable.is_empty() && unstorable.elapsed() > STORABLE_AFTER;
        if self.last_unstorable.is_some_and(quiet) {
            self.last_unstorable = None;
            self.source
                .report
                .note(STORABLE, (Truth::True, Severity::Warning), None);
        }
    }

    /// Reports that Google accepted the stream, and what of it is not as configured.
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
                report.note(
                    ORDERED,
                    (Truth::False, Severity::Warning),
                    Cause::new(ORDERING_OFF, message),
                );
            }
            Some(true) if self.config.ordering => report.note(ORDERED, (Truth::True, Severity::Warning), None),
            _ => report.withdraw(ORDERED),
        }
    }
}

/// Waits for `future`; for ever if there is none.
async fn or_never<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
