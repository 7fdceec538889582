//! The numbers of one scrape that `top` shows.

use std::{collections::HashMap, time::Duration};

/// Metrics of objects that are counters: `top` shows their rates.
const COUNTERS: [&str; 5] = [
    "headgate_events_accepted_total",
    "headgate_events_delivered_total",
    "headgate_attempts_failed_total",
    "headgate_events_refused_total",
    "headgate_source_events_total",
];

/// Metrics of objects that are gauges.
const GAUGES: [&str; 6] = [
    "headgate_subscription_unsettled_events",
    "headgate_subscription_oldest_seconds",
    "headgate_channel_unsettled_events",
    "headgate_channel_dead_letters",
    "headgate_channel_missing_events",
    "headgate_channel_refusing",
];

/// A metric and the object it is about: metric, namespace, name.
type Key = (&'static str, String, String);

/// The numbers of a scrape, those of one object and metric added up over the other labels.
#[derive(Debug, Default)]
pub(super) struct Sample {
    values: HashMap<Key, f64>,
    memory: Option<u64>,
}

/// The flow through the whole gateway.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Totals {
    pub(super) accepted: Option<f64>,
    pub(super) delivered: Option<f64>,
    pub(super) failed: Option<f64>,
    pub(super) backlog: f64,
    pub(super) dead_letters: f64,
    pub(super) memory: Option<u64>,
}

impl Sample {
    /// Reads the text formats of Prometheus and OpenMetrics; lines of other metrics are passed over.
    pub(super) fn of(text: &str) -> Self {
        let mut sample = Self::default();
        for line in text.lines() {
            let Some((series, number)) = line.rsplit_once(' ') else {
                continue;
            };
            if series == "process_resident_memory_bytes" {
                sample.memory = number.parse().ok();
            }
            let Ok(value) = number.parse::<f64>() else { continue };
            let Some((metric, labels)) = series.split_once('{') else {
                continue;
            };
            let Some(known) = COUNTERS.into_iter().chain(GAUGES).find(|known| *known == metric) else {
                continue;
            };
            // Each result is a series of its own; the rate shown is that of stored events.
            if known == "headgate_source_events_total" && label(labels, "result") != Some("stored") {
                continue;
            }
            let (Some(namespace), Some(name)) = (label(labels, "namespace"), label(labels, "name")) else {
                continue;
            };
            *sample
                .values
                .entry((known, namespace.to_owned(), name.to_owned()))
                .or_default() += value;
        }
        sample
    }

    /// The number of one object; `None` when the scrape has none.
    pub(super) fn get(&self, metric: &'static str, namespace: &str, name: &str) -> Option<f64> {
        self.values
            .get(&(metric, namespace.to_owned(), name.to_owned()))
            .copied()
    }

    fn sum(&self, metric: &str) -> f64 {
        let of_metric = self.values.iter().filter(|((known, ..), _)| *known == metric);
        of_metric.map(|(_, value)| value).sum()
    }

    pub(super) fn totals(&self, before: Option<(Duration, &Self)>) -> Totals {
        let rate = |metric: &str| {
            per_second(
                self.sum(metric),
                before.map(|(time, before)| (time, before.sum(metric))),
            )
        };
        Totals {
            accepted: rate("headgate_events_accepted_total"),
            delivered: rate("headgate_events_delivered_total"),
            failed: rate("headgate_attempts_failed_total"),
            backlog: self.sum("headgate_subscription_unsettled_events"),
            dead_letters: self.sum("headgate_channel_dead_letters"),
            memory: self.memory,
        }
    }
}

/// How fast a counter rose; `None` before the second look, and when the gateway was restarted in between.
pub(super) fn per_second(now: f64, before: Option<(Duration, f64)>) -> Option<f64> {
    let (time, before) = before?;
    (now >= before && !time.is_zero()).then(|| (now - before) / time.as_secs_f64())
}

/// The value of a label. Those that are asked for are names of objects and fixed words, in which nothing is escaped.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = labels.trim_end_matches('}').split(',');
    pairs.find_map(|pair| {
        let (known, value) = pair.split_once('=')?;
        (known == name).then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAPE: &str = r#"# TYPE headgate_events_accepted counter
headgate_events_accepted_total{namespace="default",name="orders"} 40
headgate_events_accepted_total{namespace="shop",name="orders"} 2
headgate_attempts_failed_total{namespace="default",name="audit",reason="SinkError"} 3
headgate_attempts_failed_total{namespace="default",name="audit",reason="SinkTimeout"} 4
headgate_source_events_total{kind="GitHubSource",namespace="default",name="hello",result="received"} 9
headgate_source_events_total{kind="GitHubSource",namespace="default",name="hello",result="stored"} 8
headgate_subscription_unsettled_events{namespace="default",name="audit"} 5.0
process_resident_memory_bytes 33554432
# EOF
"#;

    #[test]
    fn numbers_are_read_by_object() {
        let sample = Sample::of(SCRAPE);
        let get = |metric, name| sample.get(metric, "default", name);
        assert_eq!(get("headgate_events_accepted_total", "orders"), Some(40.0));
        assert_eq!(get("headgate_attempts_failed_total", "audit"), Some(7.0));
        assert_eq!(get("headgate_source_events_total", "hello"), Some(8.0));
        assert_eq!(get("headgate_events_delivered_total", "audit"), None);
        let totals = sample.totals(None);
        assert_eq!(
            (totals.accepted, totals.backlog, totals.memory),
            (None, 5.0, Some(32 << 20))
        );
        let before = Sample::default();
        let totals = sample.totals(Some((Duration::from_secs(2), &before)));
        assert_eq!(totals.accepted, Some(21.0));
    }

    #[test]
    fn a_gateway_that_began_anew_has_no_rate() {
        assert_eq!(per_second(3.0, Some((Duration::from_secs(1), 90.0))), None);
        assert_eq!(per_second(3.0, None), None);
    }
}
