//! Connects to the API server: by a kubeconfig, or by the service account of the pod.

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use kubernetes_requests::Requests;

/// A connection to the API server. Cheap to clone. The client reloads credentials that rotate (a pod's token, a
/// credential command).
#[derive(Clone)]
pub struct Cluster {
    /// Counts its requests.
    pub client: Client,
    /// The API server's URL, without credentials.
    pub server: String,
    /// The default namespace: the pod's, or the one of the kubeconfig's context.
    pub namespace: String,
}

/// Why no client could be built.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(
        "there is no kubeconfig (KUBECONFIG, ~/.kube/config), and this is no pod with a service account: give one of them"
    )]
    Nowhere,
    /// The parser's own message is left out: it may quote a credential.
    #[error("cannot use the kubeconfig: {0}; check KUBECONFIG or ~/.kube/config, and --kube-context")]
    Kubeconfig(String),
    #[error("cannot use the credentials of the cluster: {0}")]
    Credentials(String),
}

/// Builds a client for `context` of the kubeconfig. `None` takes the kubeconfig's current context, or the pod's service
/// account if there is no kubeconfig. It sends no request; `requests` counts the later ones.
///
/// # Errors
///
/// There is no kubeconfig and no service account, or one of them is invalid.
pub async fn connect(context: Option<&str>, requests: &Requests) -> Result<Cluster, ConnectError> {
    let mut config = config(context).await?;
    // Callers retry themselves, and report each error in a log line or a condition.
    config.default_retry = false;
    // As kubectl does: a proxy cannot reach an API server on this machine.
    if config.cluster_url.host().is_some_and(connect::is_this_machine) {
        config.proxy_url = None;
    }
    let (server, namespace) = (
        connect::without_user(&config.cluster_url),
        config.default_namespace.clone(),
    );
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

/// Returns whether KUBECONFIG is unset and no kubeconfig is in the default folder.
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
        KubeconfigError::FindPath => "there is none, and no home folder to search".to_owned(),
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
