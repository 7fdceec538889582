//! The writes to an object, so that no write is repeated and no retry comes too early.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use crate::{refusal::Refusal, status::Transition};

/// Delays between retries of one object.
const RETRY: backoff::Policy = backoff::Policy {
    retry: u32::MAX,
    growth: backoff::Growth::Exponential,
    delay: Duration::from_secs(1),
    max: Duration::from_secs(60),
    retry_after_max: Duration::from_secs(60),
};

/// Minimum time between two equal Events of an object.
const EVENT_AGAIN: Duration = Duration::from_secs(600);

/// The history of one object.
#[derive(Default)]
pub(crate) struct WriteHistory {
    /// Retries of its status.
    pub(super) status: Backoff,
    /// Digests of the last written status and of the status that the API server had then: a write that changes nothing
    /// is not repeated.
    pub(super) written: Option<(u64, u64)>,
    pub(super) at: Option<Instant>,
    /// The API server dropped a part of the last written status.
    pub(super) is_cut: bool,
    /// Retries of its channel's Service, and why the last try failed.
    pub(super) service: Backoff,
    pub(super) service_refused: Option<Refusal>,
    posted_at: HashMap<(bool, String), Instant>,
}

/// The delay of retries after failures.
#[derive(Default)]
pub(crate) struct Backoff {
    failed: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    pub(super) fn is_due(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed > 0
    }

    pub(super) fn ended(&mut self, well: bool) {
        if well {
            *self = Self::default();
            return;
        }
        self.failed = self.failed.saturating_add(1);
        let wait = RETRY.wait(self.failed, None, rand::random()).unwrap_or(RETRY.max);
        self.not_before = Some(Instant::now() + wait);
    }
}

impl WriteHistory {
    /// Returns whether this Event was not posted lately, and records it.
    pub(super) fn may_post(&mut self, transition: &Transition) -> bool {
        self.posted_at.retain(|_, at| at.elapsed() < EVENT_AGAIN);
        let what = (transition.is_warning, transition.reason.clone());
        self.posted_at.insert(what, Instant::now()).is_none()
    }
}

pub(super) fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}
