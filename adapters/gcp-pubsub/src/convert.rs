//! A message becomes an event: the CloudEvent it carries, or v0.2's event about a message.
//!
//! The same message is the same event whenever it is delivered (CONTRACT SR-2): only `deliveryattempt` tells deliveries apart.
//! Its bytes are passed on as received (SR-3): as the data of the event it carries, or in base64.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use event::{Event, InvalidAttribute, Value, ValueKind, pubsub_form};
use google_cloud_pubsub::model::Message;
use jiff::Timestamp;
use serde::Serialize;

use crate::Config;

/// v0.2's, so that filters carry over.
const TYPE: &str = "google.pubsub.topic.publish";

/// The attributes that all events of a source share.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// `source` of events that are made here.
    source: String,
    extensions: BTreeMap<String, String>,
}

impl Origin {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            source: format!("//pubsub.googleapis.com/{}", crate::names::topic(config)),
            extensions: config.extensions.clone(),
        }
    }

    /// Converts one message. `attempt` is known where the subscription has a dead-letter topic.
    pub(crate) fn convert(&self, message: &Message, attempt: Option<i32>) -> Result<Event, InvalidAttribute> {
        let key = storable(&message.ordering_key);
        let attributes = message.attributes.iter().map(|(name, value)| (&**name, &**value));
        match pubsub_form::decode(attributes, key.as_deref(), &message.data) {
            Some(Ok(event)) if self.extensions.is_empty() => Ok(event),
            Some(Ok(event)) => self.overridden(event.edit()),
            // A message that claims to be an event and is none is passed on as a message.
            Some(Err(_)) | None => self.about(message, key.as_deref(), attempt),
        }
    }

    /// Builds v0.2's event about a message.
    fn about(&self, message: &Message, key: Option<&str>, attempt: Option<i32>) -> Result<Event, InvalidAttribute> {
        let published = published(message).map(|time| time.to_string());
        let body = Body {
            id: &message.message_id,
            data: BASE64_STANDARD.encode(&message.data),
            attributes: message
                .attributes
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect(),
            publish_time: published.as_deref(),
        };
        let body = serde_json::to_vec(&body).expect("texts become JSON");
        let mut event =
            Event::builder(&message.message_id, &self.source, TYPE).data("application/json", Bytes::from(body));
        for (name, value) in [("time", published.as_deref()), ("partitionkey", key)] {
            if let Some(value) = value {
                event = event.set(name, value);
            }
        }
        if let Some(attempt) = attempt {
            let (text, kind) = (attempt.to_string(), ValueKind::Integer);
            event = event.set_value("deliveryattempt", Value { text: &text, kind });
        }
        self.overridden(event)
    }

    fn overridden(&self, mut event: event::Edit) -> Result<Event, InvalidAttribute> {
        for (name, value) in &self.extensions {
            event = event.set(name, value);
        }
        event.finish()
    }
}

/// v0.2 sent Go's `pubsub.Message` as JSON, members in this order. Unlike there, a message without data or attributes has an
/// empty string and an empty object instead of null: readers in Go see no difference, others one type less.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Data")]
    data: String,
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<&'a str, &'a str>,
    #[serde(rename = "PublishTime")]
    publish_time: Option<&'a str>,
}

/// When Google accepted the message.
pub(crate) fn published(message: &Message) -> Option<Timestamp> {
    let time = message.publish_time.as_ref()?;
    Timestamp::new(time.seconds(), time.nanos()).ok()
}

/// A key as an attribute. CloudEvents allows neither control characters nor noncharacters (1.0.2, type system, String): they
/// are left out, since a key may not stop its event. Keys that differ in nothing else are kept in order together.
fn storable(key: &str) -> Option<String> {
    let key = event::storable(key);
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests;
