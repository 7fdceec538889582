//! The documents that users write, each part declared once (API.md 2.1-2.5): `document_struct!` makes the type, the schema
//! and the reader of it.
//!
//! A document becomes one of these types only after it passed its schema, so what is left to be `None` is what a user may leave
//! out. [`crate::model`] is what we run.

mod access;
pub(crate) mod backends;
mod environment;
mod filters;
mod publishers;
mod sources;
mod start_from;
pub(crate) mod targets;

use std::{collections::BTreeMap, time::Duration};

pub use crate::schema::declare::Unread;
use crate::{
    model::{BackendKind, Format, Ordering, SecretText, StartFrom},
    provisioners,
    schema::{
        EVENT_BYTES_MAX, FieldType, Form, Object, Shape, document_enum, document_struct, integer,
        rules::{Fixed, Rule, Test, any, given, not, rule},
        settings, short_list,
    },
};
pub use access::*;
use backends::Config;
pub use environment::*;
pub use publishers::*;
pub use sources::*;
pub use targets::*;

/// A document's `spec`, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    Channel(Channel),
    Subscription(Box<Subscription>),
    ClusterChannelProvisioner(ClusterChannelProvisioner),
    GitHubSource(Box<GitHubSource>),
    KubernetesEventSource(KubernetesEventSource),
    GcpPubSubSource(GcpPubSubSource),
    ContainerSource(ContainerSource),
    Service(Service),
    Secret(Secret),
}

/// Each delivery in flight is a task, a connection and an event in memory; beyond this, the sink's own limits come first.
const IN_FLIGHT_MAX: i64 = 10_000;

/// Subscribers listed by hand; more are better made by a tool, as Subscriptions.
const SUBSCRIBERS_MAX: usize = 256;

/// Retries beyond this are spelled wrong rather than meant; also where the CRD's 32 bits end.
const RETRY_MAX: i64 = i32::MAX as i64;

/// The message for a change of an immutable field; `set.rs` reports it for files.
pub(crate) const CHANNEL_FIXED: &str =
    "is immutable: delete the subscription and create it anew, or choose another name";
pub(crate) const PROVISIONER_FIXED: &str =
    "is immutable: delete the channel and create it anew, or choose another name";
pub(crate) const BACKEND_FIXED: &str =
    "is immutable, for the events of its channels lie in the former one: make another provisioner";

document_struct! {
    /// Keeps events until each of its subscriptions has them.
    pub struct Channel {
        /// Not read (v0.2).
        generation: Unread,
        /// The provisioner that keeps the events; absent means the default. Immutable.
        provisioner: Option<Reference> [provisioner()],
        /// Settings of the backend.
        arguments: Unread [settings()],
        /// Defaults for the channel's subscriptions, field by field.
        delivery: Delivery,
        /// Subscribers without a Subscription.
        subscribable: Subscribable,
        /// The senders that may publish over HTTP; absent means every sender that reaches the listener.
        publishers: Vec<Publisher> [publishers()],
        /// The most that each publisher may send, or all senders together where the channel names no publishers.
        limits: Option<Limits>,
    } with {
        fixed: vec![Fixed {
            path: "provisioner.name",
            same: provisioners::aliases().collect(),
            words: PROVISIONER_FIXED,
        }],
    }
}

document_struct! {
    /// The subscribers of a channel that have no Subscription.
    pub struct Subscribable: Default {
        /// Subscribers listed by hand.
        subscribers: Vec<Subscriber> [short_list(Subscriber::shape(), SUBSCRIBERS_MAX)],
    }
}

document_struct! {
    /// A subscriber listed by hand.
    pub struct Subscriber {
        /// Where events are sent.
        subscriber_uri ("subscriberURI"): Option<String> [Shape::Text(Form::HttpUrl)],
        /// Where answers are sent.
        reply_uri ("replyURI"): Option<String> [Shape::Text(Form::HttpUrl)],
        /// The subscription this entry was made for (v0.2); not read.
        made_for ("ref"): Unread,
        /// Not read.
        uid: Unread,
        /// Not read.
        generation: Unread,
    } with {
        rules: vec![rule(
            any(&["subscriberURI", "replyURI"]),
            "",
            "at least one of subscriberURI and replyURI is needed",
        )],
    }
}

document_struct! {
    /// How events are delivered, and where those go that cannot be.
    pub struct Delivery: Default {
        /// Attempts after the first; default 24, with the other defaults about two hours until an event is a dead letter.
        retry: Option<u32> [integer(0, RETRY_MAX)],
        /// Default exponential.
        backoff_policy: Option<BackoffPolicy>,
        /// Default PT0.2S.
        backoff_delay: Option<Duration>,
        /// Longest wait between two attempts; default PT10M.
        backoff_max: Option<Duration>,
        /// Per attempt, head and body; default PT30S.
        timeout: Option<Duration> [Shape::Text(Form::PositiveDuration)],
        /// Default binary.
        format: Option<Format>,
        /// Default 1048576.
        max_reply_bytes: Option<usize> [integer(1, EVENT_BYTES_MAX)],
        /// Cap on a sink's Retry-After; default PT5M.
        retry_after_max: Option<Duration>,
        /// Where undeliverable events go; absent means the channel's own dead-letter log.
        dead_letter_sink: Option<Destination> [destination()],
    }
}

document_enum! {
    pub enum BackoffPolicy {
        Exponential = "exponential",
        Linear = "linear",
    }
}

document_struct! {
    /// Delivers a channel's events to a subscriber, and its answers to a reply target.
    pub struct Subscription {
        /// Not read (v0.2).
        generation: Unread,
        /// The channel whose events are delivered; immutable.
        channel: Reference [channel()],
        /// Where events are sent.
        subscriber: Option<Destination> [destination()],
        /// Where the subscriber's answers are sent.
        reply: Option<Destination>,
        /// All must match; none matches everything.
        filters: Vec<cesql::Filter> [short_list(cesql::Filter::shape(), filters::FILTERS_MAX)],
        /// How it is tried, and what becomes of what cannot be delivered.
        delivery: Delivery,
        /// Concurrent deliveries; default 64.
        max_in_flight: usize [integer(1, IN_FLIGHT_MAX)] = crate::build::MAX_IN_FLIGHT,
        /// Default none.
        ordering: Ordering = Ordering::None,
        /// Where a new subscription starts; default latest.
        start_from: StartFrom = StartFrom::Latest,
        /// Keeps its place and delivers nothing.
        paused: bool,
    } with {
        rules: vec![rule(
            any(&["subscriber", "reply"]),
            "",
            "at least one of `subscriber` and `reply` is needed",
        ), structured()],
        fixed: ["channel.name", "channel.namespace"]
            .map(|path| Fixed { path, same: Vec::new(), words: CHANNEL_FIXED })
            .into(),
        renamed: &[
            ("from", "`channel`"),
            ("call", "`subscriber`, and `call.targetRef` is `subscriber.ref`,"),
            ("result", "`reply`"),
        ],
    }
}

/// A signature covers the body alone, and in binary mode the attributes are headers.
fn structured() -> Rule {
    rule(
        given(
            any(&["subscriber.sign", "reply.sign", "delivery.deadLetterSink.sign"]),
            not(Test::Is("delivery.format", &["binary"])),
        ),
        "delivery.format",
        "a signature covers the body alone, so a signed event is sent in structured mode: write `json`, or leave `format` out",
    )
}

/// A provisioner, whose backend was named by its document or by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterChannelProvisioner {
    pub config: Config,
    pub require_durability: Option<String>,
}

document_struct! {
    /// A way to keep the events of channels.
    pub(crate) struct WrittenProvisioner {
        /// Not read (v0.2).
        generation: Unread,
        /// Not read (v0.1).
        reconciles: Unread,
        /// The backend that keeps the events.
        backend: Option<BackendKind>,
        /// Settings of the backend.
        config: Unread [Shape::Object(Object {
            open: true,
            may_be: BackendKind::ALL.map(Config::schema).into(),
            ..Object::default()
        })],
        /// Not Ready unless the backend promises this.
        require_durability: Option<String> [Shape::Text(Form::OneOf(&["process", "disk", "quorum", "quorum-fsync"]))],
    } with {
        fixed: vec![Fixed { path: "backend", same: Vec::new(), words: BACKEND_FIXED }],
    }
}

document_struct! {
    /// The part of a Kubernetes Service that names an address outside the cluster.
    pub struct Service {
        /// A host name or an address.
        external_name: Option<String> [Shape::Text(Form::Filled)],
        /// The first one is used.
        ports: Vec<Port>,
    } with { open: true }
}

document_struct! {
    /// A port of a Service.
    pub struct Port {
        /// The port's number.
        port: u16 [integer(1, 65_535)],
    } with { open: true }
}

/// A Kubernetes Secret. Its values are kept by [`SecretText`], which is never printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secret {
    pub values: BTreeMap<String, SecretText>,
}
