//! Who we are to which API server: what a kubeconfig says, or the service account of the pod we run in.

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use crate::counted::Requests;

/// A way to the API server. Cheap to clone; credentials that rotate (a pod's token, a credential command) are read anew by
/// the client.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    /// The API server's address, without credentials.
    pub server: String,
    /// Where the gateway itself lives: the pod's namespace, or the one of the kubeconfig's context.
    pub namespace: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(
        "there is no kubeconfig (KUBECONFIG, ~/.kube/config), and this is no pod with a service account: give one of them"
    )]
    Nowhere,
    /// The parser's own words are left out: they may quote a credential.
    #[error("cannot use the kubeconfig: {0}; look at KUBECONFIG or ~/.kube/config, and at --kube-context")]
    Kubeconfig(String),
    #[error("cannot use the credentials of the cluster: {0}")]
    Credentials(String),
}

/// `context` is one of the kubeconfig; without it the kubeconfig's current one, else the pod's service account. Talks to
/// nobody yet; what will be asked is counted by `requests`.
pub async fn connect(context: Option<&str>, requests: &Requests) -> Result<Cluster, ConnectError> {
    let mut config = config(context).await?;
    // Waiting and trying again is ours, where a log line or a condition says so.
    config.default_retry = false;
    // As kubectl does: what runs on this machine is not asked for through a proxy.
    if config.cluster_url.host().is_some_and(is_loopback) {
        config.proxy_url = None;
    }
    let (server, namespace) = (address(&config.cluster_url), config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|error| ConnectError::Credentials(of_client(&error)))?;
    Ok(Cluster {
        client: requests.count(client),
        server,
        namespace,
    })
}

async fn config(context: Option<&str>) -> Result<Config, ConnectError> {
    let kubeconfig = match Kubeconfig::read() {
        Ok(kubeconfig) => kubeconfig,
        Err(error) if context.is_none() && is_absent(&error) => {
            return Config::incluster().map_err(|_| ConnectError::Nowhere);
        }
        Err(error) => return Err(ConnectError::Kubeconfig(of_kubeconfig(&error))),
    };
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.map_err(|error| ConnectError::Kubeconfig(of_kubeconfig(&error)))
}

/// Nobody gave a kubeconfig, and none is where one would be.
fn is_absent(error: &KubeconfigError) -> bool {
    let named = std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty());
    let none_there = match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(io, _) => io.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    };
    none_there && !named
}

fn of_kubeconfig(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(_) => "it is no YAML of a kubeconfig".to_owned(),
        KubeconfigError::ReadConfig(io, path) => format!("cannot read {}: {io}", path.display()),
        KubeconfigError::FindPath => "there is none, and no home folder to look in".to_owned(),
        KubeconfigError::ParseCertificates(_) => "a certificate authority in it is no PEM".to_owned(),
        error => error.to_string(),
    }
}

fn of_client(error: &kube::Error) -> String {
    match error {
        kube::Error::Auth(_) => "they cannot be read".to_owned(),
        error => error.to_string(),
    }
}

/// Without a user's name and password, which a URL may hold.
fn address(url: &http::Uri) -> String {
    let (scheme, host) = (url.scheme_str().unwrap_or("https"), url.host().unwrap_or_default());
    match url.port() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
