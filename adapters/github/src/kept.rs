//! What outlives the rebuild of a source, and its metrics.
//!
//! A source is built anew when its document or a secret changes. The secret before may still be in use then, deliveries that
//! were stored must still be known, and counters go on. All of it lives as long as a hook or an adapter of the source: a
//! deleted source takes its series along.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use adapter::{PerSource, Report, Source};
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{Config, GitHubAdapter, GitHubHook, Outcome, api::Budget, handled::Handled, secrets::Overlap};

/// One source's deliveries, by what became of them.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Outcome::ALL.len()]);

impl Counters {
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn increment(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Of one source.
#[derive(Default)]
pub(crate) struct Kept {
    /// One that was deleted and made again is another source.
    uid: String,
    pub(crate) counters: Counters,
    pub(crate) overlap: Arc<Overlap>,
    pub(crate) handled: Mutex<Handled>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) last_delivery: Mutex<Option<Timestamp>>,
}

impl Kept {
    /// A delivery of this time is stored, or was greeted.
    pub(crate) fn delivered(&self, report: &Report, at: Timestamp) {
        let mut last = self.last_delivery.lock();
        if *last < Some(at) {
            *last = Some(at);
            report.field("lastDeliveryTime", at.to_string());
        }
    }
}

/// All GitHub sources of a process. A handle: clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Sources(PerSource<String, Kept>);

impl Sources {
    /// Sources whose metrics are shown with the registry's.
    pub fn registered(registry: &mut Registry) -> Self {
        let sources = Self::default();
        registry.register_collector(Box::new(sources.clone()));
        sources
    }

    /// What a source is made of: what is called, unless it polls, and what looks after GitHub.
    pub fn source(&self, config: Config, source: Source) -> (Option<GitHubHook>, GitHubAdapter) {
        let kept = self.kept(&source);
        let config = Arc::new(config);
        let adapter = GitHubAdapter::new(config.clone(), source.clone(), kept.clone());
        let hook = (!config.is_polling()).then(|| GitHubHook::new(config, source, kept));
        (hook, adapter)
    }

    fn kept(&self, source: &Source) -> Arc<Kept> {
        let make = || Kept {
            uid: source.uid.clone(),
            ..Kept::default()
        };
        self.0
            .get_or_make(source.name.clone(), |kept| kept.uid == source.uid, make)
    }
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sources = self.0.in_use();
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Deliveries of GitHub by what became of them";
        let mut family = encoder.encode_descriptor("headgate_github_deliveries", help, None, kind)?;
        for (name, kept) in &sources {
            let (namespace, name) = name.split_once('/').unwrap_or(("", name));
            for outcome in Outcome::ALL {
                let labels = [("namespace", namespace), ("name", name), ("result", outcome.as_str())];
                ConstCounter::new(kept.counters.count(outcome)).encode(family.encode_family(&labels)?)?;
            }
        }
        let known = |(name, kept): &(String, Arc<Kept>)| Some((name.clone(), kept.budget.remaining()?));
        let budgets: Vec<(String, i64)> = sources.iter().filter_map(known).collect();
        if budgets.is_empty() {
            return Ok(());
        }
        let kind = ConstGauge::new(0_i64).metric_type();
        let help = "Requests that GitHub's API still allows until its limit is renewed";
        let mut family = encoder.encode_descriptor("headgate_github_api_remaining", help, None, kind)?;
        for (name, remaining) in &budgets {
            let (namespace, name) = name.split_once('/').unwrap_or(("", name));
            let labels = [("namespace", namespace), ("name", name)];
            ConstGauge::new(*remaining).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use adapter::suite::{Scripted, source};

    use super::*;
    use crate::tests::config;

    fn shown(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

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
