//! What several kinds have in common: references, targets, delivery settings, secrets.

use super::{Form, Object, Shape, field, kinds::EVENT_BYTES_MAX, object, required, target};

pub(crate) const EVENTING: &str = "eventing.knative.dev/v1alpha1";
pub(crate) const SOURCES: &str = "sources.eventing.knative.dev/v1alpha1";
/// How every apiVersion of these groups begins.
pub(super) const EVENTING_GROUP: &str = "eventing.knative.dev/";
pub(super) const SOURCES_GROUP: &str = "sources.eventing.knative.dev/";

/// Retries beyond this are spelled wrong rather than meant; also where the CRD's 32 bits end.
const RETRY_MAX: i64 = i32::MAX as i64;

/// Fields that Kubernetes' ObjectReference has and we do not read.
fn unread() -> Vec<super::Field> {
    vec![
        field("uid", Shape::Any, "Not read."),
        field("resourceVersion", Shape::Any, "Not read."),
        field("fieldPath", Shape::Any, "Not read."),
    ]
}

fn reference_fields() -> Vec<super::Field> {
    let mut fields = vec![
        field("apiVersion", Shape::Text(Form::Filled), "The target's apiVersion."),
        field("kind", Shape::Text(Form::Filled), "The target's kind."),
        field("name", Shape::Text(Form::Name), "The target's name."),
        field(
            "namespace",
            Shape::Text(Form::Label),
            "The target's namespace, when it is another one.",
        ),
    ];
    fields.extend(unread());
    fields
}

/// A reference of which only the name must be told, because only one kind can be meant.
fn reference_to(kind: &'static [&'static str], namespaced: bool) -> Shape {
    let mut fields = vec![
        field("apiVersion", Shape::Text(Form::OneOf(&[EVENTING])), "Its apiVersion."),
        field("kind", Shape::Text(Form::OneOf(kind)), "Its kind."),
        required("name", Shape::Text(Form::Name), "its name"),
    ];
    if namespaced {
        fields.push(field(
            "namespace",
            Shape::Text(Form::Label),
            "Its namespace, when it is another one.",
        ));
    }
    fields.extend(unread());
    object(fields)
}

pub(crate) fn channel_reference() -> Shape {
    reference_to(&["Channel"], true)
}

pub(crate) fn provisioner_reference() -> Shape {
    reference_to(&["ClusterChannelProvisioner"], false)
}

fn target_fields() -> Vec<super::Field> {
    let mut nested = reference_fields();
    for field in &mut nested {
        field.required = matches!(field.name, "apiVersion" | "kind" | "name");
    }
    let mut fields = reference_fields();
    let nested = Object {
        fields: nested,
        rules: target::referable(),
        ..Object::default()
    };
    fields.extend([
        field("ref", Shape::Object(nested), "The target as an object."),
        field("uri", Shape::Text(Form::Url), "A URL; with ref, relative to the ref's."),
        field(
            "dnsName",
            Shape::Text(Form::HostOrUrl),
            "v0.2: a host with or without a port, or a URL.",
        ),
    ]);
    fields
}

/// `sink`, `subscriber`, `deadLetterSink` (API.md 2.1).
pub(crate) fn destination() -> Shape {
    Shape::Object(Object {
        fields: target_fields(),
        rules: target::rules(false),
        ..Object::default()
    })
}

/// A destination, or v0.2's `channel`.
pub(crate) fn reply() -> Shape {
    let mut fields = target_fields();
    fields.push(field(
        "channel",
        channel_reference(),
        "v0.2: the channel that takes the answers.",
    ));
    Shape::Object(Object {
        fields,
        rules: target::rules(true),
        ..Object::default()
    })
}

pub(crate) fn delivery() -> Shape {
    object(vec![
        field(
            "retry",
            Shape::Integer { min: 0, max: RETRY_MAX },
            "Attempts after the first; default 10.",
        ),
        field(
            "backoffPolicy",
            Shape::Text(Form::OneOf(&["exponential", "linear"])),
            "Default exponential.",
        ),
        field("backoffDelay", Shape::Text(Form::Duration), "Default PT0.2S."),
        field("backoffMax", Shape::Text(Form::Duration), "Default PT1M."),
        field(
            "timeout",
            Shape::Text(Form::PositiveDuration),
            "Per attempt, head and body; default PT30S.",
        ),
        field(
            "format",
            Shape::Text(Form::OneOf(&["binary", "json"])),
            "Default binary.",
        ),
        field(
            "maxReplyBytes",
            Shape::Integer {
                min: 1,
                max: EVENT_BYTES_MAX,
            },
            "Default 1048576.",
        ),
        field(
            "retryAfterMax",
            Shape::Text(Form::Duration),
            "Cap on a sink's Retry-After; default PT5M.",
        ),
        field(
            "deadLetterSink",
            destination(),
            "Where undeliverable events go; absent means the channel's own dead-letter log.",
        ),
    ])
}

/// `{name, key}` of a secret.
pub(crate) fn secret_selector(key_required: bool) -> Shape {
    let mut key = field("key", Shape::Text(Form::SecretKey), "the key in the secret");
    key.required = key_required;
    let fields = vec![
        required("name", Shape::Text(Form::Name), "the secret's name"),
        key,
        field("optional", Shape::Any, "Not read."),
    ];
    Shape::Object(Object {
        fields,
        secret: true,
        ..Object::default()
    })
}

/// `{secretKeyRef: {name, key}}`.
pub(crate) fn token() -> Shape {
    let fields = vec![required(
        "secretKeyRef",
        secret_selector(true),
        "name and key of the secret that has it",
    )];
    Shape::Object(Object {
        fields,
        secret: true,
        ..Object::default()
    })
}
