//! What we run: whole, validated, references resolved, nothing optional that is required.
//!
//! A [`Spec`] is published whole and never changed afterwards; [`crate::resource`] is what users wrote, and
//! `build.rs` turns one into the other. Implicit objects are made there too, so that the data plane has one
//! path: a source whose sink is no channel gets an outbox channel and a subscription; a channel's hand-written
//! `subscribable.subscribers` become subscriptions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use cesql::Filter;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

/// The kinds of documents we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Channel,
    Subscription,
    ClusterChannelProvisioner,
    GitHubSource,
    KubernetesEventSource,
    GcpPubSubSource,
    ContainerSource,
    Service,
    Secret,
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Channel,
        Self::Subscription,
        Self::ClusterChannelProvisioner,
        Self::GitHubSource,
        Self::KubernetesEventSource,
        Self::GcpPubSubSource,
        Self::ContainerSource,
        Self::Service,
        Self::Secret,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "Channel",
            Self::Subscription => "Subscription",
            Self::ClusterChannelProvisioner => "ClusterChannelProvisioner",
            Self::GitHubSource => "GitHubSource",
            Self::KubernetesEventSource => "KubernetesEventSource",
            Self::GcpPubSubSource => "GcpPubSubSource",
            Self::ContainerSource => "ContainerSource",
            Self::Service => "Service",
            Self::Secret => "Secret",
        }
    }

    pub fn api_version(self) -> &'static str {
        match self {
            Self::Channel | Self::Subscription | Self::ClusterChannelProvisioner => "eventing.knative.dev/v1alpha1",
            Self::Service | Self::Secret => "v1",
            _ => "sources.eventing.knative.dev/v1alpha1",
        }
    }

    /// As in `kubectl get PLURAL`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Channel => "channels",
            Self::Subscription => "subscriptions",
            Self::ClusterChannelProvisioner => "clusterchannelprovisioners",
            Self::GitHubSource => "githubsources",
            Self::KubernetesEventSource => "kuberneteseventsources",
            Self::GcpPubSubSource => "gcppubsubsources",
            Self::ContainerSource => "containersources",
            Self::Service => "services",
            Self::Secret => "secrets",
        }
    }

    /// `chan`, `sub`, `ccp`, as in `kubectl get SHORT`.
    pub fn short(self) -> Option<&'static str> {
        match self {
            Self::Channel => Some("chan"),
            Self::Subscription => Some("sub"),
            Self::ClusterChannelProvisioner => Some("ccp"),
            _ => None,
        }
    }

    /// Of the cluster, not of a namespace.
    pub fn is_cluster_scoped(self) -> bool {
        self == Self::ClusterChannelProvisioner
    }

    pub fn is_source(self) -> bool {
        matches!(
            self,
            Self::GitHubSource | Self::KubernetesEventSource | Self::GcpPubSubSource | Self::ContainerSource
        )
    }

    /// Defined by us; the others are Kubernetes' own.
    pub fn is_ours(self) -> bool {
        !matches!(self, Self::Service | Self::Secret)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `NAMESPACE/NAME`. Cluster-scoped objects have an empty namespace and are shown by name alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    pub namespace: String,
    pub name: String,
}

impl ObjectName {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub kind: Kind,
    pub name: ObjectName,
}

impl ObjectKey {
    pub fn new(kind: Kind, name: ObjectName) -> Self {
        Self { kind, name }
    }
}

/// `Subscription default/orders`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Everything that is wanted, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Counts published specs, from 1; 0 is the empty spec before the first.
    pub generation: u64,
    pub provisioners: BTreeMap<String, Arc<Provisioner>>,
    pub channels: BTreeMap<ObjectName, Arc<Channel>>,
    pub subscriptions: BTreeMap<ObjectName, Arc<Subscription>>,
    pub sources: BTreeMap<ObjectKey, Arc<Source>>,
    /// Every document as it was written, secrets' values left out: what `headgate get -o yaml` shows.
    pub objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// Some document could not be read at all, so what is absent here may still be wanted: nothing is forgotten.
    pub incomplete: bool,
    /// Kinds of which nobody knows what there is, for we may not read them: nothing of these is forgotten.
    pub unread: BTreeSet<Kind>,
}

/// A document as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub key: ObjectKey,
    pub api_version: String,
    /// `metadata`, `spec` and whatever else it had, as JSON; a Secret's values are replaced by `"<redacted>"`.
    pub document: serde_json::Value,
    /// `FILE:LINE`, or the object as the API server has it.
    pub origin: String,
    /// `metadata.generation` of the newest version that was read, valid or not; files have none.
    pub generation: Option<i64>,
    /// When this name was first seen by this process.
    pub created: Timestamp,
    /// Faults of the newest version of this document, when it is invalid: what runs is the last valid one.
    pub faults: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    Memory,
    Embedded,
    Kafka,
    Nats,
}

impl BackendKind {
    pub const ALL: [Self; 4] = [Self::Memory, Self::Embedded, Self::Kafka, Self::Nats];

    /// How a document says it.
    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Memory => &["memory"],
            Self::Embedded => &["embedded"],
            Self::Kafka => &["kafka"],
            Self::Nats => &["nats"],
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Provisioner {
    pub name: String,
    pub backend: BackendKind,
    /// `spec.config`, validated for its backend.
    pub config: serde_json::Value,
    /// What the secret named by `config.security.secretRef` holds, by key; nothing where none is named.
    pub credentials: Result<BTreeMap<String, SecretText>, Unresolved>,
    /// `process`, `disk`, `quorum` or `quorum-fsync`, when stated.
    pub require_durability: Option<String>,
}

/// Why something cannot be run as it is written; the whole spec is still published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// CamelCase, stable, listed in docs/reasons.
    pub reason: &'static str,
    /// What is missing, where, and what to do.
    pub message: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    pub name: ObjectName,
    /// The provisioner by its canonical name, or why there is none.
    pub provisioner: Result<Arc<Provisioner>, Unresolved>,
    pub arguments: Arguments,
    /// Largest event taken, bytes.
    pub max_event_bytes: Option<usize>,
    /// Made by us for a source with a direct sink: no address of its own.
    pub implicit: bool,
}

/// `spec.arguments`, parsed for the backend.
#[derive(Clone, Debug, PartialEq)]
pub enum Arguments {
    Memory {
        capacity: usize,
    },
    Embedded {
        retention_age: Duration,
        retention_bytes: u64,
        limit_age: Option<Duration>,
        limit_bytes: Option<u64>,
        dedup: Option<Duration>,
    },
    Kafka {
        partitions: Option<i32>,
        replication: Option<i32>,
        retention: Option<Duration>,
    },
    Nats {
        replicas: Option<usize>,
        max_age: Option<Duration>,
        max_bytes: Option<u64>,
    },
    /// Written for a provisioner that is not there, or has another backend now: kept until it is clear what they say.
    Unread(serde_json::Value),
}

/// Where an event is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A channel of ours: in-process.
    Channel(ObjectName),
    /// A channel of ours that another replica has, and where it is there.
    Elsewhere { channel: ObjectName, url: Url },
    /// Anything else, by its absolute `http` or `https` URL.
    Uri(Url),
    /// Named but not to be found.
    Unresolved(Unresolved),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    pub name: ObjectName,
    /// The API server's: one that was deleted and made again is another, with a place of its own in the channel.
    pub uid: Option<String>,
    pub channel: ObjectName,
    pub subscriber: Option<Target>,
    pub reply: Option<Target>,
    /// All of them must match; empty matches everything.
    pub filters: Vec<Filter>,
    /// Its own settings over the channel's over the defaults.
    pub delivery: Delivery,
    pub max_in_flight: usize,
    pub ordering: Ordering,
    pub start_from: StartFrom,
    pub paused: bool,
    /// Made by us: for a direct sink, or from `subscribable.subscribers`.
    pub implicit: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub backoff: backoff::Policy,
    /// Per attempt, head and body.
    pub timeout: Duration,
    pub format: Format,
    pub max_reply_bytes: usize,
    pub dead_letter_sink: Option<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Binary,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ordering {
    None,
    Key,
    Total,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    Latest,
    Earliest,
    Time(Timestamp),
    Offset(u64),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub key: ObjectKey,
    /// Always a channel: the sink when it is one, else the source's own outbox; or why there is none.
    pub sink: Result<ObjectName, Unresolved>,
    /// The sink as a URL for status, when it is known.
    pub sink_uri: Option<String>,
    /// As which it is to run, where there are accounts.
    pub service_account: Option<String>,
    /// The API server's, of the object it was read from: one that was deleted and made again is another source.
    pub uid: Option<String>,
    /// `ceOverrides.extensions`, set on every event of the source.
    pub extensions: BTreeMap<String, String>,
    pub config: SourceConfig,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SourceConfig {
    GitHub(GitHubSource),
    KubernetesEvents(KubernetesEventSource),
    GcpPubSub(GcpPubSubSource),
    Container(ContainerSource),
}

/// What a secret named in a document holds, or why it is not there.
pub type FoundSecret = Result<SecretText, Unresolved>;

#[derive(Clone, Debug, PartialEq)]
pub struct GitHubSource {
    /// `org/repo` or `org`.
    pub owner_and_repository: String,
    /// Event names; `*` takes all.
    pub event_types: Vec<String>,
    /// `githubAPIURL`, for Enterprise.
    pub api_url: Option<Url>,
    /// `None`: the source takes unsigned deliveries and its condition says so.
    pub secret_token: Option<FoundSecret>,
    pub previous_secret_token: Option<FoundSecret>,
    pub access_token: Option<FoundSecret>,
    pub app: Option<GitHubApp>,
    pub mode: GitHubMode,
    /// How often missed deliveries are looked for, or the deliveries list is read in poll mode; `None` is off.
    pub sweep_interval: Option<Duration>,
}

/// Who the gateway is on GitHub, instead of an access token's owner.
#[derive(Clone, Debug, PartialEq)]
pub struct GitHubApp {
    pub id: u64,
    pub installation_id: u64,
    /// PEM.
    pub private_key: FoundSecret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitHubMode {
    /// GitHub calls; what it could not deliver is swept up.
    Webhook,
    /// The list of deliveries is the only transport: needs no public URL.
    Poll,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesEventSource {
    /// `None` watches all namespaces.
    pub namespace: Option<String>,
    /// `Normal`, `Warning`; empty takes both.
    pub types: Vec<String>,
    /// Empty takes all.
    pub reasons: Vec<String>,
    /// Kinds of involved objects; empty takes all.
    pub kinds: Vec<String>,
    /// Repeats within this time are bundled.
    pub coalesce: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GcpPubSubSource {
    pub project: String,
    /// The topic's id, without its project.
    pub topic: String,
    /// A service account's key, JSON; `None`: Application Default Credentials.
    pub credentials: Option<FoundSecret>,
    /// An existing subscription to use; `None`: one of our own.
    pub subscription: Option<String>,
    /// `host:port`.
    pub emulator_host: Option<String>,
    /// What becomes of our own subscription when the source is deleted.
    pub deletion: DeletionPolicy,
    /// Each ordering key is kept serial.
    pub ordering: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionPolicy {
    Delete,
    Retain,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSource {
    pub image: String,
    pub args: Vec<String>,
    pub env: Vec<Variable>,
    /// A pod template, for Kubernetes.
    pub template: Option<serde_json::Value>,
    pub restart: RestartPolicy,
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    pub name: String,
    pub value: VariableValue,
}

impl Variable {
    fn secret(&self) -> Option<&FoundSecret> {
        match &self.value {
            VariableValue::Secret(found) => Some(found),
            VariableValue::Text(_) | VariableValue::Reference(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum VariableValue {
    Text(String),
    /// `valueFrom.secretKeyRef`.
    Secret(FoundSecret),
    /// Another `valueFrom`, which only Kubernetes can resolve.
    Reference(serde_json::Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl SourceConfig {
    /// The secrets that its document names.
    pub fn secrets(&self) -> Vec<&FoundSecret> {
        match self {
            Self::GitHub(config) => [
                config.secret_token.as_ref(),
                config.previous_secret_token.as_ref(),
                config.access_token.as_ref(),
                config.app.as_ref().map(|app| &app.private_key),
            ]
            .into_iter()
            .flatten()
            .collect(),
            Self::KubernetesEvents(_) => Vec::new(),
            Self::GcpPubSub(config) => config.credentials.iter().collect(),
            Self::Container(config) => config.env.iter().filter_map(Variable::secret).collect(),
        }
    }
}

/// A secret's value: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Arc<[u8]>);

impl SecretText {
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}
