//! An adapter's report: the conditions and fields of its source's status, and a log line when a condition changes.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use serde_json::Value;
use status::{Cause, Condition, Reason, Severity, Truth};

/// Longer messages are cut: a status is read by people, and an upstream's answer may be a page.
const MESSAGE_MAX_BYTES: usize = 2048;

/// The types of the conditions that adapters report of what they do upstream: those that are read from an adapter's
/// pod. The Deployment reports `Deployed`.
pub const CONDITIONS: [&str; 12] = [
    "Accepted",
    "Authenticated",
    "CheckpointSaved",
    "CheckpointWhole",
    "Complete",
    "DeliveriesFit",
    "Ordered",
    "Storable",
    "Subscribed",
    "Swept",
    "Watching",
    "WebhookConfigured",
];

/// The members of `status` that adapters report of what they do upstream.
pub const FIELDS: [&str; 6] = [
    "lastDeliveryTime",
    "lastEventTime",
    "recoveredDeliveries",
    "subscription",
    "webhookIDKey",
    "webhookURL",
];

/// Conditions and fields about the run of a source, which only the process that runs it reports.
const OF_THE_RUN: [&str; 4] = ["Deployed", "RestartPolicyKept", "container", "deployment"];

/// The reported state of a source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportedState {
    /// By type.
    pub conditions: BTreeMap<&'static str, Condition>,
    /// Members of `status` besides the conditions.
    pub fields: BTreeMap<&'static str, Value>,
}

/// The report of one source's adapter and hook. A handle: clones share it.
///
/// Writers keep secrets out of conditions (CONTRACT SR-6).
#[derive(Clone, Debug)]
pub struct Report {
    source: Arc<str>,
    state: Arc<Mutex<ReportedState>>,
}

impl Report {
    /// Makes an empty report of the source `NAMESPACE/NAME`, as log lines name it.
    pub fn new(source: &str) -> Self {
        Self {
            source: source.into(),
            state: Arc::default(),
        }
    }

    /// Returns a copy of the reported state.
    pub fn state(&self) -> ReportedState {
        self.state.lock().clone()
    }

    /// Sets the condition to True.
    pub fn met(&self, kind: &'static str) {
        self.note(kind, (Truth::True, Severity::Error), None);
    }

    /// Sets the condition to False; the source is not `Ready`.
    pub fn unmet(&self, kind: &'static str, reason: Reason, message: impl Into<String>) {
        self.note(kind, (Truth::False, Severity::Error), Cause::new(reason, message));
    }

    /// Sets the condition to Unknown; the source is not `Ready` before it is known.
    pub fn unknown(&self, kind: &'static str, reason: Reason, message: impl Into<String>) {
        self.note(kind, (Truth::Unknown, Severity::Error), Cause::new(reason, message));
    }

    /// Sets a condition of any severity. Changes of its status or reason are logged.
    pub fn note(&self, kind: &'static str, (truth, severity): (Truth, Severity), cause: impl Into<Option<Cause>>) {
        debug_assert!(
            CONDITIONS.contains(&kind) || OF_THE_RUN.contains(&kind),
            "{kind} is not listed"
        );
        let mut cause = cause.into();
        if let Some(Cause { message, .. }) = cause.as_mut().filter(|cause| cause.message.len() > MESSAGE_MAX_BYTES) {
            message.truncate(message.floor_char_boundary(MESSAGE_MAX_BYTES));
            message.push_str(" ...");
        }
        let condition = Condition::new(kind, truth, severity, cause);
        let before = self.state.lock().conditions.insert(kind, condition.clone());
        let is_changed = before
            .as_ref()
            .is_none_or(|before| (before.truth, before.reason()) != (condition.truth, condition.reason()));
        if is_changed {
            log(&self.source, &condition, before.map(|before| before.truth));
        }
    }

    /// Removes the condition.
    pub fn withdraw(&self, kind: &'static str) {
        self.state.lock().conditions.remove(kind);
    }

    /// Sets a member of `status`; `Value::Null` removes it.
    pub fn field(&self, name: &'static str, value: impl Into<Value>) {
        debug_assert!(
            FIELDS.contains(&name) || OF_THE_RUN.contains(&name),
            "{name} is not listed"
        );
        let value = value.into();
        let mut state = self.state.lock();
        if value.is_null() {
            state.fields.remove(name);
        } else {
            state.fields.insert(name, value);
        }
    }
}

/// One line for each change of a condition, none for what starts out well.
fn log(source: &str, condition: &Condition, before: Option<Truth>) {
    let (kind, reason, detail) = (condition.kind, condition.reason(), condition.message());
    match (condition.truth, condition.severity) {
        (Truth::True, _) if before == Some(Truth::False) => {
            tracing::info!(source, condition = kind, "condition of a source is met again");
        }
        (Truth::False, Severity::Error | Severity::Warning) => {
            tracing::warn!(
                source,
                condition = kind,
                reason,
                detail,
                "condition of a source is not met"
            );
        }
        (Truth::True | Truth::Unknown | Truth::False, _) => {
            tracing::debug!(source, condition = kind, reason, detail, "condition of a source");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_word_replaces_an_earlier_one() {
        let report = Report::new("default/hello");
        report.unknown("Subscribed", Reason::Deploying, "wait");
        report.unmet("Subscribed", Reason::TopicNotFound, "create it");
        report.met("Subscribed");
        report.field("subscription", "a");
        report.field("subscription", Value::Null);
        let state = report.state();
        assert_eq!(state.conditions["Subscribed"].truth, Truth::True);
        assert!(state.fields.is_empty());
        report.withdraw("Subscribed");
        assert!(report.state().conditions.is_empty());
    }

    #[test]
    fn a_page_of_an_answer_is_cut_between_letters() {
        let report = Report::new("default/hello");
        report.unmet("Subscribed", Reason::Unavailable, "é".repeat(5000));
        let state = report.state();
        let message = state.conditions["Subscribed"].message();
        assert!(
            message.len() <= MESSAGE_MAX_BYTES + 4 && message.ends_with("é ..."),
            "{message}"
        );
    }
}
