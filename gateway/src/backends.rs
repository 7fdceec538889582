//! The only file that names every channel and adapter: what a document says becomes the thing itself.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use adapter::{Hook, Outlet};
use adapter_github::{Config, GitHubHook, Metrics, Secret};
use async_trait::async_trait;
use channel::Channel;
use channel_embedded::DataFolder;
use channel_kafka::{Cluster, Connection, KafkaChannel, OpenError, Security};
use channel_memory::MemoryChannel;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use spec::{ObjectName, model};

use crate::log_metrics::{LogMetrics, OpenLogs};

/// Before a topic's name where the provisioner does not say.
const TOPIC_PREFIX: &str = "headgate.";

pub(crate) struct Backends {
    folder: DataFolder,
    memory: Mutex<HashMap<ObjectName, Weak<MemoryChannel>>>,
    embedded: OpenLogs,
    kafka: Mutex<HashMap<ObjectName, Weak<KafkaChannel>>>,
    /// Channels of one connection share its clients.
    clusters: Mutex<HashMap<Connection, Weak<Cluster>>>,
    deliveries: Metrics,
}

impl Backends {
    pub(crate) fn new(folder: DataFolder, registry: &mut Registry) -> Self {
        let embedded = OpenLogs::default();
        registry.register_collector(Box::new(LogMetrics(embedded.clone())));
        Self {
            folder,
            memory: Mutex::default(),
            embedded,
            kafka: Mutex::default(),
            clusters: Mutex::default(),
            deliveries: Metrics::registered(registry),
        }
    }

    fn memory(&self, wanted: &model::Channel, capacity: usize) -> Arc<dyn Channel> {
        let defaults = channel_memory::Settings::default();
        let max_event_bytes = wanted.max_event_bytes.unwrap_or(defaults.max_event_bytes);
        let settings = channel_memory::Settings {
            capacity,
            max_event_bytes,
            ..defaults
        };
        let mut open = self.memory.lock();
        let found = open.get(&wanted.name).and_then(Weak::upgrade);
        // A reader may still hold one that was closed: its channel was deleted and is made anew.
        if let Some(channel) = found.filter(|channel| !channel.is_closed()) {
            channel.configure(settings);
            return channel;
        }
        let channel = Arc::new(MemoryChannel::new(settings));
        open.insert(wanted.name.clone(), Arc::downgrade(&channel));
        channel
    }

    async fn embedded(
        &self,
        wanted: &model::Channel,
        settings: channel_embedded::Settings,
    ) -> Result<Arc<dyn Channel>, model::Unresolved> {
        let found = self.embedded.lock().get(&wanted.name).and_then(Weak::upgrade);
        if let Some(channel) = found.filter(|channel| !channel.is_closed()) {
            channel.configure(settings);
            return Ok(channel);
        }
        // Recovery reads the newest segment: milliseconds, and only where there is one.
        let opened = self.folder.channel(&wanted.name.to_string(), settings);
        let channel = Arc::new(opened.map_err(|error| model::Unresolved {
            reason: "DataFolderUnusable",
            message: format!("{}: check the folder given by --data", dataplane::chain(&error)),
        })?);
        self.embedded
            .lock()
            .insert(wanted.name.clone(), Arc::downgrade(&channel));
        Ok(channel)
    }

    async fn kafka(
        &self,
        wanted: &model::Channel,
        connection: Connection,
        settings: channel_kafka::Settings,
    ) -> Result<Arc<dyn Channel>, model::Unresolved> {
        let found = self.kafka.lock().get(&wanted.name).and_then(Weak::upgrade);
        if let Some(channel) = found.filter(|channel| !channel.is_closed()) {
            channel.configure(settings.max_event_bytes);
            return Ok(channel);
        }
        let cluster = {
            let mut clusters = self.clusters.lock();
            clusters.retain(|_, cluster| cluster.strong_count() > 0);
            match clusters.get(&connection).and_then(Weak::upgrade) {
                Some(cluster) => cluster,
                None => {
                    let cluster = Cluster::new(connection.clone()).map_err(|error| not_opened(&error))?;
                    clusters.insert(connection, Arc::downgrade(&cluster));
                    cluster
                }
            }
        };
        let opened = KafkaChannel::open(cluster, &settings).await;
        let channel = Arc::new(opened.map_err(|error| not_opened(&error))?);
        self.kafka.lock().insert(wanted.name.clone(), Arc::downgrade(&channel));
        Ok(channel)
    }
}

/// Where a provisioner's brokers are, and the prefix of its topics.
fn kafka_config(provisioner: &model::Provisioner) -> Result<(Connection, String), model::Unresolved> {
    let config = &provisioner.config;
    let bootstrap_servers = match config.get("bootstrapServers") {
        Some(serde_json::Value::Array(servers)) => {
            let servers: Vec<&str> = servers.iter().filter_map(serde_json::Value::as_str).collect();
            servers.join(",")
        }
        Some(serde_json::Value::String(servers)) => servers.clone(),
        _ => String::new(),
    };
    let prefix = config.get("topicPrefix").and_then(serde_json::Value::as_str);
    let connection = Connection {
        bootstrap_servers,
        security: kafka_security(provisioner)?,
    };
    Ok((connection, prefix.unwrap_or(TOPIC_PREFIX).to_owned()))
}

fn kafka_security(provisioner: &model::Provisioner) -> Result<Security, model::Unresolved> {
    let credentials = provisioner.credentials.as_ref().map_err(Clone::clone)?;
    let setting = |name: &str| {
        let found = provisioner.config.pointer(&format!("/security/{name}"));
        found.and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    let secret = |keys: [&str; 2]| {
        let found = keys.iter().find_map(|key| credentials.get(*key));
        found.map(|value| String::from_utf8_lossy(value.expose()).into_owned())
    };
    let security = Security {
        protocol: setting("protocol").unwrap_or_default(),
        mechanism: setting("mechanism"),
        user: secret(["username", "user"]),
        password: secret(["password", "password"]),
        authority: secret(["ca.crt", "ca.crt"]),
        certificate: secret(["tls.crt", "user.crt"]),
        key: secret(["tls.key", "user.key"]),
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
        return Err(model::Unresolved {
            reason: "CredentialsNotFound",
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

fn not_opened(error: &OpenError) -> model::Unresolved {
    let reason = match error {
        OpenError::Unreachable { .. } => "BackendUnreachable",
        OpenError::Settings(_) => "ConfigInvalid",
        OpenError::NotMade { .. } => "TopicNotMade",
        OpenError::Unfit { .. } => "TopicUnfit",
    };
    model::Unresolved {
        reason,
        message: dataplane::chain(error),
    }
}

#[async_trait]
impl dataplane::Backends for Backends {
    async fn open(&self, wanted: &model::Channel) -> Result<Arc<dyn Channel>, model::Unresolved> {
        let provisioner = wanted.provisioner.as_ref().map_err(Clone::clone)?;
        match &wanted.arguments {
            model::Arguments::Memory { capacity } => Ok(self.memory(wanted, *capacity)),
            model::Arguments::Embedded {
                retention_age,
                retention_bytes,
                limit_age,
                limit_bytes,
            } => {
                let defaults = channel_embedded::Settings::default();
                let settings = channel_embedded::Settings {
                    max_event_bytes: wanted.max_event_bytes.unwrap_or(defaults.max_event_bytes),
                    retention_age: *retention_age,
                    retention_bytes: *retention_bytes,
                    limit_age: *limit_age,
                    limit_bytes: *limit_bytes,
                    ..defaults
                };
                self.embedded(wanted, settings).await
            }
            model::Arguments::Kafka {
                partitions,
                replication,
                retention,
            } => {
                let (connection, prefix) = kafka_config(provisioner)?;
                let settings = channel_kafka::Settings {
                    topic: format!("{prefix}{}.{}", wanted.name.namespace, wanted.name.name),
                    partitions: *partitions,
                    replication: *replication,
                    retention: *retention,
                    max_event_bytes: wanted.max_event_bytes,
                };
                self.kafka(wanted, connection, settings).await
            }
            model::Arguments::Other(_) => Err(model::Unresolved {
                reason: "NotSupportedYet",
                message: format!(
                    "provisioner {} has a backend this release does not run: use embedded, memory or kafka",
                    provisioner.name
                ),
            }),
        }
    }

    fn hook(&self, source: &model::Source, outlet: Outlet) -> Option<Result<Arc<dyn Hook>, model::Unresolved>> {
        match &source.config {
            model::SourceConfig::GitHub(config) => {
                let hook = |config| Arc::new(GitHubHook::counted(config, outlet, &self.deliveries)) as Arc<dyn Hook>;
                Some(github(source, config).map(hook))
            }
            model::SourceConfig::NotSupportedYet => None,
        }
    }
}

/// A secret that is named and not there stops the source: taking unsigned deliveries instead would be worse.
fn github(source: &model::Source, config: &model::GitHubSource) -> Result<Config, model::Unresolved> {
    let mut secrets = Vec::new();
    for token in [&config.secret_token, &config.previous_secret_token]
        .into_iter()
        .flatten()
    {
        secrets.push(Secret::new(token.as_ref().map_err(Clone::clone)?.expose()));
    }
    let host = config
        .api_url
        .as_ref()
        .and_then(|url| url.host_str())
        .map_or("github.com", |host| match host {
            "api.github.com" => "github.com",
            enterprise => enterprise,
        });
    Ok(Config {
        name: source.key.name.to_string(),
        source: format!("https://{host}/{}", config.owner_and_repository),
        event_types: config.event_types.clone(),
        secrets,
        extensions: source.extensions.clone(),
    })
}
