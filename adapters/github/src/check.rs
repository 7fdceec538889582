//! The checks of a delivery in their order (SOURCES.md, GitHubSource, Receive). The listener has answered 405, 404 and 413
//! before. Nothing waits here: a delivery and a configuration go in, an event to store or an answer comes out.

use adapter::HookRequest;
use event::Event;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use jiff::Timestamp;

use crate::{
    Config, Outcome,
    bodies::Bodies,
    convert::{Headers, PayloadFields, convert},
    form,
    outcome::Answered,
    secrets::Secrets,
};

/// The event to store, or the answer to a delivery of which nothing is stored.
pub(crate) fn check(
    config: &Config,
    secrets: &Secrets,
    bodies: &Bodies,
    request: HookRequest,
    received: Timestamp,
) -> Result<Event, Answered> {
    let HookRequest { headers, body } = request;
    let event = required(&headers, "X-GitHub-Event")?;
    let delivery = required(&headers, "X-GitHub-Delivery")?;
    let signature = header(&headers, "X-Hub-Signature-256");
    if !secrets.verify(signature, &body) {
        let message = match (secrets.has_none(), signature.is_some()) {
            (true, _) => {
                "this source has no secret to verify deliveries with: set secretToken, see its condition Authenticated"
            }
            (false, false) => "header X-Hub-Signature-256 is missing: set the webhook's secret",
            (false, true) => "signature does not match: the webhook's secret is another one",
        };
        return Err(unsigned(message));
    }
    // Deliveries of which nothing is stored are remembered, too: they could come again as others.
    let is_other_event = !secrets.has_none() && bodies.is_other_event(event, &body);
    if event == "ping" {
        return Err(Answered::new(Outcome::Ping, StatusCode::OK, "pong"));
    }
    if !config.takes(event) {
        let message = format!("not stored: {event} is not in eventTypes");
        return Err(Answered::new(Outcome::Filtered, StatusCode::ACCEPTED, message));
    }
    let payload = form::document(header(&headers, CONTENT_TYPE.as_str()), body)?;
    let fields = PayloadFields::read(event, &payload).ok_or_else(|| invalid("body is no JSON object"))?;
    if is_other_event {
        return Err(unsigned(
            "this body was delivered as another event before: its signature says nothing of X-GitHub-Event",
        ));
    }
    let delivery_headers = Headers {
        event,
        delivery,
        hook_id: header(&headers, "X-GitHub-Hook-ID"),
    };
    convert(config, &delivery_headers, &fields, payload, received).map_err(|error| invalid(&error.to_string()))
}

fn unsigned(message: &'static str) -> Answered {
    Answered::new(Outcome::SignatureInvalid, StatusCode::UNAUTHORIZED, message)
}

fn invalid(message: &str) -> Answered {
    Answered::new(Outcome::Invalid, StatusCode::BAD_REQUEST, message)
}

/// A header's value, when it has one that is text.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty())
}

fn required<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Answered> {
    header(headers, name).ok_or_else(|| {
        let message = format!("header {name} is missing: this is no delivery of GitHub");
        Answered::new(Outcome::HeaderMissing, StatusCode::BAD_REQUEST, message)
    })
}
