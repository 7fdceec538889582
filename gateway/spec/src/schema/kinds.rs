//! The seven kinds, and of Kubernetes' own Service and Secret what we read (API.md 2.2-2.5).

mod sources;

use std::sync::LazyLock;

use super::{
    Form, Object, Shape, field, list, object,
    parts::{channel_reference, delivery, destination, provisioner_reference, reply},
    required, special,
};
use crate::Kind;
use sources::{container, gcp_pubsub, github, kubernetes_events};

/// What one kind's `spec` may say.
pub(crate) struct Described {
    pub(crate) spec: Shape,
    /// A document without `spec` means nothing.
    pub(crate) spec_required: bool,
    pub(crate) describe: &'static str,
}

/// Largest event any of our own logs takes, bytes (CONTRACT IN-3).
pub(crate) const EVENT_BYTES_MAX: i64 = 32 << 20;

/// Each delivery in flight is a task, a connection and an event in memory; beyond this, the sink's own limits come first.
const IN_FLIGHT_MAX: i64 = 10_000;

pub(crate) fn described(kind: Kind) -> &'static Described {
    static ALL: LazyLock<Vec<(Kind, Described)>> = LazyLock::new(|| {
        vec![
            (Kind::Channel, channel()),
            (Kind::Subscription, subscription()),
            (Kind::ClusterChannelProvisioner, provisioner()),
            (Kind::GitHubSource, github()),
            (Kind::KubernetesEventSource, kubernetes_events()),
            (Kind::GcpPubSubSource, gcp_pubsub()),
            (Kind::ContainerSource, container()),
            (Kind::Service, service()),
            (
                Kind::Secret,
                Described {
                    spec: Shape::Any,
                    spec_required: false,
                    describe: "A Kubernetes Secret.",
                },
            ),
        ]
    });
    ALL.iter()
        .find(|(known, _)| *known == kind)
        .map(|(_, described)| described)
        .expect("every kind is described above")
}

fn channel() -> Described {
    let subscriber = object(vec![
        field("subscriberURI", Shape::Text(Form::HttpUrl), "Where events are sent."),
        field("replyURI", Shape::Text(Form::HttpUrl), "Where answers are sent."),
        field(
            "ref",
            Shape::Any,
            "The subscription this entry was made for (v0.2); not read.",
        ),
        field("uid", Shape::Any, "Not read."),
        field("generation", Shape::Any, "Not read."),
    ]);
    let subscribable = object(vec![field(
        "subscribers",
        list(subscriber),
        "Subscribers listed by hand.",
    )]);
    let fields = vec![
        field("generation", Shape::Any, "Not read (v0.2)."),
        field(
            "provisioner",
            provisioner_reference(),
            "Who keeps the events; absent means the default. Immutable.",
        ),
        field("arguments", Shape::Any, "Settings of the backend."),
        field(
            "delivery",
            delivery(),
            "Defaults for the channel's subscriptions, field by field.",
        ),
        field("subscribable", subscribable, "Subscribers without a Subscription."),
    ];
    let rules = vec![(
        "has(self.provisioner) == has(oldSelf.provisioner) && (!has(self.provisioner) || self.provisioner.name == oldSelf.provisioner.name)",
        "provisioner is immutable: delete the channel and create it anew",
    )];
    Described {
        spec: Shape::Object(Object {
            fields,
            rules,
            ..Object::default()
        }),
        spec_required: false,
        describe: "Keeps events until each of its subscriptions has them.",
    }
}

fn subscription() -> Described {
    let filter = Shape::Special {
        check: special::filter,
        describe: "One of exact, prefix, suffix, all, any, not, cesql.",
    };
    let start = Shape::Special {
        check: special::start_from,
        describe: "latest, earliest, {time: RFC 3339} or {offset: n}.",
    };
    let fields = vec![
        field("generation", Shape::Any, "Not read (v0.2)."),
        required(
            "channel",
            channel_reference(),
            "the channel whose events are delivered; immutable",
        ),
        field("subscriber", destination(), "Where events are sent."),
        field("reply", reply(), "Where the subscriber's answers are sent."),
        field("filters", list(filter), "All must match; none matches everything."),
        field(
            "delivery",
            delivery(),
            "How it is tried, and what becomes of what cannot be delivered.",
        ),
        field(
            "maxInFlight",
            Shape::Integer {
                min: 1,
                max: IN_FLIGHT_MAX,
            },
            "Concurrent deliveries; default 64.",
        ),
        field(
            "ordering",
            Shape::Text(Form::OneOf(&["none", "key", "total"])),
            "Default none.",
        ),
        field("startFrom", start, "Where a new subscription starts; default latest."),
        field("paused", Shape::Boolean, "Keeps its place and delivers nothing."),
    ];
    let rules = vec![
        (
            "has(self.subscriber) || has(self.reply)",
            "at least one of subscriber and reply is needed",
        ),
        (
            "self.channel.name == oldSelf.channel.name",
            "channel is immutable: delete the subscription and create it anew",
        ),
    ];
    Described {
        spec: Shape::Object(Object {
            fields,
            rules,
            ..Object::default()
        }),
        spec_required: true,
        describe: "Delivers a channel's events to a subscriber, and its answers to a reply target.",
    }
}

fn provisioner() -> Described {
    let durability = Shape::Text(Form::OneOf(&["process", "disk", "quorum", "quorum-fsync"]));
    let fields = vec![
        field("generation", Shape::Any, "Not read (v0.2)."),
        field("reconciles", Shape::Any, "Not read (v0.1)."),
        field(
            "backend",
            Shape::Text(Form::OneOf(&["memory", "embedded", "kafka", "nats"])),
            "What keeps the events.",
        ),
        field("config", Shape::Any, "Settings of the backend."),
        field(
            "requireDurability",
            durability,
            "Not Ready unless the backend promises this.",
        ),
    ];
    let rules = vec![(
        "has(self.backend) == has(oldSelf.backend) && (!has(self.backend) || self.backend == oldSelf.backend)",
        "backend is immutable: make another provisioner",
    )];
    Described {
        spec: Shape::Object(Object {
            fields,
            rules,
            ..Object::default()
        }),
        spec_required: false,
        describe: "A way to keep the events of channels.",
    }
}

fn service() -> Described {
    let port = Shape::Object(Object {
        fields: vec![required(
            "port",
            Shape::Integer { min: 1, max: 65_535 },
            "the port's number",
        )],
        open: true,
        ..Object::default()
    });
    let fields = vec![
        field("externalName", Shape::Text(Form::Filled), "A host name or an address."),
        field("ports", list(port), "The first one is used."),
    ];
    Described {
        spec: Shape::Object(Object {
            fields,
            open: true,
            ..Object::default()
        }),
        spec_required: false,
        describe: "A Kubernetes Service.",
    }
}
