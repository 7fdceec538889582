//! The admin listener: health, readiness, metrics, and the JSON that the commands use (docs/reference/admin-api.md).
//!
//! Apart from the ingress, on loopback by default. `access` says who may; what changes state never comes from a browser's page,
//! either, for it must be JSON. Each change is one line of the log. Health and metrics are open to everyone.

pub(crate) mod access;
mod dead_letters;
mod events;
mod explain;
mod guard;
mod objects;
mod refusal;
mod replay;
mod trial;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use access::Access;
use refusal::Refusal;

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
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Counts},
    backends::cluster::Controller,
    certificates::{Certificates, scheme},
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

    fn plane(&self) -> &Plane {
        &self.0.plane
    }

    /// With what cannot be read from the API server, which is in the way only of what it is about, and with certificates that
    /// cannot be replaced.
    fn readiness(&self) -> Readiness {
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
    let service = AdminService(TowerToHyperService::new(router(state)));
    let connections = Connections::new(
        service.clone(),
        connections_max,
        BODY_MAX_BYTES,
        WhenFull::CloseWaiting,
        stop,
    );
    connections.accept(listener, service, tls).await;
    Ok(())
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
struct Remote(SocketAddr);

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
fn check_rate(rate: Option<f64>) -> Result<(), Refusal> {
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
fn object(parameter: &str, text: &str) -> Result<ObjectName, Refusal> {
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

async fn metrics(extract::State(state): extract::State<State>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::preferred(accept);
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &state.0.registry) {
        Ok(()) => {
            let head = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
            (head, format.of(text)).into_response()
        }
        Err(error) => {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal, error.to_string()).into_response()
        }
    }
}

async fn info(extract::State(state): extract::State<State>) -> Response {
    let (shared, readiness) = (&state.0, state.readiness());
    let addresses = &shared.addresses;
    let Certificates { ingress, admin } = &addresses.certificates;
    let body = api::Info {
        admin: format!("{}://{}", scheme(admin), addresses.admin),
        data: shared.data.display().to_string(),
        degraded: readiness.degraded,
        generation: state.plane().spec().generation,
        ingress: format!("{}://{}", scheme(ingress), addresses.ingress),
        ready: readiness.ready,
        reasons: readiness.reasons,
        started_at: Some(shared.started),
        tls: addresses.certificates.shown(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Json(body).into_response()
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
        Err(error @ SwitchError::NotFound(_)) => Refusal::not_found(error.to_string()).into_response(),
        Err(error @ SwitchError::NotPersisted(_)) => Refusal::new(
            StatusCode::INSUFFICIENT_STORAGE,
            Reason::NotPersisted,
            dataplane::chain(&error),
        )
        .into_response(),
    }
}
