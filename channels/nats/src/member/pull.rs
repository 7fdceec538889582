//! Pulls: requests for messages, and what the server answers to them.

use std::time::Duration;

use async_nats::StatusCode;
use channel_broker::TRY_AGAIN;
use serde::Serialize;
use tokio::time::Instant;

use super::{Member, RECOVERY_PAUSE, recovery::Phase};
use crate::{consumer::GROUP, reader};

/// A pull waits this long for messages. Shorter than the server's timeout of a pin, because each pull renews the pin.
const PULL: Duration = Duration::from_secs(5);
/// A pull without an answer is lost after this: the connection broke.
const PULL_GRACE: Duration = Duration::from_secs(2);

/// Bounds of the pulls while the member recovers: they are short, and small until a message turns out to be redelivered.
const RECOVERY_PULL: Duration = Duration::from_secs(1);
const RECOVERY_SMALL_PULL: usize = 16;
const RECOVERY_LARGE_PULL: usize = 1024;

/// A member on standby asks this often how far the consumer's gateway got.
const STANDBY_REFRESH: Duration = Duration::from_secs(15);

#[derive(Serialize)]
struct PullRequest<'a> {
    batch: usize,
    max_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_wait: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

/// A request for messages that is under way. There is one at a time.
#[derive(Clone, Copy)]
pub(super) struct Pull {
    number: u64,
    /// Messages it may still bring.
    pub(super) left: usize,
    pub(super) lost_at: Instant,
}

impl Member {
    /// Requests messages, if there is room for some and no pull is under way.
    pub(super) async fn pull(&mut self) {
        let now = Instant::now();
        if self.pull.is_some() || self.pull_at > now || !self.context.server.is_connected() {
            return;
        }
        let room = self.context.cursor.capacity();
        let (batch, expires) = match &self.phase {
            // The first message brings the pin; more would come out of order.
            Phase::Standby => (1, PULL),
            Phase::Recovering { .. } if self.refresh_at.is_some() => return,
            Phase::Recovering { redelivered: false, .. } => (room.min(RECOVERY_SMALL_PULL), RECOVERY_PULL),
            Phase::Recovering { redelivered: true, .. } => (room.min(RECOVERY_LARGE_PULL), RECOVERY_PULL),
            Phase::Serving { .. } => (room, PULL),
        };
        if batch == 0 {
            return;
        }
        self.pulls += 1;
        let request = PullRequest {
            batch,
            max_bytes: reader::page_bytes(&self.context.server),
            expires: Some(u64::try_from(expires.as_nanos()).unwrap_or(u64::MAX)),
            no_wait: false,
            group: self.pins.then_some(GROUP),
            id: self.phase.pin(),
        };
        if self.request(&request, &self.pulls.to_string()).await {
            self.pull = Some(Pull {
                number: self.pulls,
                left: batch,
                lost_at: now + expires + PULL_GRACE,
            });
        } else {
            self.pull_at = now + TRY_AGAIN;
        }
    }

    async fn request(&self, request: &PullRequest<'_>, name: &str) -> bool {
        let (server, stream, consumer) = (&self.context.server, &self.context.stream, &self.consumer);
        let payload = serde_json::to_vec(request).unwrap_or_default();
        let reply = format!("{}.{name}", self.inbox_prefix);
        let subject = server.api(&format!("CONSUMER.MSG.NEXT.{stream}.{consumer}"));
        let sent = server.client.publish_with_reply(subject, reply, payload.into()).await;
        sent.is_ok()
    }

    /// Renews the pin, if no pull does.
    pub(super) async fn renew_pin(&self) {
        if self.pull.is_some() || self.phase.pin().is_none() {
            return;
        }
        // Too small for any message.
        let request = PullRequest {
            batch: 1,
            max_bytes: 1,
            expires: None,
            no_wait: true,
            group: Some(GROUP),
            id: self.phase.pin(),
        };
        self.request(&request, "here").await;
    }

    /// Handles the server's answer about a pull.
    pub(super) fn pull_status(&mut self, status: StatusCode, message: &async_nats::Message) {
        let why = message.description.as_deref().unwrap_or_default();
        let name = message.subject.rsplit('.').next().unwrap_or_default();
        let is_current = self.pull.is_some_and(|pull| name == pull.number.to_string());
        match status.as_u16() {
            // Another gateway pulled while this one did not: the connection was gone for longer than a pin lasts.
            423 => return self.lost(),
            100 => return,
            _ if !is_current => return,
            _ => self.pull = None,
        }
        let now = Instant::now();
        let is_recovering = matches!(self.phase, Phase::Recovering { .. });
        match status.as_u16() {
            404 | 408 if is_recovering => self.refresh_at = Some(now),
            404 | 408 if self.phase.pin().is_none() && self.refresh_at.is_none() => {
                self.refresh_at = Some(now + STANDBY_REFRESH);
            }
            404 | 408 => {}
            409 if why.contains("Batch Completed") || why.contains("MaxBytes") => {
                if is_recovering {
                    self.refresh_at = Some(now);
                }
            }
            _ => {
                tracing::debug!(stream = self.context.stream, consumer = self.consumer, %status, why, "a pull ended");
                self.pull_at = now + RECOVERY_PAUSE;
                self.refresh_at = Some(now);
            }
        }
    }
}
