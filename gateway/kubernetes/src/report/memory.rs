//! What was done about an object, so that nothing is done twice and nothing is tried too often.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use crate::{refusal::Refusal, status::Happening};

/// Waits between tries of one object.
const RETRY: backoff::Policy = backoff::Policy {
    retry: u32::MAX,
    growth: backoff::Growth::Exponential,
    delay: Duration::from_secs(1),
    max: Duration::from_secs(60),
    retry_after_max: Duration::from_secs(60),
};

/// The same Event of the same object is told again after this at the earliest.
const EVENT_AGAIN: Duration = Duration::from_secs(600);

/// Of one object.
#[derive(Default)]
pub(crate) struct Memory {
    /// Of its status.
    pub(super) status: Tries,
    /// Digests of what was written last and of what the status was then: a write that changes nothing is not repeated.
    pub(super) written: Option<(u64, u64)>,
    pub(super) at: Option<Instant>,
    /// Some of what was written last is not there.
    pub(super) is_cut: bool,
    /// Of its channel's Service, and why the last one failed.
    pub(super) service: Tries,
    pub(super) service_refused: Option<Refusal>,
    told: HashMap<(bool, String), Instant>,
}

/// What failed is tried again, but not at once.
#[derive(Default)]
pub(crate) struct Tries {
    failed: u32,
    not_before: Option<Instant>,
}

impl Tries {
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

impl Memory {
    /// Not again what was told a moment ago.
    pub(super) fn may_tell(&mut self, happening: &Happening) -> bool {
        self.told.retain(|_, at| at.elapsed() < EVENT_AGAIN);
        let what = (happening.is_warning, happening.reason.clone());
        self.told.insert(what, Instant::now()).is_none()
    }
}

pub(super) fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}
