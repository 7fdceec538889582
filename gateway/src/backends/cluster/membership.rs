//! This replica's membership in the cluster: it takes its share of the documents, runs pods for sources, and reports
//! status.

use std::{net::SocketAddr, sync::Arc};

use dataplane::Plane;
use kubernetes::{Kubernetes, workloads::Workloads};
use spec::Spec;
use tokio::sync::watch;

use super::{
    InCluster,
    replicas::{Pod, Replicas},
    report::Observing,
};
use crate::{
    args,
    run::parts::{Parts, Stop},
};

/// A replica that has joined. Nothing of it runs before [`Membership::start`].
pub(crate) struct Membership {
    kubernetes: Arc<Kubernetes>,
    replicas: Replicas,
    workloads: Workloads,
}

pub(super) fn join(
    kubernetes: &Arc<Kubernetes>,
    args: &args::Run,
    listen: SocketAddr,
    scheme: &str,
) -> (Membership, InCluster) {
    let cluster = kubernetes.access();
    let mut pod = Pod::from_environment();
    // Good for others where it listens at one address of the machine.
    let own = || (!listen.ip().is_unspecified()).then(|| format!("{scheme}://{listen}"));
    pod.url = pod.url.or_else(own);
    let replicas = Replicas::new(kubernetes, &pod);
    let workloads = Workloads::new(
        cluster.client.clone(),
        &cluster.server,
        args.cluster.namespace.as_deref(),
    );
    let trimmed = |url: &url::Url| url.as_str().trim_end_matches('/').to_owned();
    let in_cluster = InCluster {
        cluster: cluster.clone(),
        workloads: workloads.clone(),
        turns: replicas.turns(),
        finalizer_gate: kubernetes.finalizer_gate(),
        image: pod.image,
        url: match &args.cluster.service {
            Some(service) => format!("{scheme}://{service}"),
            None => format!("{scheme}://{listen}"),
        },
        public_url: args.public_url.as_ref().map(trimmed),
        max_body_bytes: args.max_body_bytes,
    };
    let membership = Membership {
        kubernetes: kubernetes.clone(),
        replicas,
        workloads,
    };
    (membership, in_cluster)
}

impl Membership {
    /// Starts the parts of this replica that use the API server. Returns its share of each spec in `specs`.
    pub(crate) fn start(
        self,
        parts: &mut Parts,
        stop: &Stop,
        specs: watch::Receiver<Arc<Spec>>,
        plane: &Plane,
    ) -> watch::Receiver<Arc<Spec>> {
        let Self {
            kubernetes,
            replicas,
            workloads,
        } = self;
        let turns = replicas.turns();
        let (publish, share) = watch::channel(Arc::new(Spec::default()));
        let (served, stopped) = (plane.clone(), stop.all.clone());
        parts.spawn("replicas", async move {
            replicas.run(specs, publish, served, stopped).await;
            Ok(())
        });
        let stopped = stop.all.clone();
        parts.spawn("workloads", async move {
            workloads.run(stopped).await;
            Ok(())
        });
        // A gateway that drains reports nothing: its successor does.
        let (plane, stopped) = (plane.clone(), stop.ingress.clone());
        parts.spawn("status", async move {
            kubernetes.report(Observing { plane, turns }, stopped).await;
            Ok(())
        });
        share
    }
}
