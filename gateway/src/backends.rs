//! Opens the channel and builds the adapter that a document asks for. The only file that names every backend, and the
//! only one that takes the code of an optional part into the build or leaves it out.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use adapter_github::Sources;
use async_trait::async_trait;
use channel::Channel;
use channel_embedded::DataFolder;
use channel_memory::{Budget, MemoryChannel};
use dataplane::{Identity, SourceParts};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use spec::{
    Cause, ObjectName, Reason, Spec,
    model::{self, Arguments, Config, KafkaArguments, KafkaConfig, NatsArguments, NatsConfig},
};

use crate::log_metrics::{LogMetrics, OpenLogs};

mod absent;
mod github;
mod unused_logs;

pub(crate) use github::Address;
use unused_logs::UnusedLogs;

// The optional parts. Each is a file, or its stand-in.
#[cfg(feature = "kubernetes")]
pub(crate) mod cluster;
#[cfg(feature = "containers")]
pub(crate) mod containers;
#[cfg(feature = "gcp-pubsub")]
mod gcp_pubsub;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kubernetes-events")]
mod kubernetes_events;
#[cfg(feature = "nats")]
mod nats;

#[cfg(not(feature = "kubernetes"))]
pub(crate) use absent::cluster;
#[cfg(not(feature = "containers"))]
pub(crate) use absent::containers;
#[cfg(not(feature = "gcp-pubsub"))]
use absent::gcp_pubsub;
#[cfg(not(feature = "kafka"))]
use absent::kafka;
#[cfg(not(feature = "kubernetes-events"))]
use absent::kubernetes_events;
#[cfg(not(feature = "nats"))]
use absent::nats;

// Two parts share each of these.
#[cfg(any(feature = "kafka", feature = "nats"))]
mod broker_settings;
#[cfg(not(any(feature = "kubernetes", feature = "kubernetes-events")))]
pub(crate) use absent::NoRequests as Requests;
#[cfg(any(feature = "kubernetes", feature = "kubernetes-events"))]
pub(crate) use kubernetes_requests::Requests;

/// Opens the channels of one backend, whose provisioners have the settings `C` and whose channels have the arguments `A`.
#[async_trait]
pub(crate) trait ChannelOpener<C, A>: Send + Sync {
    /// Opens the channel, or returns the open one with its settings updated.
    async fn open(
        &self,
        desired: &model::Channel,
        provisioner: &model::Provisioner,
        config: &C,
        arguments: &A,
    ) -> Result<Arc<dyn Channel>, Cause>;
}

/// Opens channels on Kafka.
pub(crate) type KafkaOpener = Box<dyn ChannelOpener<KafkaConfig, KafkaArguments>>;

/// Opens channels on NATS.
pub(crate) type NatsOpener = Box<dyn ChannelOpener<NatsConfig, NatsArguments>>;

/// Builds the sources whose documents have the configuration `C`.
pub(crate) trait SourceBuilder<C>: Send + Sync {
    fn build(&self, source: &model::Source, config: &C, given: adapter::Source) -> Result<SourceParts, Cause>;

    /// Called with each spec before it is applied. Must not block.
    fn before_apply(&self, _gateway: &str, _spec: &Spec) {}
}

/// Builds container sources.
pub(crate) type Containers = Box<dyn SourceBuilder<model::ContainerSource>>;

pub(crate) struct Backends {
    folder: DataFolder,
    memory: Mutex<HashMap<ObjectName, Weak<MemoryChannel>>>,
    /// The memory that all in-memory channels share.
    budget: Budget,
    embedded: OpenLogs,
    unused_logs: UnusedLogs,
    /// Some document has an embedded channel.
    uses_folder: AtomicBool,
    kafka: KafkaOpener,
    nats: NatsOpener,
    github: Sources,
    address: Address,
    gcp_pubsub: Box<dyn SourceBuilder<model::GcpPubSubSource>>,
    containers: Containers,
    kubernetes_events: Box<dyn SourceBuilder<model::KubernetesEventSource>>,
    cluster: Option<cluster::InCluster>,
    alone: Option<Identity>,
}

impl Backends {
    pub(crate) fn new(
        folder: DataFolder,
        budget: Budget,
        address: Address,
        containers: Containers,
        registry: &mut Registry,
    ) -> Self {
        let embedded = OpenLogs::default();
        registry.register_collector(Box::new(LogMetrics {
            logs: embedded.clone(),
            folder: folder.clone(),
            memory: budget.clone(),
        }));
        Self {
            unused_logs: UnusedLogs::new(folder.clone()),
            uses_folder: AtomicBool::new(false),
            folder,
            memory: Mutex::default(),
            budget,
            embedded,
            kafka: kafka::channels(),
            nats: nats::channels(),
            github: Sources::registered(registry),
            address,
            gcp_pubsub: gcp_pubsub::sources(),
            containers,
            kubernetes_events: kubernetes_events::sources(None, Requests::default()),
            cluster: None,
            alone: None,
        }
    }

    /// Adds what sources need in a cluster, where some of them run in pods and their state is kept.
    pub(crate) fn in_cluster(self, cluster: Option<cluster::InCluster>) -> Self {
        Self { cluster, ..self }
    }

    /// Sets the identity of the only source, in a pod that runs one for a gateway of a cluster.
    pub(crate) fn alone(self, identity: Option<Identity>) -> Self {
        Self {
            alone: identity,
            ..self
        }
    }

    /// Sets the context of the kubeconfig for sources that watch a cluster (`None`: its current one), and the counter
    /// of their requests.
    pub(crate) fn of_cluster(self, kube_context: Option<String>, requests: Requests) -> Self {
        Self {
            kubernetes_events: kubernetes_events::sources(kube_context, requests),
            ..self
        }
    }

    fn memory(&self, desired: &model::Channel, arguments: &model::MemoryArguments) -> Arc<dyn Channel> {
        let defaults = channel_memory::Settings::default();
        let settings = channel_memory::Settings {
            capacity: arguments.capacity,
            max_event_bytes: arguments.max_event_bytes.unwrap_or(defaults.max_event_bytes),
            ..defaults
        };
        let mut open = self.memory.lock();
        let found = open.get(&desired.name).and_then(Weak::upgrade);
        // A reader may still hold a channel that was closed, because it was deleted and recreated.
        if let Some(channel) = found.filter(|channel| !channel.is_closed()) {
            channel.configure(settings);
            return channel;
        }
        let channel = Arc::new(MemoryChannel::within(settings, &self.budget));
        open.insert(desired.name.clone(), Arc::downgrade(&channel));
        channel
    }

    async fn embedded(
        &self,
        desired: &model::Channel,
        settings: channel_embedded::Settings,
    ) -> Result<Arc<dyn Channel>, Cause> {
        let found = in_use(&self.embedded, &desired.name);
        if let Some(channel) = found.filter(|channel| !channel.is_closed()) {
            // A new dedup window is read from the log.
            let configured = channel.clone();
            on_a_thread(move || configured.configure(settings)).await?;
            return Ok(channel);
        }
        // Recovery reads the newest segment, and more for a dedup window.
        let (folder, name) = (self.folder.clone(), desired.name.to_string());
        let opened = on_a_thread(move || folder.channel(&name, settings)).await?;
        let channel = Arc::new(opened.map_err(|error| Cause {
            reason: Reason::DataFolderUnusable,
            message: format!("{}: check the folder given by --data", dataplane::chain(&error)),
        })?);
        self.embedded
            .lock()
            .insert(desired.name.clone(), Arc::downgrade(&channel));
        self.unused_logs.used(&desired.name);
        Ok(channel)
    }
}

/// Returns a channel by its name, if it is in use.
fn in_use<T>(open: &Mutex<HashMap<ObjectName, Weak<T>>>, name: &ObjectName) -> Option<Arc<T>> {
    open.lock().get(name).and_then(Weak::upgrade)
}

/// Runs `work`, which reads files, on a blocking thread.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Cause> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Cause {
        reason: Reason::DataFolderUnusable,
        message: format!("opening it failed: {error}"),
    })
}

#[async_trait]
impl dataplane::Backends for Backends {
    async fn open(&self, desired: &model::Channel) -> Result<Arc<dyn Channel>, Cause> {
        let provisioner = desired.provisioner.as_ref().map_err(Clone::clone)?;
        if provisioner.config != Config::Embedded {
            self.unused_logs.check(&desired.name, &provisioner.name).await;
        }
        match (&provisioner.config, &desired.arguments) {
            (Config::Memory, Arguments::Memory(arguments)) => Ok(self.memory(desired, arguments)),
            (Config::Embedded, Arguments::Embedded(arguments)) => {
                let defaults = channel_embedded::Settings::default();
                let settings = channel_embedded::Settings {
                    max_event_bytes: arguments.max_event_bytes.unwrap_or(defaults.max_event_bytes),
                    retention_age: arguments.retention.age,
                    retention_bytes: arguments.retention.bytes,
                    limit_age: arguments.limit.age,
                    limit_bytes: arguments.limit.bytes,
                    dedup: arguments.dedup,
                    dead_letters_bytes: arguments.dead_letters.bytes,
                    ..defaults
                };
                self.embedded(desired, settings).await
            }
            (Config::Kafka(config), Arguments::Kafka(arguments)) => {
                self.kafka.open(desired, provisioner, config, arguments).await
            }
            (Config::Nats(config), Arguments::Nats(arguments)) => {
                self.nats.open(desired, provisioner, config, arguments).await
            }
            // A channel whose arguments are for another backend has no provisioner: it was refused above.
            _ => Err(Cause {
                reason: Reason::ArgumentsInvalid,
                message: format!("the arguments do not fit provisioner {}", provisioner.name),
            }),
        }
    }

    fn source(&self, source: &model::Source, given: adapter::Source) -> Result<SourceParts, Cause> {
        let Some(cluster) = &self.cluster else {
            return self.in_process(source, given);
        };
        if let Some(built) = cluster.in_pods(source, &given)? {
            return Ok(built);
        }
        let report = given.report.clone();
        let built = self.in_process(source, given)?;
        Ok(SourceParts {
            adapter: built
                .adapter
                .map(|adapter| cluster.in_this_process(source, adapter, report.clone())),
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
            // This process has read all documents itself.
            return true;
        };
        in_cluster.is_gone(subscription, uid).await
    }

    fn unused_log(&self, channel: &ObjectName) -> Option<String> {
        self.unused_logs.of(channel)
    }

    fn degraded(&self) -> Vec<String> {
        self.unused_logs.removed()
    }

    fn unready(&self) -> Option<String> {
        let why = self
            .folder
            .read_only()
            .filter(|_| self.uses_folder.load(Ordering::Relaxed))?;
        Some(format!("ReadOnly: {why}; make the folder of --data writable"))
    }

    fn before_apply(&self, gateway: &str, spec: &Spec) {
        let is_embedded = |channel: &model::Channel| {
            let provisioner = channel.provisioner.as_ref();
            provisioner.is_ok_and(|provisioner| provisioner.config == Config::Embedded)
        };
        let uses_folder = spec.channels.values().any(|channel| is_embedded(channel));
        self.uses_folder.store(uses_folder, Ordering::Relaxed);
        // In a cluster Kubernetes deletes a source's objects with the source.
        if self.cluster.is_none() {
            self.containers.before_apply(gateway, spec);
            if !spec.incomplete {
                self.unused_logs.check_removed(spec);
            }
        }
    }
}

impl Backends {
    fn in_process(&self, source: &model::Source, given: adapter::Source) -> Result<SourceParts, Cause> {
        match &source.config {
            model::SourceConfig::GitHub(config) => github::build(source, config, given, &self.github, &self.address),
            model::SourceConfig::Container(config) => self.containers.build(source, config, given),
            model::SourceConfig::GcpPubSub(config) => self.gcp_pubsub.build(source, config, given),
            model::SourceConfig::KubernetesEvents(config) => self.kubernetes_events.build(source, config, given),
        }
    }
}
