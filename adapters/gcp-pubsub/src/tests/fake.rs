//! Pub/Sub by a script: what Google does on bad days, on the test's clock.
//!
//! It leases, expires and sends again like the service does, so that a lease that is not renewed shows as a message that comes
//! twice. What the service does on good days is proven with Google's emulator.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, future::BoxFuture, stream};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use tonic::{
    Code, Status, Streaming,
    server::{Grpc, StreamingService, UnaryService},
};
use tonic_prost::ProstCodec;

use super::wire::{
    AcknowledgeRequest, Empty, ModifyAckDeadlineRequest, PubsubMessage, ReceivedMessage, StreamingPullRequest,
    StreamingPullResponse, SubscriptionProperties, Timestamp,
};

/// How often a stream looks for messages to send.
const TICK: Duration = Duration::from_millis(20);
const BODY_MAX: usize = 1024 * 1024;

/// A message and its state at Google.
#[derive(Clone, Debug, Default)]
pub(super) struct SentMessage {
    pub(super) message: PubsubMessage,
    /// How often it was sent.
    pub(super) sent: u32,
    pub(super) acknowledged: bool,
    lease: Option<(String, Instant)>,
}

/// The state of the fake, and the faults that a test asks for.
#[derive(Default)]
pub(super) struct Script {
    pub(super) topics: BTreeSet<String>,
    /// By full name, as they were made.
    pub(super) subscriptions: BTreeMap<String, Value>,
    pub(super) messages: Vec<SentMessage>,
    /// Admin calls are answered so.
    pub(super) admin_fault: Option<(u16, &'static str)>,
    /// New streams are ended so.
    pub(super) stream_fault: Option<Code>,
    /// Pulls are answered, too.
    pub(super) pulls: bool,
    /// So many new streams say nothing, not even why.
    pub(super) silent_streams: u32,
    /// Streams break off after so many messages.
    pub(super) reset_after: Option<usize>,
    pub(super) exactly_once: bool,
    /// So many acknowledgements are answered with a permanent error for each message, and the messages come again.
    pub(super) unconfirmed: u32,
    pub(super) streams: u32,
    pub(super) renewals: u32,
    next: u64,
}

/// A handle: clones are the same.
#[derive(Clone)]
pub(super) struct Fake {
    pub(super) host: String,
    script: Arc<Mutex<Script>>,
}

impl Fake {
    /// Serves until the test ends. The runtime's clock is paused; see [`metronome`].
    pub(super) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        tokio::spawn(metronome());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let script = Arc::new(Mutex::new(Script::default()));
        let router = Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                // Packets that wait for an acknowledgement take real milliseconds, which are seconds on a paused clock.
                let _ = connection.set_nodelay(true);
                let router = TowerToHyperService::new(router.clone());
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(connection), router).await;
                });
            }
        });
        Self { host, script }
    }

    pub(super) fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock())
    }

    /// Publishes a message of each text, under this ordering key.
    pub(super) fn publish(&self, key: &str, texts: &[&str]) {
        for text in texts {
            self.script(|script| {
                script.next += 1;
                let message = PubsubMessage {
                    data: text.as_bytes().to_vec(),
                    message_id: script.next.to_string(),
                    publish_time: Some(Timestamp { seconds: 1, nanos: 0 }),
                    ordering_key: key.to_owned(),
                    ..PubsubMessage::default()
                };
                script.messages.push(SentMessage {
                    message,
                    ..SentMessage::default()
                });
            });
        }
    }

    /// Waits until it is so, an hour of the test's clock at most.
    pub(super) async fn until(&self, what: &str, so: impl Fn(&Script) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(3600), async {
            while !self.script(|script| so(script)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let in_time = waited.await.is_ok();
        let shown = self.script(|script| format!("{} streams, {:?}", script.streams, script.messages));
        assert!(in_time, "never happened: {what}: {shown}");
    }
}

/// While the clock is paused it jumps to the next timer whenever no task has anything to do, and a socket that was just written
/// to does not count as something to do: a request would time out before it is read. With a timer each few milliseconds no jump
/// is longer than that.
async fn metronome() {
    loop {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    match path.strip_prefix("/google.pubsub.v1.Subscriber/") {
        Some("StreamingPull") => {
            let codec = ProstCodec::<StreamingPullResponse, StreamingPullRequest>::default();
            let mut grpc = Grpc::new(codec);
            let answer = grpc.streaming(Pull(script), request.map(tonic::body::Body::new));
            answer.await.map(Body::new).into_response()
        }
        Some("Acknowledge") => {
            let codec = ProstCodec::<Empty, AcknowledgeRequest>::default();
            let mut grpc = Grpc::new(codec);
            let answer = grpc.unary(Acknowledge(script), request.map(tonic::body::Body::new));
            answer.await.map(Body::new).into_response()
        }
        Some("ModifyAckDeadline") => {
            let codec = ProstCodec::<Empty, ModifyAckDeadlineRequest>::default();
            let mut grpc = Grpc::new(codec);
            let answer = grpc.unary(Modify(script), request.map(tonic::body::Body::new));
            answer.await.map(Body::new).into_response()
        }
        _ => {
            let method = request.method().clone();
            let body = to_bytes(request.into_body(), BODY_MAX).await.unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let name = path.trim_start_matches("/v1/");
            let (status, body) = admin(&mut script.lock(), &method, name, body);
            (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response()
        }
    }
}

/// The REST API of subscriptions.
fn admin(script: &mut Script, method: &Method, name: &str, mut body: Value) -> (u16, Value) {
    let fault = |code: u16, status: &str| {
        let message = format!("scripted {status}");
        (
            code,
            json!({"error": {"code": code, "message": message, "status": status}}),
        )
    };
    if let Some((code, status)) = script.admin_fault {
        return fault(code, status);
    }
    match name.split_once(':') {
        Some((_, "pull")) if script.pulls => return (200, pull(script)),
        Some((_, "modifyAckDeadline")) => {
            let ids = body["ackIds"].as_array().cloned().unwrap_or_default();
            let ids: Vec<String> = ids.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            of(script, &ids).for_each(|sent_message| sent_message.lease = None);
            return (200, json!({}));
        }
        _ => {}
    }
    let known = script.subscriptions.get(name).cloned();
    match (method.as_str(), known) {
        ("PUT", Some(_)) => fault(409, "ALREADY_EXISTS"),
        ("PUT", None) if !script.topics.contains(body["topic"].as_str().unwrap_or_default()) => fault(404, "NOT_FOUND"),
        ("PUT", None) => {
            body["name"] = name.into();
            script.subscriptions.insert(name.to_owned(), body.clone());
            (200, body)
        }
        ("GET", Some(found)) => (200, found),
        ("DELETE", Some(_)) => {
            script.subscriptions.remove(name);
            (200, json!({}))
        }
        _ => fault(404, "NOT_FOUND"),
    }
}

/// A pull of one message by REST.
fn pull(script: &mut Script) -> Value {
    let asked = StreamingPullRequest {
        stream_ack_deadline_seconds: 60,
        max_outstanding_messages: 1,
        ..StreamingPullRequest::default()
    };
    let received = lease(script, &asked, 0).into_iter();
    let received = received.map(|received| json!({ "ackId": received.ack_id, "message": {} }));
    json!({ "receivedMessages": received.collect::<Vec<_>>() })
}

struct Pull(Arc<Mutex<Script>>);

type Answers = Pin<Box<dyn Stream<Item = Result<StreamingPullResponse, Status>> + Send>>;

impl StreamingService<StreamingPullRequest> for Pull {
    type Response = StreamingPullResponse;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<tonic::Response<Answers>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<StreamingPullRequest>>) -> Self::Future {
        let script = self.0.clone();
        Box::pin(async move {
            let mut requests = request.into_inner();
            let first = requests.message().await?.unwrap_or_default();
            let silent = {
                let mut script = script.lock();
                script.streams += 1;
                if let Some(code) = script.stream_fault {
                    return Err(Status::new(code, "scripted"));
                }
                let silent = script.silent_streams > 0;
                script.silent_streams = script.silent_streams.saturating_sub(1);
                silent
            };
            let opened = Opened {
                script,
                silent,
                sent: 0,
                first,
                _requests: requests,
            };
            let answers = stream::unfold(opened, |mut opened| async move {
                let answer = opened.next().await?;
                Some((answer, opened))
            });
            Ok(tonic::Response::new(Box::pin(answers) as Answers))
        })
    }
}

/// One stream.
struct Opened {
    script: Arc<Mutex<Script>>,
    silent: bool,
    sent: usize,
    first: StreamingPullRequest,
    _requests: Streaming<StreamingPullRequest>,
}

impl Opened {
    async fn next(&mut self) -> Option<Result<StreamingPullResponse, Status>> {
        loop {
            tokio::time::sleep(TICK).await;
            if self.silent {
                continue;
            }
            let mut script = self.script.lock();
            if script.reset_after.is_some_and(|limit| self.sent >= limit) {
                return Some(Err(Status::unavailable("scripted reset")));
            }
            let messages = lease(&mut script, &self.first, self.sent);
            if messages.is_empty() {
                continue;
            }
            self.sent += messages.len();
            return Some(Ok(StreamingPullResponse {
                received_messages: messages,
                subscription_properties: Some(SubscriptionProperties {
                    exactly_once_delivery_enabled: script.exactly_once,
                }),
            }));
        }
    }
}

/// Leases what waits, as far as the client lets us.
fn lease(script: &mut Script, asked: &StreamingPullRequest, sent: usize) -> Vec<ReceivedMessage> {
    let now = Instant::now();
    let leased = |sent_message: &SentMessage| sent_message.lease.as_ref().is_some_and(|(_, until)| *until > now);
    let outstanding = script
        .messages
        .iter()
        .filter(|sent_message| leased(sent_message))
        .count();
    let room = usize::try_from(asked.max_outstanding_messages).unwrap_or(usize::MAX);
    let mut room = room.saturating_sub(outstanding);
    if let Some(limit) = script.reset_after {
        room = room.min(limit - sent.min(limit));
    }
    let deadline = Duration::from_secs(asked.stream_ack_deadline_seconds.unsigned_abs().into());
    let mut messages = Vec::new();
    for sent_message in script
        .messages
        .iter_mut()
        .filter(|sent_message| !sent_message.acknowledged && !leased(sent_message))
    {
        if messages.len() == room {
            break;
        }
        sent_message.sent += 1;
        let ack_id = format!("{}.{}", sent_message.message.message_id, sent_message.sent);
        sent_message.lease = Some((ack_id.clone(), now + deadline));
        messages.push(ReceivedMessage {
            ack_id,
            message: Some(sent_message.message.clone()),
            delivery_attempt: 0,
        });
    }
    messages
}

struct Acknowledge(Arc<Mutex<Script>>);

impl UnaryService<AcknowledgeRequest> for Acknowledge {
    type Response = Empty;
    type Future = BoxFuture<'static, Result<tonic::Response<Empty>, Status>>;

    fn call(&mut self, request: tonic::Request<AcknowledgeRequest>) -> Self::Future {
        let script = self.0.clone();
        Box::pin(async move {
            let mut script = script.lock();
            let ids = request.into_inner().ack_ids;
            let refused = script.unconfirmed > 0;
            script.unconfirmed = script.unconfirmed.saturating_sub(1);
            for sent_message in of(&mut script, &ids) {
                sent_message.acknowledged = !refused;
                sent_message.lease = None;
            }
            if refused {
                return Err(Status::failed_precondition("scripted: no acknowledgement is taken"));
            }
            Ok(tonic::Response::new(Empty {}))
        })
    }
}

struct Modify(Arc<Mutex<Script>>);

impl UnaryService<ModifyAckDeadlineRequest> for Modify {
    type Response = Empty;
    type Future = BoxFuture<'static, Result<tonic::Response<Empty>, Status>>;

    fn call(&mut self, request: tonic::Request<ModifyAckDeadlineRequest>) -> Self::Future {
        let script = self.0.clone();
        Box::pin(async move {
            let mut script = script.lock();
            let request = request.into_inner();
            let more = Duration::from_secs(request.ack_deadline_seconds.unsigned_abs().into());
            for sent_message in of(&mut script, &request.ack_ids) {
                if let Some((_, until)) = &mut sent_message.lease {
                    *until = Instant::now() + more;
                }
            }
            script.renewals += u32::from(!more.is_zero());
            Ok(tonic::Response::new(Empty {}))
        })
    }
}

/// The messages that these leases are for; a lease that ran out is none.
fn of<'a>(script: &'a mut Script, ids: &'a [String]) -> impl Iterator<Item = &'a mut SentMessage> {
    let now = Instant::now();
    let is_for = move |sent_message: &&mut SentMessage| {
        sent_message
            .lease
            .as_ref()
            .is_some_and(|(id, until)| *until > now && ids.contains(id))
    };
    script.messages.iter_mut().filter(is_for)
}
