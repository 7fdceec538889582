//! Every word by which the gateway says why it refuses something or why something is not as it should be.
//!
//! The words are stable: users see them in conditions, in dead letters, as labels of metrics, in log lines and in answers of the
//! admin API. Each has a page in docs/reasons.

use std::fmt::{self, Write};

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};
use serde::{Serialize, Serializer};

macro_rules! word {
    ($name:ident) => {
        stringify!($name)
    };
    ($name:ident $word:literal) => {
        $word
    };
}

macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident $(= $word:literal)?,)+) => {
        /// Why. A line in the index of docs/reasons says the same of each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in the order of the index of docs/reasons.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns the word that users see.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => word!($name $($word)?),)+
                }
            }

            /// Returns its page of docs/reasons, in Markdown.
            pub const fn page(self) -> &'static str {
                match self {
                    $(Self::$name => include_str!(concat!("../../../docs/reasons/", word!($name $($word)?), ".md")),)+
                }
            }
        }
    };
}

reasons! {
    /// The token may not look after webhooks.
    AccessTokenForbidden,
    /// `accessToken` names a secret that is not there.
    AccessTokenNotFound,
    /// The token was revoked, has expired or is another one.
    AccessTokenRejected,
    /// The adapter of the source ended and is run again.
    AdapterEnded,
    /// In a cluster its program is started again whatever `restartPolicy` says.
    AlwaysRestarted,
    /// The API server sends more than is taken.
    AnswerTooLarge,
    /// The Kubernetes API server refuses, or something else answers.
    ApiServerError,
    /// No connection to the Kubernetes API server.
    ApiServerUnreachable,
    /// The App's private key cannot be used.
    AppKeyInvalid,
    /// Its arguments do not fit the backend it has now.
    ArgumentsInvalid,
    /// A channel's brokers do not answer.
    BackendUnreachable,
    /// The request lacks something or contradicts itself.
    BadRequest,
    /// The brokers promise less than they could.
    BrokerSettings,
    /// The channel it needs is not open.
    ChannelNotReady,
    /// How far was read is not written to disk.
    CheckpointNotSaved,
    /// Not all that was read has room where it is kept.
    CheckpointShortened,
    /// How far was read cannot be read from disk.
    CheckpointUnusable,
    /// Its container has done what it was to do.
    Completed,
    /// Settings of a provisioner or source do not fit together.
    ConfigInvalid,
    /// The upstream has not answered yet.
    Connecting,
    /// Its container failed and is not started again.
    ContainerFailed,
    /// The engine does not create or start its container.
    ContainerRefused,
    /// Its container ends again and again.
    CrashLoop,
    /// The token of a publisher is unknown, has expired or is for another audience.
    CredentialInvalid,
    /// A channel that names publishers was sent an event without a credential.
    CredentialMissing,
    /// Its secret holds nothing that can be used, or there are no default credentials.
    CredentialsInvalid,
    /// The secret of a provisioner, a Pub/Sub source or a destination is not there or lacks a key.
    CredentialsNotFound,
    /// Google or the Kubernetes API server does not accept its credentials.
    CredentialsRejected,
    /// Its place in the channel cannot be opened.
    CursorUnavailable,
    /// Its files cannot be opened.
    DataFolderUnusable,
    /// No more dead letters are kept, events that fail wait.
    DeadLettersFull,
    /// The ConfigMap of default provisioners cannot be used.
    DefaultChannelInvalid,
    /// Its deliveries ended by a fault and are being started again.
    DeliveryEnded,
    /// It is being set up.
    Deploying,
    /// The disk has no space, nothing new is stored.
    DiskFull,
    /// The disk of the data folder will be full soon.
    DiskNearlyFull,
    /// Valid, and likely not what is meant.
    Doubtful,
    /// The gateway is ending.
    Draining,
    /// A subscriber replied, and the subscription has no target for replies.
    Dropped,
    /// Two documents have one name.
    Duplicate,
    /// The backend promises less than is required.
    DurabilityNotMet,
    /// The gateway does not connect to that address.
    EgressRefused,
    /// Another replica has it.
    Elsewhere,
    /// Events lie on disk that no channel delivers.
    EmbeddedLogUnused,
    /// It has no address before it is open.
    EmptyHostname = "emptyHostname",
    /// Events are gone: damage, a hard limit, or upstream did not keep them.
    EventsMissing,
    /// All known Event objects are gone early.
    EventsVanished,
    /// A dead letter does not say whose it is or why it is here.
    FactsUnreadable,
    /// A filter could not be evaluated.
    FilterError,
    /// It does not run before its finalizer is there.
    FinalizerRefused,
    /// The API server does not let us read or write something.
    Forbidden,
    /// A change does not come from a page of this gateway.
    ForeignForm,
    /// The request is for a host that is not the admin listener's.
    ForeignHost,
    /// A memory channel holds as much as it may.
    Full,
    /// GitHub's API does not answer.
    GitHubUnreachable,
    /// A client and a listener do not agree on TLS.
    HandshakeFailed,
    /// The sender is not GitHub.
    HeaderMissing,
    /// The API server's history is gone before it is read.
    HistoryGone,
    /// There are 20 webhooks for an event already.
    HookLimit,
    /// GitHub does not accept the webhook.
    HookRefused,
    /// The document is not ours.
    Ignored,
    /// Its image is not to be had.
    ImageNotFound,
    /// Its image could not be pulled.
    ImagePullFailed,
    /// The gateway does not know its own image.
    ImageUnknown,
    /// A field changed that may not.
    Immutable,
    /// Its container could not reach the gateway.
    IngressUnreachable,
    /// A fault of the program.
    Internal,
    /// An event or a document is not what it should be.
    Invalid,
    /// Nothing can be sent to that URL.
    InvalidTarget,
    /// The keys of an identity provider cannot be read.
    IssuerUnreachable,
    /// A publisher sends more than its limits.
    LimitReached,
    /// The event passed too many channels.
    Loop,
    /// A subscriber's answer is no CloudEvent.
    Malformed,
    /// The path takes another method.
    MethodNotAllowed,
    /// A client speaks plain HTTP to a listener with TLS.
    NeedsTLS,
    /// From afar a token is needed, and none is set.
    NoAdminToken,
    /// Nothing receives at that path.
    NoChannel,
    /// No usable kubeconfig and no service account.
    NoClusterAccess,
    /// No Docker or Podman answers.
    NoContainerEngine,
    /// GitHub cannot be told where to deliver.
    NoPublicURL,
    /// Every client that reaches the listener may publish.
    NoPublishers,
    /// A record of another producer is no CloudEvent.
    NotAnEvent,
    /// This build of the gateway lacks a part that it needs.
    NotBuilt,
    /// The object that is named does not exist.
    NotFound,
    /// The channel keeps nothing to replay.
    NothingKept,
    /// Without a token or an App the webhook is added by hand.
    NotManaged,
    /// A switch is set, but not on disk.
    NotPersisted,
    /// There is no such provisioner.
    NotProvisioned,
    /// The subscription does not run.
    NotRunning,
    /// Its event is not in `eventTypes`.
    NotWanted,
    /// Another program's transaction holds events back.
    OpenTransaction,
    /// Total order is asked of a topic with several partitions.
    OrderedPerPartition,
    /// Its subscription does not keep the order of keys.
    OrderingOff,
    /// Too many connections or bodies at once.
    Overloaded,
    /// A reply reached its target.
    Passed,
    /// The subscription is paused.
    Paused,
    /// GitHub did not keep a payload long enough.
    PayloadGone,
    /// Its account lacks a right.
    PermissionDenied,
    /// GitHub greeted a new webhook.
    Ping,
    /// The API server does not admit its pod.
    PodRefused,
    /// `app.privateKey` names a secret that is not there.
    PrivateKeyNotFound,
    /// A good token may not publish to this channel.
    PublisherForbidden,
    /// Google says no, in its own words.
    PubSubRefused,
    /// Google does not answer.
    PubSubUnreachable,
    /// GitHub's limit of requests is used up.
    RateLimited,
    /// The data folder cannot be written.
    ReadOnly,
    /// The read token was sent for a change.
    ReadOnlyToken,
    /// It takes no events now.
    Refusing,
    /// A replay to the subscription is going on.
    ReplayRunning,
    /// The reply's target could not take it.
    ReplyFailed,
    /// The reply's target refused it for good.
    ReplyRefused,
    /// The reply exceeds `maxReplyBytes`.
    ReplyTooLarge,
    /// The repository is gone or out of sight.
    RepositoryNotFound,
    /// Upstream did not keep what was missed.
    RetentionExceeded,
    /// Its pod does not come.
    RolloutStalled,
    /// A variable or a publisher names a secret that is not there.
    SecretNotFound,
    /// `secretToken` names a secret that is not there.
    SecretTokenNotFound,
    /// No Service can have its name.
    ServiceNameInvalid,
    /// A Service of its name belongs to another owner.
    ServiceTaken,
    /// The signature is missing or does not match.
    SignatureInvalid,
    /// There is no place for events to go.
    SinkEmpty,
    /// The subscriber answered with an error that is retried.
    SinkError,
    /// Ten events in a row failed, the sink looks down.
    SinkFailing,
    /// The subscriber does not want the event.
    SinkRejected,
    /// Ten events in a row were refused for good.
    SinkRejecting,
    /// No whole answer within the timeout.
    SinkTimeout,
    /// No connection, or it broke.
    SinkUnreachable,
    /// Syncs take too long.
    SlowDisk,
    /// The source lacks its secret.
    SourceNotReady,
    /// The sender was too slow.
    Stalled,
    /// The documents are not read yet.
    Starting,
    /// All is well.
    Stored,
    /// NATS refused to make a channel's stream.
    StreamNotMade,
    /// A stream is there and cannot be a channel.
    StreamUnfit,
    /// The subscription is of another topic.
    SubscriptionMismatch,
    /// The subscription is not there.
    SubscriptionNotFound,
    /// One of that name is there and not ours.
    SubscriptionNotOurs,
    /// A destination's token endpoint gives no token.
    TokenUnavailable,
    /// Larger than a limit.
    TooLarge,
    /// As many redrives and replays run as the console starts.
    TooManyJobs,
    /// As many listings of letters are read as a gateway serves at once.
    TooManyListings,
    /// As many tails are open as a gateway serves at once.
    TooManyTails,
    /// The topic is not there.
    TopicNotFound,
    /// The brokers refused to make a channel's topic.
    TopicNotMade,
    /// A topic is there and would lose events.
    TopicUnfit,
    /// There is no secret to verify deliveries with.
    Unauthenticated,
    /// The token is missing or wrong.
    Unauthorized,
    /// The channel's storage failed.
    Unavailable,
    /// There is no such kind.
    UnknownKind,
    /// A file is no YAML or cannot be opened.
    Unreadable,
    /// No node takes its pod.
    Unschedulable,
    /// A form of event that is not read.
    UnsupportedFormat,
    /// A change must be JSON.
    UnsupportedMediaType,
    /// Resources that it created upstream may still be there.
    UpstreamLeft,
    /// A variable has a value that only Kubernetes has.
    VariableUnresolved,
    /// The webhook was removed on GitHub.
    WebhookRemoved,
    /// The API server does not take its Deployment.
    WorkloadInvalid,
}

impl Reason {
    /// Returns the reason with this word, as another process wrote it.
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == word)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.as_str())
    }
}

impl PartialEq<&str> for Reason {
    fn eq(&self, word: &&str) -> bool {
        self.as_str() == *word
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_reason_has_a_page_and_every_page_a_reason() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reasons");
        let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name());
        let pages: BTreeSet<String> = files.map(|name| name.into_string().unwrap()).collect();
        let words = || Reason::ALL.iter().map(|reason| reason.as_str());
        let mut expected: BTreeSet<String> = words().map(|word| format!("{word}.md")).collect();
        expected.insert("README.md".to_owned());
        assert_eq!(pages, expected);
        let index = fs::read_to_string(folder.join("README.md")).unwrap();
        let listed: Vec<&str> = index
            .lines()
            .filter_map(|line| line.strip_prefix("| [")?.split(']').next())
            .collect();
        assert_eq!(
            listed,
            words().collect::<Vec<_>>(),
            "the index has the order of the enum"
        );
        assert!(listed.is_sorted_by_key(|word| word.to_lowercase()));
    }

    #[test]
    fn a_reason_is_found_by_its_word() {
        for reason in Reason::ALL {
            assert_eq!(Reason::find(reason.as_str()), Some(*reason));
            assert!(reason.page().starts_with(&format!("# {reason}\n")), "{reason}");
        }
        assert_eq!(Reason::find("Nonsense"), None);
        assert_eq!(Reason::EmptyHostname.as_str(), "emptyHostname");
    }
}
