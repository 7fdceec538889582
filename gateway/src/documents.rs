//! Where documents come from: files and folders, or the API server of a cluster.

use std::sync::Arc;

use anyhow::Context;
use dataplane::chain;
use spec::{Reload, Spec};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Failure, args,
    backends::{Requests, cluster::Controller},
    features,
};

pub(crate) enum Documents {
    Files(Box<spec::Files>),
    Cluster(Controller, watch::Sender<Arc<Spec>>),
}

impl Documents {
    /// Opens the documents. A path that does not exist is reported before anything else is touched. Files are read at once.
    pub(crate) async fn open(
        args: &args::Run,
        publish: watch::Sender<Arc<Spec>>,
        requests: &Requests,
    ) -> Result<Self, Failure> {
        if !args.cluster.kubernetes {
            let mut settings = spec::FilesSettings::new(args.paths.clone(), args.secrets.clone());
            settings.default_provisioner = args.default_provisioner.clone();
            settings.unsupported = features::unsupported();
            let files = spec::Files::open(settings, publish).map_err(|error| Failure::Wrong(chain(&error)))?;
            return Ok(Self::Files(Box::new(files)));
        }
        Ok(Self::Cluster(Controller::open(args, requests).await?, publish))
    }

    pub(crate) fn controller(&self) -> Option<&Controller> {
        match self {
            Self::Files(_) => None,
            Self::Cluster(controller, _) => Some(controller),
        }
    }

    /// Publishes each change until `stop`. Files are read again when `reload` is asked for; objects of a cluster are watched.
    pub(crate) async fn run(self, reload: Arc<Reload>, stop: CancellationToken) -> anyhow::Result<()> {
        match self {
            Self::Files(files) => files.run_asked(reload, stop).await.context("watching documents"),
            Self::Cluster(controller, publish) => {
                controller.watch(publish, stop).await;
                Ok(())
            }
        }
    }
}
