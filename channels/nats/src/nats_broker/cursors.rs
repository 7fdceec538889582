//! How a cursor is opened and deleted on the server.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::consumer::Info;
use channel::{CursorName, ReadError, Start, is_anothers};
use channel_broker::{OpenCursor, stop_signal, unreadable};

use super::NatsBroker;
use crate::{
    attempts::AttemptLog,
    consumer::{self, ConsumerProgress},
    cursor::NatsCursor,
    member::{Context, Member},
    names, reader,
};

/// Opening a cursor takes this long at most, for others wait meanwhile: one request without an answer, and a few with one.
const OPEN_CURSOR_MAX: Duration = Duration::from_secs(10);

/// A cursor as the server lists it.
pub(super) struct Listed {
    pub(super) name: CursorName,
    pub(super) owner: Option<String>,
    pub(super) consumer: String,
    pub(super) progress: ConsumerProgress,
}

/// The cursors among the consumers of a stream.
pub(super) fn listed(consumers: &[Info]) -> Vec<Listed> {
    let cursor = |info: &Info| {
        Some(Listed {
            name: consumer::cursor_of(info)?,
            owner: consumer::owner_of(info).map(str::to_owned),
            consumer: info.name.clone(),
            progress: consumer::progress(info),
        })
    };
    consumers.iter().filter_map(cursor).collect()
}

impl NatsBroker {
    /// Fails at once while the servers are known to be away, because other callers wait meanwhile.
    pub(super) fn reachable(&self) -> Result<(), ReadError> {
        if self.server.is_connected() {
            Ok(())
        } else {
            Err(unreadable(self.server.health.away()))
        }
    }

    /// Returns the sequence at which a new cursor begins.
    pub(super) async fn start(&self, start: Start) -> Result<u64, ReadError> {
        let name = &self.settings.stream;
        let info = self.server.stream_info(name).await.map_err(unreadable)?;
        let info = info.ok_or_else(|| unreadable(format!("stream {name} is not there")))?;
        self.seen(&info);
        let (first, next) = (info.state.first_sequence.max(1), info.state.last_sequence + 1);
        Ok(match start {
            Start::Latest => next,
            Start::Earliest => first,
            Start::Offset(offset) => offset.0.clamp(first.min(next), next),
            Start::Time(time) => {
                let found = reader::sequence_at(&self.server, name, time)
                    .await
                    .map_err(unreadable)?;
                found.unwrap_or(next)
            }
        })
    }

    /// Returns the consumer of a cursor, creating it if it does not exist.
    async fn register(&self, name: &CursorName, owner: Option<&str>, start: Start) -> Result<Info, ReadError> {
        let stream = &self.settings.stream;
        if let Some(mut info) = self.registered(name, owner).await? {
            if let (None, Some(owner)) = (consumer::owner_of(&info), owner) {
                let owned = consumer::owned(&info, owner);
                let changed = self.server.change_consumer(stream, &info.name, &owned).await;
                info = changed.map_err(unreadable)?;
            }
            return Ok(info);
        }
        let start = self.start(start).await?;
        let consumer = names::owned(name.as_str(), owner);
        let config = consumer::config(&self.server, consumer, name, owner, start);
        self.server.create_consumer(stream, &config).await.map_err(unreadable)
    }

    /// Returns the consumer of a cursor: the owner's, else an unowned one. Without an owner, any consumer of the cursor.
    pub(super) async fn registered(&self, name: &CursorName, owner: Option<&str>) -> Result<Option<Info>, ReadError> {
        let own = names::owned(name.as_str(), owner);
        let unowned = owner.map(|_| names::consumer(name.as_str()));
        for consumer in [Some(own), unowned].into_iter().flatten() {
            match self.server.consumer_info(&self.settings.stream, &consumer).await {
                Ok(info) if !is_anothers(consumer::owner_of(&info), owner) => return Ok(Some(info)),
                Ok(_) => {}
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        if owner.is_some() {
            return Ok(None);
        }
        let all = self.server.consumers(&self.settings.stream).await.map_err(unreadable)?;
        Ok(all
            .into_iter()
            .find(|info| consumer::cursor_of(info).as_ref() == Some(name)))
    }

    /// Deletes the consumer of a cursor and the attempts of its events.
    pub(super) async fn unregister(&self, consumer: &str) -> Result<(), ReadError> {
        let deleted = self.server.delete_consumer(&self.settings.stream, consumer).await;
        deleted.map_err(unreadable)?;
        self.listed.lock().retain(|listed| listed.consumer != consumer);
        let attempts = self.attempt_log(consumer).delete(&self.server).await;
        attempts.map_err(unreadable)
    }

    fn attempt_log(&self, consumer: &str) -> AttemptLog {
        AttemptLog {
            stream: self.attempts.clone(),
            consumer: consumer.to_owned(),
        }
    }

    /// Opens a cursor and starts its member, within [`OPEN_CURSOR_MAX`].
    pub(super) async fn consume(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<Arc<OpenCursor<NatsCursor>>, ReadError> {
        let begun = tokio::time::timeout(OPEN_CURSOR_MAX, self.begin(name, owner, start));
        begun.await.unwrap_or_else(|_| {
            let servers = self.server.connection().shown();
            Err(unreadable(format!("NATS at {servers} does not answer")))
        })
    }

    async fn begin(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<Arc<OpenCursor<NatsCursor>>, ReadError> {
        self.reachable()?;
        let info = self.register(name, owner, start).await?;
        let cursor = Arc::new(NatsCursor::new(name.clone(), consumer::progress(&info)));
        let owner = consumer::owner_of(&info).map(str::to_owned);
        let (stop, stopped) = stop_signal();
        let context = Context {
            server: self.server.clone(),
            stream: self.settings.stream.clone(),
            created: self.ends.lock().created,
            owner: owner.clone(),
            attempts: self.attempt_log(&info.name),
            cursor: cursor.clone(),
            dead_letters: self.dead_letters.clone(),
        };
        let member = Member::join(context, stopped).await.map_err(unreadable)?;
        Ok(OpenCursor::start(info.name, owner, cursor, stop, member))
    }
}
