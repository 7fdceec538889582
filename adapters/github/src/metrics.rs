//! What became of deliveries, counted per source and outcome: `headgate_github_deliveries_total`.
//!
//! A source's series live as long as a hook of that source: an edited source goes on counting, a deleted one takes its series
//! along.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::counter::ConstCounter,
    registry::Registry,
};

use crate::Outcome;

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

/// Counters of all GitHub sources. A handle: clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<HashMap<String, Weak<Counters>>>>);

impl Metrics {
    /// Counters that are shown with the registry's.
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// The counters of `NAMESPACE/NAME`: those in use, or new ones.
    pub(crate) fn counters(&self, name: &str) -> Arc<Counters> {
        let mut sources = self.0.lock();
        if let Some(counters) = sources.get(name).and_then(Weak::upgrade) {
            return counters;
        }
        sources.retain(|_, counters| counters.strong_count() > 0);
        let counters = Arc::new(Counters::default());
        sources.insert(name.to_owned(), Arc::downgrade(&counters));
        counters
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sources: Vec<(String, Arc<Counters>)> = self
            .0
            .lock()
            .iter()
            .filter_map(|(name, counters)| Some((name.clone(), counters.upgrade()?)))
            .collect();
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Deliveries of GitHub by what became of them";
        let mut family = encoder.encode_descriptor("headgate_github_deliveries", help, None, kind)?;
        for (name, counters) in &sources {
            let (namespace, name) = name.split_once('/').unwrap_or(("", name));
            for outcome in Outcome::ALL {
                let labels = [("namespace", namespace), ("name", name), ("result", outcome.as_str())];
                ConstCounter::new(counters.count(outcome)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn shown(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn a_sources_series_live_as_long_as_the_source() {
        let mut registry = Registry::default();
        let metrics = Metrics::registered(&mut registry);
        let before = metrics.counters("default/hello");
        before.increment(Outcome::Stored);
        let after = metrics.counters("default/hello");
        drop(before);
        after.increment(Outcome::Stored);
        let line = r#"headgate_github_deliveries_total{namespace="default",name="hello",result="Stored"} 2"#;
        assert!(shown(&registry).contains(line), "{}", shown(&registry));
        drop(after);
        assert!(!shown(&registry).contains("hello"));
    }
}
