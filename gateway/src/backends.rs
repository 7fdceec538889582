//! The only file that names every channel and adapter: what a document says becomes the thing itself.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use adapter_github::Sources;
use async_trait::async_trait;
use channel::Channel;
use channel_embedded::DataFolder;
use channel_kafka::{Cluster, KafkaChannel};
use channel_memory::MemoryChannel;
use channel_nats::{NatsChannel, Server};
use dataplane::{Built, Identity};
use kubernetes::Requests;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use spec::{Kind, ObjectKey, ObjectName, Spec, model};
use tokio::time::Instant;

use crate::log_metrics::{LogMetrics, OpenLogs};
pub(crate) use containers::Containers;

mod cluster;
mod containers;
mod gcp_pubsub;
mod github;
mod kafka;
mod kubernetes_events;
mod nats;
mod told;

pub(crate) use cluster::{InCluster, kept_in, owner};
pub(crate) use github::Address;

pub(crate) struct Backends {
    folder: DataFolder,
    memory: Mutex<HashMap<ObjectName, Weak<MemoryChannel>>>,
    embedded: OpenLogs,
    kafka: Mutex<HashMap<ObjectName, Weak<KafkaChannel>>>,
    /// Channels of one connection share its clients.
    clusters: Mutex<HashMap<channel_kafka::Connection, Weak<Cluster>>>,
    nats: Mutex<HashMap<ObjectName, Weak<NatsChannel>>>,
    servers: Mutex<HashMap<channel_nats::Connection, Arc<tokio::sync::Mutex<Place>>>>,
    github: Sources,
    address: Address,
    containers: Containers,
    kube_context: Option<String>,
    /// Of sources that watch a cluster, with the gateway's own.
    requests: Requests,
    cluster: Option<InCluster>,
    alone: Option<Identity>,
}

impl Backends {
    pub(crate) fn new(folder: DataFolder, address: Address, containers: Containers, registry: &mut Registry) -> Self {
        let embedded = OpenLogs::default();
        registry.register_collector(Box::new(LogMetrics {
            logs: embedded.clone(),
            folder: folder.clone(),
        }));
        Self {
            folder,
            memory: Mutex::default(),
            embedded,
            kafka: Mutex::default(),
            clusters: Mutex::default(),
            nats: Mutex::default(),
            servers: Mutex::default(),
            github: Sources::registered(registry),
            address,
            containers,
            kube_context: None,
            requests: Requests::default(),
            cluster: None,
            alone: None,
        }
    }

    /// In a cluster some sources run in pods, and their state is kept there.
    pub(crate) fn in_cluster(self, cluster: Option<InCluster>) -> Self {
        Self { cluster, ..self }
    }

    /// Of the one source that runs here for a gateway of a cluster.
    pub(crate) fn alone(self, identity: Option<Identity>) -> Self {
        Self {
            alone: identity,
            ..self
        }
    }

    /// The cluster that sources watch, of this context of the kubeconfig instead of its current one; and who counts what they
    /// ask.
    pub(crate) fn of_cluster(self, kube_context: Option<String>, requests: Requests) -> Self {
        Self {
            kube_context,
            requests,
            ..self
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
        let found = in_use(&self.embedded, &wanted.name);
        if let Some(channel) = found.filter(|channel| !channel.is_closed()) {
            // A dedup window that is new is read from the log.
            let configured = channel.clone();
            on_a_thread(move || configured.configure(settings)).await?;
            return Ok(channel);
        }
        // Recovery reads the newest segment, a dedup window more than that.
        let (folder, name) = (self.folder.clone(), wanted.name.to_string());
        let opened = on_a_thread(move || folder.channel(&name, settings)).await?;
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
        connection: channel_kafka::Connection,
        settings: channel_kafka::Settings,
    ) -> Result<Arc<dyn Channel>, model::Unresolved> {
        let found = in_use(&self.kafka, &wanted.name);
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
                    let cluster = Cluster::new(connection.clone()).map_err(|error| kafka::not_opened(&error))?;
                    clusters.insert(connection, Arc::downgrade(&cluster));
                    cluster
                }
            }
        };
        let opened = KafkaChannel::open(cluster, &settings).await;
        let channel = Arc::new(opened.map_err(|error| kafka::not_opened(&error))?);
        self.kafka.lock().insert(wanted.name.clone(), Arc::downgrade(&channel));
        Ok(channel)
    }

    async fn nats(
        &self,
        wanted: &model::Channel,
        connection: channel_nats::Connection,
        settings: channel_nats::Settings,
    ) -> Result<Arc<dyn Channel>, model::Unresolved> {
        let found = in_use(&self.nats, &wanted.name);
        if let Some(channel) = found.filter(|channel| !channel.is_closed()) {
            channel.configure(settings.max_event_bytes);
            return Ok(channel);
        }
        let server = self.server(connection).await?;
        let opened = NatsChannel::open(server, &settings).await;
        let channel = Arc::new(opened.map_err(|error| nats::not_opened(&error))?);
        self.nats.lock().insert(wanted.name.clone(), Arc::downgrade(&channel));
        Ok(channel)
    }

    /// Channels are opened side by side: the first of a connection makes it, the others wait for that one, and share its
    /// failure.
    async fn server(&self, connection: channel_nats::Connection) -> Result<Arc<Server>, model::Unresolved> {
        let asked = Instant::now();
        let place = {
            let mut servers = self.servers.lock();
            servers.retain(|_, place| {
                Arc::strong_count(place) > 1 || place.try_lock().is_ok_and(|place| place.server.strong_count() > 0)
            });
            servers.entry(connection.clone()).or_default().clone()
        };
        let mut place = place.lock().await;
        if let Some(server) = place.server.upgrade() {
            return Ok(server);
        }
        if let Some((failed, why)) = &place.failed
            && *failed >= asked
        {
            return Err(why.clone());
        }
        match Server::connect(connection).await {
            Ok(server) => {
                place.server = Arc::downgrade(&server);
                Ok(server)
            }
            Err(error) => {
                let why = nats::not_opened(&error);
                place.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }
}

/// A connection to NATS, or when and why there was none.
#[derive(Default)]
struct Place {
    server: Weak<Server>,
    failed: Option<(Instant, model::Unresolved)>,
}

/// A channel by its name while somebody has it.
fn in_use<T>(open: &Mutex<HashMap<ObjectName, Weak<T>>>, name: &ObjectName) -> Option<Arc<T>> {
    open.lock().get(name).and_then(Weak::upgrade)
}

/// Where reading files may take its time.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, model::Unresolved> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| model::Unresolved {
            reason: "DataFolderUnusable",
            message: format!("opening it broke off: {error}"),
        })
}

/// One text or several, as a provisioner's settings have addresses.
fn texts(value: Option<&serde_json::Value>) -> Vec<String> {
    match value {
        Some(serde_json::Value::Array(several)) => {
            let texts = several.iter().filter_map(serde_json::Value::as_str);
            texts.map(str::to_owned).collect()
        }
        Some(serde_json::Value::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    }
}

/// What a secret holds under the first of these keys.
fn secret(credentials: &BTreeMap<String, model::SecretText>, keys: &[&str]) -> Option<String> {
    let found = keys.iter().find_map(|key| credentials.get(*key));
    found.map(|value| String::from_utf8_lossy(value.expose()).into_owned())
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
                dedup,
            } => {
                let defaults = channel_embedded::Settings::default();
                let settings = channel_embedded::Settings {
                    max_event_bytes: wanted.max_event_bytes.unwrap_or(defaults.max_event_bytes),
                    retention_age: *retention_age,
                    retention_bytes: *retention_bytes,
                    limit_age: *limit_age,
                    limit_bytes: *limit_bytes,
                    dedup: *dedup,
                    ..defaults
                };
                self.embedded(wanted, settings).await
            }
            model::Arguments::Kafka {
                partitions,
                replication,
                retention,
            } => {
                let (connection, prefix) = kafka::config(provisioner)?;
                let settings = channel_kafka::Settings {
                    topic: format!("{prefix}{}.{}", wanted.name.namespace, wanted.name.name),
                    partitions: *partitions,
                    replication: *replication,
                    retention: *retention,
                    max_event_bytes: wanted.max_event_bytes,
                };
                self.kafka(wanted, connection, settings).await
            }
            model::Arguments::Nats {
                replicas,
                max_age,
                max_bytes,
            } => {
                let connection = nats::connection(provisioner)?;
                let settings = channel_nats::Settings {
                    stream: nats::stream(provisioner, &wanted.name),
                    description: Some(format!("channel {} of Headgate", wanted.name)),
                    replicas: *replicas,
                    max_age: *max_age,
                    max_bytes: *max_bytes,
                    max_event_bytes: wanted.max_event_bytes,
                    monitoring_urls: nats::monitoring_urls(provisioner),
                };
                self.nats(wanted, connection, settings).await
            }
            // With these the provisioner was refused above.
            model::Arguments::Unread(_) => Err(model::Unresolved {
                reason: "ArgumentsInvalid",
                message: format!("the arguments do not fit provisioner {}", provisioner.name),
            }),
        }
    }

    fn source(&self, source: &model::Source, given: adapter::Source) -> Result<Built, model::Unresolved> {
        let Some(cluster) = &self.cluster else {
            return self.in_process(source, given);
        };
        if let Some(built) = cluster.in_pods(source, &given)? {
            return Ok(built);
        }
        let report = given.report.clone();
        let built = self.in_process(source, given)?;
        Ok(Built {
            adapter: built
                .adapter
                .map(|adapter| cluster.guarded(source, adapter, report.clone())),
            ..built
        })
    }

    fn identity(&self, source: &model::Source) -> Option<Identity> {
        match &self.cluster {
            Some(cluster) => cluster.identity(source),
            None => self.alone.clone(),
        }
    }

    async fn is_gone(&self, subscription: &ObjectName, uid: Option<&str>) -> bool {
        let Some(in_cluster) = &self.cluster else {
            // The one process that reads the documents has read them.
            return true;
        };
        let key = ObjectKey::new(Kind::Subscription, subscription.clone());
        in_cluster.cluster.is_gone(&key, uid).await
    }

    fn wanted(&self, gateway: &str, spec: &Spec) {
        // In a cluster what belonged to a deleted source goes with it.
        if self.cluster.is_none() {
            self.containers.wanted(gateway, spec);
        }
    }
}

impl Backends {
    fn in_process(&self, source: &model::Source, given: adapter::Source) -> Result<Built, model::Unresolved> {
        match &source.config {
            model::SourceConfig::GitHub(config) => github::build(source, config, given, &self.github, &self.address),
            model::SourceConfig::Container(config) => self.containers.build(source, config, given),
            model::SourceConfig::GcpPubSub(config) => gcp_pubsub::build(source, config, given),
            model::SourceConfig::KubernetesEvents(config) => Ok(kubernetes_events::build(
                source,
                config,
                given,
                self.kube_context.as_deref(),
                &self.requests,
            )),
        }
    }
}
