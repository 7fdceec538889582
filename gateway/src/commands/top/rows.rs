//! One row for each channel, subscription and source, and how much trouble it has.

use std::{cmp::Ordering, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::sample::{Sample, per_second};
use crate::{commands::get, table::age};

/// An event that waits for longer makes its subscription late: many retries take seconds, a minute is felt by a person.
const LATE: f64 = 60.0;

/// How an object is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    EventsGone,
    NotReady,
    Refusing,
    Failing,
    Late,
    Retrying,
    Paused,
    DeadLetters,
    Good,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::EventsGone => "events gone",
            Self::NotReady => "not ready",
            Self::Refusing => "refusing",
            Self::Failing => "failing",
            Self::Late => "late",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::DeadLetters => "dead letters",
            Self::Good => "ok",
        }
    }
}

#[derive(Debug, Default)]
struct Numbers {
    in_rate: Option<f64>,
    out_rate: Option<f64>,
    failed_rate: Option<f64>,
    backlog: Option<f64>,
    oldest: Option<f64>,
    dead_letters: Option<f64>,
    missing: Option<f64>,
    refusing: Option<f64>,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Row {
    state: State,
    object: String,
    numbers: Numbers,
    reason: String,
}

impl Row {
    /// `None`: an object without a state of its own, such as a Service.
    pub(super) fn of(item: &Value, sample: &Sample, before: Option<(Duration, &Sample)>) -> Option<Self> {
        let conditions = item["status"]["conditions"].as_array()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = text(&item["kind"]);
        let (namespace, name) = (text(&item["metadata"]["namespace"]), text(&item["metadata"]["name"]));
        let gauge = |metric| sample.get(metric, &namespace, &name);
        let rate = |metric| {
            let then = before.map(|(time, before)| (time, before.get(metric, &namespace, &name).unwrap_or(0.0)));
            per_second(gauge(metric)?, then)
        };
        let numbers = match kind.as_str() {
            "Channel" => Numbers {
                in_rate: rate("headgate_events_accepted_total"),
                failed_rate: rate("headgate_events_refused_total"),
                backlog: gauge("headgate_channel_unsettled_events"),
                dead_letters: gauge("headgate_channel_dead_letters"),
                missing: gauge("headgate_channel_missing_events"),
                refusing: gauge("headgate_channel_refusing"),
                ..Numbers::default()
            },
            "Subscription" => Numbers {
                out_rate: rate("headgate_events_delivered_total"),
                failed_rate: rate("headgate_attempts_failed_total"),
                backlog: gauge("headgate_subscription_unsettled_events"),
                oldest: gauge("headgate_subscription_oldest_seconds"),
                ..Numbers::default()
            },
            _ => Numbers {
                in_rate: rate("headgate_source_events_total"),
                ..Numbers::default()
            },
        };
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        let full_name = match namespace.is_empty() {
            true => name,
            false => format!("{namespace}/{name}"),
        };
        Some(Self {
            state: state(conditions, ready, &numbers),
            object: format!("{} {full_name}", kind.to_lowercase()),
            numbers,
            reason: get::reason(conditions, ready),
        })
    }

    /// Trouble first; of equal trouble what waits longest, then what has most to do, then by name.
    pub(super) fn by_trouble(&self, other: &Self) -> Ordering {
        let more = |number: fn(&Numbers) -> Option<f64>| {
            let (a, b) = (number(&self.numbers), number(&other.numbers));
            b.unwrap_or(0.0).total_cmp(&a.unwrap_or(0.0))
        };
        let state = self.state.cmp(&other.state);
        state
            .then_with(|| more(|numbers| numbers.oldest))
            .then_with(|| more(|numbers| numbers.backlog))
            .then_with(|| more(|numbers| numbers.in_rate.or(numbers.out_rate)))
            .then_with(|| self.object.cmp(&other.object))
    }

    pub(super) fn cells(&self) -> Vec<String> {
        let shown_rate = |number: Option<f64>| number.map(|number| rate(Some(number))).unwrap_or_default();
        let whole = |number: Option<f64>| number.map(|number| format!("{number:.0}")).unwrap_or_default();
        let numbers = &self.numbers;
        vec![
            self.state.word().to_owned(),
            self.object.clone(),
            shown_rate(numbers.in_rate),
            shown_rate(numbers.out_rate),
            shown_rate(numbers.failed_rate),
            whole(numbers.backlog),
            numbers.oldest.map(waited).unwrap_or_default(),
            whole(numbers.dead_letters),
            self.reason.clone(),
        ]
    }
}

fn state(conditions: &[Value], ready: Option<&Value>, numbers: &Numbers) -> State {
    let is_false = |kind: &str, reason: Option<&str>| {
        conditions.iter().any(|condition| {
            condition["type"] == kind
                && condition["status"] == "False"
                && reason.is_none_or(|reason| condition["reason"] == reason)
        })
    };
    let more_than = |number: Option<f64>, least: f64| number.is_some_and(|number| number > least);
    let is_paused = conditions.iter().any(|condition| condition["reason"] == "Paused");
    match () {
        () if more_than(numbers.missing, 0.0) => State::EventsGone,
        () if ready.is_some_and(|ready| ready["status"] != "True") => State::NotReady,
        () if more_than(numbers.refusing, 0.0) => State::Refusing,
        () if is_paused => State::Paused,
        () if is_false("SinkHealthy", None) => State::Failing,
        () if more_than(numbers.oldest, LATE) => State::Late,
        () if more_than(numbers.failed_rate, 0.0) => State::Retrying,
        () if more_than(numbers.dead_letters, 0.0) => State::DeadLetters,
        () => State::Good,
    }
}

/// Events a second, with a tenth where that tells something.
pub(super) fn rate(number: Option<f64>) -> String {
    match number {
        None => "?".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(small) if small < 10.0 => format!("{small:.1}"),
        Some(number) => format!("{number:.0}"),
    }
}

/// Seconds as ages are told everywhere.
fn waited(seconds: f64) -> String {
    let Ok(waited) = Duration::try_from_secs_f64(seconds) else {
        return "?".to_owned();
    };
    let end = i64::try_from(waited.as_secs()).ok().map(Timestamp::from_second);
    match end {
        Some(Ok(end)) => age(Timestamp::UNIX_EPOCH, end),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(kind: &str, name: &str, conditions: &Value, scrape: &str) -> Row {
        let item = json!({
            "kind": kind, "metadata": { "namespace": "default", "name": name }, "status": { "conditions": conditions },
        });
        let before = Sample::default();
        Row::of(&item, &Sample::of(scrape), Some((Duration::from_secs(1), &before))).expect("a row")
    }

    fn ready(status: &str, more: &[Value]) -> Value {
        let mut conditions = vec![json!({ "type": "Ready", "status": status, "reason": "" })];
        conditions.extend_from_slice(more);
        Value::from(conditions)
    }

    #[test]
    fn trouble_comes_first_and_is_a_word() {
        let sick = json!({ "type": "SinkHealthy", "status": "False", "reason": "SinkFailing" });
        let paused = json!({ "type": "Running", "status": "False", "reason": "Paused" });
        let mut rows = [
            row("Channel", "good", &ready("True", &[]), ""),
            row("Subscription", "paused", &ready("True", &[paused]), ""),
            row(
                "Channel",
                "letters",
                &ready("True", &[]),
                "headgate_channel_dead_letters{namespace=\"default\",name=\"letters\"} 2",
            ),
            row(
                "Subscription",
                "late",
                &ready("True", &[]),
                "headgate_subscription_oldest_seconds{namespace=\"default\",name=\"late\"} 90",
            ),
            row("Subscription", "failing", &ready("True", &[sick]), ""),
            row(
                "Channel",
                "full",
                &ready("True", &[]),
                "headgate_channel_refusing{namespace=\"default\",name=\"full\"} 1",
            ),
            row("GitHubSource", "broken", &ready("False", &[]), ""),
            row(
                "Channel",
                "lost",
                &ready("True", &[]),
                "headgate_channel_missing_events{namespace=\"default\",name=\"lost\"} 1",
            ),
        ];
        rows.sort_by(|a, b| a.by_trouble(b));
        let words: Vec<(&str, &str)> = rows
            .iter()
            .map(|row| (row.state.word(), row.object.rsplit('/').next().expect("a name")))
            .collect();
        assert_eq!(
            words,
            [
                ("events gone", "lost"),
                ("not ready", "broken"),
                ("refusing", "full"),
                ("failing", "failing"),
                ("late", "late"),
                ("paused", "paused"),
                ("dead letters", "letters"),
                ("ok", "good"),
            ]
        );
    }

    #[test]
    fn numbers_are_told_as_a_person_reads_them() {
        let scrape = "headgate_events_delivered_total{namespace=\"default\",name=\"audit\"} 7\n\
                      headgate_subscription_unsettled_events{namespace=\"default\",name=\"audit\"} 1200\n\
                      headgate_subscription_oldest_seconds{namespace=\"default\",name=\"audit\"} 192.4";
        let cells = row("Subscription", "audit", &ready("True", &[]), scrape).cells();
        assert_eq!(
            cells[..3],
            ["late", "subscription default/audit", ""].map(str::to_owned)
        );
        assert_eq!(cells[3..8], ["7.0", "", "1200", "3m12s", ""].map(str::to_owned));
        assert_eq!(rate(Some(1234.4)), "1234");
        assert_eq!(rate(None), "?");
    }

    #[test]
    fn an_object_without_conditions_has_no_row() {
        let service = json!({ "kind": "Service", "metadata": { "name": "shop" } });
        assert!(Row::of(&service, &Sample::default(), None).is_none());
    }
}
