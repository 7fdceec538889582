//! How a member gets from a consumer that another gateway had to handing out events in stored order.
//!
//! The server redelivers what the former gateway held and did not acknowledge in time. Until all of that is here, nothing newer
//! is handed out.

use std::time::{Duration, SystemTime};

use channel_broker::{BrokerCursor, TRY_AGAIN};
use tokio::time::Instant;

use crate::{
    consumer,
    member::{Member, RECOVERY_PAUSE},
};

/// Three times the consumer's ack deadline. After it, the member serves with what is here.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// The same on a server that pins no consumer, where another gateway may keep what it holds.
const UNPINNED_RECOVERY_MAX: Duration = Duration::from_secs(15);

/// Whether a member hands out events.
pub(super) enum Phase {
    /// The consumer is pinned to another gateway, or the server has not said to whom. The first message ends it: it carries this
    /// gateway's pin.
    Standby,
    /// The server redelivers what the former gateway held. Ends in `Serving` when all of it is here or `until` has passed, and
    /// in `Standby` when the pin is lost.
    Recovering {
        /// `None` where the server pins no consumer.
        pin: Option<String>,
        until: Instant,
        /// A message was redelivered.
        redelivered: bool,
        /// Messages that were delivered and not acknowledged, as the server reported last.
        unacknowledged: usize,
    },
    /// Events are handed out. Ends in `Standby`, or in `Recovering` where the server pins no consumer, when the consumer is lost
    /// to another gateway or recreated.
    Serving { pin: Option<String> },
}

impl Phase {
    /// The phase in which a member begins, and to which it returns when it loses the consumer.
    pub(super) fn first(pins: bool) -> Self {
        if pins {
            Self::Standby
        } else {
            Self::recovering(None, UNPINNED_RECOVERY_MAX)
        }
    }

    fn recovering(pin: Option<String>, at_most: Duration) -> Self {
        Self::Recovering {
            pin,
            until: Instant::now() + at_most,
            redelivered: false,
            unacknowledged: 0,
        }
    }

    /// The pin that the server gave this gateway.
    pub(super) fn pin(&self) -> Option<&str> {
        match self {
            Self::Standby => None,
            Self::Recovering { pin, .. } | Self::Serving { pin } => pin.as_deref(),
        }
    }

    /// A message came. Returns whether everything may be here: the pull is done, or as much is held as the server waits for.
    pub(super) fn received(&mut self, again: bool, held: usize, is_pull_done: bool) -> bool {
        let Self::Recovering {
            redelivered,
            unacknowledged,
            ..
        } = self
        else {
            return false;
        };
        *redelivered |= again;
        is_pull_done || held == *unacknowledged
    }
}

impl Member {
    /// A message names the gateway that the consumer is pinned to: this one, or it would not have come.
    pub(super) fn pinned(&mut self, pin: Option<&str>) {
        if pin.is_none() || pin == self.phase.pin() {
            return;
        }
        // Another gateway may have had the consumer in between.
        if matches!(self.phase, Phase::Serving { .. }) {
            self.context.cursor.lose();
        }
        self.phase = Phase::recovering(pin.map(str::to_owned), RECOVERY_MAX);
    }

    /// The consumer went to another gateway, or was recreated.
    pub(super) fn lost(&mut self) {
        self.phase = Phase::first(self.pins);
        self.pull = None;
        self.refresh_at = (!self.pins).then(Instant::now);
        self.context.cursor.lose();
    }

    /// Asks the server for the consumer's state, and serves when everything is here.
    pub(super) async fn refresh(&mut self) {
        let (stream, cursor) = (&self.context.stream, &self.context.cursor);
        let info = match self.context.server.consumer_info(stream, &self.consumer).await {
            Ok(info) => info,
            Err(error) if error.is_gone() => return self.recreate().await,
            Err(error) => {
                tracing::debug!(stream, consumer = self.consumer, %error, "the consumer does not answer");
                self.refresh_at = Some(Instant::now() + TRY_AGAIN);
                return;
            }
        };
        cursor.reported(consumer::progress(&info));
        let Phase::Recovering {
            until, unacknowledged, ..
        } = &mut self.phase
        else {
            return;
        };
        let now = Instant::now();
        let missing = info.num_ack_pending.saturating_sub(cursor.held());
        *unacknowledged = info.num_ack_pending;
        if missing > 0 && *until > now && cursor.capacity() > 0 {
            // Recent acknowledgements are not counted yet.
            self.pull_at = now + RECOVERY_PAUSE;
            return;
        }
        if missing > 0 {
            tracing::warn!(stream, cursor = %cursor.core().name, missing, "events that an earlier gateway had have not come again, later ones go before them");
        }
        if !self.serve(info.delivered.stream_sequence).await {
            self.refresh_at = Some(now + TRY_AGAIN);
        }
    }

    /// Begins to hand out events. `delivered` is the last sequence that the consumer delivered. `false`: the server did not
    /// answer.
    async fn serve(&mut self, delivered: u64) -> bool {
        let (server, cursor) = (&self.context.server, &self.context.cursor);
        match self.context.attempts.load(server).await {
            Ok(attempts) => cursor.restore_attempts(attempts),
            Err(error) => {
                tracing::warn!(stream = self.context.attempts.stream, %error, "attempts cannot be read, trying again");
                return false;
            }
        }
        let Ok(Some(info)) = server.stream_info(&self.context.stream).await else {
            return false;
        };
        self.phase = Phase::Serving {
            pin: self.phase.pin().map(str::to_owned),
        };
        cursor.serve(info.state.first_sequence, delivered);
        true
    }

    /// Recreates a consumer that was deleted, perhaps with its stream.
    async fn recreate(&mut self) {
        self.pull_at = Instant::now() + TRY_AGAIN;
        self.refresh_at = Some(self.pull_at);
        let stream = &self.context.stream;
        let Ok(Some(info)) = self.context.server.stream_info(stream).await else {
            return;
        };
        let created: SystemTime = info.created.into();
        let is_same_stream = self.context.created == created;
        let start = if is_same_stream {
            self.context.cursor.settled_below().max(1)
        } else {
            1
        };
        let (name, owner) = (self.consumer.clone(), self.context.owner.as_deref());
        let cursor = &self.context.cursor.core().name;
        let config = consumer::config(&self.context.server, name, cursor, owner, start);
        if let Err(error) = self.context.server.create_consumer(stream, &config).await {
            tracing::warn!(stream, consumer = self.consumer, %error, "a deleted consumer cannot be made again, trying again");
            return;
        }
        tracing::warn!(
            stream,
            consumer = self.consumer,
            start,
            "a deleted consumer was made again"
        );
        self.lost();
        if !is_same_stream {
            self.context.created = created;
            self.context.cursor.restart();
            if let Err(error) = self.context.attempts.delete(&self.context.server).await {
                tracing::debug!(stream = self.context.attempts.stream, %error, "attempts of a deleted stream stay");
            }
        }
        self.pull_at = Instant::now();
        self.refresh_at = (!self.pins).then_some(self.pull_at);
    }
}
