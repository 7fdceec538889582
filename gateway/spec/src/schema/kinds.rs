//! The seven kinds, and of Kubernetes' own Service and Secret what we read (API.md 2.2-2.5).

use std::sync::LazyLock;

use super::{
    Field, Form, Object, Shape, field, filled_list, list, map, object,
    parts::{channel_reference, delivery, destination, provisioner_reference, reply, secret_selector, token},
    required, special,
};
use crate::Kind;

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
        describe: "One of exact, prefix, suffix, all, any, not.",
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

/// What all sources have (API.md 2.5).
fn source(mut fields: Vec<Field>, rules: Vec<(&'static str, &'static str)>, describe: &'static str) -> Described {
    let overrides = object(vec![field(
        "extensions",
        map(Shape::Text(Form::Free)),
        "Set on every event.",
    )]);
    fields.extend([
        field("generation", Shape::Any, "Not read (v0.2)."),
        field("sink", destination(), "Where the events go."),
        field(
            "serviceAccountName",
            Shape::Text(Form::Name),
            "Runs the adapter under this account.",
        ),
        field(
            "serviceAccountname",
            Shape::Text(Form::Name),
            "v0.2's spelling of serviceAccountName.",
        ),
        field("ceOverrides", overrides, "Changes to the events."),
    ]);
    Described {
        spec: Shape::Object(Object {
            fields,
            rules,
            ..Object::default()
        }),
        spec_required: true,
        describe,
    }
}

fn github() -> Described {
    let number = || Shape::Integer { min: 1, max: i64::MAX };
    let app = object(vec![
        required("id", number(), "the App's id"),
        required("installationId", number(), "the installation's id"),
        required("privateKey", token(), "the secret that has the App's private key"),
    ]);
    let fields = vec![
        required(
            "ownerAndRepository",
            Shape::Text(Form::OwnerAndRepository),
            "`org/repo`, or `org` for all its repositories",
        ),
        field(
            "eventTypes",
            filled_list(Shape::Text(Form::Filled)),
            "Event names as GitHub has them; `*` takes all, as does no list.",
        ),
        field(
            "accessToken",
            token(),
            "Manages the webhook and reads missed deliveries.",
        ),
        field("secretToken", token(), "Signs deliveries."),
        field(
            "previousSecretToken",
            token(),
            "Still accepted while the secret is changed.",
        ),
        field("githubAPIURL", Shape::Text(Form::HttpUrl), "GitHub Enterprise's API."),
        field("app", app, "A GitHub App instead of an access token."),
        field(
            "mode",
            Shape::Text(Form::OneOf(&["webhook", "poll"])),
            "How events come; default webhook.",
        ),
        field(
            "sweepInterval",
            Shape::Text(Form::Duration),
            "How often missed deliveries are looked for; PT0S is off.",
        ),
    ];
    let rules = vec![(
        "has(self.accessToken) || has(self.secretToken) || has(self.app)",
        "at least one of accessToken and secretToken is needed",
    )];
    source(fields, rules, "Events of a GitHub repository or organisation.")
}

fn kubernetes_events() -> Described {
    let fields = vec![
        field(
            "namespace",
            Shape::Text(Form::Free),
            "The namespace whose events are meant.",
        ),
        field("allNamespaces", Shape::Boolean, "All namespaces instead of one."),
        field(
            "types",
            list(Shape::Text(Form::OneOf(&["Normal", "Warning"]))),
            "Only these types.",
        ),
        field("reasons", list(Shape::Text(Form::Filled)), "Only these reasons."),
        field(
            "kinds",
            list(Shape::Text(Form::Filled)),
            "Only events about these kinds.",
        ),
        field(
            "coalesce",
            Shape::Text(Form::Duration),
            "Bundles repeats within this time.",
        ),
    ];
    let rules = vec![(
        "(has(self.__namespace__) && self.__namespace__ != '') || (has(self.allNamespaces) && self.allNamespaces)",
        "namespace is required, unless allNamespaces is true",
    )];
    source(fields, rules, "Kubernetes' own events.")
}

fn gcp_pubsub() -> Described {
    let credentials = secret_selector(false);
    let fields = vec![
        required("googleCloudProject", Shape::Text(Form::Filled), "the project's id"),
        required("topic", Shape::Text(Form::Filled), "the topic's id"),
        field(
            "gcpCredsSecret",
            credentials,
            "The secret with a service account's key; key.json when no key is named.",
        ),
        field(
            "subscription",
            Shape::Text(Form::Filled),
            "An existing subscription to use.",
        ),
        field("emulatorHost", Shape::Text(Form::Filled), "host:port of an emulator."),
        field(
            "deletionPolicy",
            Shape::Text(Form::OneOf(&["Delete", "Retain"])),
            "What becomes of our subscription.",
        ),
        field("ordering", Shape::Boolean, "Keeps the order of each ordering key."),
    ];
    source(fields, Vec::new(), "Messages of a Google Cloud Pub/Sub topic.")
}

fn container() -> Described {
    let fields = vec![
        required("image", Shape::Text(Form::Filled), "the image to run"),
        field(
            "args",
            list(Shape::Text(Form::Free)),
            "Arguments; `--sink=` is set by us.",
        ),
        field(
            "env",
            Shape::Special {
                check: special::env,
                describe: "A list of EnvVar, or a map.",
            },
            "Environment.",
        ),
        field("template", Shape::Any, "A pod template."),
        field(
            "restartPolicy",
            Shape::Text(Form::OneOf(&[
                "always",
                "onFailure",
                "never",
                "Always",
                "OnFailure",
                "Never",
            ])),
            "Default always.",
        ),
    ];
    source(fields, Vec::new(), "Events that a container sends.")
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
