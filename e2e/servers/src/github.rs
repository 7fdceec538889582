//! GitHub, as far as webhooks go: a strict stand-in for its REST API that also delivers.
//!
//! It answers like the documented API and refuses what GitHub refuses: no credentials or no user agent, another content type,
//! a second webhook with one URL, the 21st for an event, requests beyond a limit. Lists are paged by `Link`. Deliveries are
//! signed, sent, recorded with their payload and every attempt, and kept three days by a clock that a test can move. By
//! script it is down, slow, or loses its answer after it acted.
//!
//! Requests are answered one after another as they come, from one state; `octo/hello` and the organisation `octo` are there
//! at the start. Under `/api/v3` it is an Enterprise server.

mod deliver;
mod routes;
mod rules;
mod state;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::StatusCode;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinSet};

use crate::ports;
use state::State;
pub use state::{Attempt, Fault, Hook, TOKEN};

/// The private key of the App that is installed, in PEM as GitHub gives it. Made for tests.
pub const APP_KEY: &str = include_str!("../github/app-key.pem");
pub const APP_ID: u64 = 12_345;
pub const INSTALLATION_ID: u64 = 67_890;

/// A running stand-in. Gone, with its connections, when dropped.
pub struct GitHub {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: tokio::task::JoinHandle<()>,
}

impl GitHub {
    /// # Panics
    /// When it cannot listen.
    pub async fn start() -> Self {
        let listener = ports::listener();
        let address = listener.local_addr().expect("a bound socket has an address");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let listener = TcpListener::from_std(listener).expect("inside a runtime");
        let state = Arc::new(Mutex::new(State::new(address)));
        let server = tokio::spawn(serve(listener, state.clone()));
        Self { address, state, server }
    }

    /// The API's root, as `githubAPIURL` has it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The webhooks of a repository or organisation, in the order they were made.
    pub fn hooks(&self, owner: &str) -> Vec<Hook> {
        self.state.lock().hooks(owner).to_vec()
    }

    /// Adds another person's webhooks, which lead nowhere.
    pub fn add_hooks(&self, owner: &str, count: usize) {
        let mut state = self.state.lock();
        for n in 0..count {
            // A few for each of many events, as GitHub allows.
            let event = format!("event_{}", n / 20);
            state.add_hook(owner, &format!("https://elsewhere.invalid/{n}"), &[&event]);
        }
    }

    /// Changes a webhook as a person does on its page.
    pub fn edit_hook(&self, owner: &str, id: u64, edit: impl FnOnce(&mut Hook)) {
        let mut state = self.state.lock();
        state.hook_mut(owner, id).map(edit).expect("the webhook is there");
    }

    /// Deletes a webhook as a person does on its page.
    pub fn remove_hook(&self, owner: &str, id: u64) {
        self.state.lock().remove_hook(owner, id);
    }

    /// Delivers an event to every webhook that subscribes to it. Returns the GUIDs when each was tried once.
    pub async fn happens(&self, owner: &str, event: &str, payload: &[u8]) -> Vec<String> {
        let due = self.state.lock().due(owner, event);
        let mut guids = Vec::new();
        for hook in due {
            let guid = uuid::Uuid::new_v4().to_string();
            deliver::deliver(&self.state, owner, hook, event, &guid, payload, false).await;
            guids.push(guid);
        }
        guids
    }

    /// A person asks on the webhook's page that a delivery be sent again.
    ///
    /// # Panics
    /// When there is none of this GUID.
    pub async fn redeliver(&self, owner: &str, guid: &str) {
        let (hook, event, payload) = self.state.lock().delivered(owner, guid).expect("a delivery");
        deliver::deliver(&self.state, owner, hook, &event, guid, &payload, true).await;
    }

    /// Marks every attempt of a webhook as unanswered.
    pub fn lose_answers(&self, owner: &str, hook: u64) {
        self.state.lock().lose_answers(owner, hook);
    }

    /// Every attempt that is still listed, oldest first.
    pub fn attempts(&self, owner: &str) -> Vec<Attempt> {
        self.state.lock().attempts(owner)
    }

    /// Requests to the API so far: `METHOD PATH`, without the query.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().requests.clone()
    }

    /// Which tokens are good from now on, besides those of installations.
    pub fn accept_tokens(&self, tokens: &[&str]) {
        self.state.lock().tokens = tokens.iter().map(|&token| token.to_owned()).collect();
    }

    /// Installations' tokens that were given out are no longer good.
    pub fn revoke_installations(&self) {
        self.state.lock().installation_tokens.clear();
    }

    /// How many installations' tokens were given out.
    pub fn installation_tokens(&self) -> usize {
        self.state.lock().installation_tokens_made
    }

    /// Makes the next `times` requests with this method and a path like this fail.
    pub fn fault(&self, method: &str, path: &str, fault: Fault, times: usize) {
        self.state.lock().script(method, path, fault, times);
    }

    /// Nothing is answered any more, connections are closed; or it is over.
    pub fn down(&self, is_down: bool) {
        self.state.lock().is_down = is_down;
    }

    /// The repository is out of sight, its webhooks with it; or it is back.
    pub fn hide(&self, owner: &str, is_hidden: bool) {
        self.state.lock().hide(owner, is_hidden);
    }

    /// Requests left until the limit is renewed an hour later.
    pub fn allow(&self, requests: u64) {
        self.state.lock().remaining = requests;
    }

    /// Moves GitHub's clock: deliveries age, limits are renewed.
    pub fn pass(&self, time: Duration) {
        self.state.lock().pass(time);
    }
}

impl Drop for GitHub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    // Aborted with this task, so that what is dropped is really gone.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(state.clone(), request));
            // A client that disconnects ends its own connection only.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// An error closes the connection without an answer.
async fn answer(
    state: Arc<Mutex<State>>,
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<bytes::Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let fault = {
        let mut state = state.lock();
        state.requests.push(format!(
            "{} {}",
            head.method,
            head.uri.path().trim_start_matches("/api/v3")
        ));
        if state.is_down {
            return Err("down by script".into());
        }
        state.fault(head.method.as_str(), head.uri.path())
    };
    if let Some(Fault::Slow(time)) = fault {
        tokio::time::sleep(time).await;
    }
    if let Some(Fault::Answer { status, headers, body }) = fault {
        let mut answer = http::Response::builder().status(StatusCode::from_u16(status)?);
        for (name, value) in headers {
            answer = answer.header(name, value);
        }
        return Ok(answer.body(Full::new(body.into()))?);
    }
    let answered = routes::route(&mut state.lock(), &head, &body);
    if matches!(fault, Some(Fault::AnswerLost)) {
        return Err("the answer is lost by script".into());
    }
    Ok(answered?)
}
