//! Identity providers and their keys (CONTRACT PU-2).
//!
//! Each issuer has one task, which reads its keys: at the start, every five minutes, every ten seconds while that fails, and
//! when a token names a key that is not known, at most once in ten seconds. Requests read what the task found; a request waits
//! for the task only while no key is known, or for a key that is not, and never for long. So a slow issuer delays the tokens
//! that name it, and nothing else.
//!
//! Keys that were read stay in force for a day when the issuer cannot be reached. Publishers with tokens that are still good go
//! on during an outage of a night; a key that was withdrawn is refused five minutes later, as long as the issuer answers.

mod fetch;
mod keys;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use log_limit::LogLimit;
use parking_lot::Mutex;
use spec::{Cause, Reason};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use keys::{Algorithm, KeySet, SigningKey};

/// How often keys are read. A key that an issuer withdrew is good for so long.
const REFRESH: Duration = Duration::from_secs(5 * 60);

/// How long after a failure they are read again.
const RETRY: Duration = Duration::from_secs(10);

/// How often a token with an unknown key makes the keys be read.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(10);

/// How long keys are good after they were read: see the module.
const VALID: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a request waits for keys. A sender's own timeout is longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads the keys of an issuer.
#[async_trait]
pub(crate) trait Fetch: Send + Sync {
    /// Returns within seconds. The error is a sentence for people.
    async fn keys(&self, issuer: &str) -> Result<KeySet, String>;
}

/// The issuers of all channels. Channels that trust the same issuer share its keys.
pub(crate) struct Issuers {
    known: Mutex<HashMap<String, Weak<Issuer>>>,
    fetch: Arc<dyn Fetch>,
}

impl Default for Issuers {
    fn default() -> Self {
        Self::new(Arc::new(fetch::Discovery::default()))
    }
}

impl Issuers {
    pub(crate) fn new(fetch: Arc<dyn Fetch>) -> Self {
        Self {
            known: Mutex::default(),
            fetch,
        }
    }

    /// Returns the issuer with this URL. The first caller starts its task, which ends with the last user.
    pub(super) fn get(&self, url: &str) -> Arc<Issuer> {
        let mut known = self.known.lock();
        known.retain(|_, issuer| issuer.strong_count() > 0);
        if let Some(issuer) = known.get(url).and_then(Weak::upgrade) {
            return issuer;
        }
        let stop = CancellationToken::new();
        let issuer = Arc::new(Issuer {
            url: url.to_owned(),
            state: Mutex::default(),
            wake: Arc::default(),
            reads: watch::Sender::new(0),
            log: LogLimit::default(),
            _stop: stop.clone().drop_guard(),
        });
        known.insert(url.to_owned(), Arc::downgrade(&issuer));
        let task = read_for_ever(Arc::downgrade(&issuer), self.fetch.clone());
        tokio::spawn(async move { stop.run_until_cancelled(task).await });
        issuer
    }
}

/// One issuer.
pub(super) struct Issuer {
    url: String,
    state: Mutex<State>,
    /// Makes the task read now.
    wake: Arc<Notify>,
    /// How often the task has read, with or without success.
    reads: watch::Sender<u64>,
    log: LogLimit,
    _stop: DropGuard,
}

#[derive(Default)]
struct State {
    keys: Option<(Arc<KeySet>, Instant)>,
    /// Why the last reading failed, if it did.
    failure: Option<String>,
    /// When a token with an unknown key made the task read, and whether that reading goes on.
    unknown_key: Option<(Instant, bool)>,
}

/// Why there is no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The issuer has no such key.
    Unknown,
    /// The issuer's keys could not be read.
    Unavailable,
}

impl Issuer {
    /// Returns the keys that may have signed a token. Waits up to [`PATIENCE`]. Cancel safe.
    pub(super) async fn keys(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Vec<SigningKey>, NoKey> {
        let mut reads = self.reads.subscribe();
        if *reads.borrow_and_update() == 0 {
            self.next(&mut reads).await;
        }
        let known = self.in_force().ok_or(NoKey::Unavailable)?;
        let found = known.find(id, algorithm);
        if !found.is_empty() {
            return Ok(found);
        }
        if self.ask_again() {
            self.next(&mut reads).await;
        }
        let found = self.in_force().map_or_else(Vec::new, |known| known.find(id, algorithm));
        match (found.is_empty(), self.state.lock().failure.is_some()) {
            (false, _) => Ok(found),
            // The key may be one that the issuer got since.
            (true, true) => Err(NoKey::Unavailable),
            (true, false) => Err(NoKey::Unknown),
        }
    }

    /// Why tokens of this issuer cannot be verified: its keys could not be read for too long.
    pub(super) fn trouble(&self) -> Option<Cause> {
        let is_failing = self.state.lock().failure.is_some();
        (is_failing && self.in_force().is_none()).then(|| self.unavailable())
    }

    pub(super) fn unavailable(&self) -> Cause {
        let failure = self.state.lock().failure.clone();
        let why = failure.unwrap_or_else(|| "it has not answered yet".to_owned());
        Cause::new(
            Reason::IssuerUnreachable,
            format!("the keys of issuer {} cannot be read: {why}", self.url),
        )
    }

    fn in_force(&self) -> Option<Arc<KeySet>> {
        let state = self.state.lock();
        let (keys, read_at) = state.keys.as_ref()?;
        (read_at.elapsed() < VALID).then(|| keys.clone())
    }

    /// Whether a reading for an unknown key goes on, which begins now where the last one is long enough ago.
    fn ask_again(&self) -> bool {
        let mut state = self.state.lock();
        match state.unknown_key {
            Some((at, is_reading)) if at.elapsed() < UNKNOWN_KEY_PAUSE => is_reading,
            _ => {
                state.unknown_key = Some((Instant::now(), true));
                self.wake.notify_one();
                true
            }
        }
    }

    async fn next(&self, reads: &mut watch::Receiver<u64>) {
        // Whether it came in time, and with what, is looked up in the state.
        let _elapsed = tokio::time::timeout(PATIENCE, reads.changed()).await;
    }

    /// Takes note of a reading, and returns how long to wait until the next.
    fn finished(&self, read: Result<KeySet, String>) -> Duration {
        let mut state = self.state.lock();
        if let Some((_, is_reading)) = &mut state.unknown_key {
            *is_reading = false;
        }
        let wait = match read {
            Ok(keys) => {
                state.keys = Some((Arc::new(keys), Instant::now()));
                state.failure = None;
                REFRESH
            }
            Err(why) => {
                self.warn(&why);
                state.failure = Some(why);
                RETRY
            }
        };
        drop(state);
        self.reads.send_modify(|reads| *reads += 1);
        wait
    }

    fn warn(&self, why: &str) {
        let issuer = self.url.clone();
        let is_admitted = self.log.admits(move |unlogged| {
            tracing::warn!(
                issuer,
                unlogged,
                "the keys of an identity provider still cannot be read"
            );
        });
        if is_admitted {
            tracing::warn!(
                issuer = self.url,
                error = why,
                "the keys of an identity provider cannot be read, those known stay in force for a day"
            );
        }
    }
}

/// Reads the keys of an issuer again and again, until it is dropped.
async fn read_for_ever(issuer: Weak<Issuer>, fetch: Arc<dyn Fetch>) {
    loop {
        let Some(url) = issuer.upgrade().map(|issuer| issuer.url.clone()) else {
            return;
        };
        let read = fetch.keys(&url).await;
        let Some((wait, wake)) = issuer
            .upgrade()
            .map(|issuer| (issuer.finished(read), issuer.wake.clone()))
        else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = wake.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests;
