//! A time in which Event objects may have come and expired unseen (CONTRACT SR-4), as a value and as an event.
//!
//! Why there is one: away longer than Event objects live (`EXCEEDED`), or everything that was known is gone although it was younger
//! than that, so that they live shorter here or were deleted (`VANISHED`). That the second may be an operator's cleanup
//! is the price for not missing a short `--event-ttl`, which no API tells.

use std::{borrow::Cow, collections::BTreeMap};

use adapter::Reason;
use event::{Event, InvalidAttribute};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const TYPE: &str = "dev.headgate.gap";

pub(super) const EXCEEDED: &str = Reason::RetentionExceeded.as_str();
pub(super) const VANISHED: &str = Reason::EventsVanished.as_str();

/// From the last look that saw everything to the first that saw anything again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gap {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) reason: Cow<'static, str>,
}

impl Gap {
    pub(crate) fn message(&self) -> String {
        let why = if self.reason == EXCEEDED {
            "the gateway could not watch for longer than Event objects live"
        } else {
            "all Event objects known before have vanished early"
        };
        format!(
            "events between {} and {} may have been missed: {why}",
            self.from, self.to
        )
    }

    /// Named by the source and the time it begins, so that a repeat is the same event (CONTRACT SR-2).
    pub(crate) fn event(
        &self,
        source: &str,
        source_uid: &str,
        extensions: &BTreeMap<String, String>,
    ) -> Result<Event, InvalidAttribute> {
        let id = format!("{source_uid}.gap.{}", self.from.as_microsecond());
        // Three texts without anything to escape.
        let data = format!(
            r#"{{"from":"{}","to":"{}","reason":"{}"}}"#,
            self.from, self.to, self.reason
        );
        let mut event = Event::builder(&id, source, TYPE)
            .set("time", &self.to.to_string())
            .set("reason", &self.reason);
        for (name, value) in extensions {
            event = event.set(name, value);
        }
        event.data("application/json", data.into()).finish()
    }
}
