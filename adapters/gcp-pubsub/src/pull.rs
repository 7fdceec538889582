//! Asks Pub/Sub whether a message waits, by a pull of one, which is released at once.
//!
//! The API does not report a backlog, and the client library has no pull: hence this one REST call. A second stream would
//! do, too, but abandoned streams can hold messages until their leases run out (Google's emulator 0.8.20 keeps them
//! for good).

use std::time::Duration;

use bytes::Bytes;
use connect::{Connector, Dialer};
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use http::{HeaderMap, Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tokio::time::timeout;

/// For both calls; Google answers such a pull at once.
const ASK_MAX: Duration = Duration::from_secs(10);

/// Google's largest message in base64 and the rest of the answer.
const ANSWER_MAX_BYTES: usize = 20 * 1024 * 1024;

/// Asks with the identity of the source.
#[derive(Clone)]
pub(crate) struct Inquirer {
    client: Client<Connector, Full<Bytes>>,
    /// `https://HOST`, or an emulator's.
    endpoint: String,
    credentials: Credentials,
}

impl Inquirer {
    /// # Errors
    /// The system has no certificates of authorities.
    pub(crate) fn new(endpoint: String, credentials: Credentials) -> std::io::Result<Self> {
        let connector = connect::connector(Dialer::new(ASK_MAX)).map_err(std::io::Error::other)?;
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            endpoint,
            credentials,
        })
    }

    /// Whether a message waits that no subscriber has leased; `None`: the pull cannot tell.
    pub(crate) async fn waits(&self, subscription: &str) -> Option<bool> {
        timeout(ASK_MAX, self.ask(subscription)).await.ok().flatten()
    }

    async fn ask(&self, subscription: &str) -> Option<bool> {
        // Without `returnImmediately` an empty subscription would keep the call open for a minute and a half.
        let desired = json!({ "maxMessages": 1, "returnImmediately": true });
        let answer = self.call(subscription, "pull", &desired).await?;
        let received = answer["receivedMessages"].as_array().cloned().unwrap_or_default();
        let ids: Vec<&Value> = received.iter().map(|received| &received["ackId"]).collect();
        if ids.is_empty() {
            return Some(false);
        }
        let back = json!({ "ackIds": ids, "ackDeadlineSeconds": 0 });
        self.call(subscription, "modifyAckDeadline", &back).await?;
        Some(true)
    }

    async fn call(&self, subscription: &str, method: &str, body: &Value) -> Option<Value> {
        let mut request = Request::post(format!("{}/v1/{subscription}:{method}", self.endpoint))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))
            .ok()?;
        request.headers_mut().extend(self.identity().await?);
        let answer = self.client.request(request).await.ok()?;
        if answer.status() != StatusCode::OK {
            return None;
        }
        let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES)
            .collect()
            .await
            .ok()?;
        serde_json::from_slice(&body.to_bytes()).ok()
    }

    async fn identity(&self) -> Option<HeaderMap> {
        match self.credentials.headers(http::Extensions::new()).await.ok()? {
            CacheableResource::New { data, .. } => Some(data),
            // Answered only to callers that name the headers they have.
            CacheableResource::NotModified => None,
        }
    }
}
