//! Sends a delivery as GitHub does: signed, once, with ten seconds to answer, and recorded whatever happens.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use parking_lot::Mutex;
use sha2::Sha256;

use super::state::{Attempt, Hook, State};

/// "Your server should respond with a 2XX response within 10 seconds".
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn deliver(
    state: &Arc<Mutex<State>>,
    owner: &str,
    hook: u64,
    event: &str,
    guid: &str,
    payload: &[u8],
    redelivery: bool,
) {
    let (found, id, at) = {
        let mut state = state.lock();
        let (id, at) = (state.new_id(), state.now());
        (state.hook_mut(owner, hook).cloned(), id, at)
    };
    let Some(found) = found else { return };
    let status_code = send(&found, event, guid, payload).await.unwrap_or(0);
    let attempt = Attempt {
        id,
        hook,
        guid: guid.to_owned(),
        event: event.to_owned(),
        at,
        redelivery,
        status_code,
        payload: Bytes::copy_from_slice(payload),
    };
    state.lock().record(owner, attempt);
}

/// The status of the answer; `None` when there was none.
async fn send(hook: &Hook, event: &str, guid: &str, payload: &[u8]) -> Option<u16> {
    let host = hook.url.parse::<http::Uri>().ok()?.host()?.to_owned();
    // Such names are never resolved (RFC 6761); asking a resolver costs seconds.
    if host.ends_with(".invalid") {
        return None;
    }
    let (content_type, body) = match hook.content_type.as_str() {
        "form" => ("application/x-www-form-urlencoded", form(payload)),
        _ => ("application/json", payload.to_vec()),
    };
    let mut request = Request::post(&hook.url)
        .header("user-agent", "GitHub-Hookshot/044aadd")
        .header("accept", "*/*")
        .header("content-type", content_type)
        .header("X-GitHub-Event", event)
        .header("X-GitHub-Delivery", guid)
        .header("X-GitHub-Hook-ID", hook.id.to_string());
    if let Some(secret) = &hook.secret {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length");
        mac.update(&body);
        let signature = hex::encode(mac.finalize().into_bytes());
        request = request.header("X-Hub-Signature-256", format!("sha256={signature}"));
    }
    let request = request.body(Full::new(Bytes::from(body))).ok()?;
    let exchange = async {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.request(request).await.ok()?;
        let status = answer.status().as_u16();
        answer.into_body().collect().await.ok()?;
        Some(status)
    };
    tokio::time::timeout(TIMEOUT, exchange).await.ok().flatten()
}

fn form(payload: &[u8]) -> Vec<u8> {
    let mut form = b"payload=".to_vec();
    for byte in payload {
        form.extend_from_slice(format!("%{byte:02X}").as_bytes());
    }
    form
}
