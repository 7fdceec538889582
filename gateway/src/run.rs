//! The gateway as a process: it is built, its parts run, and it drains.
//!
//! The first part to end starts the drain, which follows an event's journey: the ingress refuses, deliveries in flight
//! finish, channels sync (CONTRACT OP-1, OP-3).

mod one_kind;
pub(crate) mod parts;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use channel_embedded::DataFolder;
use dataplane::{
    Plane, Settings, chain,
    server::{AdminAddress, Further, Listeners, Serving},
};
use prometheus_client::registry::Registry;
use spec::{Reload, Spec};
use tokio::{net::TcpListener, sync::watch, time::Instant};
use url::Url;

use self::parts::{Parts, Stop};
use crate::{
    Failure,
    admin::{
        self,
        access::{Access, Secret},
    },
    args,
    backends::{
        self, Address, Backends,
        cluster::{self, Controller, Membership},
        containers,
    },
    certificates::{Certificates, scheme},
    documents::Documents,
    file_limit::Files,
    signals::Signals,
    systemd::Systemd,
    telemetry,
};

/// The part of the grace period that is reserved for syncing and closing after the last delivery.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// How long to wait for the lock of a process that may be ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Sources of one kind, without channels: they send to a sink elsewhere.
pub(crate) struct Alone {
    pub(crate) kind: spec::Kind,
    pub(crate) sink: Url,
    /// The ConfigMap that keeps the state of the one source, and the uid of its object.
    pub(crate) state: Option<(spec::ObjectName, String)>,
}

/// Runs the gateway until a signal or a fault ends it.
pub(crate) async fn run(args: args::Run, alone: Option<Alone>, operate: Option<Secret>) -> Result<(), Failure> {
    let mut signals = Signals::catch()?;
    let systemd = Systemd::of_environment();
    let gateway = Gateway::open(args, alone, operate).await?;
    let (plane, listen, admin, grace) = (gateway.plane.clone(), gateway.listen, gateway.admin, gateway.args.grace);
    let console = format!("{}://{admin}/", scheme(&gateway.certificates.admin));
    let (stop, reload) = (Stop::default(), Arc::new(Reload::default()));
    let controller = gateway.documents.controller().cloned();
    let is_ready = || plane.is_started() && controller.as_ref().is_none_or(Controller::is_served);
    let hangup = || {
        // Objects of a cluster are watched: nothing is read again.
        if controller.is_none() {
            systemd.reloading();
            reload.ask();
        }
    };
    let mut parts = gateway.start(&stop, &reload);
    let until_end = async {
        let fault = tokio::select! {
            never = ready(is_ready, &plane, &systemd, [listen, admin], &console) => match never {},
            name = signals.end(hangup) => {
                tracing::info!(signal = name, grace_s = grace.as_secs(), "draining");
                None
            }
            fault = parts.first_end() => {
                tracing::error!(error = format!("{fault:#}"), "a part of the gateway ended, draining");
                Some(fault)
            }
        };
        systemd.stopping();
        drain(&plane, &stop, parts, grace, signals.end(|| ())).await;
        fault
    };
    let fault = tokio::select! {
        fault = until_end => fault,
        // Also during the drain: the watchdog watches until the process ends.
        never = systemd.report(&plane, &reload) => match never {},
    };
    fault.map_or(Ok(()), |fault| Err(Failure::Internal(fault)))?;
    tracing::info!("gateway has ended");
    Ok(())
}

/// Ends the gateway in the order of an event's journey. `again` is a second signal, which skips the waiting.
async fn drain(plane: &Plane, stop: &Stop, parts: Parts, grace: Duration, again: impl Future<Output = &'static str>) {
    let deadline = Instant::now() + grace.saturating_sub(CLOSING_TIME);
    plane.refuse();
    stop.ingress.cancel();
    let drained = async {
        plane.drain(deadline).await;
        stop.all.cancel();
        parts.all_end().await;
    };
    tokio::select! {
        () = drained => {}
        () = tokio::time::sleep_until(deadline + 2 * CLOSING_TIME) => tracing::warn!("grace period is over, ending without waiting for the rest"),
        name = again => tracing::warn!(signal = name, "asked again, ending without waiting for deliveries in flight"),
    }
}

/// A gateway whose addresses are bound and whose data folder is locked. None of its parts runs yet.
struct Gateway {
    args: args::Run,
    /// The one kind of source that it runs, for an adapter alone.
    only: Option<spec::Kind>,
    operate: Option<Secret>,
    documents: Documents,
    specs: watch::Receiver<Arc<Spec>>,
    files: Files,
    ingress_listener: TcpListener,
    admin_listener: TcpListener,
    listen: SocketAddr,
    admin: SocketAddr,
    certificates: Certificates,
    /// Listeners that container sources open later.
    further: Further,
    membership: Option<Membership>,
    plane: Plane,
    registry: Registry,
}

impl Gateway {
    async fn open(args: args::Run, alone: Option<Alone>, operate: Option<Secret>) -> Result<Self, Failure> {
        let (publish, specs) = watch::channel(Arc::new(Spec::default()));
        // A path that does not exist ends the start before anything else is touched.
        let requests = backends::Requests::default();
        args.egress.enforce(args.listen);
        let documents = Documents::open(&args, publish, &requests).await?;
        let mut registry = telemetry::registry();
        let certificates = Certificates::open(&args.tls, &mut registry)?;
        let files = Files::of_process();
        keep_files_private();
        let (folder, ingress_listener, admin_listener) = claim(&args).await?;
        let (listen, admin) = (ingress_listener.local_addr()?, admin_listener.local_addr()?);
        let url = public_url(&args, listen, scheme(&certificates.ingress));

        let (listeners, further) = Listeners::beside(listen, certificates.ingress.is_some());
        let containers = containers::sources(listeners, args.public_url.clone(), args.max_body_bytes, &mut registry);
        requests.register(&mut registry);
        let controller = documents.controller();
        let (membership, in_cluster) = controller
            .map(|controller| controller.join(&args, listen, scheme(&certificates.ingress)))
            .unzip();
        let identity = match alone.as_ref().and_then(|alone| alone.state.as_ref()) {
            Some((state, uid)) => {
                Some(cluster::identity_in_cluster(state, uid, args.kube_context.as_deref(), &requests).await?)
            }
            None => None,
        };
        let address = Address {
            url: url.clone(),
            is_public: args.public_url.is_some(),
        };
        let memory = channel_memory::Budget::new(args.memory_budget);
        let backends = Backends::new(folder, memory, address, containers, &mut registry)
            .of_cluster(args.kube_context.clone(), requests)
            .in_cluster(in_cluster)
            .alone(identity);
        let settings = Settings {
            max_body_bytes: args.max_body_bytes,
            max_hops: args.max_hops,
            ingress_url: url.clone(),
            state_dir: Some(args.data.clone()),
            is_exposed: !listen.ip().to_canonical().is_loopback(),
            remote: alone.as_ref().map(|alone| alone.sink.clone()),
        };
        let plane = Plane::new(settings, Arc::new(backends), &mut registry)
            .map_err(|error| Failure::Wrong(error.to_string()))?;
        tracing::info!(ingress = %listen, %admin, data = %args.data.display(), %url, version = env!("CARGO_PKG_VERSION"), "gateway is listening");
        Ok(Self {
            args,
            only: alone.map(|alone| alone.kind),
            operate,
            documents,
            specs,
            files,
            ingress_listener,
            admin_listener,
            listen,
            admin,
            certificates,
            further,
            membership,
            plane,
            registry,
        })
    }

    /// Starts every part.
    fn start(mut self, stop: &Stop, reload: &Arc<Reload>) -> Parts {
        let mut parts = Parts::default();
        let specs = self.start_specs(&mut parts, stop);
        let (plane, stopped) = (self.plane.clone(), stop.all.clone());
        parts.spawn("data plane", async move {
            plane.run(specs, stopped).await;
            Ok(())
        });
        let serving = Serving {
            connections_max: self.files.ingress,
            admin: AdminAddress {
                address: self.admin,
                has_tls: self.certificates.admin.is_some(),
            },
            tls: self.certificates.ingress.clone(),
            grace: self.args.grace,
        };
        let (listener, further, plane, stopped) = (
            self.ingress_listener,
            self.further,
            self.plane.clone(),
            stop.ingress.clone(),
        );
        parts.spawn("ingress", async move {
            let served = dataplane::server::serve(listener, further, plane, serving, stopped).await;
            served.context("ingress listener")
        });
        let access = Access::new(
            self.admin,
            self.operate,
            &self.args.access,
            self.args.cluster.service.as_deref(),
            &mut self.registry,
        );
        let tls = self.certificates.admin.clone();
        let (certificates, stopped) = (self.certificates.clone(), stop.all.clone());
        parts.spawn("certificates", async move {
            certificates.follow(stopped).await;
            Ok(())
        });
        let addresses = admin::Addresses {
            ingress: self.listen,
            admin: self.admin,
            certificates: self.certificates,
        };
        let state = admin::State::new(
            self.plane,
            self.registry,
            access,
            addresses,
            self.args.data,
            self.documents.controller().cloned(),
        );
        let (listener, connections_max, stopped) = (self.admin_listener, self.files.admin, stop.all.clone());
        parts.spawn("admin", async move {
            let served = admin::serve(listener, state, connections_max, tls, stopped).await;
            served.context("admin listener")
        });
        parts.spawn("documents", self.documents.run(reload.clone(), stop.all.clone()));
        parts
    }

    /// Starts the parts that specs pass on their way from the documents to the data plane: an adapter alone takes the sources
    /// of one kind, a replica takes its share.
    fn start_specs(&mut self, parts: &mut Parts, stop: &Stop) -> watch::Receiver<Arc<Spec>> {
        let mut specs = self.specs.clone();
        if let Some(kind) = self.only {
            let (publish, of_kind) = watch::channel(Arc::new(Spec::default()));
            let (all, stopped) = (std::mem::replace(&mut specs, of_kind), stop.all.clone());
            parts.spawn("documents of one kind", async move {
                one_kind::publish(kind, all, &publish, stopped).await;
                Ok(())
            });
        }
        match self.membership.take() {
            Some(membership) => membership.start(parts, stop, specs, &self.plane),
            None => specs,
        }
    }
}

/// Returns the URL under which senders reach the ingress, without a trailing slash.
fn public_url(args: &args::Run, listen: SocketAddr, scheme: &str) -> String {
    match (&args.public_url, &args.cluster.service) {
        (Some(url), _) => url.as_str().trim_end_matches('/').to_owned(),
        (None, Some(service)) => format!("{scheme}://{service}"),
        (None, None) => format!("{scheme}://{listen}"),
    }
}

/// Reports once that the gateway is ready, then waits for ever.
async fn ready(
    is_ready: impl Fn() -> bool,
    plane: &Plane,
    systemd: &Systemd,
    [listen, admin]: [SocketAddr; 2],
    console: &str,
) -> std::convert::Infallible {
    while !is_ready() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let spec = plane.spec();
    tracing::info!(
        ingress = %listen, %admin, channels = spec.channels.len(), subscriptions = spec.subscriptions.len(),
        sources = spec.sources.len(), %console, "gateway is ready"
    );
    systemd.ready();
    std::future::pending().await
}

/// Locks the data folder and binds both addresses.
///
/// An existing folder is locked first: that another gateway uses it is the better message. A new one is made after the
/// addresses are bound: a taken port leaves no folder behind.
async fn claim(args: &args::Run) -> Result<(DataFolder, TcpListener, TcpListener), Failure> {
    let existing = if args.data.exists() {
        Some(open_folder(&args.data).await?)
    } else {
        None
    };
    let ingress = bind(args.listen, "--listen").await?;
    let admin = bind(args.admin, "--admin").await?;
    let folder = match existing {
        Some(folder) => folder,
        None => open_folder(&args.data).await?,
    };
    Ok((folder, ingress, admin))
}

/// Opens the data folder. A process that was just killed holds its lock until the kernel has cleaned up.
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

async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| {
        Failure::Wrong(format!(
            "cannot listen on {address}: {error}; choose another address with {flag}"
        ))
    })
}

/// Events, switches and checkpoints are the gateway's alone: no other user can read the files of this process, whatever
/// the umask was.
fn keep_files_private() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}
