//! The fields of an Event object that identify it and its subject. Everything else stays in the bytes, untouched.

use jiff::Timestamp;
use serde::Deserialize;

/// The values of one Event object (core/v1; what is written through events.k8s.io is served in this form too). What is absent
/// or null is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EventFields {
    metadata: Metadata,
    involved_object: Option<Involved>,
    reason: Option<String>,
    r#type: Option<String>,
    count: Option<i64>,
    series: Option<Series>,
    first_timestamp: Option<String>,
    last_timestamp: Option<String>,
    event_time: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: Option<String>,
    resource_version: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    creation_timestamp: Option<String>,
}

/// The object that an Event is about.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Involved {
    api_version: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Series {
    count: Option<i64>,
    last_observed_time: Option<String>,
}

impl EventFields {
    /// Parses an object; `None` when the bytes are no JSON object of this shape.
    pub(crate) fn read(object: &str) -> Option<Self> {
        serde_json::from_str(object).ok()
    }

    pub(crate) fn uid(&self) -> &str {
        text(&self.metadata.uid)
    }

    /// Versions are numbers that grow (Kubernetes API conventions, "Resource versions", since 1.35 a promise; etcd's revision
    /// in every release).
    pub(crate) fn version(&self) -> Option<u64> {
        text(&self.metadata.resource_version).parse().ok()
    }

    pub(crate) fn namespace(&self) -> &str {
        text(&self.metadata.namespace)
    }

    pub(crate) fn name(&self) -> &str {
        text(&self.metadata.name)
    }

    pub(crate) fn reason(&self) -> &str {
        text(&self.reason)
    }

    /// `Normal` or `Warning`.
    pub(crate) fn kind_of_event(&self) -> &str {
        text(&self.r#type)
    }

    pub(crate) fn involved(&self) -> &Involved {
        const NOTHING: &Involved = &Involved {
            api_version: None,
            kind: None,
            namespace: None,
            name: None,
            uid: None,
        };
        self.involved_object.as_ref().unwrap_or(NOTHING)
    }

    /// How often it happened so far. Writers count in `series` or in `count`; one who counts nowhere saw it once.
    pub(crate) fn count(&self) -> i64 {
        let series = self.series.as_ref().and_then(|series| series.count);
        series.or(self.count).filter(|count| *count > 0).unwrap_or(1)
    }

    /// When it happened last, as the API server writes it: the latest of the times that writers of both APIs fill in. The
    /// object's creation counts only where no writer filled one in.
    pub(crate) fn last_time(&self) -> Option<(Timestamp, &str)> {
        let observed = self
            .series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref());
        let times = [
            observed,
            self.last_timestamp.as_ref(),
            self.event_time.as_ref(),
            self.first_timestamp.as_ref(),
        ];
        let time = |text: &'_ String| text.parse::<Timestamp>().ok();
        let latest = times
            .into_iter()
            .flatten()
            .filter_map(|text| Some((time(text)?, text.as_str())))
            .max();
        latest.or_else(|| {
            let created = self.metadata.creation_timestamp.as_ref()?;
            Some((time(created)?, created.as_str()))
        })
    }
}

impl Involved {
    pub(crate) fn api_version(&self) -> &str {
        text(&self.api_version)
    }

    pub(crate) fn kind(&self) -> &str {
        text(&self.kind)
    }

    pub(crate) fn namespace(&self) -> &str {
        text(&self.namespace)
    }

    pub(crate) fn name(&self) -> &str {
        text(&self.name)
    }

    pub(crate) fn uid(&self) -> &str {
        text(&self.uid)
    }
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    pub(crate) fn fields(object: &str) -> EventFields {
        EventFields::read(object).unwrap()
    }

    #[test]
    fn the_last_time_is_the_latest_reported() {
        let cases = [
            (
                r#"{"firstTimestamp":"2026-01-01T00:00:00Z","lastTimestamp":"2026-01-01T00:05:00Z"}"#,
                "2026-01-01T00:05:00Z",
            ),
            (
                r#"{"eventTime":"2026-01-01T00:00:00.000001Z","series":{"count":3,"lastObservedTime":"2026-01-01T00:09:00.000000Z"},"lastTimestamp":null}"#,
                "2026-01-01T00:09:00.000000Z",
            ),
            (
                r#"{"eventTime":"2026-01-01T00:00:00.000001Z","metadata":{"creationTimestamp":"2026-02-01T00:00:00Z"}}"#,
                "2026-01-01T00:00:00.000001Z",
            ),
            (
                r#"{"lastTimestamp":"yesterday","metadata":{"creationTimestamp":"2026-02-01T00:00:00Z"}}"#,
                "2026-02-01T00:00:00Z",
            ),
        ];
        for (object, expected) in cases {
            assert_eq!(fields(object).last_time().unwrap().1, expected, "{object}");
        }
        assert!(fields("{}").last_time().is_none());
    }

    #[test]
    fn repeats_are_counted_by_either_api() {
        let cases = [
            (r#"{"count":4}"#, 4),
            (r#"{"count":4,"series":{"count":7}}"#, 7),
            (r#"{"series":{}}"#, 1),
            (r#"{"count":0,"series":null}"#, 1),
            ("{}", 1),
        ];
        for (object, expected) in cases {
            assert_eq!(fields(object).count(), expected, "{object}");
        }
    }

    #[test]
    fn what_is_no_event_object_is_none() {
        for not in ["", "7", "{", r#"{"metadata":7}"#, r#"{"reason":{}}"#] {
            assert!(EventFields::read(not).is_none(), "{not}");
        }
        assert_eq!(fields(r#"{"metadata":{"resourceVersion":"x"}}"#).version(), None);
    }
}
