//! The state of a source that outlives its rebuilds, and its metrics.
//!
//! A source is rebuilt when its document or a secret changes. Its former secret may still be in use then, stored deliveries
//! must still be recognized, and its counters continue. The state lives as long as a hook or an adapter of the source;
//! deleting the source removes its series.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use adapter::{Family, Measured, PerSource, Report, Sample, Source, labels};
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use crate::{
    Config, GitHubAdapter, GitHubHook, Outcome, api::Budget, bodies::Bodies, delivered::DeliveredIds, secrets::Overlap,
};

/// One source's deliveries, by what became of them.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Outcome::ALL.len()]);

impl Counters {
    /// Returns how many deliveries ended so.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn increment(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// The state of one source in this process.
#[derive(Default)]
pub(crate) struct SourceMemory {
    /// A source that was deleted and recreated has another uid, and starts with an empty state.
    uid: String,
    pub(crate) counters: Counters,
    pub(crate) overlap: Arc<Overlap>,
    pub(crate) delivered_ids: Mutex<DeliveredIds>,
    pub(crate) bodies: Bodies,
    pub(crate) budget: Arc<Budget>,
    pub(crate) last_delivery: Mutex<Option<Timestamp>>,
}

impl SourceMemory {
    /// Records that a delivery of this time was stored, or a ping answered.
    pub(crate) fn delivered(&self, report: &Report, at: Timestamp) {
        let mut last = self.last_delivery.lock();
        if *last < Some(at) {
            *last = Some(at);
            report.field("lastDeliveryTime", at.to_string());
        }
    }
}

impl Measured for SourceMemory {
    const FAMILIES: &'static [Family<Self>] = &[
        Family {
            name: "headgate_github_deliveries",
            help: "Deliveries of GitHub by what became of them",
            samples: |memory| {
                let outcomes = Outcome::ALL.into_iter();
                outcomes
                    .map(|outcome| (Some(outcome.as_str()), Sample::Count(memory.counters.count(outcome))))
                    .collect()
            },
        },
        Family {
            name: "headgate_github_api_remaining",
            help: "Requests that GitHub's API still allows until its limit is renewed",
            samples: |memory| {
                let remaining = memory.budget.remaining();
                remaining
                    .map(|remaining| (None, Sample::Gauge(remaining)))
                    .into_iter()
                    .collect()
            },
        },
    ];
}

/// All GitHub sources of a process. A handle: clones share them.
#[derive(Clone, Debug, Default)]
pub struct Sources(PerSource<SourceMemory>);

impl Sources {
    /// Makes sources whose metrics are shown in scrapes of `registry`.
    pub fn registered(registry: &mut Registry) -> Self {
        Self(PerSource::registered(registry))
    }

    /// Builds a source: its hook, unless it polls, and the adapter that manages its webhook and recovers deliveries.
    pub fn source(&self, config: Config, source: Source) -> (Option<GitHubHook>, GitHubAdapter) {
        let memory = self.memory(&source);
        let config = Arc::new(config);
        let adapter = GitHubAdapter::new(config.clone(), source.clone(), memory.clone());
        let hook = (!config.is_polling()).then(|| GitHubHook::new(config, source, memory));
        (hook, adapter)
    }

    fn memory(&self, source: &Source) -> Arc<SourceMemory> {
        let make = || SourceMemory {
            uid: source.uid.clone(),
            ..SourceMemory::default()
        };
        self.0
            .get_or_make(labels(&source.name), |memory| memory.uid == source.uid, make)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use adapter::suite::{Scripted, shown, source};

    use super::*;
    use crate::tests::config;

    #[test]
    fn a_sources_series_live_as_long_as_the_source() {
        let mut registry = Registry::default();
        let sources = Sources::registered(&mut registry);
        let build = |uid: &str| {
            let mut given = source(Scripted::storing());
            given.uid = uid.to_owned();
            sources.source(config(&["now"], &["*"]), given)
        };
        let (hook, adapter) = build("one");
        hook.as_ref().unwrap().counters().increment(Outcome::Stored);
        let edited = build("one");
        drop((hook, adapter));
        edited.0.as_ref().unwrap().counters().increment(Outcome::Stored);
        let line = r#"headgate_github_deliveries_total{namespace="default",name="test",result="Stored"}"#;
        assert!(shown(&registry).contains(&format!("{line} 2")), "{}", shown(&registry));
        assert!(!shown(&registry).contains("remaining{"), "GitHub has not said it yet");
        let made_again = build("two");
        assert!(shown(&registry).contains(&format!("{line} 0")), "{}", shown(&registry));
        drop((edited, made_again));
        assert!(!shown(&registry).contains("name=\"test\""));
    }
}
