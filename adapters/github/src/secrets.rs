//! Which secrets a delivery may be signed with, while they change.
//!
//! A secret that we set on GitHub ourselves changes there a moment later than here. Until then, and as long as a delivery
//! that was signed before may still be on its way, the one before is taken too. It is kept in memory alone (CONTRACT SR-6);
//! what is signed with it after a restart is refused, and the sweep recovers it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{Secret, signature};

/// GitHub ends a delivery after 10 s: what was signed with the secret before is over by then.
const GRACE: Duration = Duration::from_secs(10);

/// A secret may change again before GitHub has the first change; more at once is a mistake.
const REPLACED_MAX: usize = 4;

/// The secrets that were replaced and may still be in use. Outlives the rebuild of its source.
#[derive(Default)]
pub(crate) struct Overlap(Mutex<State>);

#[derive(Default)]
struct State {
    current: Option<Secret>,
    replaced: Vec<Secret>,
    /// When a delivery was first signed with the current secret after the last change.
    verified: Option<Instant>,
}

impl Overlap {
    /// The source is told this secret now. The one before stays good only where we set the secret on GitHub ourselves:
    /// elsewhere its owner says how long, by `previousSecretToken`.
    fn change(&self, current: Option<&Secret>, is_ours_to_set: bool) {
        let mut state = self.0.lock();
        if !is_ours_to_set {
            state.replaced.clear();
        }
        if state.current.as_ref() == current {
            return;
        }
        let before = state.current.take();
        state.current = current.cloned();
        state.verified = None;
        if let Some(before) = before.filter(|_| is_ours_to_set) {
            state.replaced.push(before);
        }
        state.replaced.retain(|secret| Some(secret) != current);
        if state.replaced.len() > REPLACED_MAX {
            state.replaced.remove(0);
        }
    }

    fn replaced(&self) -> Vec<Secret> {
        let mut state = self.0.lock();
        if state.verified.is_some_and(|verified| verified.elapsed() >= GRACE) {
            state.replaced.clear();
        }
        state.replaced.clone()
    }

    fn verified(&self, secret: &Secret) {
        let mut state = self.0.lock();
        if state.current.as_ref() == Some(secret) && state.verified.is_none() {
            state.verified = Some(Instant::now());
        }
    }
}

/// One source's secrets: what its document names, and what that replaced.
#[derive(Clone)]
pub(crate) struct Secrets {
    /// The current one first.
    named: Vec<Secret>,
    /// Whether anything may come in while no secret is named.
    allow_unsigned: bool,
    overlap: Arc<Overlap>,
}

impl Secrets {
    pub(crate) fn new(named: Vec<Secret>, is_ours_to_set: bool, overlap: Arc<Overlap>) -> Self {
        overlap.change(named.first(), is_ours_to_set);
        Self {
            named,
            allow_unsigned: false,
            overlap,
        }
    }

    pub(crate) fn unsigned(self, allow_unsigned: bool) -> Self {
        Self { allow_unsigned, ..self }
    }

    /// Whether there is anything to verify a delivery with.
    pub(crate) fn has_none(&self) -> bool {
        self.named.is_empty()
    }

    /// Whether a body may come in.
    pub(crate) fn verify(&self, signature: Option<&str>, body: &[u8]) -> bool {
        if self.named.is_empty() {
            return self.allow_unsigned;
        }
        let mut secrets = self.named.clone();
        secrets.extend(self.overlap.replaced());
        match signature::signer(signature, body, &secrets) {
            Some(0) => {
                self.overlap.verified(&secrets[0]);
                true
            }
            found => found.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::sign;

    fn taken(secrets: &Secrets, by: &str) -> bool {
        secrets.verify(Some(&sign(by, b"{}")), b"{}")
    }

    fn named(secrets: &[&str]) -> Vec<Secret> {
        secrets.iter().map(|secret| Secret::new(secret.as_bytes())).collect()
    }

    /// Proves: SR-6
    #[tokio::test(start_paused = true)]
    async fn a_secret_we_replace_is_taken_until_the_new_one_was_seen() {
        let overlap = Arc::new(Overlap::default());
        let build = |secrets: &[&str]| Secrets::new(named(secrets), true, overlap.clone());
        assert!(!taken(&build(&["one"]), "two"));
        let secrets = build(&["two"]);
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert!(taken(&secrets, "one"), "GitHub may not have the new one yet");
        let secrets = build(&["three"]);
        assert!(
            taken(&secrets, "one") && taken(&secrets, "two"),
            "changed twice in a row"
        );
        assert!(taken(&secrets, "three"));
        assert!(taken(&build(&["three"]), "two"), "on its way when the new one arrived");
        tokio::time::advance(GRACE).await;
        assert!(!taken(&secrets, "one") && !taken(&secrets, "two"));
        assert!(taken(&secrets, "three"));
    }

    /// Proves: SR-6
    #[tokio::test(start_paused = true)]
    async fn a_secret_that_a_person_replaces_is_good_as_long_as_the_document_says() {
        let overlap = Arc::new(Overlap::default());
        let build = |secrets: &[&str]| Secrets::new(named(secrets), false, overlap.clone());
        build(&["one"]);
        assert!(taken(&build(&["two", "one"]), "one"));
        assert!(!taken(&build(&["two"]), "one"));
    }

    #[tokio::test(start_paused = true)]
    async fn changes_without_end_keep_few_secrets() {
        let overlap = Arc::new(Overlap::default());
        for n in 0..20 {
            Secrets::new(named(&[&n.to_string()]), true, overlap.clone());
        }
        assert_eq!(overlap.replaced(), named(&["15", "16", "17", "18"]));
    }
}
