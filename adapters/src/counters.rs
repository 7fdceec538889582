//! What all sources count alike: `headgate_source_events_total` by result, and `headgate_source_lag_seconds`.
//!
//! A source's series live as long as its counters are in use: an edited source goes on counting, a deleted one takes its
//! series along.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::PerSource;

/// No lag is known: a source that is called cannot know it.
const UNKNOWN: i64 = -1;

/// What can become of an upstream fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Result {
    Received,
    Stored,
    Refused,
    Recovered,
    NotWanted,
    Invalid,
}

const RESULTS: [(Result, &str); 6] = [
    (Result::Received, "received"),
    (Result::Stored, "stored"),
    (Result::Refused, "refused"),
    (Result::Recovered, "recovered"),
    (Result::NotWanted, "not_wanted"),
    (Result::Invalid, "invalid"),
];

/// One source's counters.
#[derive(Debug)]
pub struct Counters {
    results: [AtomicU64; RESULTS.len()],
    lag_ms: AtomicI64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            results: Default::default(),
            lag_ms: AtomicI64::new(UNKNOWN),
        }
    }
}

impl Counters {
    /// Came from upstream and are to be stored.
    pub fn received(&self, events: u64) {
        self.add(Result::Received, events);
    }

    /// Are in the sink's channel.
    pub fn stored(&self, events: u64) {
        self.add(Result::Stored, events);
    }

    /// Were refused by the sink's channel; what is offered again and refused again counts again.
    pub fn refused(&self, events: u64) {
        self.add(Result::Refused, events);
    }

    /// Would have been missed: found by looking upstream for what did not arrive.
    pub fn recovered(&self, events: u64) {
        self.add(Result::Recovered, events);
    }

    /// Filtered out by the source's own fields.
    pub fn not_wanted(&self, events: u64) {
        self.add(Result::NotWanted, events);
    }

    /// Could not become events.
    pub fn invalid(&self, events: u64) {
        self.add(Result::Invalid, events);
    }

    /// How old the newest stored upstream fact was when it was stored.
    pub fn lag(&self, age: Duration) {
        self.lag_ms
            .store(i64::try_from(age.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn add(&self, result: Result, events: u64) {
        self.results[result as usize].fetch_add(events, Ordering::Relaxed);
    }

    fn count(&self, result: Result) -> u64 {
        self.results[result as usize].load(Ordering::Relaxed)
    }
}

/// A source's kind, namespace and name.
type Labels = (String, String, String);

/// Counters of all sources. A handle: clones are the same.
#[derive(Clone, Debug, Default)]
pub struct SourceMetrics(PerSource<Labels, Counters>);

impl SourceMetrics {
    /// Counters that are shown with the registry's.
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// The counters of a source: those in use, or new ones.
    pub fn counters(&self, kind: &str, namespace: &str, name: &str) -> Arc<Counters> {
        let labels = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        self.0.get_or_make(labels, |_| true, Counters::default)
    }
}

impl Collector for SourceMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::result::Result<(), fmt::Error> {
        let sources = self.0.in_use();
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Upstream facts of each source by what became of them";
        let mut events = encoder.encode_descriptor("headgate_source_events", help, None, kind)?;
        for ((kind, namespace, name), counters) in &sources {
            for (result, word) in RESULTS {
                let labels = [
                    ("kind", kind.as_str()),
                    ("namespace", namespace),
                    ("name", name),
                    ("result", word),
                ];
                ConstCounter::new(counters.count(result)).encode(events.encode_family(&labels)?)?;
            }
        }
        let known = |counters: &Counters| {
            let lag_ms = counters.lag_ms.load(Ordering::Relaxed);
            (lag_ms != UNKNOWN).then(|| Duration::from_millis(lag_ms.unsigned_abs()).as_secs_f64())
        };
        let lags = sources
            .iter()
            .filter_map(|(labels, counters)| Some((labels, known(counters)?)));
        let lags: Vec<(&Labels, f64)> = lags.collect();
        if lags.is_empty() {
            return Ok(());
        }
        let kind = ConstGauge::new(0.0_f64).metric_type();
        let help = "Age of the newest upstream fact of each source when it was stored, in seconds";
        let mut family = encoder.encode_descriptor("headgate_source_lag_seconds", help, None, kind)?;
        for ((kind, namespace, name), lag) in lags {
            let labels = [("kind", kind.as_str()), ("namespace", namespace), ("name", name)];
            ConstGauge::new(lag).encode(family.encode_family(&labels)?)?;
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
        let metrics = SourceMetrics::registered(&mut registry);
        let counters = metrics.counters("GitHubSource", "default", "hello");
        counters.stored(2);
        let labels = r#"{kind="GitHubSource",namespace="default",name="hello""#;
        assert!(shown(&registry).contains(&format!(r#"headgate_source_events_total{labels},result="stored"}} 2"#)));
        assert!(
            !shown(&registry).contains(&format!("lag_seconds{labels}")),
            "a lag that nobody knows is not shown"
        );
        metrics
            .counters("GitHubSource", "default", "hello")
            .lag(Duration::from_millis(1500));
        assert!(shown(&registry).contains(&format!("headgate_source_lag_seconds{labels}}} 1.5")));
        drop(counters);
        assert!(!shown(&registry).contains("hello"));
    }

    #[test]
    fn every_result_is_counted_in_its_own_place() {
        for (place, (result, word)) in RESULTS.into_iter().enumerate() {
            assert_eq!(result as usize, place, "{word}");
        }
    }
}
