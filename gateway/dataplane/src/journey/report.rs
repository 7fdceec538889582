//! Reports on a subscription's deliveries: one fact is one log line, one count and one recorded attempt.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use channel::{AppendError, Delivery, ReadError};
use event::Event;
use log_limit::{LogLimit, LogLimits};
use spec::ObjectName;

use super::{
    breaker::Health,
    failure::{Failure, Reason},
};
use crate::{inspect::tries::Tries, metrics::SubscriptionMetrics};

/// Changes between success and failure are each worth a line; a sink that fails every other event would write one per event.
const CHANGES_LOGGED_PER_MINUTE: u32 = 10;

/// The whole process lacks file descriptors: one line a minute for all subscriptions.
static NOT_SENT: LazyLock<LogLimit> = LazyLock::new(LogLimit::default);

/// Reports on the deliveries of one subscription.
pub(crate) struct Reports {
    pub(crate) name: Arc<ObjectName>,
    pub(crate) metrics: SubscriptionMetrics,
    pub(crate) tries: Arc<Tries>,
    logged: Logged,
}

/// Picks the failures that follow a success: those are worth a line, as far as the limit allows.
struct FirstFailures {
    is_failing: AtomicBool,
    limit: LogLimit,
}

impl Default for FirstFailures {
    fn default() -> Self {
        Self {
            is_failing: AtomicBool::new(false),
            limit: LogLimit::per_minute(CHANGES_LOGGED_PER_MINUTE),
        }
    }
}

impl FirstFailures {
    /// Whether this failure is the first after a success, and may be logged.
    fn failed(&self, summary: impl FnOnce(u64) + Send + 'static) -> bool {
        !self.is_failing.swap(true, Ordering::Relaxed) && self.limit.admits(summary)
    }

    /// Most calls follow another success: those write nothing that other processors would have to read again.
    fn succeeded(&self) {
        if self.is_failing.load(Ordering::Relaxed) {
            self.is_failing.store(false, Ordering::Relaxed);
        }
    }
}

/// The limits of a subscription's log lines: one that fails writes some lines and not one per event.
struct Logged {
    attempts: FirstFailures,
    /// Attempts to place a reply.
    replies: FirstFailures,
    health: LogLimit,
    malformed: LogLimit,
    dead_letters: LogLimits<Reason>,
    dead_letters_refused: LogLimit,
    log_refused: LogLimit,
    unreadable: LogLimit,
}

impl Default for Logged {
    fn default() -> Self {
        Self {
            attempts: FirstFailures::default(),
            replies: FirstFailures::default(),
            health: LogLimit::per_minute(CHANGES_LOGGED_PER_MINUTE),
            malformed: LogLimit::default(),
            dead_letters: LogLimits::default(),
            dead_letters_refused: LogLimit::default(),
            log_refused: LogLimit::default(),
            unreadable: LogLimit::default(),
        }
    }
}

impl Reports {
    pub(crate) fn new(name: Arc<ObjectName>, metrics: SubscriptionMetrics, tries: Arc<Tries>) -> Self {
        Self {
            name,
            metrics,
            tries,
            logged: Logged::default(),
        }
    }

    /// The subscriber took the event, with this status where it has one. `fault` is the fault of its reply.
    pub(crate) fn succeeded(&self, event: &Event, status: Option<u16>, took: Duration, fault: Option<Box<str>>) {
        self.tries.taken(&self.name, event, status, took, fault);
        self.logged.attempts.succeeded();
    }

    /// An attempt failed: one count, and a line for the first after a success. `wait` is the time to the next attempt, if there is
    /// one.
    pub(crate) fn failed(&self, delivery: &Delivery, failure: &Failure, took: Duration, wait: Option<Duration>) {
        let offset = delivery.offset();
        self.tries.failed(&self.name, delivery.event(), failure, took, wait);
        self.metrics.attempt_failed(failure.reason);
        let (reason, wait_ms) = (failure.reason.as_str(), wait.map(|wait| wait.as_millis()));
        let summary = self.summary("deliveries failed after others succeeded");
        if self.logged.attempts.failed(summary) {
            tracing::warn!(
                subscription = %self.name, id = delivery.event().id(), %offset, reason, destination = failure.destination,
                detail = failure.detail, wait_ms, "delivery failed; further failures are logged at level debug until one succeeds"
            );
        } else {
            tracing::debug!(
                subscription = %self.name, %offset, reason, destination = failure.destination, detail = failure.detail,
                wait_ms, "delivery failed"
            );
        }
    }

    /// The sink's health changed, by the failure if it is not healthy again.
    pub(crate) fn health_changed(&self, health: Health, failure: Option<&Failure>) {
        if !self.admits(&self.logged.health, "sink changed between healthy and failing") {
            return;
        }
        let cause = failure.map(|failure| failure.reason.as_str());
        let (destination, detail) = (failure.map(|it| &it.destination), failure.map(|it| &it.detail));
        match health {
            Health::Healthy => tracing::info!(subscription = %self.name, "sink is healthy again"),
            Health::Failing => tracing::warn!(
                subscription = %self.name, reason = "SinkFailing", cause, destination, detail,
                "sink is failing, no further event is started until one succeeds"
            ),
            Health::Rejecting => tracing::warn!(
                subscription = %self.name, reason = "SinkRejecting", cause, destination, detail,
                "sink refuses every event, at most 10 a second are started until it takes one"
            ),
        }
    }

    /// This process could not send it, for a reason of its own: no attempt.
    pub(crate) fn not_sent(&self, failure: &Failure) {
        let summary =
            |unlogged: u64| tracing::warn!(unlogged, "more events wait because the gateway cannot open connections");
        if NOT_SENT.admits(summary) {
            tracing::warn!(
                subscription = %self.name, destination = failure.destination, detail = failure.detail,
                "the gateway cannot open a connection, events wait and use no attempt: raise its limit of open files"
            );
        }
    }

    /// The subscriber answered with a body that is no CloudEvent; the event counts as delivered (RP-3).
    pub(crate) fn malformed_reply(&self, event: &Event, destination: &str, fault: &str) {
        self.metrics.replies.malformed.inc();
        if self.admits(&self.logged.malformed, "more replies are malformed") {
            tracing::warn!(
                subscription = %self.name, id = event.id(), source = event.source(), reason = "Malformed", destination, fault,
                "reply is no CloudEvent and is dropped, the event is delivered"
            );
        }
    }

    /// The reply's target took it. `tries` failed before.
    pub(crate) fn reply_passed(&self, event: &Event, tries: u32, to: &str, took: Duration) {
        self.metrics.replies.passed.inc();
        if tries > 0 {
            self.tries.replied(&self.name, event, to, took);
        }
        self.logged.replies.succeeded();
    }

    /// A try to place a reply failed; the subscriber has the event.
    pub(crate) fn reply_failed(&self, event: &Event, failure: &Failure, took: Duration, wait: Option<Duration>) {
        self.tries.failed(&self.name, event, failure, took, wait);
        self.metrics.attempt_failed(failure.reason);
        let (reason, wait_ms) = (failure.reason.as_str(), wait.map(|wait| wait.as_millis()));
        let summary = self.summary("replies were not taken after others were");
        if self.logged.replies.failed(summary) {
            tracing::warn!(
                subscription = %self.name, id = event.id(), reason, destination = failure.destination, detail = failure.detail,
                wait_ms, "reply was not taken; further failures are logged at level debug until one is"
            );
        } else {
            tracing::debug!(
                subscription = %self.name, id = event.id(), reason, destination = failure.destination, detail = failure.detail,
                wait_ms, "reply was not taken"
            );
        }
    }

    /// A dead letter is where it belongs: a line a minute for each reason.
    pub(crate) fn buried(&self, failure: &Failure, attempts: u32, event: &Event) {
        self.tries.buried(&self.name, event, failure);
        let (name, reason) = (self.name.clone(), failure.reason.as_str());
        let summary = move |unlogged: u64| {
            tracing::warn!(subscription = %name, reason, unlogged, "more events are dead-lettered");
        };
        if self.logged.dead_letters.admits(failure.reason, summary) {
            tracing::warn!(
                subscription = %self.name, id = event.id(), source = event.source(), reason,
                destination = failure.destination, detail = failure.detail, attempts, "event is dead-lettered"
            );
        }
    }

    pub(crate) fn dead_letter_refused(&self, failure: &Failure, wait: Option<Duration>) {
        if self.admits(
            &self.logged.dead_letters_refused,
            "dead-letter sink did not take more letters",
        ) {
            tracing::warn!(
                subscription = %self.name, reason = failure.reason.as_str(), destination = failure.destination,
                detail = failure.detail, wait_ms = wait.map(|wait| wait.as_millis()), "dead-letter sink did not take a letter"
            );
        }
    }

    pub(crate) fn log_refused(&self, error: &AppendError) {
        if self.admits(&self.logged.log_refused, "dead-letter log did not take more letters") {
            tracing::error!(subscription = %self.name, %error, "dead-letter log did not take a letter, trying again");
        }
    }

    /// The subscription's cursor gave no events; it is asked again.
    pub(crate) fn unreadable(&self, error: &ReadError) {
        if self.admits(&self.logged.unreadable, "channel could not be read again and again") {
            tracing::error!(subscription = %self.name, %error, "channel cannot be read, trying again");
        }
    }

    /// A letter could not be removed from the log.
    pub(crate) fn not_redriven(&self, offset: u64, error: &ReadError) {
        if self.admits(&self.logged.log_refused, "dead-letter log did not work more often") {
            tracing::warn!(subscription = %self.name, %offset, %error, "dead letter could not be delivered again");
        }
    }

    /// Whether a line may be written; `summary` is the line that later counts those that were not.
    fn admits(&self, limit: &LogLimit, summary: &'static str) -> bool {
        limit.admits(self.summary(summary))
    }

    /// Returns the writer of the line that counts suppressed lines of one kind.
    fn summary(&self, what: &'static str) -> impl FnOnce(u64) + Send + use<> {
        let name = self.name.clone();
        move |unlogged| tracing::warn!(subscription = %name, unlogged, "{what}")
    }
}
