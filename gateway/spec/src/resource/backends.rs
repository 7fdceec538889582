//! Settings that depend on the backend: a provisioner's `config`, a channel's `arguments` (API.md 2.2, 2.3).

use std::{sync::LazyLock, time::Duration};

use crate::{
    ObjectName,
    model::BackendKind,
    schema::{EVENT_BYTES_MAX, FieldType, Form, Shape, declare::field_type, document_struct, integer, object, special},
    tree::{Node, Value},
};

/// Events are kept in memory whole; more than this is a log's work.
const CAPACITY_MAX: i64 = 100_000_000;

/// JetStream's own limit.
const NATS_REPLICAS_MAX: i64 = 5;

/// Brokers have limits of their own.
const BROKER_MAX: i64 = i32::MAX as i64;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A provisioner's `config`.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    Memory,
    Embedded,
    Kafka(KafkaConfig),
    Nats(NatsConfig),
}

document_struct! {
    /// How the gateway connects to a Kafka cluster.
    pub struct KafkaConfig {
        /// The brokers, as host:port.
        bootstrap_servers: Addresses,
        /// Before each topic's name.
        topic_prefix: Option<String>,
        /// How to connect.
        security: KafkaSecurity,
    }
}

document_struct! {
    /// How the gateway authenticates itself to Kafka.
    pub struct KafkaSecurity: Default {
        /// Default PLAINTEXT.
        protocol: Option<String> [Shape::Text(Form::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]))],
        /// The mechanism of SASL.
        mechanism: Option<String> [Shape::Text(Form::OneOf(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]))],
        /// The secret with user and password, or certificates.
        secret_ref: Option<SecretReference>,
    } with { secret: true }
}

document_struct! {
    /// How the gateway connects to NATS.
    pub struct NatsConfig {
        /// The servers, as nats://host:port.
        servers: Addresses,
        /// Before each stream's name; default `headgate-`.
        stream_prefix: Option<String> [Shape::Text(Form::StreamPrefix)],
        /// Where the servers tell whether they sync.
        monitoring_urls ("monitoringURLs"): Option<Addresses> [special::url_or_list()],
        /// How to connect.
        security: NatsSecurity,
    }
}

document_struct! {
    /// How the gateway authenticates itself to NATS.
    pub struct NatsSecurity: Default {
        /// TLS even where the servers do not ask for it.
        tls: bool,
        /// The secret with the credentials.
        secret_ref: Option<SecretReference>,
    } with { secret: true }
}

document_struct! {
    /// A secret, all of whose keys may be used.
    pub struct SecretReference {
        /// The secret's name.
        name: String [Shape::Text(Form::Name)],
        /// Its namespace; default `default`, for a provisioner has none.
        namespace: String [Shape::Text(Form::Label)] = "default".to_owned(),
    } with { secret: true }
}

/// One address, or several in a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Addresses(pub Vec<String>);

field_type!(Addresses, special::text_or_list(), None, |node| {
    match &node.value {
        Value::List(_) => FieldType::read(node).map(Self),
        _ => String::read(node).map(|one| Self(vec![one])),
    }
});

/// A channel's `arguments`.
#[derive(Clone, Debug, PartialEq)]
pub enum Arguments {
    Memory(MemoryArguments),
    Embedded(EmbeddedArguments),
    Kafka(KafkaArguments),
    Nats(NatsArguments),
    /// Written for a provisioner that is not there, or has another backend now.
    Unread,
}

document_struct! {
    /// How an in-memory channel keeps its events.
    pub struct MemoryArguments: Default {
        /// Events; default 10 000.
        capacity: usize [integer(1, CAPACITY_MAX)] = 10_000,
        /// Largest event taken, bytes.
        max_event_bytes: Option<usize> [integer(1, EVENT_BYTES_MAX)],
    }
}

document_struct! {
    /// How an embedded channel keeps its events.
    pub struct EmbeddedArguments: Default {
        /// How long settled events are kept for replay.
        retention: Retention,
        /// A hard limit.
        limit: Limit,
        /// How many events that could not be delivered are kept.
        dead_letters: DeadLetters,
        /// A repeat of source and id within this time is not stored again. Without this field, every repeat is stored.
        dedup: Option<Duration> [special::dedup()],
        /// Largest event taken, bytes.
        max_event_bytes: Option<usize> [integer(1, EVENT_BYTES_MAX)],
    }
}

document_struct! {
    /// The settled events that are kept for replay.
    pub struct Retention: Default {
        /// Settled events are kept this long for replay; default PT24H.
        age: Duration = DAY,
        /// Settled events are kept up to this size; default 1 GiB.
        bytes: u64 [Shape::Quantity] = 1 << 30,
    }
}

document_struct! {
    /// The events that are kept at most.
    pub struct Limit: Default {
        /// Older events are dropped, settled or not.
        age: Option<Duration> [Shape::Text(Form::PositiveDuration)],
        /// Events beyond this size are dropped, settled or not.
        bytes: Option<u64> [special::size()],
    }
}

document_struct! {
    /// The dead letters that are kept at most. A million of 1 KiB is more than a person looks at; ten channels that fill theirs
    /// leave a volume of the default 10 GiB to no other process, so `DiskNearlyFull` comes before.
    pub struct DeadLetters: Default {
        /// Dead letters kept; default 1 GiB. With more, events that fail wait in the channel.
        bytes: u64 [special::size()] = 1 << 30,
    }
}

document_struct! {
    /// How a topic of Kafka keeps the events of a channel.
    pub struct KafkaArguments: Default {
        /// v0.2's spelling of numPartitions.
        num_partitions_v02 ("NumPartitions"): Option<i32> [integer(1, BROKER_MAX)],
        /// Partitions.
        num_partitions: Option<i32> [integer(1, BROKER_MAX)],
        /// Replicas.
        replication_factor: Option<i32> [integer(1, i16::MAX.into())],
        /// The topic's retention.
        retention: Option<Duration>,
        /// Whether the key of another producer's record becomes the event's partitionkey; default true.
        key_as_partition_key: bool = true,
        /// Largest event taken, bytes.
        max_event_bytes: Option<usize> [integer(1, BROKER_MAX)],
    }
}

document_struct! {
    /// How a stream of NATS keeps the events of a channel.
    pub struct NatsArguments: Default {
        /// Servers that keep the stream; default 1.
        replicas: Option<usize> [integer(1, NATS_REPLICAS_MAX)],
        /// Older events are dropped, settled or not.
        max_age: Option<Duration> [Shape::Text(Form::PositiveDuration)],
        /// The stream's size; full, it refuses.
        max_bytes: Option<u64> [special::size()],
        /// Largest event taken, bytes.
        max_event_bytes: Option<usize> [integer(1, BROKER_MAX)],
    }
}

impl Config {
    /// Returns the backend that the settings are for.
    pub fn backend(&self) -> BackendKind {
        match self {
            Self::Memory => BackendKind::Memory,
            Self::Embedded => BackendKind::Embedded,
            Self::Kafka(_) => BackendKind::Kafka,
            Self::Nats(_) => BackendKind::Nats,
        }
    }

    pub(super) fn schema(backend: BackendKind) -> Shape {
        match backend {
            BackendKind::Memory | BackendKind::Embedded => object(Vec::new()),
            BackendKind::Kafka => KafkaConfig::shape(),
            BackendKind::Nats => NatsConfig::shape(),
        }
    }

    pub(crate) fn shape(backend: BackendKind) -> &'static Shape {
        static SHAPES: LazyLock<[Shape; 4]> = LazyLock::new(|| BackendKind::ALL.map(Config::schema));
        &SHAPES[backend as usize]
    }

    pub(crate) fn read(backend: BackendKind, node: &Node) -> Result<Self, String> {
        Ok(match backend {
            BackendKind::Memory => Self::Memory,
            BackendKind::Embedded => Self::Embedded,
            BackendKind::Kafka => Self::Kafka(FieldType::read(node)?),
            BackendKind::Nats => Self::Nats(FieldType::read(node)?),
        })
    }

    /// The secret with the provisioner's credentials.
    pub(crate) fn secret(&self) -> Option<ObjectName> {
        let secret = match self {
            Self::Memory | Self::Embedded => None,
            Self::Kafka(config) => config.security.secret_ref.as_ref(),
            Self::Nats(config) => config.security.secret_ref.as_ref(),
        };
        secret.map(|secret| ObjectName::new(&secret.namespace, &secret.name))
    }
}

impl Arguments {
    fn schema(backend: BackendKind) -> Shape {
        match backend {
            BackendKind::Memory => MemoryArguments::shape(),
            BackendKind::Embedded => EmbeddedArguments::shape(),
            BackendKind::Kafka => KafkaArguments::shape(),
            BackendKind::Nats => NatsArguments::shape(),
        }
    }

    pub(crate) fn shape(backend: BackendKind) -> &'static Shape {
        static SHAPES: LazyLock<[Shape; 4]> = LazyLock::new(|| BackendKind::ALL.map(Arguments::schema));
        &SHAPES[backend as usize]
    }

    pub(crate) fn read(backend: BackendKind, node: &Node) -> Result<Self, String> {
        Ok(match backend {
            BackendKind::Memory => Self::Memory(FieldType::read(node)?),
            BackendKind::Embedded => Self::Embedded(FieldType::read(node)?),
            BackendKind::Kafka => {
                let mut written = KafkaArguments::read(node)?;
                let older = written.num_partitions_v02.take();
                written.num_partitions = written.num_partitions.or(older);
                Self::Kafka(written)
            }
            BackendKind::Nats => Self::Nats(FieldType::read(node)?),
        })
    }
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
            (BackendKind::Embedded, "{deadLetters: {bytes: 512Mi}}", true),
            (BackendKind::Embedded, "{deadLetters: {bytes: 0}}", false),
            (BackendKind::Embedded, "{deadLetters: {age: P1D}}", false),
            (BackendKind::Memory, "{deadLetters: {bytes: 512Mi}}", false),
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
                faults(Arguments::shape(backend), text).is_empty(),
                valid,
                "{backend:?} {text}"
            );
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let found = faults(Config::shape(BackendKind::Kafka), "{bootstrapServer: [\"h:1\"]}");
        assert!(found[0].contains("did you mean `bootstrapServers`?"), "{found:?}");
        assert!(faults(Config::shape(BackendKind::Kafka), "{bootstrapServers: \"h:1\"}").is_empty());
        assert!(
            faults(Arguments::shape(BackendKind::Memory), "{capacitty: 5}")[0].contains("did you mean `capacity`?")
        );
    }
}
