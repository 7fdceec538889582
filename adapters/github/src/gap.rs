//! A gap that cannot be healed is an event itself and a condition (CONTRACT SR-4).

use std::time::Duration;

use adapter::{Cause, Reason, Report, Severity, Truth};
use event::{Event, InvalidAttribute};
use jiff::Timestamp;
use serde_json::json;

use crate::{Config, state::Gap};

/// GitHub keeps deliveries three days ("Viewing webhook deliveries"); Enterprise servers keep them seven or longer, and are
/// read as far back as they list.
pub(crate) const RETENTION: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// `reason` of what was older than GitHub keeps when it could be read again.
pub(crate) const RETENTION_EXCEEDED: &str = Reason::RetentionExceeded.as_str();

/// `reason` of a single delivery whose payload GitHub did not have any more.
pub(crate) const PAYLOAD_GONE: &str = Reason::PayloadGone.as_str();

/// The condition, and its reason.
const COMPLETE: &str = "Complete";
const EVENTS_MISSING: Reason = Reason::EventsMissing;

/// The gap of deliveries that GitHub no longer keeps, when those up to `through` are stored and the list was made at `now`.
pub(crate) fn beyond_retention(through: Option<Timestamp>, now: Timestamp) -> Option<Gap> {
    let kept_from = now.checked_sub(RETENTION).ok()?;
    let from = through.filter(|through| *through < kept_from)?;
    Some(Gap {
        from,
        to: kept_from,
        reason: RETENTION_EXCEEDED.to_owned(),
    })
}

/// Named by its facts, so that a repeat is the same event (CONTRACT SR-2).
pub(crate) fn event(config: &Config, gap: &Gap) -> Result<Event, InvalidAttribute> {
    let id = format!("gap-{}-{}", gap.reason, gap.from);
    let data = json!({ "from": gap.from, "to": gap.to, "reason": gap.reason });
    let mut event = Event::builder(&id, &config.source, "dev.headgate.gap")
        .set("time", &gap.to.to_string())
        .set("subject", &config.repository)
        .set("reason", &gap.reason);
    for (name, value) in &config.extensions {
        event = event.set(name, value);
    }
    event
        .data("application/json", data.to_string().into_bytes().into())
        .finish()
}

/// Shows a gap as long as an operator may still search for the missing deliveries: as long as GitHub keeps later ones.
pub(crate) fn show(report: &Report, gap: Option<&Gap>, now: Timestamp) {
    let recent = gap.filter(|gap| now.duration_since(gap.to) < RETENTION.try_into().unwrap_or_default());
    match recent {
        None => report.note(COMPLETE, (Truth::True, Severity::Warning), None),
        Some(gap) => {
            let Gap { from, to, reason } = gap;
            let message = format!(
                "deliveries from {from} to {to} may be missing for good ({reason}); an event dev.headgate.gap says so: compare with the repository"
            );
            report.note(
                COMPLETE,
                (Truth::False, Severity::Warning),
                Cause::new(EVENTS_MISSING, message),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const NOW: i64 = 1_767_225_600;

    fn ago(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOW - seconds).unwrap()
    }

    /// Proves: SR-4
    #[test]
    fn what_is_older_than_github_keeps_is_a_gap() {
        let three_days = 3 * 86_400;
        assert_eq!(beyond_retention(None, ago(0)), None);
        assert_eq!(beyond_retention(Some(ago(three_days)), ago(0)), None);
        let gap = beyond_retention(Some(ago(three_days + 60)), ago(0)).unwrap();
        assert_eq!((gap.from, gap.to), (ago(three_days + 60), ago(three_days)));
    }

    /// Proves: SR-2, SR-4
    #[test]
    fn a_gap_is_an_event_that_says_from_when_to_when_and_why() {
        let gap = Gap {
            from: ago(60),
            to: ago(0),
            reason: PAYLOAD_GONE.into(),
        };
        let event = event(&crate::tests::config(&[], &["*"]), &gap).unwrap();
        assert_eq!(event.kind(), "dev.headgate.gap");
        assert_eq!(event.id(), "gap-PayloadGone-2025-12-31T23:59:00Z");
        let data: serde_json::Value = serde_json::from_slice(event.data()).unwrap();
        assert_eq!(
            data,
            json!({ "from": "2025-12-31T23:59:00Z", "to": "2026-01-01T00:00:00Z", "reason": "PayloadGone" })
        );
    }

    /// Proves: SR-4
    #[test]
    fn a_gap_is_shown_for_three_days() {
        let report = Report::new("default/hello");
        let gap = Gap {
            from: ago(60),
            to: ago(0),
            reason: PAYLOAD_GONE.into(),
        };
        show(&report, Some(&gap), ago(-60));
        assert_eq!(report.state().conditions[COMPLETE].reason(), EVENTS_MISSING.as_str());
        show(&report, Some(&gap), ago(-4 * 86_400));
        assert_eq!(report.state().conditions[COMPLETE].truth, Truth::True);
    }
}
