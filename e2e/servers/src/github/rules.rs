//! GitHub's rules for webhooks: which it accepts, and how it shows one.

use serde_json::{Value, json};

use super::state::{Attempt, Hook};

/// For one event in one place.
const HOOKS_PER_EVENT: usize = 20;

/// A refused document: GitHub's words.
pub(super) struct Invalid(pub(super) Value);

impl Invalid {
    fn custom(message: impl Into<String>) -> Self {
        let message = message.into();
        Self(json!([{ "resource": "Hook", "code": "custom", "message": message }]))
    }

    fn field(field: &str, code: &str) -> Self {
        Self(json!([{ "resource": "Hook", "field": field, "code": code }]))
    }
}

/// Lays a document over a webhook. At a change `config` replaces the one before as a whole, secret included.
pub(super) fn change(hook: &mut Hook, document: &Value) -> Result<(), Invalid> {
    if let Some(active) = document.get("active") {
        hook.active = active.as_bool().ok_or_else(|| Invalid::field("active", "invalid"))?;
    }
    if let Some(events) = document.get("events") {
        let events = events.as_array().ok_or_else(|| Invalid::field("events", "invalid"))?;
        let names: Option<Vec<String>> = events.iter().map(|name| Some(name.as_str()?.to_owned())).collect();
        let mut names = names.ok_or_else(|| Invalid::field("events", "invalid"))?;
        let is_name = |name: &String| {
            name == "*"
                || (name != "ping"
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        };
        if names.is_empty() || !names.iter().all(is_name) {
            return Err(Invalid::custom("Events contains an event that cannot be asked for"));
        }
        names.sort();
        names.dedup();
        hook.events = names;
    }
    let Some(config) = document.get("config") else {
        return Ok(());
    };
    let text = |name: &str| config.get(name).and_then(Value::as_str).map(str::to_owned);
    let url = text("url").ok_or_else(|| Invalid::field("url", "missing_field"))?;
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err(Invalid::custom("config.url must be an http or https URL"));
    }
    hook.url = url;
    hook.content_type = text("content_type").unwrap_or_else(|| "form".to_owned());
    if !["json", "form"].contains(&hook.content_type.as_str()) {
        return Err(Invalid::field("content_type", "invalid"));
    }
    hook.insecure_ssl = text("insecure_ssl").unwrap_or_else(|| "0".to_owned());
    hook.secret = text("secret").filter(|secret| !secret.is_empty());
    Ok(())
}

/// Whether a webhook may stand beside the others of its place.
pub(super) fn fits(hook: &Hook, others: &[Hook], owner: &str) -> Result<(), Invalid> {
    let others = || others.iter().filter(|other| other.id != hook.id);
    if others().any(|other| other.url == hook.url) {
        let kind = if owner.contains('/') {
            "repository"
        } else {
            "organization"
        };
        return Err(Invalid::custom(format!("Hook already exists on this {kind}")));
    }
    for event in &hook.events {
        if others().filter(|other| other.events.contains(event)).count() >= HOOKS_PER_EVENT {
            return Err(Invalid::custom(format!(
                "The \"{event}\" event cannot have more than {HOOKS_PER_EVENT} hooks"
            )));
        }
    }
    Ok(())
}

pub(super) fn show_hook(hook: &Hook) -> Value {
    let mut config = json!({
        "url": hook.url, "content_type": hook.content_type, "insecure_ssl": hook.insecure_ssl,
    });
    if hook.secret.is_some() {
        config["secret"] = "********".into();
    }
    json!({
        "type": "Repository", "id": hook.id, "name": "web", "active": hook.active, "events": hook.events,
        "config": config, "updated_at": "2026-01-01T00:00:00Z", "created_at": "2026-01-01T00:00:00Z",
        "last_response": { "code": null, "status": "unused", "message": null },
    })
}

/// In a list.
pub(super) fn show_attempt(attempt: &Attempt) -> Value {
    let status = match attempt.status_code {
        0 => "failed to connect to host",
        200..=299 => "OK",
        _ => "Invalid HTTP Response",
    };
    // GitHub gives 502 where it got no answer.
    let code = if attempt.status_code == 0 {
        502
    } else {
        attempt.status_code
    };
    json!({
        "id": attempt.id, "guid": attempt.guid, "delivered_at": attempt.at.to_string(), "redelivery": attempt.redelivery,
        "duration": 0.27, "status": status, "status_code": code, "event": attempt.event, "action": null,
        "installation_id": null, "repository_id": 1, "throttled_at": null,
    })
}

/// By itself: with the bytes that were sent.
pub(super) fn show_delivery(attempt: &Attempt, url: &str) -> String {
    const PAYLOAD_MARK: &str = "\"@the payload\"";
    let mut shown = show_attempt(attempt);
    shown["url"] = url.into();
    shown["request"] = json!({
        "headers": {
            "X-GitHub-Delivery": attempt.guid, "X-GitHub-Event": attempt.event,
            "X-GitHub-Hook-ID": attempt.hook.to_string(), "content-type": "application/json",
        },
        "payload": "@the payload",
    });
    shown["response"] = json!({ "headers": {}, "payload": "" });
    shown
        .to_string()
        .replacen(PAYLOAD_MARK, &String::from_utf8_lossy(&attempt.payload), 1)
}
