//! The attempts of events that were tried and not delivered yet (CONTRACT DL-4): a stream of their own, with one subject for each
//! event of each cursor.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{consumer::DeliverPolicy, stream::PurgeRequest};
use channel::Attempts;
use channel_broker::HELD_MAX;
use serde::{Deserialize, Serialize};

use crate::{api::ApiError, connection::Server, reader};

/// Where the attempts of a cursor are stored.
#[derive(Clone, Debug)]
pub(crate) struct AttemptLog {
    pub(crate) stream: String,
    pub(crate) consumer: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredAttempts {
    failed: u32,
    last_status: Option<u16>,
    first_at_ms: Option<u64>,
    next_at_ms: Option<u64>,
    /// Not there in what version 0.1 wrote.
    retry_after_ms: Option<u64>,
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

fn encode(attempts: Attempts) -> Vec<u8> {
    let stored = StoredAttempts {
        failed: attempts.failed,
        last_status: attempts.last_status,
        first_at_ms: attempts.first_at.map(millis),
        next_at_ms: attempts.next_at.map(millis),
        retry_after_ms: attempts
            .retry_after
            .map(|asked| u64::try_from(asked.as_millis()).unwrap_or(u64::MAX)),
    };
    // Numbers alone: cannot fail.
    serde_json::to_vec(&stored).unwrap_or_default()
}

fn decode(payload: &[u8]) -> Option<Attempts> {
    let stored: StoredAttempts = serde_json::from_slice(payload).ok()?;
    Some(Attempts {
        failed: stored.failed,
        last_status: stored.last_status,
        first_at: stored.first_at_ms.and_then(time),
        next_at: stored.next_at_ms.and_then(time),
        retry_after: stored.retry_after_ms.map(Duration::from_millis),
    })
}

impl AttemptLog {
    fn subject(&self, sequence: u64) -> String {
        format!("{}.{}.{sequence}", self.stream, self.consumer)
    }

    fn all(&self) -> String {
        format!("{}.{}.*", self.stream, self.consumer)
    }

    /// Writes what changed without waiting for an answer; `None`: the event is settled.
    pub(crate) async fn report(&self, server: &Server, changed: BTreeMap<u64, Option<Attempts>>) {
        for (sequence, attempts) in changed {
            let written = match attempts {
                Some(attempts) => {
                    server
                        .client
                        .publish(self.subject(sequence), encode(attempts).into())
                        .await
                }
                None => server.purge_untold(&self.stream, self.subject(sequence)).await,
            };
            if let Err(error) = written {
                tracing::debug!(stream = self.stream, sequence, %error, "attempts are not remembered");
            }
        }
    }

    /// Writes them and waits until they are stored.
    pub(crate) async fn save(&self, server: &Server, all: &BTreeMap<u64, Attempts>) {
        let mut acks = Vec::with_capacity(all.len());
        for (sequence, attempts) in all {
            match server
                .context
                .publish(self.subject(*sequence), encode(*attempts).into())
                .await
            {
                Ok(ack) => acks.push(ack),
                Err(error) => tracing::debug!(stream = self.stream, sequence, %error, "attempts are not saved"),
            }
        }
        for ack in acks {
            if let Err(error) = ack.await {
                tracing::debug!(stream = self.stream, %error, "attempts are not saved");
            }
        }
    }

    /// Loads the attempts that earlier holders of the cursor stored, by the events' sequences.
    pub(crate) async fn load(&self, server: &Server) -> Result<BTreeMap<u64, Attempts>, reader::Fault> {
        let mut found = BTreeMap::new();
        let visit = |message: &async_nats::jetstream::Message| {
            let sequence = message.subject.rsplit('.').next().and_then(|last| last.parse().ok());
            if let (Some(sequence), Some(attempts)) = (sequence, decode(&message.payload)) {
                found.insert(sequence, attempts);
            }
            true
        };
        reader::page(
            server,
            &self.stream,
            DeliverPolicy::All,
            Some(&self.all()),
            HELD_MAX,
            visit,
        )
        .await?;
        Ok(found)
    }

    /// Deletes all attempts of the cursor.
    pub(crate) async fn delete(&self, server: &Server) -> Result<(), ApiError> {
        let request = PurgeRequest {
            filter: Some(self.all()),
            ..PurgeRequest::default()
        };
        match server.purge(&self.stream, &request).await {
            Err(error) if !error.is_gone() => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: DL-4
    #[test]
    fn attempts_are_read_as_they_were_written_to_the_millisecond() {
        for attempts in [
            Attempts::default(),
            Attempts {
                failed: 3,
                last_status: Some(503),
                first_at: time(1_700_000_000_123),
                next_at: time(1_700_000_009_001),
                retry_after: Some(Duration::from_millis(2500)),
            },
        ] {
            assert_eq!(decode(&encode(attempts)), Some(attempts));
        }
        assert_eq!(decode(b"of somebody else"), None);
        let earlier = br#"{"failed":3,"lastStatus":503,"firstAtMs":null,"nextAtMs":null}"#;
        assert_eq!(
            decode(earlier).map(|attempts| (attempts.failed, attempts.retry_after)),
            Some((3, None))
        );
    }
}
