//! What users write, as types (API.md 2.1-2.5). A document becomes one of these only after it passed `schema.rs`, so what
//! is left to be `None` is what a user may leave out. [`crate::model`] is what we run.

mod filters;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};

use crate::{duration::Iso, schema::forms};

/// A document's `spec`, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    Channel(Channel),
    Subscription(Box<Subscription>),
    ClusterChannelProvisioner(ClusterChannelProvisioner),
    GitHubSource(Box<GitHubSource>),
    KubernetesEventSource(KubernetesEventSource),
    GcpPubSubSource(GcpPubSubSource),
    ContainerSource(ContainerSource),
    Service(Service),
    Secret(Secret),
}

/// A reference of which kind and apiVersion are known from where it stands.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Reference {
    pub name: String,
    pub namespace: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub namespace: Option<String>,
}

/// Where events go: `sink`, `subscriber`, `reply`, `deadLetterSink`, in every spelling (API.md 2.1).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    pub api_version: Option<String>,
    pub kind: Option<String>,
    pub name: Option<String>,
    pub namespace: Option<String>,
    #[serde(rename = "ref")]
    pub reference: Option<ObjectReference>,
    pub uri: Option<String>,
    pub dns_name: Option<String>,
    /// v0.2, in `reply` only.
    pub channel: Option<Reference>,
}

impl Destination {
    /// The object it names, under `ref` or directly.
    pub fn object(&self) -> Option<ObjectReference> {
        if let Some(reference) = &self.reference {
            return Some(reference.clone());
        }
        let (api_version, kind, name) = (self.api_version.clone()?, self.kind.clone()?, self.name.clone()?);
        Some(ObjectReference {
            api_version,
            kind,
            name,
            namespace: self.namespace.clone(),
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Channel {
    pub provisioner: Option<Reference>,
    pub arguments: Map<String, Value>,
    pub delivery: Delivery,
    pub subscribable: Subscribable,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Subscribable {
    pub subscribers: Vec<Subscriber>,
}

/// A subscriber listed by hand.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Subscriber {
    #[serde(rename = "subscriberURI")]
    pub subscriber_uri: Option<String>,
    #[serde(rename = "replyURI")]
    pub reply_uri: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delivery {
    pub retry: Option<u32>,
    pub backoff_policy: Option<BackoffPolicy>,
    pub backoff_delay: Option<Iso>,
    pub backoff_max: Option<Iso>,
    pub timeout: Option<Iso>,
    pub format: Option<crate::model::Format>,
    pub max_reply_bytes: Option<usize>,
    pub retry_after_max: Option<Iso>,
    pub dead_letter_sink: Option<Destination>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackoffPolicy {
    Exponential,
    Linear,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    pub channel: Reference,
    pub subscriber: Option<Destination>,
    pub reply: Option<Destination>,
    /// Compiled as they are read: a document is read once and built often.
    #[serde(default, deserialize_with = "filters::compiled")]
    pub filters: Vec<cesql::Filter>,
    #[serde(default)]
    pub delivery: Delivery,
    pub max_in_flight: Option<usize>,
    pub ordering: Option<crate::model::Ordering>,
    pub start_from: Option<StartFrom>,
    #[serde(default)]
    pub paused: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartFrom {
    Latest,
    Earliest,
    Time(String),
    Offset(u64),
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterChannelProvisioner {
    pub backend: Option<crate::model::BackendKind>,
    pub config: Map<String, Value>,
    pub require_durability: Option<String>,
}

/// What every source has (API.md 2.5).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceFields {
    pub sink: Option<Destination>,
    /// Under either spelling.
    pub service_account_name: Option<String>,
    pub extensions: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GitHubSource {
    #[serde(flatten)]
    pub common: SourceFields,
    pub owner_and_repository: String,
    #[serde(default)]
    pub event_types: Vec<String>,
    pub access_token: Option<Token>,
    pub secret_token: Option<Token>,
    pub previous_secret_token: Option<Token>,
    #[serde(rename = "githubAPIURL")]
    pub github_api_url: Option<String>,
    pub app: Option<GitHubApp>,
    pub mode: Option<String>,
    pub sweep_interval: Option<Iso>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GitHubApp {
    pub id: u64,
    pub installation_id: u64,
    pub private_key: Token,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    pub secret_key_ref: SecretSelector,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SecretSelector {
    pub name: String,
    /// Left out only where a kind has a default for it.
    pub key: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesEventSource {
    #[serde(flatten)]
    pub common: SourceFields,
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub all_namespaces: bool,
    #[serde(default)]
    pub types: Vec<String>,
    #[serde(default)]
    pub reasons: Vec<String>,
    #[serde(default)]
    pub kinds: Vec<String>,
    pub coalesce: Option<Iso>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GcpPubSubSource {
    #[serde(flatten)]
    pub common: SourceFields,
    pub google_cloud_project: String,
    pub topic: String,
    pub gcp_creds_secret: Option<SecretSelector>,
    pub subscription: Option<String>,
    pub emulator_host: Option<String>,
    pub deletion_policy: Option<String>,
    #[serde(default)]
    pub ordering: bool,
}

/// The key that `gcpCredsSecret` means when it names none.
pub const GCP_CREDENTIALS_KEY: &str = "key.json";

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSource {
    #[serde(flatten)]
    pub common: SourceFields,
    pub image: String,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default, deserialize_with = "env")]
    pub env: Vec<Variable>,
    pub template: Option<Value>,
    pub restart_policy: Option<String>,
}

/// An environment variable, as Kubernetes has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    pub name: String,
    pub value: Option<String>,
    pub value_from: Option<Value>,
}

/// Of a Kubernetes Service, what stands for an address outside the cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    pub external_name: Option<String>,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Port {
    pub port: u16,
}

/// A Kubernetes Secret. Its values are kept by [`crate::model::SecretText`], which is never printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secret {
    pub values: BTreeMap<String, crate::model::SecretText>,
}

/// Size given by `retention` and `limit`.
pub(crate) fn bytes(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => forms::quantity(text).ok(),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for SourceFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Written {
            sink: Option<Destination>,
            service_account_name: Option<String>,
            #[serde(rename = "serviceAccountname")]
            service_account_name_v02: Option<String>,
            ce_overrides: Option<Overrides>,
        }
        #[derive(Deserialize)]
        struct Overrides {
            #[serde(default)]
            extensions: BTreeMap<String, String>,
        }
        let written = Written::deserialize(deserializer)?;
        Ok(Self {
            sink: written.sink,
            service_account_name: written.service_account_name.or(written.service_account_name_v02),
            extensions: written
                .ce_overrides
                .map(|overrides| overrides.extensions)
                .unwrap_or_default(),
        })
    }
}

/// A list as in Kubernetes, or a map.
fn env<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Variable>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Object(map) => {
            let variable = |(name, value): (String, Value)| Variable {
                name,
                value: value.as_str().map(str::to_owned),
                value_from: None,
            };
            Ok(map.into_iter().map(variable).collect())
        }
        list => serde_json::from_value(list).map_err(D::Error::custom),
    }
}
