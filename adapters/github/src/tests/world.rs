//! A gateway's source against a GitHub that is strict: the webhook, what is recovered, what goes wrong on the way.

mod polling;
mod recovery;
mod rotation;
mod trouble;
mod webhook;

use std::{convert::Infallible, sync::Arc, time::Duration};

use adapter::{
    Adapter, Condition, Hook, HookRequest, Source,
    suite::{self, Scripted},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use servers::{GitHub, github, ports};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{Config, Credentials, GitHubHook, Secret, Sources, Transport};

const REPOSITORY: &str = "octo/hello";
const PUSH: &[u8] = br#"{ "ref":"refs/heads/main", "big": 12345678901234567890, "x":1.0 }"#;

/// Long enough for a busy machine; what passes waits for less.
const PATIENCE: Duration = Duration::from_secs(60);

type Endpoint = Arc<Mutex<Option<Arc<GitHubHook>>>>;

/// One source over its lives.
struct World {
    github: GitHub,
    outlet: Arc<Scripted>,
    given: Source,
    config: Config,
    sources: Sources,
    endpoint: Endpoint,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl World {
    /// A source with a token and a public address, not started.
    async fn new() -> Self {
        let github = GitHub::start().await;
        let outlet = Scripted::storing();
        let endpoint = Endpoint::default();
        let address = listen(endpoint.clone()).await;
        let config = Config {
            credentials: Some(Credentials::Token(Secret::new(github::TOKEN.as_bytes()))),
            api: github.url().parse().unwrap(),
            transport: Transport::Webhook {
                address: format!("{address}/hooks/default/test"),
                is_public: true,
            },
            sweep_interval: Some(Duration::from_millis(50)),
            ..super::config(&["now"], &["push", "issues"])
        };
        Self {
            github,
            given: suite::source(outlet.clone()),
            outlet,
            config,
            sources: Sources::default(),
            endpoint,
            running: None,
        }
    }

    /// Starts it, or applies a changed configuration as the gateway does: built before the one before has ended.
    async fn start(&mut self) {
        let (hook, adapter) = self.sources.source(self.config.clone(), self.given.clone());
        *self.endpoint.lock() = hook.map(Arc::new);
        self.end().await;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { adapter.run(stopped).await.unwrap() });
        self.running = Some((stop, task));
    }

    async fn end(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            stop.cancel();
            task.await.unwrap();
        }
    }

    /// Ends it, and what was in memory is gone.
    async fn stop(&mut self) {
        *self.endpoint.lock() = None;
        self.end().await;
        self.sources = Sources::default();
    }

    /// Starts it and waits until its webhook is in place.
    async fn registered(&mut self) -> github::Hook {
        self.start().await;
        self.until("WebhookConfigured", |condition| condition.reason().is_empty())
            .await;
        self.ours().pop().unwrap()
    }

    /// Webhooks with our URL.
    fn ours(&self) -> Vec<github::Hook> {
        let mut hooks = self.github.hooks(REPOSITORY);
        hooks.retain(|hook| Some(hook.url.as_str()) == self.config.registered_url());
        hooks
    }

    /// Waits until a condition is as it should be.
    async fn until(&self, kind: &str, desired: impl Fn(&Condition) -> bool) -> Condition {
        let found = || self.given.report.state().conditions.get(kind).cloned();
        let what = format!("condition {kind}");
        eventually(&what, || found().filter(&desired), || format!("{:?}", found())).await
    }

    /// Waits until so many events are stored, and gives all.
    async fn stored(&self, count: usize) -> Vec<event::Event> {
        let stored = || Some(self.outlet.stored()).filter(|stored| stored.len() >= count);
        eventually("stored events", stored, || {
            format!("{} events, {:?}", self.outlet.stored().len(), self.given.report.state())
        })
        .await
    }

    /// Waits until a sweep that began after now has ended.
    async fn swept(&self) {
        for _ in 0..2 {
            let before = self.listed();
            let listed = || (self.listed() > before).then_some(());
            eventually("another sweep", listed, || format!("{:?}", self.given.report.state())).await;
        }
    }

    fn listed(&self) -> usize {
        let requests = self.github.requests();
        requests
            .iter()
            .filter(|request| request.ends_with("/deliveries"))
            .count()
    }

    fn asked(&self, method: &str) -> usize {
        let requests = self.github.requests();
        requests.iter().filter(|request| request.starts_with(method)).count()
    }
}

fn ids(events: &[event::Event]) -> Vec<String> {
    events.iter().map(|event| event.id().to_owned()).collect()
}

async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>, state: impl Fn() -> String) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}: {}", state());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The gateway's listener: calls the hook that is published, 503 when there is none.
async fn listen(endpoint: Endpoint) -> String {
    let listener = ports::listener();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let endpoint = endpoint.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| call(endpoint.clone(), request));
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    format!("http://{address}")
}

async fn call(endpoint: Endpoint, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let hook = endpoint.lock().clone();
    let status = match hook {
        Some(hook) => {
            let headers = head.headers;
            hook.call(HookRequest { headers, body }).await.status
        }
        None => http::StatusCode::SERVICE_UNAVAILABLE,
    };
    Ok(Response::builder().status(status).body(Full::default()).unwrap())
}
