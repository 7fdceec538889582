//! Opens a channel: creates or adopts its streams, and reads their durability from the server.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use channel_broker::{BrokerChannel, ChannelState, Outage};
use parking_lot::Mutex;

use super::{Ends, NatsBroker, NatsChannel, cursors::listed, poll};
use crate::{
    Settings, connection::Server, dead_letters::NatsDeadLetters, error::OpenError, names, publisher::Publisher, stream,
};

/// Opening a channel takes this long at most: some ten requests that are answered, or three that are not.
const OPEN_MAX: Duration = Duration::from_secs(20);

impl NatsBroker {
    /// Opens a channel: creates its streams or adopts them, and finds out what they promise and which cursors there are. Takes
    /// 20 s at most.
    ///
    /// # Cancel safety
    /// Cancel safe: streams that were made are found by the next call.
    pub async fn open(server: Arc<Server>, settings: &Settings) -> Result<NatsChannel, OpenError> {
        match tokio::time::timeout(OPEN_MAX, Self::opened(server.clone(), settings)).await {
            Ok(opened) => opened,
            Err(_) => Err(server.unreachable(format!("no answer within {} s", OPEN_MAX.as_secs()))),
        }
    }

    async fn opened(server: Arc<Server>, settings: &Settings) -> Result<NatsChannel, OpenError> {
        let found = stream::events(&server, settings).await?;
        let dead_letters = names::dead_letters(&settings.stream);
        let count = stream::companion(&server, &dead_letters, &found, false).await?;
        let attempts = names::attempts(&settings.stream);
        stream::companion(&server, &attempts, &found, true).await?;
        let consumers = server.consumers(&settings.stream).await;
        let consumers = consumers.map_err(|error| server.unreachable(error))?;
        let broker = Self {
            state: ChannelState::new(stream::event_bytes(&found, settings.max_event_bytes)),
            publisher: Publisher::new(found.subject.as_str().into(), found.atomic),
            dead_letters: Arc::new(NatsDeadLetters::new(
                server.clone(),
                dead_letters,
                found.durability,
                count,
            )),
            attempts,
            ends: Mutex::new(Ends {
                first: found.first,
                last: found.last,
                created: found.created,
            }),
            bytes: AtomicU64::new(found.bytes),
            server,
            settings: settings.clone(),
            found,
            listed: Mutex::new(listed(&consumers)),
            freeing: tokio::sync::Mutex::default(),
            refusing: Mutex::default(),
            outage: Outage::default(),
        };
        broker.server.health.joins(&settings.channel);
        Ok(BrokerChannel::new(broker)
            .with_loop("ends of a stream", poll::poll)
            .with_loop("consumers of a stream", poll::list)
            .with_loop("retention of a stream", poll::trim))
    }
}
