//! Channels on Kafka: the settings of a channel, its provisioner and its secret.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use channel::Channel;
use channel_kafka::{Cluster, Connection, KafkaBroker, KafkaChannel, OpenError, Security, Settings};
use parking_lot::Mutex;
use spec::{
    Cause, ObjectName, Reason,
    model::{self, KafkaArguments, KafkaConfig, KafkaSecurity},
};

use super::{ChannelOpener, KafkaOpener, broker_settings, in_use};

/// The default prefix of topics.
const TOPIC_PREFIX: &str = "headgate.";

/// Returns the opener of channels on Kafka.
pub(super) fn channels() -> KafkaOpener {
    Box::new(KafkaChannels::default())
}

#[derive(Default)]
struct KafkaChannels {
    open: Mutex<HashMap<ObjectName, Weak<KafkaChannel>>>,
    clusters: Clusters,
}

#[async_trait]
impl ChannelOpener<KafkaConfig, KafkaArguments> for KafkaChannels {
    async fn open(
        &self,
        desired: &model::Channel,
        provisioner: &model::Provisioner,
        config: &KafkaConfig,
        arguments: &KafkaArguments,
    ) -> Result<Arc<dyn Channel>, Cause> {
        let connection = connection(provisioner, config)?;
        let settings = settings(&desired.name, config, arguments);
        let found = in_use(&self.open, &desired.name);
        if let Some(channel) = found.filter(|channel| !channel.is_closed()) {
            channel
                .broker()
                .configure(settings.max_event_bytes, settings.key_as_partition_key);
            return Ok(channel);
        }
        let cluster = self.clusters.get(connection).await?;
        let opened = KafkaBroker::open(cluster, &settings).await;
        let channel = Arc::new(opened.map_err(|error| not_opened(&error))?);
        self.open.lock().insert(desired.name.clone(), Arc::downgrade(&channel));
        Ok(channel)
    }
}

/// Returns the connection of a provisioner.
fn connection(provisioner: &model::Provisioner, config: &KafkaConfig) -> Result<Connection, Cause> {
    Ok(Connection {
        bootstrap_servers: config.bootstrap_servers.0.join(","),
        security: security(provisioner, &config.security)?,
    })
}

/// Returns the settings of a channel's topic.
fn settings(channel: &ObjectName, config: &KafkaConfig, arguments: &KafkaArguments) -> Settings {
    let prefix = config.topic_prefix.as_deref().unwrap_or(TOPIC_PREFIX);
    Settings {
        topic: format!("{prefix}{}.{}", channel.namespace, channel.name),
        partitions: arguments.num_partitions,
        replication: arguments.replication_factor,
        retention: arguments.retention,
        max_event_bytes: arguments.max_event_bytes,
        key_as_partition_key: arguments.key_as_partition_key,
    }
}

fn security(provisioner: &model::Provisioner, written: &KafkaSecurity) -> Result<Security, Cause> {
    let credentials = provisioner.credentials.as_ref().map_err(Clone::clone)?;
    let secret = |keys: &[&str]| broker_settings::secret(provisioner, credentials, keys);
    let security = Security {
        protocol: written.protocol.clone().unwrap_or_default(),
        mechanism: written.mechanism.clone(),
        user: secret(&["username", "user"])?,
        password: secret(&["password"])?,
        authority: secret(&["ca.crt"])?,
        certificate: secret(&["tls.crt", "user.crt"])?,
        key: secret(&["tls.key", "user.key"])?,
    };
    let needed = [
        ("security.mechanism in its spec", security.mechanism.is_none()),
        ("`username` in its secret", security.user.is_none()),
        ("`password` in its secret", security.password.is_none()),
    ];
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(_, missing)| *missing)
        .map(|(what, _)| *what)
        .collect();
    if security.protocol.starts_with("SASL") && !missing.is_empty() {
        return Err(Cause {
            reason: Reason::CredentialsNotFound,
            message: format!(
                "provisioner {} has protocol {} and lacks {}",
                provisioner.name,
                security.protocol,
                missing.join(", ")
            ),
        });
    }
    Ok(security)
}

fn not_opened(error: &OpenError) -> Cause {
    let reason = match error {
        OpenError::Unreachable { .. } => Reason::BackendUnreachable,
        OpenError::Settings(_) => Reason::ConfigInvalid,
        OpenError::NotMade { .. } => Reason::TopicNotMade,
        OpenError::Unfit { .. } => Reason::TopicUnfit,
    };
    Cause {
        reason,
        message: dataplane::chain(error),
    }
}

/// The clients of each connection, which its channels share.
#[derive(Default)]
struct Clusters(Mutex<HashMap<Connection, Weak<Cluster>>>);

impl Clusters {
    /// Returns the clients of a connection, creating them if it has none.
    async fn get(&self, connection: Connection) -> Result<Arc<Cluster>, Cause> {
        let known = |clusters: &mut HashMap<_, Weak<Cluster>>| {
            clusters.retain(|_, cluster| cluster.strong_count() > 0);
            clusters.get(&connection).and_then(Weak::upgrade)
        };
        if let Some(cluster) = known(&mut self.0.lock()) {
            return Ok(cluster);
        }
        // Creating clients reads certificates and starts threads, which would block the runtime.
        let connection_of_cluster = connection.clone();
        let made = tokio::task::spawn_blocking(move || Cluster::new(connection_of_cluster)).await;
        let made = made.map_err(|error| Cause {
            reason: Reason::BackendUnreachable,
            message: format!("creating the Kafka clients failed: {error}"),
        })?;
        let made = made.map_err(|error| not_opened(&error))?;
        let mut clusters = self.0.lock();
        // Another channel may have been faster.
        if let Some(cluster) = known(&mut clusters) {
            return Ok(cluster);
        }
        clusters.insert(connection.clone(), Arc::downgrade(&made));
        Ok(made)
    }
}
