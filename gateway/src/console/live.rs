//! The stream that tells an open page to ask again: server-sent events without content, so that a page is made in one way only.
//!
//! A stream holds no events, only a few numbers of a channel, so it costs the same after an hour as after a second.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use spec::{ObjectName, Reason};

use super::{Console, Trouble};
use crate::admin::{Refusal, object};

/// Streams at once: each is a page that is open and visible. They share the connections of the listener with everything else.
pub(super) const LIVE_MAX: usize = 32;

/// How often a channel is asked for its numbers, which is cheap, and how often its page is made again at most.
const POLL: Duration = Duration::from_secs(1);

/// How often a page about many objects is made again.
const TICK: Duration = Duration::from_secs(3);

/// A line that says nothing, after so many polls: a client that is gone is noticed when something is written to it.
const SILENT_POLLS_MAX: u32 = 15;

#[derive(Deserialize)]
pub(super) struct Followed {
    /// `NAMESPACE/NAME`.
    channel: Option<String>,
}

/// `GET /ui/live`: until the client or the gateway ends.
pub(super) async fn stream(
    State(console): State<Console>,
    Query(followed): Query<Followed>,
) -> Result<Response, Trouble> {
    let channel = followed
        .channel
        .as_deref()
        .map(|text| object("channel", text))
        .transpose()?;
    let Ok(permit) = console.0.live.clone().try_acquire_owned() else {
        let message = format!("{LIVE_MAX} pages are following already, as many as this gateway serves at once");
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Reason::TooManyTails, message);
        return Err(refusal.into());
    };
    let mut follower = Follower {
        numbers: None,
        console,
        channel,
        silent: 0,
    };
    follower.numbers = follower.read();
    let events = stream::unfold((follower, permit), |(mut follower, permit)| async move {
        let text = follower.next().await?;
        Some((
            Ok::<_, Infallible>(Bytes::from_static(text.as_bytes())),
            (follower, permit),
        ))
    });
    let head = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((head, Body::from_stream(events)).into_response())
}

struct Follower {
    console: Console,
    channel: Option<ObjectName>,
    /// The numbers of the channel when they were read last; `None` while it is not open.
    numbers: Option<[u64; 4]>,
    silent: u32,
}

impl Follower {
    /// The next piece of the stream; `None` when the gateway ends.
    async fn next(&mut self) -> Option<&'static str> {
        loop {
            let wait = if self.channel.is_some() { POLL } else { TICK };
            tokio::select! {
                () = self.console.0.stop.cancelled() => return None,
                () = tokio::time::sleep(wait) => {}
            }
            let numbers = self.read();
            if self.channel.is_none() || numbers != self.numbers {
                self.numbers = numbers;
                self.silent = 0;
                return Some("data: moved\n\n");
            }
            self.silent += 1;
            if self.silent >= SILENT_POLLS_MAX {
                self.silent = 0;
                return Some(": nothing moved\n\n");
            }
        }
    }

    /// The numbers that change when a channel accepts, delivers or gives up an event, or tries one again.
    fn read(&self) -> Option<[u64; 4]> {
        let plane = self.console.plane();
        let channel = plane.channel(self.channel.as_ref()?)?;
        let depth = channel.depth();
        let unsettled = depth.cursors.iter().map(|cursor| cursor.unsettled).sum();
        let traffic = plane.traffic();
        let failed = traffic
            .subscriptions
            .values()
            .map(|of| of.failed + of.dead_lettered)
            .sum();
        Some([depth.next.0, unsettled, channel.dead_letters().count(), failed])
    }
}
