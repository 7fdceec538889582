//! The one way in: what is refused and how, and 202 only after `append` returned.
//!
//! HTTP requests and in-process adapters pass the same [`ChannelEndpoint`]. The endpoint of a channel is published only once the
//! channel's subscriptions have their cursors, so that every event it accepts reaches all of them (CONTRACT CH-1). Nothing is
//! buffered here: a caller waits for its own append, and a refusal says when to retry (IN-3).

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use adapter::{Accept, Accepted, Hook, Refused};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use channel::{AppendError, Channel};
use event::Event;
use http::{HeaderMap, header::AUTHORIZATION};
use spec::ObjectName;

use crate::{
    RouteKind,
    journey::lineage,
    metrics::{EndpointMetrics, Metrics},
    publishers::{Issuers, Publishers},
    server::{CONNECTIONS_MAX, Forwarder, bounds::Bounds},
};

/// How long a client waits that is refused because the gateway drains or is overloaded: another replica, or this one restarted,
/// is ready by then.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// Accepts events for one channel.
pub(crate) struct ChannelEndpoint {
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) max_event_bytes: usize,
    pub(crate) metrics: EndpointMetrics,
    /// Changed while the channel stays open: a new token is good without reopening anything.
    publishers: ArcSwap<Publishers>,
    draining: Arc<AtomicBool>,
}

impl ChannelEndpoint {
    /// Stores events, all or none.
    pub(crate) async fn store(&self, mut events: Vec<Event>, origin: &Origin) -> Result<Accepted, Refused> {
        for event in events.iter_mut().filter(|_| *origin != Origin::Replica) {
            *event = origin.received(event.clone());
        }
        self.append(&events).await
    }

    /// Stores one event, without allocating a list for it.
    pub(crate) async fn store_one(&self, event: Event, origin: &Origin) -> Result<Accepted, Refused> {
        let event = origin.received(event);
        self.append(std::slice::from_ref(&event)).await
    }

    pub(crate) fn publishers(&self) -> Arc<Publishers> {
        self.publishers.load_full()
    }

    pub(crate) fn set_publishers(&self, publishers: Publishers) {
        self.publishers.store(Arc::new(publishers));
    }

    async fn append(&self, events: &[Event]) -> Result<Accepted, Refused> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(self.refused(Refused::Draining { retry_after: SOON }));
        }
        match self.channel.append(events).await {
            Ok(stored) => {
                self.metrics.accepted.inc_by(events.len() as u64);
                self.metrics
                    .accepted_bytes
                    .inc_by(events.iter().map(Event::size).sum::<usize>() as u64);
                Ok(Accepted::stored(stored))
            }
            Err(error) => Err(self.refused(refusal(error))),
        }
    }

    fn refused(&self, refused: Refused) -> Refused {
        self.metrics.refused(refused.reason());
        refused
    }
}

fn refusal(error: AppendError) -> Refused {
    match error {
        AppendError::Full { retry_after } => Refused::Full { retry_after },
        AppendError::DiskFull { retry_after } => Refused::DiskFull { retry_after },
        AppendError::TooLarge { bytes, limit } => Refused::TooLarge { bytes, limit },
        AppendError::Unavailable { retry_after, source } => Refused::Unavailable {
            reason: source.to_string(),
            retry_after,
        },
        AppendError::Closed => Refused::Unavailable {
            reason: "it is being closed".to_owned(),
            retry_after: SOON,
        },
    }
}

/// A source that is called by HTTP.
pub(crate) struct SourceEndpoint {
    pub(crate) hook: Arc<dyn Hook>,
    /// False while the source's secret is not there: no adapter counts its deliveries.
    pub(crate) is_ready: bool,
}

impl SourceEndpoint {
    pub(crate) fn new(hook: Arc<dyn Hook>) -> Self {
        Self { hook, is_ready: true }
    }

    /// The endpoint of a source that exists and cannot take deliveries yet.
    pub(crate) fn unready() -> Self {
        Self {
            is_ready: false,
            ..Self::new(Arc::new(adapter::Unready))
        }
    }
}

/// The endpoints by their paths.
#[derive(Default)]
pub(crate) struct Endpoints {
    /// By `NAMESPACE/NAME`.
    pub(crate) channels: HashMap<String, Arc<ChannelEndpoint>, foldhash::fast::RandomState>,
    /// Sources whose deliveries have a format of their own, by `NAMESPACE/NAME`.
    pub(crate) hooks: HashMap<String, Arc<SourceEndpoint>, foldhash::fast::RandomState>,
    /// Sources that are posted CloudEvents, by `NAMESPACE/NAME`.
    pub(crate) sources: HashMap<String, Arc<SourceEndpoint>, foldhash::fast::RandomState>,
    /// Channels without an address: outboxes of sources with a direct sink.
    pub(crate) implicit: HashMap<String, Arc<ChannelEndpoint>, foldhash::fast::RandomState>,
    /// Channels that documents name and that accept no event yet.
    pub(crate) pending: HashMap<String, Pending, foldhash::fast::RandomState>,
}

/// A channel that is not open.
pub(crate) struct Pending {
    /// Tells a sender whether the channel is being opened or cannot be opened.
    pub(crate) message: String,
    /// False for the outbox of a source.
    pub(crate) has_path: bool,
}

impl Endpoints {
    pub(crate) fn of_sources(
        &mut self,
        route_kind: RouteKind,
    ) -> &mut HashMap<String, Arc<SourceEndpoint>, foldhash::fast::RandomState> {
        match route_kind {
            RouteKind::Sources => &mut self.sources,
            RouteKind::Hooks => &mut self.hooks,
        }
    }

    /// The refusal for a channel that is not open.
    pub(crate) fn refusal(&self, channel: &str) -> Refused {
        match self.pending.get(channel) {
            Some(pending) => Refused::Unavailable {
                reason: pending.message.clone(),
                retry_after: SOON,
            },
            None => Refused::NoChannel,
        }
    }
}

/// The paths that other processes serve.
#[derive(Default)]
pub(crate) struct Others {
    /// By path, the base URL of the process that serves it; `None` while no process does.
    pub(crate) elsewhere: HashMap<String, Option<Arc<str>>>,
    /// The base URLs of processes that may serve a path unknown to this one; `None` for a process that is down.
    pub(crate) asked: Vec<Option<Arc<str>>>,
}

/// Shared by the server, the adapters and the plane.
pub(crate) struct Ingress {
    endpoints: ArcSwap<Endpoints>,
    /// False before the first endpoints are published: until then every path is unknown.
    is_open: AtomicBool,
    others: ArcSwap<Others>,
    pub(crate) forwarder: Forwarder,
    draining: Arc<AtomicBool>,
    pub(crate) metrics: Metrics,
    pub(crate) max_body_bytes: usize,
    pub(crate) bounds: Arc<Bounds>,
    /// The identity providers that publishers of channels have their tokens from.
    pub(crate) issuers: Issuers,
    /// The `Authorization` header of another replica's requests; empty where there are no other replicas.
    replica: OnceLock<Vec<u8>>,
}

/// The sender of events, which decides whether attributes in the gateway's name are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Outside,
    /// A publisher that the channel names.
    Publisher(Arc<str>),
    /// Another replica of this gateway, which counted the hop.
    Replica,
}

impl Origin {
    /// The event as it enters the channel.
    fn received(&self, event: Event) -> Event {
        match self {
            Self::Outside => lineage::from_outside(event),
            Self::Publisher(name) => lineage::published(event, name),
            Self::Replica => event,
        }
    }
}

impl Ingress {
    pub(crate) fn new(metrics: Metrics, max_body_bytes: usize) -> Self {
        Self {
            endpoints: ArcSwap::default(),
            is_open: AtomicBool::new(false),
            others: ArcSwap::default(),
            forwarder: Forwarder::default(),
            draining: Arc::default(),
            metrics,
            max_body_bytes,
            bounds: Arc::new(Bounds::new(CONNECTIONS_MAX, max_body_bytes)),
            issuers: Issuers::default(),
            replica: OnceLock::new(),
        }
    }

    pub(crate) fn trust_replicas(&self, user: &str, key: &str) {
        let credentials = BASE64_STANDARD.encode(format!("{user}:{key}"));
        self.replica.get_or_init(|| format!("Basic {credentials}").into_bytes());
    }

    /// Returns who sent a request. Compares credentials in constant time.
    pub(crate) fn origin(&self, headers: &HeaderMap) -> Origin {
        let (Some(known), Some(given)) = (self.replica.get(), headers.get(AUTHORIZATION)) else {
            return Origin::Outside;
        };
        let given = given.as_bytes();
        let differs = known.iter().zip(given).fold(0, |differs, (a, b)| differs | (a ^ b));
        if differs == 0 && known.len() == given.len() {
            Origin::Replica
        } else {
            Origin::Outside
        }
    }

    pub(crate) fn endpoint(
        &self,
        name: &ObjectName,
        channel: Arc<dyn Channel>,
        publishers: Publishers,
    ) -> Arc<ChannelEndpoint> {
        let (metrics, draining) = (self.metrics.endpoint(name), self.draining.clone());
        let max_event_bytes = channel.promises().max_event_bytes;
        Arc::new(ChannelEndpoint {
            channel,
            max_event_bytes,
            metrics,
            publishers: ArcSwap::from_pointee(publishers),
            draining,
        })
    }

    pub(crate) fn publish(&self, endpoints: Endpoints) {
        self.endpoints.store(Arc::new(endpoints));
        self.is_open.store(true, Ordering::Release);
    }

    /// Whether the documents were read: an unknown path is then one that no document names.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    pub(crate) fn endpoints(&self) -> arc_swap::Guard<Arc<Endpoints>> {
        self.endpoints.load()
    }

    pub(crate) fn publish_others(&self, others: Others) {
        self.others.store(Arc::new(others));
    }

    pub(crate) fn others(&self) -> Arc<Others> {
        self.others.load_full()
    }

    /// Returns the process that serves this path: `None` if it is not served elsewhere, `Some(None)` if its process is down.
    pub(crate) fn elsewhere(&self, path: &str) -> Option<Option<Arc<str>>> {
        self.others.load().elsewhere.get(path).cloned()
    }

    /// Refuses everything with 503 from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// The outlet of a source: the endpoint of its sink, looked up for each call, because a channel may be reopened.
pub(crate) struct SourceOutlet {
    pub(crate) ingress: Arc<Ingress>,
    /// `NAMESPACE/NAME` of the channel; `None` while the sink is not there.
    pub(crate) channel: Option<String>,
}

#[async_trait]
impl Accept for SourceOutlet {
    async fn accept(&self, events: Vec<Event>) -> Result<Accepted, Refused> {
        let Some(channel) = &self.channel else {
            return Err(Refused::NoChannel);
        };
        let endpoint = {
            let endpoints = self.ingress.endpoints();
            let endpoint = endpoints
                .channels
                .get(channel)
                .or_else(|| endpoints.implicit.get(channel));
            endpoint.cloned().ok_or_else(|| endpoints.refusal(channel))?
        };
        endpoint.store(events, &Origin::Outside).await
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use prometheus_client::registry::Registry;

    use super::*;

    /// Proves: IN-8, LP
    #[test]
    fn another_replica_is_known_by_its_credentials_and_nobody_else_is() {
        let ingress = Ingress::new(Metrics::new(&mut Registry::default()), 1024);
        let with = |authorization: &str| {
            let value = HeaderValue::from_str(authorization).expect("a header");
            ingress.origin(&HeaderMap::from_iter([(AUTHORIZATION, value)]))
        };
        assert_eq!(with("Basic Og=="), Origin::Outside, "there are no others");
        ingress.trust_replicas("replica", "key");
        assert_eq!(with("Basic cmVwbGljYTprZXk="), Origin::Replica);
        for other in [
            "",
            "Basic ",
            "Basic cmVwbGljYTprZXkX",
            "Basic cmVwbGljYTprZXk",
            "Basic dmVwbGljYTprZXk=",
        ] {
            assert_eq!(with(other), Origin::Outside, "{other}");
        }
        assert_eq!(ingress.origin(&HeaderMap::new()), Origin::Outside);
    }
}
