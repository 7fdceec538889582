//! The consumer that a cursor has on the server.
//!
//! One gateway at a time has a consumer: the server pins it to the first gateway that pulls (NATS 2.11, ADR-42). That keeps
//! events in stored order, which acknowledgements one by one do not.

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::consumer::{AckPolicy, Info, PriorityPolicy, pull};
use channel::{CursorName, CursorStatus, Offset};
use channel_broker::HELD_MAX;

use crate::{connection::Server, reader};

/// The metadata key that names a consumer's cursor. Consumers with it are the channel's register of cursors.
const CURSOR: &str = "dev.headgate/cursor";
/// The metadata key of the cursor's owner, where that is known.
const OWNER: &str = "dev.headgate/owner";

/// The one group of a pinned consumer.
pub(crate) const GROUP: &str = "g";

/// The server redelivers a message whose deadline was not extended for this long: a gateway that died had it.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// A gateway that has not pulled for this long loses the consumer to another.
const PIN_WAIT: Duration = Duration::from_secs(10);

/// How far a consumer is on the server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConsumerProgress {
    pub(crate) settled_below: u64,
    pub(crate) unsettled: u64,
    /// The stream's last sequence then.
    pub(crate) last: u64,
}

impl ConsumerProgress {
    /// The status of the cursor when the stream ends with this sequence.
    pub(crate) fn status(&self, name: &CursorName, owner: Option<&str>, last: u64) -> CursorStatus {
        CursorStatus {
            name: name.clone(),
            owner: owner.map(str::to_owned),
            settled_below: Offset(self.settled_below),
            unsettled: self.unsettled + last.saturating_sub(self.last),
            oldest: None,
        }
    }
}

/// The configuration of a consumer for a cursor that begins with this sequence.
pub(crate) fn config(
    server: &Server,
    name: String,
    cursor: &CursorName,
    owner: Option<&str>,
    start: u64,
) -> pull::Config {
    let mut metadata = HashMap::from([(CURSOR.to_owned(), cursor.to_string())]);
    metadata.extend(owner.map(|owner| (OWNER.to_owned(), owner.to_owned())));
    let plain = pull::Config {
        name: Some(name.clone()),
        durable_name: Some(name),
        deliver_policy: reader::from_sequence(start),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // An event is settled by us, never by having been tried often.
        max_deliver: -1,
        // As much as one gateway that died had, and the same for the next.
        max_ack_pending: i64::try_from(HELD_MAX * 2).unwrap_or(i64::MAX),
        metadata,
        ..pull::Config::default()
    };
    if pins(server) {
        pull::Config {
            priority_policy: PriorityPolicy::PinnedClient,
            priority_groups: vec![GROUP.to_owned()],
            priority_timeout: PIN_WAIT,
            ..plain
        }
    } else {
        plain
    }
}

/// Whether the server gives a consumer to one gateway at a time.
pub(crate) fn pins(server: &Server) -> bool {
    server.is_at_least(2, 11)
}

/// The cursor of a consumer; `None` for a consumer of another program.
pub(crate) fn cursor_of(info: &Info) -> Option<CursorName> {
    info.config.metadata.get(CURSOR).map(CursorName::new)
}

/// The owner of a consumer's cursor, where that is known.
pub(crate) fn owner_of(info: &Info) -> Option<&str> {
    info.config.metadata.get(OWNER).map(String::as_str)
}

/// The configuration of the same consumer with this owner.
pub(crate) fn owned(info: &Info, owner: &str) -> async_nats::jetstream::consumer::Config {
    let mut config = info.config.clone();
    config.metadata.insert(OWNER.to_owned(), owner.to_owned());
    config
}

/// How far a cursor is, as the server reports it.
pub(crate) fn progress(info: &Info) -> ConsumerProgress {
    let start = match info.config.deliver_policy {
        async_nats::jetstream::consumer::DeliverPolicy::ByStartSequence { start_sequence } => start_sequence,
        _ => 1,
    };
    let delivered = info.delivered.stream_sequence.max(start - 1);
    ConsumerProgress {
        settled_below: (info.ack_floor.stream_sequence + 1).max(start),
        unsettled: info.num_pending + u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX),
        last: delivered + info.num_pending,
    }
}
