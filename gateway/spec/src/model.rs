//! The desired state that the gateway runs: whole, validated, references resolved, nothing optional that is required.
//!
//! A [`Spec`] is published whole and never changed afterwards; [`crate::resource`] is what users wrote, and
//! `build.rs` turns one into the other. Implicit objects are made there too, so that the data plane has one
//! path: a source whose sink is no channel gets an outbox channel and a subscription; a channel's hand-written
//! `subscribable.subscribers` become subscriptions.

mod access;
mod publishers;
mod sources;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use cesql::Filter;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use status::Cause;
use url::Url;

use crate::schema::document_enum;

pub use crate::resource::backends::*;
pub use access::*;
pub use publishers::*;
pub use sources::*;

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
    /// Every kind, in the order of tables.
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

    /// Returns the `kind` of a document.
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

    /// Returns the `apiVersion` of a document.
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

    /// Whether objects of this kind belong to the cluster and not to a namespace.
    pub fn is_cluster_scoped(self) -> bool {
        self == Self::ClusterChannelProvisioner
    }

    /// Whether objects of this kind bring events in.
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
    /// The namespace; empty for objects of the cluster.
    pub namespace: String,
    /// The name within the namespace.
    pub name: String,
}

impl ObjectName {
    /// Makes a name.
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

/// An object by its kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: ObjectName,
}

impl ObjectKey {
    /// Makes a key.
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
    /// Provisioners by name, the built-in ones among them.
    pub provisioners: BTreeMap<String, Arc<Provisioner>>,
    /// Channels by name, outboxes of sources among them.
    pub channels: BTreeMap<ObjectName, Arc<Channel>>,
    /// Subscriptions by name, those that the gateway makes among them.
    pub subscriptions: BTreeMap<ObjectName, Arc<Subscription>>,
    /// Sources by kind and name.
    pub sources: BTreeMap<ObjectKey, Arc<Source>>,
    /// Every document as it was written, secrets' values left out: what `headgate get -o yaml` shows.
    pub objects: BTreeMap<ObjectKey, Arc<Object>>,
    /// Some document could not be read at all, so what is absent here may still be wanted: nothing is forgotten.
    pub incomplete: bool,
    /// Kinds that the gateway may not read: whether their objects exist is unknown, so none of them is deleted.
    pub unread: BTreeSet<Kind>,
}

/// A document as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The kind and name.
    pub key: ObjectKey,
    /// The `apiVersion` as it was written.
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

document_enum! {
    /// The kinds of backends.
    #[derive(PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum BackendKind {
        Memory = "memory",
        Embedded = "embedded",
        Kafka = "kafka",
        Nats = "nats",
    }
}

impl BackendKind {
    /// Every kind of backend.
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

/// A provisioner that keeps the events of channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Provisioner {
    /// Its name.
    pub name: String,
    /// Its backend and how that is reached.
    pub config: Config,
    /// The values of the secret named by `config.security.secretRef`, by key; empty where none is named.
    pub credentials: Result<BTreeMap<String, SecretText>, Cause>,
    /// `process`, `disk`, `quorum` or `quorum-fsync`, when stated.
    pub require_durability: Option<String>,
}

/// A channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its name.
    pub name: ObjectName,
    /// The provisioner by its canonical name, or why there is none.
    pub provisioner: Result<Arc<Provisioner>, Cause>,
    /// The channel's own settings of its backend.
    pub arguments: Arguments,
    /// Made by us for a source with a direct sink: no address of its own.
    pub implicit: bool,
    /// The publishers and their limits.
    pub publishing: Publishing,
}

/// Where an event is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A channel of ours: in-process.
    Channel(ObjectName),
    /// A channel of ours that another replica has, and where it is there.
    Elsewhere { channel: ObjectName, url: Url },
    /// Anything else.
    Uri {
        /// Absolute, `http`, `https` or `h2c`.
        url: Url,
        /// `None` where the document says nothing about it.
        access: Option<Arc<Access>>,
    },
    /// Named but not to be found.
    Unresolved(Cause),
}

impl Target {
    /// A destination of which only the URL is known.
    pub fn uri(url: Url) -> Self {
        Self::Uri { url, access: None }
    }
}

/// A subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Its name.
    pub name: ObjectName,
    /// The API server's: one that was deleted and made again is another, with a place of its own in the channel.
    pub uid: Option<String>,
    /// The channel whose events it gets.
    pub channel: ObjectName,
    /// Where events are sent; `None` where only a reply target is named.
    pub subscriber: Option<Target>,
    /// Where replies are sent.
    pub reply: Option<Target>,
    /// All of them must match; empty matches everything.
    pub filters: Vec<Filter>,
    /// Its own settings over the channel's over the defaults.
    pub delivery: Delivery,
    /// Deliveries in flight at once, at most.
    pub max_in_flight: usize,
    /// The order of deliveries.
    pub ordering: Ordering,
    /// Where a new cursor begins.
    pub start_from: StartFrom,
    /// `spec.paused`: deliveries stop and the cursor stays.
    pub paused: bool,
    /// Made by us: for a direct sink, or from `subscribable.subscribers`.
    pub implicit: bool,
}

/// How events are delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// How often an event is retried, and the waits in between.
    pub backoff: backoff::Policy,
    /// Per attempt, head and body.
    pub timeout: Duration,
    /// The form of events in requests.
    pub format: Format,
    /// The largest reply, bytes.
    pub max_reply_bytes: usize,
    /// Where undeliverable events are sent before the channel's own log keeps them.
    pub dead_letter_sink: Option<Target>,
}

document_enum! {
    /// The form of events in requests.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Format {
        Binary = "binary",
        Json = "json",
    }
}

document_enum! {
    /// The order of deliveries (CONTRACT CH-6).
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Ordering {
        None = "none",
        Key = "key",
        Total = "total",
    }
}

/// Where a new cursor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    Latest,
    Earliest,
    Time(Timestamp),
    Offset(u64),
}

/// A secret's value: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Arc<[u8]>);

impl SecretText {
    /// Takes bytes that must not be shown.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes, for who signs or signs in with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}
