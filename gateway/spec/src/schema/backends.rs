//! Settings that depend on the backend: a channel's `arguments`, a provisioner's `config` (API.md 2.2, 2.3).

use super::{Field, Form, Shape, field, kinds::EVENT_BYTES_MAX, object, required, special};
use crate::model::BackendKind;

/// Events are kept in memory whole; more than this is a log's work.
const CAPACITY_MAX: i64 = 100_000_000;

/// JetStream's own limit.
const NATS_REPLICAS_MAX: i64 = 5;

fn count(max: i64) -> Shape {
    Shape::Integer { min: 1, max }
}

fn size() -> Shape {
    Shape::Special {
        check: special::size,
        openapi: special::unsaid,
    }
}

pub(crate) fn arguments(backend: BackendKind) -> Shape {
    let age = || Shape::Text(Form::Duration);
    let mut fields = match backend {
        BackendKind::Memory => vec![field("capacity", count(CAPACITY_MAX), "Events; default 10 000.")],
        BackendKind::Embedded => {
            let retention = object(vec![
                field(
                    "age",
                    age(),
                    "Settled events are kept this long for replay; default PT24H.",
                ),
                field(
                    "bytes",
                    Shape::Quantity,
                    "Settled events are kept up to this size; default 1 GiB.",
                ),
            ]);
            let limit = object(vec![
                field(
                    "age",
                    Shape::Text(Form::PositiveDuration),
                    "What is older goes, settled or not.",
                ),
                field("bytes", size(), "What is beyond this size goes, settled or not."),
            ]);
            vec![
                field("retention", retention, "What is kept for replay."),
                field("limit", limit, "A hard limit."),
                field(
                    "dedup",
                    Shape::Special {
                        check: special::dedup,
                        openapi: special::unsaid,
                    },
                    "A repeat of source and id within this time is not stored again; default: it is.",
                ),
            ]
        }
        BackendKind::Kafka => vec![
            field(
                "NumPartitions",
                count(i32::MAX.into()),
                "v0.2's spelling of numPartitions.",
            ),
            field("numPartitions", count(i32::MAX.into()), "Partitions."),
            field("replicationFactor", count(i16::MAX.into()), "Replicas."),
            field("retention", age(), "The topic's retention."),
        ],
        BackendKind::Nats => vec![
            field(
                "replicas",
                count(NATS_REPLICAS_MAX),
                "Servers that keep the stream; default 1.",
            ),
            field(
                "maxAge",
                Shape::Text(Form::PositiveDuration),
                "What is older goes, settled or not.",
            ),
            field("maxBytes", size(), "The stream's size; full, it refuses."),
        ],
    };
    fields.push(field(
        "maxEventBytes",
        max_event_bytes(backend),
        "Largest event taken, bytes.",
    ));
    object(fields)
}

fn max_event_bytes(backend: BackendKind) -> Shape {
    match backend {
        BackendKind::Memory | BackendKind::Embedded => Shape::Integer {
            min: 1,
            max: EVENT_BYTES_MAX,
        },
        // A broker's limit is its own.
        BackendKind::Kafka | BackendKind::Nats => Shape::Integer {
            min: 1,
            max: i32::MAX.into(),
        },
    }
}

pub(crate) fn config(backend: BackendKind) -> Shape {
    let addresses = || Shape::Special {
        check: special::text_or_list,
        openapi: special::unsaid,
    };
    let secret = || {
        object(vec![
            required("name", Shape::Text(Form::Name), "the secret's name"),
            field(
                "namespace",
                Shape::Text(Form::Label),
                "Its namespace; default `default`.",
            ),
        ])
    };
    let fields: Vec<Field> = match backend {
        BackendKind::Memory | BackendKind::Embedded => Vec::new(),
        BackendKind::Kafka => {
            let protocols = &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
            let mechanisms = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
            let security = object(vec![
                field("protocol", Shape::Text(Form::OneOf(protocols)), "Default PLAINTEXT."),
                field("mechanism", Shape::Text(Form::OneOf(mechanisms)), "Of SASL."),
                field(
                    "secretRef",
                    secret(),
                    "The secret with user and password, or certificates.",
                ),
            ]);
            vec![
                required("bootstrapServers", addresses(), "the brokers, as host:port"),
                field("topicPrefix", Shape::Text(Form::Free), "Before each topic's name."),
                field("security", security, "How to connect."),
            ]
        }
        BackendKind::Nats => vec![
            required("servers", addresses(), "the servers, as nats://host:port"),
            field(
                "streamPrefix",
                Shape::Text(Form::StreamPrefix),
                "Before each stream's name; default `headgate-`.",
            ),
            field(
                "monitoringURLs",
                Shape::Special {
                    check: special::url_or_list,
                    openapi: special::unsaid,
                },
                "Where the servers tell whether they sync.",
            ),
            field(
                "security",
                object(vec![
                    field("tls", Shape::Boolean, "TLS even where the servers do not ask for it."),
                    field("secretRef", secret(), "The secret with the credentials."),
                ]),
                "How to connect.",
            ),
        ],
    };
    object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        schema::{Path, Report, check},
        tree,
    };

    fn faults(shape: &Shape, text: &str) -> Vec<String> {
        let Ok(Some(node)) = tree::parse(text, 0, 1) else {
            panic!("no document")
        };
        let mut report = Report::default();
        check(shape, &node, node.at, &Path::Root, &mut report);
        report
            .found
            .into_iter()
            .map(|found| format!("{}: {}", found.path, found.message))
            .collect()
    }

    #[test]
    fn each_backend_knows_its_own_arguments() {
        let table = [
            (BackendKind::Memory, "{capacity: 5, maxEventBytes: 33554432}", true),
            (BackendKind::Memory, "{capacity: 0}", false),
            (BackendKind::Memory, "{maxEventBytes: 33554433}", false),
            (BackendKind::Memory, "{retention: {age: PT1H}}", false),
            (
                BackendKind::Embedded,
                "{retention: {age: PT1H, bytes: 1Gi}, limit: {age: P1D, bytes: 5}}",
                true,
            ),
            (BackendKind::Embedded, "{retention: {age: 1h}}", false),
            (BackendKind::Embedded, "{limit: {bytes: 0}}", false),
            (BackendKind::Embedded, "{dedup: PT10M}", true),
            (BackendKind::Embedded, "{dedup: PT1S}", true),
            (BackendKind::Embedded, "{dedup: P1D}", true),
            (BackendKind::Embedded, "{dedup: PT0.9S}", false),
            (BackendKind::Embedded, "{dedup: PT24H1S}", false),
            (BackendKind::Embedded, "{dedup: 600}", false),
            (BackendKind::Memory, "{dedup: PT10M}", false),
            (
                BackendKind::Kafka,
                "{NumPartitions: 3, replicationFactor: 1, retention: P7D}",
                true,
            ),
            (BackendKind::Kafka, "{numPartitions: 0}", false),
            (BackendKind::Nats, "{replicas: 3, maxAge: P7D, maxBytes: 1Gi}", true),
            (BackendKind::Nats, "{replicas: 6}", false),
            (BackendKind::Nats, "{maxAge: PT0S}", false),
        ];
        for (backend, text, valid) in table {
            assert_eq!(
                faults(&arguments(backend), text).is_empty(),
                valid,
                "{backend:?} {text}"
            );
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let found = faults(&config(BackendKind::Kafka), "{bootstrapServer: [\"h:1\"]}");
        assert!(found[0].contains("did you mean `bootstrapServers`?"), "{found:?}");
        assert!(faults(&config(BackendKind::Kafka), "{bootstrapServers: \"h:1\"}").is_empty());
        assert!(faults(&arguments(BackendKind::Memory), "{capacitty: 5}")[0].contains("did you mean `capacity`?"));
    }
}
