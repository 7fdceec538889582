//! What an adapter says about itself: conditions and fields of its source's status, and a log line when one changes.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use serde_json::Value;

/// Longer messages are cut: a status is read by people, and an upstream's answer may be a page.
const MESSAGE_MAX_BYTES: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

/// How much a condition that is not True weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The source is not `Ready`.
    Error,
    /// Somebody should look; the source works.
    Warning,
    /// Worth knowing.
    Info,
}

/// One condition of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub truth: Truth,
    pub weight: Weight,
    /// CamelCase, stable, listed in docs/reasons; empty when the condition is True.
    pub reason: Cow<'static, str>,
    /// What is wrong, where, and what to do.
    pub message: String,
}

/// Everything said so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// By type.
    pub conditions: BTreeMap<&'static str, Condition>,
    /// Members of `status` besides the conditions.
    pub fields: BTreeMap<&'static str, Value>,
}

/// Where one source's adapter and hook say how they are. A handle: clones are the same.
///
/// Whoever writes a condition keeps secrets out of it (CONTRACT SR-6).
#[derive(Clone, Debug)]
pub struct Report {
    source: Arc<str>,
    said: Arc<Mutex<Said>>,
}

impl Report {
    /// Of the source `NAMESPACE/NAME`, as log lines name it.
    pub fn new(source: &str) -> Self {
        Self {
            source: source.into(),
            said: Arc::default(),
        }
    }

    pub fn said(&self) -> Said {
        self.said.lock().clone()
    }

    /// The condition is True.
    pub fn met(&self, kind: &'static str) {
        self.put(kind, Truth::True, Weight::Error, Cow::Borrowed(""), String::new());
    }

    /// The condition is False, and the source not `Ready`.
    pub fn unmet(&self, kind: &'static str, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) {
        self.put(kind, Truth::False, Weight::Error, reason.into(), message.into());
    }

    /// Not known yet, and the source not `Ready` before it is.
    pub fn unknown(&self, kind: &'static str, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) {
        self.put(kind, Truth::Unknown, Weight::Error, reason.into(), message.into());
    }

    /// Any condition of any weight.
    pub fn note(
        &self,
        kind: &'static str,
        (truth, weight): (Truth, Weight),
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) {
        self.put(kind, truth, weight, reason.into(), message.into());
    }

    /// The condition is not said any more.
    pub fn withdraw(&self, kind: &'static str) {
        self.said.lock().conditions.remove(kind);
    }

    /// A member of `status`; `Value::Null` takes it away.
    pub fn field(&self, name: &'static str, value: impl Into<Value>) {
        let value = value.into();
        let mut said = self.said.lock();
        if value.is_null() {
            said.fields.remove(name);
        } else {
            said.fields.insert(name, value);
        }
    }

    fn put(&self, kind: &'static str, truth: Truth, weight: Weight, reason: Cow<'static, str>, mut message: String) {
        if message.len() > MESSAGE_MAX_BYTES {
            let end = (0..=MESSAGE_MAX_BYTES).rev().find(|end| message.is_char_boundary(*end));
            message.truncate(end.unwrap_or(0));
            message.push_str(" ...");
        }
        let condition = Condition {
            truth,
            weight,
            reason,
            message,
        };
        let mut said = self.said.lock();
        let before = said.conditions.insert(kind, condition.clone());
        drop(said);
        let was = before.map(|before| (before.truth, before.reason));
        if was != Some((condition.truth, condition.reason.clone())) {
            log(&self.source, kind, &condition, was.map(|(truth, _)| truth));
        }
    }
}

/// One line for each change of a condition, none for what starts out well.
fn log(source: &str, kind: &str, condition: &Condition, before: Option<Truth>) {
    let (reason, detail) = (&*condition.reason, condition.message.as_str());
    match (condition.truth, condition.weight) {
        (Truth::True, _) if before == Some(Truth::False) => {
            tracing::info!(source, condition = kind, "condition of a source is met again");
        }
        (Truth::False, Weight::Error | Weight::Warning) => {
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
        report.unknown("Subscribed", "Deploying", "wait");
        report.unmet("Subscribed", "TopicNotFound", "create it");
        report.met("Subscribed");
        report.field("subscription", "a");
        report.field("subscription", Value::Null);
        let said = report.said();
        assert_eq!(said.conditions["Subscribed"].truth, Truth::True);
        assert!(said.fields.is_empty());
        report.withdraw("Subscribed");
        assert!(report.said().conditions.is_empty());
    }

    #[test]
    fn a_page_of_an_answer_is_cut_between_letters() {
        let report = Report::new("default/hello");
        report.unmet("Subscribed", "Unavailable", "é".repeat(5000));
        let message = &report.said().conditions["Subscribed"].message;
        assert!(
            message.len() <= MESSAGE_MAX_BYTES + 4 && message.ends_with("é ..."),
            "{message}"
        );
    }
}
