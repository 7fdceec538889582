//! The flags of `run` and `adapter`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::values::{address, duration, in_namespace, memory_budget, network, source_kind};

const ACCESS: &str = "Access to the admin listener";
const CLUSTER: &str = "On Kubernetes";
const EGRESS: &str = "Outgoing connections";
const TLS: &str = "TLS";

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Files and folders of YAML documents, watched for changes.
    #[arg(
        required_unless_present = "kubernetes",
        conflicts_with = "kubernetes",
        value_name = "PATH"
    )]
    pub(crate) paths: Vec<PathBuf>,
    /// The address that accepts events. With port 0 the gateway takes a free port and logs it.
    #[arg(
        long,
        env = "HEADGATE_LISTEN",
        default_value = "127.0.0.1:8080",
        value_parser = address,
        value_name = "ADDRESS"
    )]
    pub(crate) listen: SocketAddr,
    /// The address of the admin API, health and metrics.
    #[arg(
        long,
        env = "HEADGATE_ADMIN",
        default_value = "127.0.0.1:8081",
        value_parser = address,
        value_name = "ADDRESS"
    )]
    pub(crate) admin: SocketAddr,
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) access: Access,
    /// The folder in which embedded channels keep their events.
    #[arg(long, env = "HEADGATE_DATA", default_value = "./headgate-data", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// A folder of secrets, as files NAMESPACE/NAME/KEY.
    #[arg(long, env = "HEADGATE_SECRETS", value_name = "DIR")]
    pub(crate) secrets: Option<PathBuf>,
    /// The base URL of the ingress as others reach it, used in status and webhook addresses.
    #[arg(long, env = "HEADGATE_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<url::Url>,
    /// The longest time that a drain may take.
    #[arg(long, env = "HEADGATE_GRACE", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub(crate) grace: Duration,
    /// The largest event that the ingress accepts, in bytes.
    #[arg(
        long,
        env = "HEADGATE_MAX_BODY_BYTES",
        default_value_t = 1_048_576,
        value_name = "BYTES"
    )]
    pub(crate) max_body_bytes: usize,
    /// How many channels an event may pass before the gateway treats it as a loop.
    #[arg(long, env = "HEADGATE_MAX_HOPS", default_value_t = 32, value_name = "N")]
    pub(crate) max_hops: u32,
    /// Memory for events and dead letters of all in-memory channels together, in bytes; at least 64 MiB.
    #[arg(
        long,
        env = "HEADGATE_MEMORY_BUDGET",
        default_value_t = channel_memory::Budget::DEFAULT_BYTES,
        value_parser = memory_budget,
        value_name = "BYTES"
    )]
    pub(crate) memory_budget: usize,
    /// The provisioner of channels that name no provisioner.
    #[arg(
        long,
        env = "HEADGATE_DEFAULT_PROVISIONER",
        default_value = spec::DEFAULT_PROVISIONER,
        value_name = "NAME"
    )]
    pub(crate) default_provisioner: String,
    #[command(flatten)]
    pub(crate) egress: EgressRules,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// The context of the kubeconfig (KUBECONFIG, or ~/.kube/config) that --kubernetes and KubernetesEventSources use. Without
    /// it the current context is used, and without a kubeconfig the cluster that the pod runs in.
    #[arg(long, help_heading = CLUSTER, env = "HEADGATE_KUBE_CONTEXT", value_name = "CONTEXT")]
    pub(crate) kube_context: Option<String>,
}

/// The certificates of the listeners. All files are PEM and may change at any time: new ones are in force within ten seconds.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Tls {
    /// The certificate of --listen, which then speaks TLS 1.2 and 1.3 alone. Certificates of intermediate authorities follow in
    /// the same file.
    #[arg(long, help_heading = TLS, env = "HEADGATE_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of --tls-cert.
    #[arg(long, help_heading = TLS, env = "HEADGATE_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The authorities of clients' certificates. With it the gateway asks clients of --listen for a certificate. It refuses one that
    /// it cannot verify, and lets clients without one in.
    #[arg(long, help_heading = TLS, env = "HEADGATE_TLS_CLIENT_CA", requires = "tls_cert", value_name = "FILE")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// The certificate of --admin, which then speaks TLS 1.2 and 1.3 alone.
    #[arg(long, help_heading = TLS, env = "HEADGATE_ADMIN_TLS_CERT", requires = "admin_tls_key", value_name = "FILE")]
    pub(crate) admin_tls_cert: Option<PathBuf>,
    /// The key of --admin-tls-cert.
    #[arg(long, help_heading = TLS, env = "HEADGATE_ADMIN_TLS_KEY", requires = "admin_tls_cert", value_name = "FILE")]
    pub(crate) admin_tls_key: Option<PathBuf>,
}

/// The addresses that targets of documents may have, besides those that are always refused.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct EgressRules {
    /// A network that the gateway does not connect to for a document, such as 10.0.0.0/8. May be repeated. Link-local addresses
    /// and the metadata services of clouds are always refused, loopback unless --listen is on loopback.
    #[arg(long, help_heading = EGRESS, env = "HEADGATE_EGRESS_DENY", value_delimiter = ',', value_parser = network, value_name = "CIDR")]
    pub(crate) egress_deny: Vec<connect::Network>,
    /// A network, or a single address, that the gateway connects to all the same. May be repeated.
    #[arg(long, help_heading = EGRESS, env = "HEADGATE_EGRESS_ALLOW", value_delimiter = ',', value_parser = network, value_name = "CIDR")]
    pub(crate) egress_allow: Vec<connect::Network>,
}

impl EgressRules {
    /// Makes them the rules of this process.
    pub(crate) fn enforce(&self, listen: SocketAddr) {
        let permits_loopback = listen.ip().to_canonical().is_loopback();
        connect::Egress::new(self.egress_deny.clone(), self.egress_allow.clone(), permits_loopback).enforce();
    }
}

/// Access to the admin listener, besides the operate token.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Access {
    /// The read token. With it the gateway requires this token or the operate token for reading. Without it, reading is open on
    /// loopback.
    #[arg(
        long,
        help_heading = ACCESS,
        env = "HEADGATE_ADMIN_READ_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub(crate) admin_read_token: Option<String>,
    /// A file with the read token, which may change at any time. Overrides --admin-read-token.
    #[arg(long, help_heading = ACCESS, env = "HEADGATE_ADMIN_READ_TOKEN_FILE", value_name = "FILE")]
    pub(crate) admin_read_token_file: Option<PathBuf>,
    /// A host name of the admin listener, besides localhost, IP addresses and --service. May be repeated. Requests for other
    /// hosts are answered 421.
    #[arg(long, help_heading = ACCESS, env = "HEADGATE_ADMIN_HOST", value_delimiter = ',', value_name = "HOST")]
    pub(crate) admin_host: Vec<String>,
}

/// A gateway whose documents are objects of a cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Cluster {
    /// Read documents from the Kubernetes API server, and write status there.
    #[arg(long, help_heading = CLUSTER, env = "HEADGATE_KUBERNETES")]
    pub(crate) kubernetes: bool,
    /// Watch one namespace only (with --kubernetes).
    #[arg(long, help_heading = CLUSTER, env = "HEADGATE_NAMESPACE", requires = "kubernetes", value_name = "NS")]
    pub(crate) namespace: Option<String>,
    /// The gateway's own Service, NAME.NAMESPACE.svc.DOMAIN, which must have port 80, or 443 with --tls-cert (with --kubernetes).
    /// With it, the gateway creates a Service NAME-channel for each channel.
    #[arg(long, help_heading = CLUSTER, env = "HEADGATE_SERVICE", requires = "kubernetes", value_name = "HOST")]
    pub(crate) service: Option<String>,
    /// The DNS domain of the cluster (with --kubernetes).
    #[arg(
        long,
        help_heading = CLUSTER,
        env = "HEADGATE_CLUSTER_DOMAIN",
        default_value = "cluster.local",
        value_name = "DOMAIN"
    )]
    pub(crate) cluster_domain: String,
}

impl Cluster {
    /// Documents are files.
    pub(crate) fn none() -> Self {
        Self {
            kubernetes: false,
            namespace: None,
            service: None,
            cluster_domain: String::new(),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Adapter {
    /// GitHubSource, KubernetesEventSource, GcpPubSubSource or ContainerSource.
    #[arg(value_parser = source_kind, value_name = "KIND")]
    pub(crate) kind: spec::Kind,
    /// Files and folders of YAML documents, watched for changes. Only sources of this kind and their secrets are used.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// The URL to post events to. An event is acknowledged upstream when the sink answers 2xx.
    #[arg(long, env = "HEADGATE_SINK", value_name = "URL")]
    pub(crate) sink: url::Url,
    /// The address at which sources receive webhooks. With port 0 a free port is taken.
    #[arg(
        long,
        env = "HEADGATE_LISTEN",
        default_value = "127.0.0.1:8090",
        value_parser = address,
        value_name = "ADDRESS"
    )]
    pub(crate) listen: SocketAddr,
    /// The address of the admin API, health and metrics.
    #[arg(
        long,
        env = "HEADGATE_ADMIN",
        default_value = "127.0.0.1:8091",
        value_parser = address,
        value_name = "ADDRESS"
    )]
    pub(crate) admin: SocketAddr,
    #[command(flatten)]
    pub(crate) access: Access,
    /// The folder in which sources keep their checkpoints.
    #[arg(
        long,
        env = "HEADGATE_DATA",
        default_value = "./headgate-adapter-data",
        value_name = "DIR"
    )]
    pub(crate) data: PathBuf,
    /// A folder of secrets, as files NAMESPACE/NAME/KEY.
    #[arg(long, env = "HEADGATE_SECRETS", value_name = "DIR")]
    pub(crate) secrets: Option<PathBuf>,
    /// The base URL of --listen as others reach it, used in status and webhook addresses.
    #[arg(long, env = "HEADGATE_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<url::Url>,
    /// The context of the kubeconfig (KUBECONFIG, or ~/.kube/config) that KubernetesEventSources use. Without it the current
    /// context is used.
    #[arg(long, help_heading = CLUSTER, env = "HEADGATE_KUBE_CONTEXT", value_name = "CONTEXT")]
    pub(crate) kube_context: Option<String>,
    #[command(flatten)]
    pub(crate) egress: EgressRules,
    /// Keep the checkpoint of the one source in this ConfigMap instead of --data. A gateway in a cluster sets it in the
    /// Deployments that it creates.
    #[arg(long, env = "HEADGATE_STATE", requires = "state_uid", value_parser = in_namespace, value_name = "NAMESPACE/NAME")]
    pub(crate) state: Option<spec::ObjectName>,
    /// The uid of the source's object in the cluster (with --state).
    #[arg(long, env = "HEADGATE_STATE_UID", requires = "state", value_name = "UID")]
    pub(crate) state_uid: Option<String>,
    /// The longest time that a drain may take.
    #[arg(long, env = "HEADGATE_GRACE", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub(crate) grace: Duration,
}
