//! Sources as they run.

use std::{collections::BTreeMap, time::Duration};

use status::Cause;
use url::Url;

use super::{ObjectKey, ObjectName, SecretText};
use crate::schema::document_enum;

/// A source.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The kind and name.
    pub key: ObjectKey,
    /// Always a channel: the sink when it is one, else the source's own outbox; or why there is none.
    pub sink: Result<ObjectName, Cause>,
    /// The sink as a URL for status, when it is known.
    pub sink_uri: Option<String>,
    /// As which it is to run, where there are accounts.
    pub service_account: Option<String>,
    /// The API server's, of the object it was read from: one that was deleted and made again is another source.
    pub uid: Option<String>,
    /// `ceOverrides.extensions`, set on every event of the source.
    pub extensions: BTreeMap<String, String>,
    /// The settings of its kind.
    pub config: SourceConfig,
}

/// The settings of a source, by its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceConfig {
    GitHub(GitHubSource),
    KubernetesEvents(KubernetesEventSource),
    GcpPubSub(GcpPubSubSource),
    Container(ContainerSource),
}

/// The value of a secret that a document names, or why it is missing.
pub type FoundSecret = Result<SecretText, Cause>;

/// A source of GitHub's webhooks.
#[derive(Clone, Debug, PartialEq)]
pub struct GitHubSource {
    /// `org/repo` or `org`.
    pub owner_and_repository: String,
    /// Event names; `*` takes all.
    pub event_types: Vec<String>,
    /// `githubAPIURL`, for Enterprise.
    pub api_url: Option<Url>,
    /// `None`: the gateway makes a secret where it registers the webhook itself; elsewhere see `allow_unsigned`.
    pub secret_token: Option<FoundSecret>,
    /// Without a secret, takes unsigned deliveries instead of refusing them.
    pub allow_unsigned: bool,
    /// The secret before its rotation.
    pub previous_secret_token: Option<FoundSecret>,
    /// The token for GitHub's API.
    pub access_token: Option<FoundSecret>,
    /// The GitHub App that signs in instead of a token.
    pub app: Option<GitHubApp>,
    pub mode: GitHubMode,
    /// How often missed deliveries are looked for, or the deliveries list is read in poll mode; `None` is off.
    pub sweep_interval: Option<Duration>,
}

/// The GitHub App that the gateway authenticates as, instead of the owner of an access token.
#[derive(Clone, Debug, PartialEq)]
pub struct GitHubApp {
    /// The App's id.
    pub id: u64,
    /// The id of its installation.
    pub installation_id: u64,
    /// PEM.
    pub private_key: FoundSecret,
}

document_enum! {
    /// How deliveries come.
    pub enum GitHubMode {
        /// GitHub calls; what it could not deliver is swept up.
        Webhook = "webhook",
        /// The list of deliveries is the only transport: needs no public URL.
        Poll = "poll",
    }
}

/// A source of Kubernetes Event objects.
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

/// A source of the messages of a Pub/Sub topic.
#[derive(Clone, Debug, PartialEq)]
pub struct GcpPubSubSource {
    /// The Google Cloud project.
    pub project: String,
    /// The topic's id, without its project.
    pub topic: String,
    /// A service account's key, JSON; `None`: Application Default Credentials.
    pub credentials: Option<FoundSecret>,
    /// An existing subscription to use; `None`: one of our own.
    pub subscription: Option<String>,
    /// `host:port`.
    pub emulator_host: Option<String>,
    /// Whether the gateway's own subscription is deleted with the source.
    pub deletion: DeletionPolicy,
    /// Each ordering key is kept serial.
    pub ordering: bool,
}

document_enum! {
    /// Whether the subscription goes with the source.
    pub enum DeletionPolicy {
        Delete = "Delete",
        Retain = "Retain",
    }
}

/// A source that runs an image.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSource {
    /// The image.
    pub image: String,
    /// Arguments of its program.
    pub args: Vec<String>,
    /// Variables of its environment.
    pub env: Vec<Variable>,
    /// A pod template, for Kubernetes.
    pub template: Option<serde_json::Value>,
    /// Whether a program that ended is started again.
    pub restart: RestartPolicy,
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// The variable's name.
    pub name: String,
    /// The variable's value.
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

/// The value of a variable.
#[derive(Clone, Debug, PartialEq)]
pub enum VariableValue {
    Text(String),
    /// `valueFrom.secretKeyRef`.
    Secret(FoundSecret),
    /// Another `valueFrom`, which only Kubernetes can resolve.
    Reference(serde_json::Value),
}

document_enum! {
    /// Whether a container whose program ended is started again.
    pub enum RestartPolicy {
        Always = "always" | "Always",
        OnFailure = "onFailure" | "OnFailure",
        Never = "never" | "Never",
    }
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
