//! The seven kinds, and of Kubernetes' own Service and Secret what we read (API.md 2.2-2.5).

mod sources;

use std::sync::LazyLock;

use super::{
    Form, Object, Shape, field, list, object,
    parts::{channel_reference, delivery, destination, provisioner_reference, reply},
    required,
    rules::{Fixed, Rule, Test, any, given, not, rule},
    settings, short_list, special,
};
use crate::{Kind, model::BackendKind, provisioners};
use sources::{container, gcp_pubsub, github, kubernetes_events};

/// What one kind's `spec` may say.
pub(crate) struct Described {
    pub(crate) spec: Shape,
    /// Rules over the whole document: its name and its spec.
    pub(crate) rules: Vec<Rule>,
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
                    rules: Vec::new(),
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

/// Names that we make ourselves: outboxes, and subscriptions of hand-listed subscribers.
pub(crate) const OUTBOX_SUFFIX: &str = ".outbox";
pub(crate) const SUBSCRIBER_PART: &str = ".subscriber-";

fn reserved(is: Test) -> Rule {
    rule(
        not(is),
        "metadata.name",
        "names like this are made by the gateway itself: choose another one",
    )
}

/// What is told when something changes that may not; of files by `set.rs`.
pub(crate) const CHANNEL_FIXED: &str =
    "is immutable: delete the subscription and create it anew, or choose another name";
pub(crate) const PROVISIONER_FIXED: &str =
    "is immutable: delete the channel and create it anew, or choose another name";
pub(crate) const BACKEND_FIXED: &str =
    "is immutable, for the events of its channels lie in the former one: make another provisioner";

/// Subscribers listed by hand; more are better made by a tool, as Subscriptions.
const SUBSCRIBERS_MAX: usize = 256;

fn channel() -> Described {
    let mut subscriber = object(vec![
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
    if let Shape::Object(object) = &mut subscriber {
        object.rules.push(rule(
            any(&["subscriberURI", "replyURI"]),
            "",
            "at least one of subscriberURI and replyURI is needed",
        ));
    }
    let subscribable = object(vec![field(
        "subscribers",
        short_list(subscriber, SUBSCRIBERS_MAX),
        "Subscribers listed by hand.",
    )]);
    let fields = vec![
        field("generation", Shape::Any, "Not read (v0.2)."),
        field(
            "provisioner",
            provisioner_reference(),
            "Who keeps the events; absent means the default. Immutable.",
        ),
        field("arguments", settings(), "Settings of the backend."),
        field(
            "delivery",
            delivery(),
            "Defaults for the channel's subscriptions, field by field.",
        ),
        field("subscribable", subscribable, "Subscribers without a Subscription."),
    ];
    let fixed = vec![Fixed {
        path: "provisioner.name",
        same: provisioners::aliases().collect(),
        words: PROVISIONER_FIXED,
    }];
    Described {
        spec: Shape::Object(Object {
            fields,
            fixed,
            ..Object::default()
        }),
        rules: vec![reserved(Test::EndsWith("metadata.name", OUTBOX_SUFFIX))],
        spec_required: false,
        describe: "Keeps events until each of its subscriptions has them.",
    }
}

fn subscription() -> Described {
    let filter = Shape::Special {
        check: special::filter,
        openapi: special::filter_schema,
    };
    let start = Shape::Special {
        check: special::start_from,
        openapi: special::start_from_schema,
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
        field(
            "filters",
            short_list(filter, special::FILTERS_MAX),
            "All must match; none matches everything.",
        ),
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
    let rules = vec![rule(
        any(&["subscriber", "reply"]),
        "",
        "at least one of `subscriber` and `reply` is needed",
    )];
    let fixed = ["channel.name", "channel.namespace"].map(|path| Fixed {
        path,
        same: Vec::new(),
        words: CHANNEL_FIXED,
    });
    Described {
        spec: Shape::Object(Object {
            fields,
            rules,
            fixed: fixed.into(),
            ..Object::default()
        }),
        rules: vec![reserved(Test::Any(vec![
            Test::EndsWith("metadata.name", OUTBOX_SUFFIX),
            Test::Contains("metadata.name", SUBSCRIBER_PART),
        ]))],
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
        field("config", settings(), "Settings of the backend."),
        field(
            "requireDurability",
            durability,
            "Not Ready unless the backend promises this.",
        ),
    ];
    let fixed = vec![Fixed {
        path: "backend",
        same: Vec::new(),
        words: BACKEND_FIXED,
    }];
    Described {
        spec: Shape::Object(Object {
            fields,
            fixed,
            ..Object::default()
        }),
        rules: backend_rules(),
        spec_required: false,
        describe: "A way to keep the events of channels.",
    }
}

/// A provisioner says its backend, or has a name that does; not both, differently.
fn backend_rules() -> Vec<Rule> {
    let named = |backend| Test::Is("metadata.name", provisioners::names(backend));
    let said = BackendKind::ALL.map(|backend| {
        given(
            Test::All(vec![named(backend), Test::Has("spec.backend")]),
            Test::Is("spec.backend", backend.words()),
        )
    });
    let named = BackendKind::ALL.map(named).into_iter();
    vec![
        rule(
            Test::Any(named.chain([Test::Has("spec.backend")]).collect()),
            "spec",
            "`backend` is required: memory, embedded, kafka or nats",
        ),
        rule(
            Test::All(said.into()),
            "spec.backend",
            "this name is the built-in name of another backend: choose another name",
        ),
    ]
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
        rules: Vec::new(),
        spec_required: false,
        describe: "A Kubernetes Service.",
    }
}
