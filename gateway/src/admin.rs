//! The admin listener: health, readiness, metrics, and the JSON that the commands use (docs/admin-api.md).
//!
//! Apart from the ingress, on loopback by default. What changes state needs a bearer token when the listener is not on
//! loopback, and never comes from a browser's page: it must be JSON, and the `Host` must be one that a page elsewhere cannot
//! have made its browser send here.

mod events;
mod explain;
mod letters;
mod objects;
mod replay;
mod trial;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{self, DefaultBodyLimit, Path, Request},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use dataplane::{LetterError, Plane, Readiness, SwitchError};
use jiff::Timestamp;
use kubernetes::Kubernetes;
use prometheus_client::registry::Registry;
use serde_json::json;
use spec::ObjectName;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Requests are a few ids and a filter.
const BODY_MAX_BYTES: usize = 1024 * 1024;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
pub(crate) struct State(Arc<Shared>);

struct Shared {
    plane: Plane,
    registry: Registry,
    token: Option<String>,
    ingress: SocketAddr,
    admin: SocketAddr,
    data: PathBuf,
    started: Timestamp,
    /// Where documents come from the API server.
    cluster: Option<Arc<Kubernetes>>,
}

impl State {
    pub(crate) fn new(
        plane: Plane,
        registry: Registry,
        token: Option<String>,
        ingress: SocketAddr,
        admin: SocketAddr,
        data: PathBuf,
        cluster: Option<Arc<Kubernetes>>,
    ) -> Self {
        let token = token.filter(|token| !token.is_empty());
        Self(Arc::new(Shared {
            plane,
            registry,
            token,
            ingress,
            admin,
            data,
            started: Timestamp::now(),
            cluster,
        }))
    }

    fn plane(&self) -> &Plane {
        &self.0.plane
    }

    /// With what cannot be read from the API server, which is in the way only of what it is about.
    fn readiness(&self) -> Readiness {
        let mut readiness = self.0.plane.readiness();
        if let Some(cluster) = &self.0.cluster {
            readiness.reasons.extend(cluster.troubles());
            readiness.ready &= cluster.is_served();
        }
        readiness
    }
}

/// Serves until `stop`. Open tails end with it.
pub(crate) async fn serve(listener: TcpListener, state: State, stop: CancellationToken) -> std::io::Result<()> {
    let app = router(state);
    tokio::select! {
        ended = async { axum::serve(listener, app).await } => ended,
        () = stop.cancelled() => Ok(()),
    }
}

fn router(state: State) -> Router {
    let changing = Router::new()
        .route("/subscriptions/{namespace}/{name}/pause", post(pause))
        .route("/subscriptions/{namespace}/{name}/resume", post(resume))
        .route(
            "/subscriptions/{namespace}/{name}/deadletters/redrive",
            post(letters::redrive),
        )
        .route(
            "/subscriptions/{namespace}/{name}/deadletters/drop",
            post(letters::remove),
        )
        .route("/subscriptions/{namespace}/{name}/replay", post(replay::replay))
        .route_layer(middleware::from_fn_with_state(state.clone(), may_change));
    let reading = Router::new()
        .route("/info", get(info))
        .route("/objects", get(objects::list))
        .route("/channels/{namespace}/{name}/events", get(events::tail))
        .route("/channels/{namespace}/{name}/filter", get(trial::trial))
        .route("/explain", get(explain::explain))
        .route("/deadletters", get(letters::list));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .nest("/api/v1", changing.merge(reading))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "NotFound", "no such path: see docs/admin-api.md") })
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::map_response(as_refusal))
        .with_state(state)
}

/// What the framework refuses by itself, as our own refusals are: JSON with a reason.
async fn as_refusal(answer: Response) -> Response {
    let status = answer.status();
    let is_ours = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json");
    let reason = match status {
        _ if is_ours => return answer,
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::PAYLOAD_TOO_LARGE => "TooLarge",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "UnsupportedMediaType",
        _ if status.is_client_error() => "BadRequest",
        _ => return answer,
    };
    let (head, body) = answer.into_parts();
    let said = axum::body::to_bytes(body, BODY_MAX_BYTES).await.unwrap_or_default();
    let message = match &said[..] {
        [] => status.to_string(),
        said => String::from_utf8_lossy(said).into_owned(),
    };
    let mut refusal = Refusal::new(status, reason, message).into_response();
    if let Some(allowed) = head.headers.get(header::ALLOW) {
        refusal.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    refusal
}

/// An error as JSON: `{"reason": ..., "message": ...}`.
pub(crate) struct Refusal {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
        }
    }
}

/// `NAMESPACE/NAME`, as the value of a parameter.
fn object(parameter: &str, text: &str) -> Result<ObjectName, Refusal> {
    let Some((namespace, name)) = text.split_once('/') else {
        let message = format!("{parameter} {text:?} is not NAMESPACE/NAME");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", message));
    };
    Ok(ObjectName::new(namespace, name))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (
            self.status,
            Json(json!({ "reason": self.reason, "message": self.message })),
        )
            .into_response()
    }
}

impl From<LetterError> for Refusal {
    fn from(error: LetterError) -> Self {
        let (status, reason) = match &error {
            LetterError::NoSubscription(_) | LetterError::NoLetter { .. } => (StatusCode::NOT_FOUND, "NotFound"),
            LetterError::NotRunning(_) => (StatusCode::CONFLICT, "NotRunning"),
            LetterError::Read(_) => (StatusCode::SERVICE_UNAVAILABLE, "Unavailable"),
        };
        Self::new(status, reason, dataplane::chain(&error))
    }
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
        Json(json!({ "ready": readiness.ready, "reasons": readiness.reasons })),
    )
        .into_response()
}

async fn metrics(extract::State(state): extract::State<State>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &state.0.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", error.to_string()).into_response(),
    }
}

async fn info(extract::State(state): extract::State<State>) -> Response {
    let (shared, readiness) = (&state.0, state.readiness());
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ingress": format!("http://{}", shared.ingress),
        "admin": format!("http://{}", shared.admin),
        "data": shared.data.display().to_string(),
        "startedAt": shared.started,
        "generation": state.plane().spec().generation,
        "ready": readiness.ready,
        "reasons": readiness.reasons,
    });
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
        Ok(()) => Json(json!({})).into_response(),
        Err(error @ SwitchError::NotFound(_)) => {
            Refusal::new(StatusCode::NOT_FOUND, "NotFound", error.to_string()).into_response()
        }
        Err(error @ SwitchError::NotPersisted(_)) => {
            Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "NotPersisted", error.to_string()).into_response()
        }
    }
}

/// Guards what changes state.
async fn may_change(extract::State(state): extract::State<State>, request: Request<Body>, next: Next) -> Response {
    // Another method is refused by the route.
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    match check(&state, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(state: &State, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &header::HeaderValue| value.to_str().ok())
    };
    match &state.0.token {
        Some(token) => {
            let sent = text(header::AUTHORIZATION)
                .and_then(|value| value.strip_prefix("Bearer "))
                .unwrap_or_default();
            if !bool::from(sent.as_bytes().ct_eq(token.as_bytes())) {
                let message = "this changes state: send `Authorization: Bearer TOKEN` (--admin-token)";
                return Err(Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", message));
            }
        }
        None if !state.0.admin.ip().is_loopback() => {
            let message =
                "the admin listener is not on loopback: start the gateway with --admin-token to allow changes";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "NoAdminToken", message));
        }
        None => {
            let host = text(header::HOST).unwrap_or_default();
            let host = host
                .rsplit_once(':')
                .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
                .map_or(host, |(name, _)| name);
            let literal = host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse::<IpAddr>()
                .is_ok();
            if !literal && !host.eq_ignore_ascii_case("localhost") {
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "ForeignHost",
                    "the Host header must be localhost or an IP address",
                ));
            }
        }
    }
    // A page can make a browser post forms and plain text to other sites without asking, but not JSON.
    if !text(header::CONTENT_TYPE).is_some_and(|value| value.to_ascii_lowercase().starts_with("application/json")) {
        let message = "this changes state: send `Content-Type: application/json`";
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
        ));
    }
    Ok(())
}
