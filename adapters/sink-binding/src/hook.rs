//! The events a container posts: read as the ingress reads them, marked with the source's overrides, stored, answered.
//!
//! The rules and the statuses are the ingress' own (CONTRACT IN-1 to IN-8), so that an image cannot tell this URL from a
//! channel's.

use std::{collections::BTreeMap, time::Duration};

use adapter::{Accepted, Hook, HookAnswer, HookRequest, Refused, Source};
use async_trait::async_trait;
use event::{
    Event,
    http_form::{self, DecodeError, Decoded},
};
use http::{StatusCode, header::CONTENT_ENCODING};

/// A person has to create a missing sink; retrying sooner is of no use.
const NO_SINK_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The configuration of one source's endpoint.
#[derive(Clone, Debug)]
pub struct HookConfig {
    /// `ceOverrides.extensions`, laid over every event.
    pub extensions: BTreeMap<String, String>,
    /// The gateway's `--max-body-bytes`.
    pub max_body_bytes: usize,
}

/// Takes the events that the container posts.
pub struct ContainerHook {
    config: HookConfig,
    source: Source,
}

impl ContainerHook {
    /// Makes the hook of a source.
    pub fn new(config: HookConfig, source: Source) -> Self {
        Self { config, source }
    }

    fn read(&self, request: HookRequest) -> Result<Vec<Event>, HookAnswer> {
        let HookRequest { headers, body } = request;
        let encoding = headers.get(CONTENT_ENCODING).map(|value| value.as_bytes());
        if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
            let message = "content-encoding is not supported: send the event as it is";
            return Err(HookAnswer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let events = match http_form::decode(&headers, body) {
            Ok(Decoded::One(event)) => vec![http_form::traced(event, &headers)],
            Ok(Decoded::Batch(events)) => events,
            Err(error) => {
                let status = match error {
                    DecodeError::UnsupportedFormat(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    DecodeError::Invalid(_) => StatusCode::BAD_REQUEST,
                };
                return Err(HookAnswer::new(status, error.to_string()));
            }
        };
        if self.config.extensions.is_empty() {
            return Ok(events);
        }
        let marked: Result<Vec<Event>, _> = events.into_iter().map(|event| self.marked(&event)).collect();
        marked.map_err(|error| {
            let message = format!("the source's ceOverrides cannot be laid over this event: {error}");
            HookAnswer::new(StatusCode::BAD_REQUEST, message)
        })
    }

    fn marked(&self, event: &Event) -> Result<Event, event::InvalidAttribute> {
        let extensions = self.config.extensions.iter();
        extensions
            .fold(event.edit(), |edit, (name, value)| edit.set(name, value))
            .finish()
            .and_then(|event| event.ensure_room().map(|()| event))
    }
}

#[async_trait]
impl Hook for ContainerHook {
    fn max_body_bytes(&self) -> usize {
        self.config.max_body_bytes
    }

    async fn call(&self, request: HookRequest) -> HookAnswer {
        let counters = &self.source.counters;
        let events = match self.read(request) {
            Ok(events) => events,
            Err(answer) => {
                counters.invalid(1);
                tracing::debug!(
                    source = self.source.name,
                    status = answer.status.as_u16(),
                    detail = answer.message,
                    "event of a container refused"
                );
                return answer;
            }
        };
        let count = events.len() as u64;
        counters.received(count);
        match self.source.outlet.accept(events).await {
            // The proof of storage is what allows the answer (CONTRACT SR-1).
            Ok(accepted) => {
                counters.stored(count);
                stored(accepted)
            }
            Err(refused) => {
                counters.refused(count);
                answer(&refused)
            }
        }
    }
}

fn stored(accepted: Accepted) -> HookAnswer {
    HookAnswer {
        accepted: Some(accepted),
        ..HookAnswer::new(StatusCode::ACCEPTED, "")
    }
}

/// As the ingress answers for a channel (CONTRACT IN-3); but a source is known although its sink is not, so it is no 404.
fn answer(refused: &Refused) -> HookAnswer {
    let status = match refused {
        Refused::Full { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refused::DiskFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
        Refused::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refused::Unavailable { .. } | Refused::Draining { .. } | Refused::NoChannel => StatusCode::SERVICE_UNAVAILABLE,
    };
    let no_sink = matches!(refused, Refused::NoChannel).then_some(NO_SINK_RETRY_AFTER);
    HookAnswer {
        retry_after: refused.retry_after().or(no_sink),
        ..HookAnswer::new(status, refused.to_string())
    }
}

#[cfg(test)]
mod tests;
