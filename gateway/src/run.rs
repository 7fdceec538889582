//! The gateway as a process: composition, supervision, drain.
//!
//! Each part is started into one set under a name. The first to end starts the drain, which goes in the order of an event's
//! journey: the ingress refuses, deliveries in flight finish, channels sync (CONTRACT OP-1, OP-3).

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use channel_embedded::DataFolder;
use dataplane::{Plane, Settings, chain};
use spec::Spec;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    Failure, admin, args,
    backends::{self, Address, Backends, Containers},
    documents::Documents,
    replicas::{self, Replicas, Turns},
    telemetry,
};

/// Of the grace period this much is kept for syncing and closing after the last delivery.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// How long to wait for the lock of a process that may be ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Why a part ended: its name, and what was wrong if it should not have.
type Ended = (&'static str, anyhow::Result<()>);

/// Sources of one kind, without channels: they send to a sink that is elsewhere.
pub(crate) struct Alone {
    pub(crate) kind: spec::Kind,
    pub(crate) sink: Url,
    /// The ConfigMap that keeps the state of the one source, and the uid of its object.
    pub(crate) state: Option<(spec::ObjectName, String)>,
}

pub(crate) async fn run(args: args::Run, alone: Option<Alone>, admin_token: Option<String>) -> Result<(), Failure> {
    let (publish, specs) = watch::channel(Arc::new(Spec::default()));
    // A path that is not there ends this before anything else is touched.
    let requests = kubernetes::Requests::default();
    let documents = Documents::open(&args, publish, &requests).await?;
    let cluster = documents.cluster();
    raise_file_limit();
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let folder = open_folder(&args.data).await?;
    let (ingress, admin_listener) = (bind(args.listen, "--listen").await?, bind(args.admin, "--admin").await?);
    let (listen, admin_address) = (ingress.local_addr()?, admin_listener.local_addr()?);
    let url = match (&args.public_url, &args.cluster.service) {
        (Some(url), _) => url.as_str().trim_end_matches('/').to_owned(),
        (None, Some(service)) => format!("http://{service}"),
        (None, None) => format!("http://{listen}"),
    };

    let mut registry = telemetry::registry();
    let settings = Settings {
        max_body_bytes: args.max_body_bytes,
        max_hops: args.max_hops,
        ingress_url: url.clone(),
        state_dir: Some(args.data.clone()),
        remote: alone.as_ref().map(|alone| alone.sink.clone()),
    };
    let address = Address {
        url: url.clone(),
        is_public: args.public_url.is_some(),
    };
    let (listeners, further) = dataplane::server::Listeners::beside(listen);
    let containers = Containers::new(listeners, args.public_url.clone(), args.max_body_bytes, &mut registry);
    requests.register(&mut registry);
    let (replicas, in_cluster) = cluster
        .as_ref()
        .map(|cluster| replicas::join(cluster, &args, listen))
        .unzip();
    let (turns, workloads) = (
        replicas.as_ref().map(Replicas::turns),
        in_cluster.as_ref().map(|in_cluster| in_cluster.workloads.clone()),
    );
    let kept = match alone.as_ref().and_then(|alone| alone.state.as_ref()) {
        Some((state, uid)) => Some(backends::kept_in(state, uid, args.kube_context.as_deref(), &requests).await?),
        None => None,
    };
    let backends = Backends::new(folder, address, containers, &mut registry)
        .of_cluster(args.kube_context.clone(), requests)
        .in_cluster(in_cluster)
        .alone(kept);
    let backends = Arc::new(backends);
    let plane = Plane::new(settings, backends, &mut registry).map_err(|error| Failure::Wrong(error.to_string()))?;

    let (stop, stop_ingress) = (CancellationToken::new(), CancellationToken::new());
    let mut parts: JoinSet<Ended> = JoinSet::new();
    let (running, stopped) = (plane.clone(), stop.clone());
    let specs = match alone {
        Some(alone) => {
            let (publish, of_kind) = watch::channel(Arc::new(Spec::default()));
            let stopped = stop.clone();
            parts.spawn(async move {
                (
                    "documents of one kind",
                    only(alone.kind, specs, &publish, stopped).await,
                )
            });
            of_kind
        }
        None => specs,
    };
    let specs = match replicas {
        Some(replicas) => {
            let (publish, mine) = watch::channel(Arc::new(Spec::default()));
            let (sharing, stopped) = (plane.clone(), stop.clone());
            parts.spawn(async move {
                replicas.run(specs, publish, sharing, stopped).await;
                ("replicas", Ok(()))
            });
            mine
        }
        None => specs,
    };
    if let Some(workloads) = workloads {
        let stopped = stop.clone();
        parts.spawn(async move {
            workloads.run(stopped).await;
            ("workloads", Ok(()))
        });
    }
    parts.spawn(async move {
        running.run(specs, stopped).await;
        ("data plane", Ok(()))
    });
    let (serving, stopped, grace) = (plane.clone(), stop_ingress.clone(), args.grace);
    parts.spawn(async move {
        (
            "ingress",
            dataplane::server::serve(ingress, further, serving, stopped, grace)
                .await
                .context("ingress listener"),
        )
    });
    let state = admin::State::new(
        plane.clone(),
        registry,
        admin_token,
        listen,
        admin_address,
        args.data.clone(),
        cluster.clone(),
    );
    if let Some(cluster) = cluster {
        // A gateway that drains has nothing to report: the next one does.
        let observing = Observing {
            plane: plane.clone(),
            turns,
        };
        let stopped = stop_ingress.clone();
        parts.spawn(async move {
            cluster.report(observing, stopped).await;
            ("status", Ok(()))
        });
    }
    let stopped = stop.clone();
    parts.spawn(async move {
        (
            "admin",
            admin::serve(admin_listener, state, stopped)
                .await
                .context("admin listener"),
        )
    });
    let stopped = stop.clone();
    parts.spawn(async move { ("documents", documents.run(stopped).await) });

    tracing::info!(ingress = %listen, admin = %admin_address, data = %args.data.display(), %url, version = env!("CARGO_PKG_VERSION"), "gateway is listening");
    let mut signals = {
        let [term, int] = signals;
        [term?, int?]
    };
    let ready = ready(&plane, listen, admin_address);
    let first = tokio::select! {
        never = ready => match never {},
        name = caught(&mut signals) => {
            tracing::info!(signal = name, grace_s = args.grace.as_secs(), "draining");
            None
        }
        Some(ended) = parts.join_next() => Some(ended),
    };
    let unexpected = first.map(|ended| match ended {
        Ok((part, Ok(()))) => anyhow::anyhow!("{part} ended unexpectedly"),
        Ok((part, Err(error))) => error.context(part),
        Err(panic) => anyhow::anyhow!(panic).context("a part of the gateway panicked"),
    });
    if let Some(error) = &unexpected {
        tracing::error!(error = format!("{error:#}"), "a part of the gateway ended, draining");
    }

    let deadline = Instant::now() + args.grace.saturating_sub(CLOSING_TIME);
    plane.refuse();
    stop_ingress.cancel();
    let drain = async {
        plane.drain(deadline).await;
        stop.cancel();
        while parts.join_next().await.is_some() {}
    };
    tokio::select! {
        () = drain => {}
        () = tokio::time::sleep_until(deadline + 2 * CLOSING_TIME) => tracing::warn!("grace period is over, ending without waiting for the rest"),
        name = caught(&mut signals) => tracing::warn!(signal = name, "asked again, ending without waiting for deliveries in flight"),
    }
    match unexpected {
        None => {
            tracing::info!("gateway has ended");
            Ok(())
        }
        Some(error) => Err(Failure::Internal(error)),
    }
}

/// What a cluster is told of the data plane: of what this replica writes the status of.
struct Observing {
    plane: Plane,
    turns: Option<Turns>,
}

impl Observing {
    /// Without the channels whose Services are another replica's to make.
    fn ours(&self, spec: Arc<Spec>) -> Arc<Spec> {
        let is_ours = |name: &spec::ObjectName| self.is_ours(&spec::ObjectKey::new(spec::Kind::Channel, name.clone()));
        if spec.channels.keys().all(is_ours) {
            return spec;
        }
        let mut ours = Spec::clone(&spec);
        ours.channels.retain(|name, _| is_ours(name));
        Arc::new(ours)
    }

    fn is_ours(&self, key: &spec::ObjectKey) -> bool {
        self.turns.as_ref().is_none_or(|turns| turns.writes_status(key))
    }
}

impl kubernetes::Observe for Observing {
    fn applied(&self) -> u64 {
        self.plane.applied()
    }

    fn observe(&self) -> (Arc<Spec>, spec::Observed) {
        loop {
            let (spec, mut observed) = (self.plane.spec(), self.plane.observe());
            // Between the two, another spec may have come.
            if Arc::ptr_eq(&spec, &self.plane.spec()) {
                observed.objects.retain(|key, _| self.is_ours(key));
                return (self.ours(spec), observed);
            }
        }
    }

    fn has(&self, source: &spec::ObjectKey) -> bool {
        // Of a source that is another replica's, that one says when it may go.
        !self.is_ours(source) || self.plane.has(source)
    }

    fn may_write(&self, key: &spec::ObjectKey) -> bool {
        self.is_ours(key)
    }
}

/// Publishes of each spec the sources of one kind, until `stop`.
async fn only(
    kind: spec::Kind,
    mut specs: watch::Receiver<Arc<Spec>>,
    publish: &watch::Sender<Arc<Spec>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let mut spec = Spec::clone(&specs.borrow_and_update());
        spec.channels.clear();
        spec.subscriptions.clear();
        spec.provisioners.clear();
        spec.sources.retain(|key, _| key.kind == kind);
        spec.objects.retain(|key, _| key.kind == kind);
        if spec.generation > 0 && spec.objects.is_empty() {
            tracing::warn!(kind = kind.as_str(), "the documents have no source of this kind");
        }
        publish.send_replace(Arc::new(spec));
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = specs.changed() => if changed.is_err() {
                stop.cancelled().await;
                return Ok(());
            },
        }
    }
}

/// Says once that the gateway is ready, then waits for ever.
async fn ready(plane: &Plane, listen: std::net::SocketAddr, admin: std::net::SocketAddr) -> std::convert::Infallible {
    while !plane.readiness().ready {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let spec = plane.spec();
    tracing::info!(
        ingress = %listen, %admin, channels = spec.channels.len(), subscriptions = spec.subscriptions.len(),
        sources = spec.sources.len(), "gateway is ready"
    );
    std::future::pending().await
}

async fn caught(signals: &mut [Signal; 2]) -> &'static str {
    let [term, int] = signals;
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

/// A process that was just killed holds its lock until the kernel has taken it apart.
async fn open_folder(path: &std::path::Path) -> Result<DataFolder, Failure> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match DataFolder::open(path) {
            Ok(folder) => return Ok(folder),
            Err(channel_embedded::OpenError::Locked { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(Failure::Wrong(chain(&error))),
        }
    }
}

async fn bind(address: std::net::SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| {
        Failure::Wrong(format!(
            "cannot listen on {address}: {error}; choose another address with {flag}"
        ))
    })
}

/// Connections and segments are files: the soft limit of many systems (1024) is below what we bound ourselves by.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if setrlimit(Resource::Nofile, raised).is_err() {
        tracing::debug!("the limit of open files stays as it is");
    }
}
