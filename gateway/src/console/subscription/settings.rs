//! The settings of a subscription that are in force, and which document each comes from.

use std::time::Duration;

use serde_json::Value;
use spec::{
    Kind, ObjectKey, Spec,
    model::{StartFrom, Subscription, Target},
};

/// One setting, as a document names it.
pub(super) struct Setting {
    pub(super) field: &'static str,
    pub(super) value: String,
    /// The document that sets it; `None` for a default of the gateway.
    pub(super) origin: Option<ObjectKey>,
}

pub(super) fn in_force(model: &Subscription, spec: &Spec) -> Vec<Setting> {
    let own = ObjectKey::new(Kind::Subscription, model.name.clone());
    let channel = ObjectKey::new(Kind::Channel, model.channel.clone());
    let document = |key: &ObjectKey| {
        spec.objects
            .get(key)
            .map_or(&Value::Null, |object| &object.document["spec"])
    };
    let (of_own, of_channel) = (document(&own), document(&channel));
    let delivery = &model.delivery;
    let backoff = &delivery.backoff;
    let dead_letter_sink = match &delivery.dead_letter_sink {
        None => "the channel's own log".to_owned(),
        Some(target) => shown(target),
    };
    let own_only = [
        ("maxInFlight", model.max_in_flight.to_string()),
        ("ordering", word(&model.ordering)),
        ("startFrom", start_from(model.start_from)),
    ];
    let inherited = [
        ("retry", backoff.retry.to_string()),
        ("backoffPolicy", word(&backoff.growth)),
        ("backoffDelay", duration(backoff.delay)),
        ("backoffMax", duration(backoff.max)),
        ("retryAfterMax", duration(backoff.retry_after_max)),
        ("timeout", duration(delivery.timeout)),
        ("format", word(&delivery.format)),
        ("maxReplyBytes", delivery.max_reply_bytes.to_string()),
        ("deadLetterSink", dead_letter_sink),
    ];
    let own_only = own_only.into_iter().map(|(field, value)| Setting {
        field,
        value,
        origin: (!of_own[field].is_null()).then(|| own.clone()),
    });
    let inherited = inherited.into_iter().map(|(field, value)| {
        let origin = match (&of_own["delivery"][field], &of_channel["delivery"][field]) {
            (Value::Null, Value::Null) => None,
            (Value::Null, _) => Some(channel.clone()),
            _ => Some(own.clone()),
        };
        Setting { field, value, origin }
    });
    own_only.chain(inherited).collect()
}

fn shown(target: &Target) -> String {
    match target {
        Target::Uri { url, .. } => spec::without_userinfo(url.as_str()).into_owned(),
        Target::Channel(name) | Target::Elsewhere { channel: name, .. } => format!("channel {name}"),
        Target::Unresolved(cause) => cause.message.clone(),
    }
}

fn start_from(start: StartFrom) -> String {
    match start {
        StartFrom::Latest => "latest".to_owned(),
        StartFrom::Earliest => "earliest".to_owned(),
        StartFrom::Time(time) => time.to_string(),
        StartFrom::Offset(offset) => format!("offset {offset}"),
    }
}

/// The word that a document has for it: that of its variant, in lower case.
fn word(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

/// As a document writes it.
fn duration(time: Duration) -> String {
    format!("PT{}S", time.as_secs_f64())
}
