//! The answer of `/readyz`: whether this process may be sent events, and what is degraded.

use super::Plane;

/// Channels that `/readyz` names as degraded; the rest is a number, so that the answer stays short.
const DEGRADED_LISTED: usize = 20;

/// The answer of `/readyz`.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// Whether this process may be sent events.
    pub ready: bool,
    /// Why the process is not ready.
    pub reasons: Vec<String>,
    /// Channels that are not open, or refuse events, each with the cause. They are no reason to send traffic elsewhere.
    pub degraded: Vec<String>,
}

impl Plane {
    /// Whether the start is over and no drain has begun: a spec was applied. Cheap: it may be polled. What comes and goes later, such as
    /// a disk that cannot be written, is told by [`Self::readiness`].
    pub fn is_started(&self) -> bool {
        self.applied() > 0 && !self.0.ingress.is_draining()
    }

    /// Ready once a spec was applied: its channels are open or their conditions say why not. Asks every channel how it is.
    pub fn readiness(&self) -> Readiness {
        let mut reasons = Vec::new();
        if self.applied() == 0 {
            reasons.push("documents are not loaded yet".to_owned());
        }
        if self.0.ingress.is_draining() {
            reasons.push("draining".to_owned());
        }
        reasons.extend(self.0.backends.unready());
        Readiness {
            ready: reasons.is_empty(),
            reasons,
            degraded: self.degraded(),
        }
    }

    /// Channels that are not open or refuse events, each with the cause: at most `DEGRADED_LISTED` of them.
    fn degraded(&self) -> Vec<String> {
        let state = self.0.runtime.state.lock();
        let mut degraded = Vec::new();
        for (name, model) in &state.spec.channels {
            let cause = match (state.channels.get(name), state.not_open(model)) {
                (_, Some(why)) => Some(format!("{}: {}", why.reason, why.message)),
                (Some(open), None) => open.channel.depth().refusing,
                (None, None) => None,
            };
            degraded.extend(cause.map(|cause| format!("channel {name}: {cause}")));
        }
        degraded.extend(self.0.backends.degraded());
        let more = degraded.len().saturating_sub(DEGRADED_LISTED);
        degraded.truncate(DEGRADED_LISTED);
        if more > 0 {
            degraded.push(format!("and {more} channels more"));
        }
        degraded
    }
}
