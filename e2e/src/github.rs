//! GitHub as a sender of webhooks.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::Request;

/// `X-Hub-Signature-256` of a body.
///
/// # Panics
/// Never: HMAC takes keys of any length.
pub fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// A delivery of a hook as GitHub sends it, signed.
pub fn delivery(source: &str, event: &str, guid: &str, body: &[u8], secret: &str) -> Request {
    unsigned(source, event, guid, body).header("X-Hub-Signature-256", signature(secret, body))
}

/// A delivery of a hook without a secret.
pub fn unsigned(source: &str, event: &str, guid: &str, body: &[u8]) -> Request {
    Request::post(&format!("/hooks/default/{source}"))
        .header("user-agent", "GitHub-Hookshot/044aadd")
        .header("content-type", "application/json")
        .header("X-GitHub-Event", event)
        .header("X-GitHub-Delivery", guid)
        .header("X-GitHub-Hook-ID", "292430182")
        .body(body)
}
