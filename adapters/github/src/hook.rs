//! Receives a delivery: check, store, answer, count.
//!
//! Deliveries are independent of each other, and none is kept: a refusal by the outlet is GitHub's failed delivery
//! (CONTRACT SR-5), which the sweep recovers. Of what is stored the GUID is remembered.

use std::{fmt, sync::Arc, time::Duration};

use adapter::{Accepted, Cause, Hook, HookAnswer, HookRequest, Reason, Severity, Source, Truth};
use async_trait::async_trait;
use event::Event;
use http::StatusCode;
use jiff::Timestamp;
use log_limit::LogLimits;
use tokio::task::spawn_blocking;

use crate::{Config, Counters, Outcome, check::check, outcome::Answered, secrets::Secrets, sources::SourceMemory};

/// Condition of a source whose channel takes all of its deliveries.
pub(crate) const FITS: &str = "DeliveriesFit";

/// GitHub's largest payload.
const BODY_MAX_BYTES: usize = 25 * 1024 * 1024;

/// Hashing and reading a body costs about 2 ms per MiB. Larger ones are checked beside the runtime's threads, so that other
/// requests and deliveries wait for none; smaller ones are not worth the way there.
const INLINE_MAX_BYTES: usize = 256 * 1024;

/// A check that broke off says nothing about the delivery.
const CHECK_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Takes the webhook deliveries of one source.
pub struct GitHubHook {
    config: Arc<Config>,
    source: Source,
    memory: Arc<SourceMemory>,
    secrets: Secrets,
    /// For each kind of refusal one warning a minute: strangers can knock as often as they like. Each refusal is counted.
    warnings: LogLimits<Outcome>,
}

impl GitHubHook {
    pub(crate) fn new(config: Arc<Config>, source: Source, memory: Arc<SourceMemory>) -> Self {
        let is_ours_to_set = config.registered_url().is_some();
        Self {
            secrets: Secrets::new(config.secrets.clone(), is_ours_to_set, memory.overlap.clone())
                .unsigned(config.allow_unsigned),
            config,
            source,
            memory,
            warnings: LogLimits::default(),
        }
    }

    /// Returns the counters of the source.
    pub fn counters(&self) -> &Counters {
        &self.memory.counters
    }

    async fn receive(&self, request: HookRequest) -> Result<Accepted, Answered> {
        let event = self.check(request).await?;
        let guid = event.id().to_owned();
        let proof = self.source.outlet.accept(vec![event]).await?;
        // Should GitHub not hear of it, the sweep knows better.
        self.memory.delivered_ids.lock().stored(&guid, proof);
        Ok(proof)
    }

    /// Cancel safe: nothing is stored yet.
    async fn check(&self, request: HookRequest) -> Result<Event, Answered> {
        let received = Timestamp::now();
        if request.body.len() <= INLINE_MAX_BYTES {
            return check(&self.config, &self.secrets, &self.memory.bodies, request, received);
        }
        let (config, secrets, memory) = (self.config.clone(), self.secrets.clone(), self.memory.clone());
        let checked = spawn_blocking(move || check(&config, &secrets, &memory.bodies, request, received)).await;
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
        self.memory.counters.increment(*outcome);
        outcome.count(&self.source.counters);
        if !outcome.is_refusal() {
            self.memory.delivered(&self.source.report, Timestamp::now());
            return;
        }
        let (source, status, detail) = (&self.source.name, answer.status.as_u16(), &answer.message);
        if *outcome == Outcome::TooLarge {
            let message = format!("{detail}: raise the channel's maxEventBytes or use another channel");
            let weight = (Truth::False, Severity::Warning);
            self.source
                .report
                .note(FITS, weight, Cause::new(Reason::TooLarge, message));
        }
        let reason = outcome.as_str();
        let name = source.clone();
        let summary =
            move |unlogged: u64| tracing::warn!(source = name, reason, unlogged, "more deliveries were refused");
        if self.warnings.admits(*outcome, summary) {
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

#[cfg(test)]
mod tests;
