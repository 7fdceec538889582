//! Where documents come from: files and folders, or the API server of a cluster.

use std::sync::Arc;

use anyhow::Context;
use dataplane::chain;
use kubernetes::{Kubernetes, Requests};
use spec::Spec;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Failure, args, replicas};

pub(crate) enum Documents {
    Files(Box<spec::Files>),
    Cluster(Arc<Kubernetes>, watch::Sender<Arc<Spec>>),
}

impl Documents {
    /// What is named and is not there is told before anything else is touched. Files are read at once.
    pub(crate) async fn open(
        args: &args::Run,
        publish: watch::Sender<Arc<Spec>>,
        requests: &Requests,
    ) -> Result<Self, Failure> {
        let default_provisioner = args.default_provisioner.clone();
        if !args.cluster.kubernetes {
            let mut settings = spec::FilesSettings::new(args.paths.clone(), args.secrets.clone());
            settings.default_provisioner = default_provisioner;
            let files = spec::Files::open(settings, publish).map_err(|error| Failure::Wrong(chain(&error)))?;
            return Ok(Self::Files(Box::new(files)));
        }
        let cluster = kubernetes::connect(args.kube_context.as_deref(), requests).await;
        let cluster = cluster.map_err(|error| Failure::Wrong(error.to_string()))?;
        tracing::info!(
            server = cluster.server,
            namespace = args.cluster.namespace,
            "documents come from the API server"
        );
        let settings = kubernetes::Settings {
            namespace: args.cluster.namespace.clone(),
            cluster_domain: args.cluster.cluster_domain.clone(),
            service: args.cluster.service.clone(),
            default_provisioner,
            home: replicas::home(&cluster, args.cluster.namespace.as_deref()),
        };
        Ok(Self::Cluster(Arc::new(Kubernetes::new(cluster, settings)), publish))
    }

    pub(crate) fn cluster(&self) -> Option<Arc<Kubernetes>> {
        match self {
            Self::Files(_) => None,
            Self::Cluster(cluster, _) => Some(cluster.clone()),
        }
    }

    /// Publishes each change until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        match self {
            Self::Files(files) => files.run(stop).await.context("watching documents"),
            Self::Cluster(cluster, publish) => {
                cluster.watch(publish, stop).await;
                Ok(())
            }
        }
    }
}
