//! A client made from what the kubeconfig, or the pod's account, says now.

use std::path::Path;

use kube::{
    Client, Config,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use crate::{
    config::Identity,
    failure::{self, Failure},
};

/// A client and the address it talks to.
pub(crate) struct Access {
    pub(crate) client: Client,
    pub(crate) server: String,
}

/// Reads the credentials again (CONTRACT SR-6). Reads files and runs a credential command on the blocking pool.
pub(crate) async fn access(identity: &Identity) -> Result<Access, Failure> {
    let identity = identity.clone();
    let made = tokio::task::spawn_blocking(move || {
        let mut config = config(&identity)?;
        // Waiting and trying again is ours, where a condition says so.
        config.default_retry = false;
        // As kubectl does: what runs on this machine is not asked for through a proxy.
        if config.cluster_url.host().is_some_and(connect::is_this_machine) {
            config.proxy_url = None;
        }
        let server = connect::without_user(&config.cluster_url);
        let client = identity.observer.around(Client::try_from(config)?);
        Ok(Access { client, server })
    });
    made.await
        .map_err(|_| Failure::Identity("reading the credentials of the cluster failed".to_owned()))?
}

fn config(identity: &Identity) -> Result<Config, Failure> {
    let read = match &identity.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        Err(error) if is_absent(&error, identity) => {
            return Config::incluster().map_err(|error: InClusterError| failure::nowhere(&error));
        }
        Err(error) => return Err(error.into()),
    };
    let options = KubeConfigOptions {
        context: identity.context.clone(),
        ..KubeConfigOptions::default()
    };
    // It reads files and nothing else: there is no waiting in it.
    let config = tokio::runtime::Handle::current().block_on(Config::from_custom_kubeconfig(kubeconfig, &options));
    Ok(config?)
}

/// Whether no kubeconfig is configured: neither here nor by `KUBECONFIG`, nor a context of one.
fn is_absent(error: &KubeconfigError, identity: &Identity) -> bool {
    let given = identity.kubeconfig.is_some() || identity.context.is_some();
    let none_there = match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(io, path) => {
            io.kind() == std::io::ErrorKind::NotFound && path.ends_with(Path::new(".kube/config"))
        }
        _ => false,
    };
    let named = std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty());
    none_there && !given && !named
}
