//! Receives a delivery: the checks in their order, then storage, then the answer.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use adapter::{Hook, HookAnswer, HookRequest, Outlet, Refused};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use jiff::Timestamp;

use crate::{
    Config,
    convert::{Headers, convert, parse},
    signature,
};

/// GitHub's largest payload.
const BODY_MAX_BYTES: usize = 25 * 1024 * 1024;

/// What became of deliveries, since the hook was made.
#[derive(Debug, Default)]
pub struct Counters {
    pub received: AtomicU64,
    pub stored: AtomicU64,
    /// Not in `eventTypes`, and pings.
    pub ignored: AtomicU64,
    pub refused: AtomicU64,
}

pub struct GitHubHook {
    config: Config,
    outlet: Outlet,
    counters: Counters,
}

impl GitHubHook {
    pub fn new(config: Config, outlet: Outlet) -> Self {
        Self {
            config,
            outlet,
            counters: Counters::default(),
        }
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    async fn receive(&self, request: HookRequest) -> Result<HookAnswer, HookAnswer> {
        let HookRequest { headers, body } = request;
        let event = required(&headers, "x-github-event")?;
        let delivery = required(&headers, "x-github-delivery")?;
        let signature = header(&headers, "x-hub-signature-256");
        if !self.config.secrets.is_empty() && !signature::is_valid(signature, &body, &self.config.secrets) {
            let message = match signature {
                None => "header X-Hub-Signature-256 is missing: set the webhook's secret",
                Some(_) => "signature does not match: the webhook's secret is another one",
            };
            return Err(answer(StatusCode::UNAUTHORIZED, message));
        }
        if event == "ping" {
            self.counters.ignored.fetch_add(1, Ordering::Relaxed);
            return Ok(answer(StatusCode::OK, "pong"));
        }
        if !self.config.takes(event) {
            self.counters.ignored.fetch_add(1, Ordering::Relaxed);
            return Ok(answer(
                StatusCode::ACCEPTED,
                &format!("not stored: {event} is not in eventTypes"),
            ));
        }
        let json = payload(&headers, body)?;
        let Some(payload) = parse(&json) else {
            return Err(answer(StatusCode::BAD_REQUEST, "body is no JSON object"));
        };
        let facts = Headers {
            event,
            delivery,
            hook_id: header(&headers, "x-github-hook-id"),
        };
        let event = convert(&self.config, &facts, &payload, json, Timestamp::now())
            .map_err(|error| answer(StatusCode::BAD_REQUEST, &error.to_string()))?;
        match self.outlet.accept(vec![event]).await {
            // The proof of storage is what allows the answer.
            Ok(_accepted) => {
                self.counters.stored.fetch_add(1, Ordering::Relaxed);
                Ok(answer(StatusCode::ACCEPTED, "stored"))
            }
            Err(refused) => Err(unavailable(&refused)),
        }
    }
}

#[async_trait]
impl Hook for GitHubHook {
    fn max_body_bytes(&self) -> usize {
        BODY_MAX_BYTES
    }

    async fn call(&self, request: HookRequest) -> HookAnswer {
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        match self.receive(request).await {
            Ok(answer) => answer,
            Err(refusal) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    source = self.config.name,
                    status = refusal.status.as_u16(),
                    message = refusal.message,
                    "delivery refused"
                );
                refusal
            }
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty())
}

fn required<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, HookAnswer> {
    header(headers, name).ok_or_else(|| {
        answer(
            StatusCode::BAD_REQUEST,
            &format!("header {name} is missing: this is no delivery of GitHub"),
        )
    })
}

/// The JSON document: the body itself, or the `payload` field of a form.
fn payload(headers: &HeaderMap, body: Bytes) -> Result<Bytes, HookAnswer> {
    let content_type = header(headers, CONTENT_TYPE.as_str()).unwrap_or("application/json");
    let media = content_type.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(body);
    }
    if !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let message = format!("content type {media} is not supported: set the webhook's to application/json");
        return Err(answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message));
    }
    let field = body
        .split(|byte| *byte == b'&')
        .find_map(|field| field.strip_prefix(b"payload="));
    let Some(field) = field else {
        return Err(answer(StatusCode::BAD_REQUEST, "form has no field `payload`"));
    };
    // In a form a plus is a space; one that is meant is escaped.
    let spaced: Vec<u8> = field
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    Ok(percent_encoding::percent_decode(&spaced).collect::<Vec<u8>>().into())
}

/// 503 makes GitHub record a failed delivery, which can be delivered again; a 413 will not fit later either.
fn unavailable(refused: &Refused) -> HookAnswer {
    let retry_after = match *refused {
        Refused::TooLarge { .. } => return answer(StatusCode::PAYLOAD_TOO_LARGE, &refused.to_string()),
        Refused::NoChannel => Duration::from_secs(5),
        Refused::Full { retry_after }
        | Refused::DiskFull { retry_after }
        | Refused::Unavailable { retry_after, .. }
        | Refused::Draining { retry_after } => retry_after,
    };
    HookAnswer {
        retry_after: Some(retry_after),
        ..answer(StatusCode::SERVICE_UNAVAILABLE, &refused.to_string())
    }
}

fn answer(status: StatusCode, message: &str) -> HookAnswer {
    HookAnswer {
        status,
        message: message.to_owned(),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::{Arc, atomic::AtomicUsize};

    use adapter::{Accept, Accepted};
    use channel::{Durability, Offset, Stored};
    use event::Event;
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    use super::*;
    use crate::Secret;

    #[derive(Default)]
    struct Recording {
        stored: AtomicUsize,
        full: bool,
    }

    #[async_trait]
    impl Accept for Recording {
        async fn accept(&self, events: Vec<Event>) -> Result<Accepted, Refused> {
            if self.full {
                return Err(Refused::Full {
                    retry_after: Duration::from_secs(3),
                });
            }
            self.stored.fetch_add(events.len(), Ordering::Relaxed);
            Ok(Accepted::stored(Stored::at(Durability::Process, Offset(0))))
        }
    }

    fn hook(outlet: &Arc<Recording>, secrets: &[&str], event_types: &[&str]) -> GitHubHook {
        let config = Config {
            name: "default/hook".into(),
            source: "https://github.com/octo/hello".into(),
            event_types: event_types.iter().map(|name| (*name).to_owned()).collect(),
            secrets: secrets.iter().map(|secret| Secret::new(secret.as_bytes())).collect(),
            extensions: std::collections::BTreeMap::new(),
        };
        GitHubHook::new(config, outlet.clone())
    }

    fn request(event: &str, body: &str, secret: Option<&str>) -> HookRequest {
        let mut headers = HeaderMap::new();
        headers.insert("x-github-event", event.parse().unwrap());
        headers.insert("x-github-delivery", "guid".parse().unwrap());
        headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        if let Some(secret) = secret {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
            mac.update(body.as_bytes());
            headers.insert(
                "x-hub-signature-256",
                format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
                    .parse()
                    .unwrap(),
            );
        }
        HookRequest {
            headers,
            body: body.to_owned().into(),
        }
    }

    /// Proves: SR-1
    #[tokio::test]
    async fn the_checks_come_in_their_order_and_only_a_stored_delivery_is_stored() {
        let outlet = Arc::new(Recording::default());
        let hook = hook(&outlet, &["now", "before"], &["push"]);
        let mut nameless = request("push", "{}", Some("now"));
        nameless.headers.remove("x-github-event");
        let cases = [
            (nameless, 400, 0),
            (request("push", "{}", None), 401, 0),
            (request("push", "{}", Some("guessed")), 401, 0),
            (request("ping", "{}", Some("guessed")), 401, 0),
            (request("ping", "{}", Some("now")), 200, 0),
            (request("issues", "{}", Some("now")), 202, 0),
            (request("push", "[]", Some("now")), 400, 0),
            (request("push", "{}", Some("now")), 202, 1),
            (request("push", "{}", Some("before")), 202, 2),
        ];
        for (request, status, stored) in cases {
            let answer = hook.call(request).await;
            assert_eq!(answer.status.as_u16(), status, "{}", answer.message);
            assert_eq!(outlet.stored.load(Ordering::Relaxed), stored, "{}", answer.message);
        }
    }

    /// Proves: SR-1, SR-5
    #[tokio::test]
    async fn a_delivery_that_cannot_be_stored_is_a_failure_github_will_record() {
        let outlet = Arc::new(Recording {
            full: true,
            ..Recording::default()
        });
        let answer = hook(&outlet, &[], &["*"]).call(request("push", "{}", None)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.retry_after),
            (503, Some(Duration::from_secs(3)))
        );
    }

    #[tokio::test]
    async fn a_form_carries_the_same_document() {
        let outlet = Arc::new(Recording::default());
        let hook = hook(&outlet, &["now"], &["*"]);
        let mut form = request("push", "payload=%7B%22ref%22%3A%22a+b%22%7D", Some("now"));
        form.headers
            .insert(CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
        let json = payload(&form.headers, form.body.clone()).unwrap();
        assert_eq!(&json[..], br#"{"ref":"a b"}"#);
        assert_eq!(hook.call(form).await.status.as_u16(), 202);
        let mut xml = request("push", "<a/>", Some("now"));
        xml.headers.insert(CONTENT_TYPE, "text/xml".parse().unwrap());
        assert_eq!(hook.call(xml).await.status.as_u16(), 415);
    }

    /// Proves: SR-6
    #[test]
    fn a_secret_is_never_printed() {
        let outlet = Arc::new(Recording::default());
        assert!(!format!("{:?}", hook(&outlet, &["hunter2"], &[]).config).contains("hunter2"));
    }
}
