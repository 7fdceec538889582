//! The metrics of all sources: `headgate_source_events_total` by result, `headgate_source_lag_seconds`, and
//! `headgate_source_last_event_timestamp_seconds`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use prometheus_client::registry::Registry;

use crate::{
    PerSource,
    per_source::{Family, Measured, Sample, Samples},
};

/// Not known: the lag of a source that upstream calls, and the time of the last event before there was one.
const UNKNOWN: i64 = -1;

/// The outcomes of an upstream fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Result {
    Received,
    Stored,
    Refused,
    Recovered,
    Filtered,
    Invalid,
}

const RESULTS: [(Result, &str); 6] = [
    (Result::Received, "received"),
    (Result::Stored, "stored"),
    (Result::Refused, "refused"),
    (Result::Recovered, "recovered"),
    (Result::Filtered, "not_wanted"),
    (Result::Invalid, "invalid"),
];

/// One source's counters.
#[derive(Debug)]
pub struct Counters {
    results: [AtomicU64; RESULTS.len()],
    lag_ms: AtomicI64,
    /// When an event was stored last, in milliseconds since 1970; [`UNKNOWN`] before the first.
    last_ms: AtomicI64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            results: Default::default(),
            lag_ms: AtomicI64::new(UNKNOWN),
            last_ms: AtomicI64::new(UNKNOWN),
        }
    }
}

impl Counters {
    /// Counts events that came from upstream and are to be stored.
    pub fn received(&self, events: u64) {
        self.add(Result::Received, events);
    }

    /// Counts events that the sink's channel stored.
    pub fn stored(&self, events: u64) {
        self.add(Result::Stored, events);
        // A clock before 1970 tells no time.
        let now = SystemTime::UNIX_EPOCH.elapsed().map(|since| since.as_millis());
        if let Ok(Ok(now)) = now.map(i64::try_from) {
            self.last_ms.store(now, Ordering::Relaxed);
        }
    }

    /// Counts events that the sink's channel refused; each refused attempt counts.
    pub fn refused(&self, events: u64) {
        self.add(Result::Refused, events);
    }

    /// Counts events that did not arrive by themselves and were found upstream.
    pub fn recovered(&self, events: u64) {
        self.add(Result::Recovered, events);
    }

    /// Counts facts that the source's own fields filter out.
    pub fn filtered(&self, events: u64) {
        self.add(Result::Filtered, events);
    }

    /// Counts facts that could not become events.
    pub fn invalid(&self, events: u64) {
        self.add(Result::Invalid, events);
    }

    /// Sets how old the newest stored upstream fact was when it was stored.
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

impl Measured for Counters {
    const FAMILIES: &'static [Family<Self>] = &[
        Family {
            name: "headgate_source_events",
            help: "Upstream facts of each source by what became of them",
            samples: |counters| {
                let counts = RESULTS.into_iter();
                counts
                    .map(|(result, word)| (Some(word), Sample::Count(counters.count(result))))
                    .collect()
            },
        },
        Family {
            name: "headgate_source_lag_seconds",
            help: "Age of the newest upstream fact of each source when it was stored, in seconds",
            samples: |counters| seconds(&counters.lag_ms),
        },
        Family {
            name: "headgate_source_last_event_timestamp_seconds",
            help: "When an event of each source was stored last, in seconds since 1970",
            samples: |counters| seconds(&counters.last_ms),
        },
    ];
}

/// Gives a sample in seconds unless it is [`UNKNOWN`].
fn seconds(milliseconds: &AtomicI64) -> Samples {
    let known = milliseconds.load(Ordering::Relaxed);
    let known = (known != UNKNOWN).then(|| Duration::from_millis(known.unsigned_abs()).as_secs_f64());
    known
        .map(|seconds| (None, Sample::Seconds(seconds)))
        .into_iter()
        .collect()
}

/// The counters of all sources. A handle: clones share them.
#[derive(Clone, Debug, Default)]
pub struct SourceMetrics(PerSource<Counters>);

impl SourceMetrics {
    /// Makes counters that are shown in scrapes of `registry`.
    pub fn registered(registry: &mut Registry) -> Self {
        Self(PerSource::registered(registry))
    }

    /// Returns the counters of a source: those in use, or new ones.
    pub fn counters(&self, kind: &str, namespace: &str, name: &str) -> Arc<Counters> {
        let labels = [("kind", kind), ("namespace", namespace), ("name", name)];
        let labels = labels.map(|(label, value)| (label, value.to_owned()));
        self.0.get_or_make(labels.into(), |_| true, Counters::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::shown;

    #[test]
    fn a_sources_series_live_as_long_as_the_source() {
        let mut registry = Registry::default();
        let metrics = SourceMetrics::registered(&mut registry);
        let counters = metrics.counters("GitHubSource", "default", "hello");
        let last = "headgate_source_last_event_timestamp_seconds{";
        assert!(!shown(&registry).contains(last), "none was stored yet");
        counters.stored(2);
        assert!(shown(&registry).contains(last));
        let labels = r#"{kind="GitHubSource",namespace="default",name="hello""#;
        assert!(shown(&registry).contains(&format!(r#"headgate_source_events_total{labels},result="stored"}} 2"#)));
        assert!(
            !shown(&registry).contains(&format!("lag_seconds{labels}")),
            "an unknown lag is not shown"
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
