//! Single requests, each with a timeout. kube logs every failed one as an error. Here an error becomes a condition or a
//! log line, so kube's own are suppressed.

use std::time::Duration;

use http::{Method, Request, header};
use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use crate::refusal::Refusal;

/// The API server may take a minute for a request (`--request-timeout`).
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(70);

/// The field manager of the gateway's fields.
pub(crate) const MANAGER: &str = "headgate";

pub(crate) async fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T, Refusal> {
    send(client, Method::GET, path, "", None).await
}

/// Applies an object or one of its subresources (server-side apply) and returns the result. It is forced: a field that
/// a person set by hand is taken over.
pub(crate) async fn apply(client: &Client, path: &str, body: &Value) -> Result<Value, Refusal> {
    let path = format!("{path}?fieldManager={MANAGER}&force=true");
    send(client, Method::PATCH, &path, "application/apply-patch+yaml", Some(body)).await
}

/// Merges the fields, for an object that server-side apply rejects: apply must know every field, a merge drops those
/// that the definition lacks.
pub(crate) async fn merge(client: &Client, path: &str, body: &Value) -> Result<Value, Refusal> {
    let path = format!("{path}?fieldManager={MANAGER}");
    send(client, Method::PATCH, &path, "application/merge-patch+json", Some(body)).await
}

pub(crate) async fn create(client: &Client, path: &str, body: &Value) -> Result<Value, Refusal> {
    let path = format!("{path}?fieldManager={MANAGER}");
    send(client, Method::POST, &path, "application/json", Some(body)).await
}

/// Deletes the object of this uid, and no other object of the same name.
pub(crate) async fn delete(client: &Client, path: &str, uid: &str) -> Result<(), Refusal> {
    let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": uid } });
    let answer = send(client, Method::DELETE, path, "application/json", Some(&options)).await;
    answer.map(|_: Value| ())
}

async fn send<T: DeserializeOwned>(
    client: &Client,
    method: Method,
    path: &str,
    content_type: &str,
    body: Option<&Value>,
) -> Result<T, Refusal> {
    let mut request = Request::builder().method(method).uri(path);
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    // A JSON value is text, and paths are made of names that the API server took.
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = request
        .body(body)
        .map_err(|error| Refusal::Invalid(error.to_string()))?;
    let answer = client.request(request).with_subscriber(NoSubscriber::new());
    match timeout(ANSWER_MAX, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Refusal::Unreachable(format!(
            "no answer within {} s",
            ANSWER_MAX.as_secs()
        ))),
    }
}
