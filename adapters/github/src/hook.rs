//! Receives a delivery: check, store, answer, count.
//!
//! Deliveries are independent of each other, and none is kept: a refusal by the outlet is GitHub's failed delivery
//! (CONTRACT SR-5), which the sweep recovers. Of what is stored the GUID is remembered.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use adapter::{Accepted, Hook, HookAnswer, HookRequest, Source, Truth, Weight};
use async_trait::async_trait;
use event::Event;
use http::StatusCode;
use jiff::Timestamp;
use tokio::{task::spawn_blocking, time::Instant};

use crate::{Config, Counters, Outcome, check::check, kept::Kept, outcome::Answered, secrets::Secrets};

/// Condition of a source whose channel takes all of its deliveries.
pub(crate) const FITS: &str = "DeliveriesFit";

/// GitHub's largest payload.
const BODY_MAX_BYTES: usize = 25 * 1024 * 1024;

/// Hashing and reading a body costs about 2 ms per MiB. Larger ones are checked beside the runtime's threads, so that other
/// requests and deliveries wait for none; smaller ones are not worth the way there.
const INLINE_MAX_BYTES: usize = 256 * 1024;

/// For each kind of refusal one warning a minute: strangers can knock as often as they like. Each refusal is counted.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// A check that broke off says nothing about the delivery.
const CHECK_RETRY_AFTER: Duration = Duration::from_secs(5);

pub struct GitHubHook {
    config: Arc<Config>,
    source: Source,
    kept: Arc<Kept>,
    secrets: Secrets,
    warnings: Warnings,
}

impl GitHubHook {
    pub(crate) fn new(config: Arc<Config>, source: Source, kept: Arc<Kept>) -> Self {
        let is_ours_to_set = config.registered_url().is_some();
        Self {
            secrets: Secrets::new(config.secrets.clone(), is_ours_to_set, kept.overlap.clone()),
            config,
            source,
            kept,
            warnings: Warnings::new(),
        }
    }

    pub fn counters(&self) -> &Counters {
        &self.kept.counters
    }

    async fn receive(&self, request: HookRequest) -> Result<Accepted, Answered> {
        let event = self.check(request).await?;
        let guid = event.id().to_owned();
        let proof = self.source.outlet.accept(vec![event]).await?;
        // Should GitHub not hear of it, the sweep knows better.
        self.kept.handled.lock().stored(&guid, proof);
        Ok(proof)
    }

    /// Cancel safe: nothing is stored yet.
    async fn check(&self, request: HookRequest) -> Result<Event, Answered> {
        let received = Timestamp::now();
        if request.body.len() <= INLINE_MAX_BYTES {
            return check(&self.config, &self.secrets, request, received);
        }
        let (config, secrets) = (self.config.clone(), self.secrets.clone());
        let checked = spawn_blocking(move || check(&config, &secrets, request, received)).await;
        checked.unwrap_or_else(|error| {
            let mut broken = Answered::new(
                Outcome::Unavailable,
                StatusCode::SERVICE_UNAVAILABLE,
                "the check of the delivery broke off",
            );
            broken.answer.retry_after = Some(CHECK_RETRY_AFTER);
            tracing::error!(source = self.source.name, %error, "check of a delivery broke off");
            Err(broken)
        })
    }

    /// One delivery, one count; of refusals a line.
    fn record(&self, answered: &Answered) {
        let Answered { outcome, answer } = answered;
        self.kept.counters.increment(*outcome);
        outcome.count(&self.source.counters);
        if !outcome.is_refusal() {
            self.kept.delivered(&self.source.report, Timestamp::now());
            return;
        }
        let (source, status, detail) = (&self.source.name, answer.status.as_u16(), &answer.message);
        if *outcome == Outcome::TooLarge {
            let message = format!("{detail}: raise the channel's maxEventBytes or use another channel");
            let weight = (Truth::False, Weight::Warning);
            self.source.report.note(FITS, weight, outcome.as_str(), message);
        }
        let reason = outcome.as_str();
        if self.warnings.is_due(*outcome) {
            tracing::warn!(source, reason, status, detail, "delivery refused");
        } else {
            tracing::debug!(source, reason, status, detail, "delivery refused");
        }
    }
}

#[async_trait]
impl Hook for GitHubHook {
    fn max_body_bytes(&self) -> usize {
        BODY_MAX_BYTES
    }

    async fn call(&self, request: HookRequest) -> HookAnswer {
        let answered = match self.receive(request).await {
            // The proof of storage is what allows the answer (CONTRACT SR-1).
            Ok(_proof) => Answered::new(Outcome::Stored, StatusCode::ACCEPTED, "stored"),
            Err(answered) => answered,
        };
        self.record(&answered);
        answered.answer
    }
}

impl fmt::Debug for GitHubHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHubHook")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// When each kind of refusal may be warned about again, in milliseconds since the hook was made.
struct Warnings {
    since: Instant,
    due_ms: [AtomicU64; Outcome::ALL.len()],
}

impl Warnings {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            due_ms: Default::default(),
        }
    }

    fn is_due(&self, outcome: Outcome) -> bool {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let now = ms(self.since.elapsed());
        let due = &self.due_ms[outcome as usize];
        let was = due.load(Ordering::Relaxed);
        let next = now.saturating_add(ms(WARNING_INTERVAL));
        now >= was
            && due
                .compare_exchange(was, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests;
