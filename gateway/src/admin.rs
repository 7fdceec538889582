//! The admin listener: health, readiness, metrics, and the JSON that the commands use (docs/reference/admin-api.md).
//!
//! Apart from the ingress, on loopback by default. `access` says who may; what changes state never comes from a browser's page,
//! either, for it must be JSON. Each change is one line of the log. Health and metrics are open to everyone.

pub(crate) mod access;
pub(crate) mod dead_letters;
mod events;
pub(crate) mod explain;
pub(crate) mod guard;
pub(crate) mod objects;
mod refusal;
mod replay;
pub(crate) mod trial;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use access::Access;
pub(crate) use refusal::Refusal;

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{self, DefaultBodyLimit, Path},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use dataplane::{
    Plane, Readiness, SwitchError,
    server::{Client, Connections, Service, Tls, WhenFull},
};
use event::Event;
use hyper::{body::Incoming, service::Service as _};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::{json, value::RawValue};
use spec::{ObjectName, Reason};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Counts},
    backends::cluster::Controller,
    certificates::{Certificates, scheme},
    console::Console,
    metrics_text::Format,
};

/// Requests are a few ids and a filter.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// Open connections at most: a few people, a collector of metrics, probes.
pub(crate) const CONNECTIONS_MAX: usize = 256;

/// Where both listeners are.
pub(crate) struct Addresses {
    pub(crate) ingress: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) certificates: Certificates,
}

#[derive(Clone)]
pub(crate) struct State(Arc<AdminState>);

struct AdminState {
    plane: Plane,
    registry: Registry,
    access: Access,
    addresses: Addresses,
    data: PathBuf,
    started: Timestamp,
    /// Where documents come from the API server.
    controller: Option<Controller>,
    /// Tails that may still be opened, and listings of letters.
    tails: Arc<Semaphore>,
    listings: Arc<Semaphore>,
}

impl State {
    pub(crate) fn new(
        plane: Plane,
        registry: Registry,
        access: Access,
        addresses: Addresses,
        data: PathBuf,
        controller: Option<Controller>,
    ) -> Self {
        Self(Arc::new(AdminState {
            plane,
            registry,
            access,
            addresses,
            data,
            started: Timestamp::now(),
            controller,
            tails: Arc::new(Semaphore::new(events::TAILS_MAX)),
            listings: Arc::new(Semaphore::new(dead_letters::LISTINGS_MAX)),
        }))
    }

    pub(crate) fn plane(&self) -> &Plane {
        &self.0.plane
    }

    pub(crate) fn access(&self) -> &Access {
        &self.0.access
    }

    pub(crate) fn info(&self) -> api::Info {
        let (shared, readiness) = (&self.0, self.readiness());
        let addresses = &shared.addresses;
        api::Info {
            admin: format!("{}://{}", scheme(&addresses.certificates.admin), addresses.admin),
            data: shared.data.display().to_string(),
            degraded: readiness.degraded,
            generation: self.plane().spec().generation,
            ingress: self.ingress_url(),
            ready: readiness.ready,
            reasons: readiness.reasons,
            started_at: Some(shared.started),
            tls: addresses.certificates.shown(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The right to list dead letters, which is bounded for all who list them.
    pub(crate) fn listing(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.0
            .listings
            .clone()
            .try_acquire_owned()
            .map_err(|_taken| dead_letters::too_many())
    }

    /// The address of this listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.addresses.admin
    }

    /// The base URL of the ingress.
    pub(crate) fn ingress_url(&self) -> String {
        let addresses = &self.0.addresses;
        format!("{}://{}", scheme(&addresses.certificates.ingress), addresses.ingress)
    }

    /// With what cannot be read from the API server, which is in the way only of what it is about, and with certificates that
    /// cannot be replaced.
    pub(crate) fn readiness(&self) -> Readiness {
        let mut readiness = self.0.plane.readiness();
        if let Some(controller) = &self.0.controller {
            readiness.reasons.extend(controller.troubles());
            readiness.ready &= controller.is_served();
        }
        readiness.degraded.extend(self.0.addresses.certificates.troubles());
        readiness
    }
}

/// Serves until `stop`. Open tails end with it.
///
/// The connections have bounds of their own, and one that waits for a request makes room for a new one: a peer that opens hundreds
/// keeps neither probes nor the ingress from being answered.
pub(crate) async fn serve(
    listener: TcpListener,
    state: State,
    connections_max: usize,
    tls: Option<Tls>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let console = Console::new(state.clone(), stop.clone());
    let service = AdminService(TowerToHyperService::new(router(state).merge(console.clone().router())));
    let connections = Connections::new(
        service.clone(),
        connections_max,
        BODY_MAX_BYTES,
        WhenFull::CloseWaiting,
        stop,
    );
    tokio::select! {
        () = connections.accept(listener, service, tls) => Ok(()),
        never = console.keep_history() => match never {},
    }
}

#[derive(Clone)]
struct AdminService(TowerToHyperService<Router>);

impl Service for AdminService {
    type Body = Body;

    /// A tail ends with its client, also while the channel is quiet: there are few places for tails.
    fn answers_half_closed(&self) -> bool {
        false
    }

    async fn answer(&self, request: hyper::Request<Incoming>, client: Client) -> Response {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Remote(client.address));
        match self.0.call(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }

    fn refused(&self, reason: Reason) {
        tracing::debug!(
            reason = reason.as_str(),
            "a connection of the admin listener was cut off"
        );
    }
}

/// Where a request comes from.
#[derive(Clone, Copy)]
pub(crate) struct Remote(pub(crate) SocketAddr);

/// The change that a request made, for the log. Its handler puts it into the answer.
#[derive(Clone, Copy)]
struct Changed {
    count: usize,
}

fn router(state: State) -> Router {
    let changing = Router::new()
        .route("/subscriptions/{namespace}/{name}/pause", post(pause))
        .route("/subscriptions/{namespace}/{name}/resume", post(resume))
        .route(
            "/subscriptions/{namespace}/{name}/deadletters/redrive",
            post(dead_letters::redrive),
        )
        .route(
            "/subscriptions/{namespace}/{name}/deadletters/drop",
            post(dead_letters::remove),
        )
        .route("/subscriptions/{namespace}/{name}/replay", post(replay::replay));
    let reading = Router::new()
        .route("/openapi.json", get(openapi))
        .route("/info", get(info))
        .route("/objects", get(objects::list))
        .route("/channels/{namespace}/{name}/events", get(events::tail))
        .route("/channels/{namespace}/{name}/filter", get(trial::trial))
        .route("/explain", get(explain::explain))
        .route("/deadletters", get(dead_letters::list));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .nest("/api/v1", changing.merge(reading))
        .fallback(|| async { Refusal::not_found("no such path: see docs/reference/admin-api.md") })
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::from_fn_with_state(state.clone(), guard::guard))
        .layer(middleware::map_response(refusal::as_refusal))
        .with_state(state)
}

/// The slowest rate that is meant by anybody, in events a second: about one a day. Slower ones are slips, as 1e-300 is.
const RATE_MIN: f64 = 1e-5;

/// Events a second, of a replay or a redrive.
pub(crate) fn check_rate(rate: Option<f64>) -> Result<(), Refusal> {
    match rate {
        Some(rate) if !(rate.is_finite() && rate >= RATE_MIN) => {
            let message = format!("rate is events a second: a number of at least {RATE_MIN}, not {rate}");
            Err(Refusal::bad_request(message))
        }
        _ => Ok(()),
    }
}

/// An event as it was sent, to be put into an answer: numbers, order and depth stay what they are, which they would not through a
/// parser. On one line.
fn cloudevent(event: &Event) -> Box<RawValue> {
    let text = String::from_utf8(event.to_json_line()).expect("JSON is UTF-8");
    RawValue::from_string(text).expect("an event is written as valid JSON")
}

/// A line of a redrive or a replay; the last one says how it ended.
fn line(mut counts: Counts, is_last: bool, stopped: Option<String>) -> Bytes {
    if is_last {
        counts.done = stopped.is_none().then_some(true);
        counts.stopped = stopped;
    }
    format!("{}\n", json!(counts)).into()
}

/// `NAMESPACE/NAME`, as the value of a parameter.
pub(crate) fn object(parameter: &str, text: &str) -> Result<ObjectName, Refusal> {
    let Some((namespace, name)) = text.split_once('/') else {
        let message = format!("{parameter} {text:?} is not NAMESPACE/NAME");
        return Err(Refusal::bad_request(message));
    };
    Ok(ObjectName::new(namespace, name))
}

/// The description of this API; an end-to-end test compares it with the answers.
async fn openapi() -> Response {
    let head = [(header::CONTENT_TYPE, "application/json")];
    (head, include_str!("admin/openapi.json")).into_response()
}

async fn readyz(extract::State(state): extract::State<State>) -> Response {
    let readiness = state.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(api::Ready {
            degraded: readiness.degraded,
            ready: readiness.ready,
            reasons: readiness.reasons,
        }),
    )
        .into_response()
}

/// All metrics, as they are scraped.
pub(crate) fn metrics_text(state: &State) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &state.0.registry)?;
    Ok(text)
}

async fn metrics(extract::State(state): extract::State<State>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::preferred(accept);
    match metrics_text(&state) {
        Ok(text) => {
            let head = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
            (head, format.of(text)).into_response()
        }
        Err(error) => {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal, error.to_string()).into_response()
        }
    }
}

async fn info(extract::State(state): extract::State<State>) -> Response {
    Json(state.info()).into_response()
}

async fn pause(
    extract::State(state): extract::State<State>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    switched(state.plane().pause(&ObjectName::new(namespace, name)).await)
}

async fn resume(
    extract::State(state): extract::State<State>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    switched(state.plane().resume(&ObjectName::new(namespace, name)).await)
}

fn switched(result: Result<(), SwitchError>) -> Response {
    match result {
        Ok(()) => (Extension(Changed { count: 1 }), Json(json!({}))).into_response(),
        Err(error) => Refusal::from(error).into_response(),
    }
}
