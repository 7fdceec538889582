//! The members of `.status` of each kind besides its conditions.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::Conditions;

/// Members of `.status` that change with a document or the cluster, not because events pass. A change of these is written to
/// Kubernetes at once, any other within a minute.
pub const STEADY: [&str; 8] = [
    "observedGeneration",
    "address",
    "provisioner",
    "subscribers",
    "physicalSubscription",
    "sinkUri",
    "durability",
    "paused",
];

/// One object's `.status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// The conditions of the object.
    pub conditions: Conditions,
    /// The other fields, which depend on the kind.
    #[serde(flatten)]
    pub fields: Fields,
}

/// The members of `.status` that depend on the kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Fields {
    /// The document does not run here.
    #[default]
    Nothing,
    Provisioner(ProvisionerStatus),
    Channel(ChannelStatus),
    Subscription(SubscriptionStatus),
    Source(SourceStatus),
}

/// Fields of a ClusterChannelProvisioner's status.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProvisionerStatus {
    /// The weakest promise of its channels; `None` while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<&'static str>,
}

/// Fields of a Channel's status.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// The one that the channel names, or the default it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provisioner: Option<ProvisionerReference>,
    /// Where the channel takes events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// `None` while the channel is not open.
    #[serde(flatten)]
    pub open: Option<OpenChannelStatus>,
    /// Where its events go.
    pub subscribers: Vec<Subscriber>,
}

/// Fields of a channel that is open.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenChannelStatus {
    /// The durability of an accepted event, as `headgate-durability` says it.
    pub durability: &'static str,
    /// Backlog of the subscription that is furthest behind.
    pub unsettled_events: u64,
    /// Dead letters in the channel's log.
    pub dead_letters: u64,
    /// Events that are gone before every subscription had settled them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_events: Option<u64>,
    /// Dead letters that are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_dead_letters: Option<u64>,
}

/// The provisioner that keeps the channel's events.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionerReference {
    /// The `apiVersion` of the provisioner.
    pub api_version: &'static str,
    /// The `kind` of the provisioner.
    pub kind: &'static str,
    /// The name of the provisioner.
    pub name: String,
}

/// The address of a channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Address {
    /// With the port, as in v0.2.
    pub hostname: String,
    /// The URL that takes events.
    pub url: String,
}

/// One subscriber of a channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subscriber {
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// Whether every later event reaches it.
    pub ready: bool,
    /// Where its events are sent, without credentials.
    #[serde(rename = "subscriberURI")]
    pub subscriber_uri: Option<String>,
    /// Where its replies are sent, without credentials.
    #[serde(rename = "replyURI")]
    pub reply_uri: Option<String>,
}

/// Fields of a Subscription's status.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionStatus {
    /// The addresses that its references were resolved to.
    pub physical_subscription: PhysicalSubscription,
    /// How long an event is retried on average, in words.
    pub until_dead_letter: String,
    /// Whether deliveries are stopped, and by what.
    pub paused: Paused,
    /// The redrive of dead letters that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redrive: Option<Redrive>,
    /// Events of the channel that it has not settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsettled_events: Option<u64>,
}

/// Where its events go, resolved.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PhysicalSubscription {
    /// Where events are sent.
    #[serde(rename = "subscriberURI")]
    pub subscriber: Option<String>,
    /// Where replies are sent.
    #[serde(rename = "replyURI")]
    pub reply: Option<String>,
    /// Where dead letters are sent.
    #[serde(rename = "deadLetterURI")]
    pub dead_letter: Option<String>,
}

/// The two switches that stop deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Paused {
    /// By `spec.paused`.
    pub spec: bool,
    /// By `headgate pause`.
    pub switch: bool,
}

/// How far the last redrive of its dead letters is, in dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Redrive {
    /// Dead letters that the redrive is about.
    pub matched: u64,
    /// Those that were delivered.
    pub delivered: u64,
    /// Those that are dead letters again.
    pub dead_lettered: u64,
    /// Those that were not attempted yet.
    pub left: u64,
}

/// Fields of a source's status.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Where the source's events go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink_uri: Option<String>,
    /// Backlog of its outbox, which has no object of its own to show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsettled_events: Option<u64>,
    /// Members that its adapter reports.
    #[serde(flatten)]
    pub reported: BTreeMap<&'static str, Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn channel() -> Fields {
        Fields::Channel(ChannelStatus {
            provisioner: Some(ProvisionerReference {
                api_version: "messaging.knative.dev/v1alpha1",
                kind: "ClusterChannelProvisioner",
                name: "memory".to_owned(),
            }),
            address: Some(Address {
                hostname: "127.0.0.1:8080".to_owned(),
                url: "http://127.0.0.1:8080/default/a".to_owned(),
            }),
            open: Some(OpenChannelStatus {
                durability: "process",
                missing_events: Some(3),
                missing_dead_letters: Some(2),
                ..OpenChannelStatus::default()
            }),
            subscribers: vec![Subscriber {
                name: "default/s".to_owned(),
                ready: true,
                subscriber_uri: Some("http://sink/".to_owned()),
                reply_uri: None,
            }],
        })
    }

    fn subscription() -> Fields {
        Fields::Subscription(SubscriptionStatus {
            until_dead_letter: "about 2 h".to_owned(),
            redrive: Some(Redrive {
                matched: 4,
                delivered: 2,
                dead_lettered: 1,
                left: 1,
            }),
            unsettled_events: Some(1),
            ..SubscriptionStatus::default()
        })
    }

    fn source() -> Fields {
        Fields::Source(SourceStatus {
            sink_uri: Some("http://sink/".to_owned()),
            unsettled_events: Some(7),
            reported: [("webhookURL", json!("https://hook/"))].into(),
        })
    }

    #[test]
    fn the_json_of_each_kind_is_what_the_documentation_shows() {
        let provisioner = Fields::Provisioner(ProvisionerStatus {
            durability: Some("disk"),
        });
        let cases = [
            (Fields::Nothing, Value::Null),
            (provisioner, json!({ "durability": "disk" })),
            (Fields::Provisioner(ProvisionerStatus::default()), json!({})),
            (Fields::Channel(ChannelStatus::default()), json!({ "subscribers": [] })),
            (
                channel(),
                json!({
                    "provisioner": { "apiVersion": "messaging.knative.dev/v1alpha1", "kind": "ClusterChannelProvisioner", "name": "memory" },
                    "address": { "hostname": "127.0.0.1:8080", "url": "http://127.0.0.1:8080/default/a" },
                    "durability": "process", "unsettledEvents": 0, "deadLetters": 0, "missingEvents": 3, "missingDeadLetters": 2,
                    "subscribers": [{ "name": "default/s", "ready": true, "subscriberURI": "http://sink/", "replyURI": null }],
                }),
            ),
            (
                subscription(),
                json!({
                    "physicalSubscription": { "subscriberURI": null, "replyURI": null, "deadLetterURI": null },
                    "untilDeadLetter": "about 2 h", "paused": { "spec": false, "switch": false },
                    "redrive": { "matched": 4, "delivered": 2, "deadLettered": 1, "left": 1 }, "unsettledEvents": 1,
                }),
            ),
            (
                source(),
                json!({ "sinkUri": "http://sink/", "unsettledEvents": 7, "webhookURL": "https://hook/" }),
            ),
        ];
        for (fields, expected) in cases {
            assert_eq!(json!(fields), expected);
        }
        let whole = json!(Status {
            fields: channel(),
            ..Status::default()
        });
        assert_eq!(whole["durability"], "process");
        assert_eq!(whole["conditions"][0]["type"], "Ready");
        assert_eq!(json!(Status::default()).as_object().map(serde_json::Map::len), Some(1));
    }

    /// A new member is put either here or into [`STEADY`]: whether Kubernetes is told of it at once is decided, not forgotten.
    #[test]
    fn every_member_is_steady_or_moves_with_the_events() {
        const MOVING: [&str; 7] = [
            "deadLetters",
            "missingDeadLetters",
            "missingEvents",
            "redrive",
            "unsettledEvents",
            "untilDeadLetter",
            "webhookURL",
        ];
        let mut members: Vec<String> = [channel(), subscription(), source()]
            .iter()
            .flat_map(|fields| json!(fields).as_object().cloned().unwrap_or_default())
            .map(|(name, _)| name)
            .chain(["observedGeneration".to_owned()])
            .collect();
        members.sort();
        members.dedup();
        let mut known = [&STEADY[..], &MOVING].concat();
        known.sort_unstable();
        assert_eq!(members, known);
    }
}
