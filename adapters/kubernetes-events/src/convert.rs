//! An Event object becomes an event: its bytes are the data, untouched (CONTRACT SR-3); each version of an object is an
//! occurrence with an id of its own (SR-2).
//!
//! golden/ holds objects as a real API server sent them and the attributes they become.

use bytes::Bytes;
use event::{Event, InvalidAttribute};

use crate::{Config, event_fields::EventFields, path};

pub(crate) const TYPE: &str = "dev.knative.k8s.event";

/// How many occurrences were left out before this one.
const SUPPRESSED: &str = "suppressed";

/// Longer values are left out: names of objects have 253 characters at most, and a sink's limit for a header line is often
/// 8 KiB.
const VALUE_MAX_BYTES: usize = 1024;

/// `data` is the object as the API server sent it.
pub(crate) fn convert(config: &Config, fields: &EventFields, data: Bytes) -> Result<Event, InvalidAttribute> {
    let involved = fields.involved();
    let id = format!("{}.{}", fields.uid(), fields.version().unwrap_or_default());
    let source = path::object(
        involved.api_version(),
        involved.namespace(),
        &path::plural(involved.kind()),
        involved.name(),
    );
    let subject = path::object("v1", fields.namespace(), "events", fields.name());
    let count = fields.count().to_string();
    let attributes = [
        ("subject", subject.as_str()),
        ("time", fields.last_time().map_or("", |(_, text)| text)),
        ("reason", fields.reason()),
        ("eventtype", fields.kind_of_event()),
        ("kind", involved.kind()),
        ("namespace", involved.namespace()),
        ("name", involved.name()),
        ("count", &count),
    ];
    let mut event = Event::builder(&id, &source, TYPE);
    for (name, value) in attributes {
        if let Some(value) = storable(value) {
            event = event.set(name, &value);
        }
    }
    for (name, value) in &config.extensions {
        event = event.set(name, value);
    }
    event.data("application/json", data).finish()
}

/// The event, saying that it stands for others.
pub(crate) fn bundle(event: &Event, suppressed: u64) -> Result<Event, InvalidAttribute> {
    event.edit().set(SUPPRESSED, &suppressed.to_string()).finish()
}

/// CloudEvents allows neither control characters nor noncharacters in attributes (1.0.2, type system, String): they are left
/// out, since what a controller writes into a reason may not stop an event. Nothing is left of some values.
fn storable(value: &str) -> Option<String> {
    let value = event::storable(value);
    (1..=VALUE_MAX_BYTES).contains(&value.len()).then_some(value)
}

#[cfg(test)]
mod tests;
