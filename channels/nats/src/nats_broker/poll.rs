//! Polling while a channel is open: where its stream ends, which cursors there are, and what retention may delete.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Ends, NatsBroker, cursors::listed};
use crate::{error::OpenError, stream, trim};

/// Others' writes, and a stream that was deleted, are noticed within this.
const POLL_EVERY: Duration = Duration::from_secs(5);
/// The same while a reader waits for the channel to grow.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Cursors that other gateways hold are listed this often.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// An outage ends when the stream answers and no append has failed for this long, which is longer than an append waits.
const OUTAGE_QUIET: Duration = Duration::from_secs(20);

/// Keeps polling where the stream begins and ends, because others write to it, too.
pub(super) async fn poll(broker: Arc<NatsBroker>) {
    loop {
        let every = if broker.state.is_watched() {
            WATCH_EVERY
        } else {
            POLL_EVERY
        };
        tokio::time::sleep(every).await;
        if !broker.server.is_connected() {
            continue;
        }
        let name = &broker.settings.stream;
        match broker.server.stream_info(name).await {
            Ok(Some(info)) => {
                let is_led = info.cluster.as_ref().is_none_or(|cluster| cluster.leader.is_some());
                if is_led && broker.outage.end_if_quiet_for(OUTAGE_QUIET) {
                    tracing::info!(stream = name, "JetStream acknowledges again");
                }
                broker.seen(&info);
            }
            Ok(None) => broker.recreate().await,
            Err(error) => tracing::debug!(stream = name, %error, "polling the stream"),
        }
        match broker.server.stream_info(broker.dead_letters.stream()).await {
            Ok(Some(info)) => broker.dead_letters.counted(info.state.messages),
            Ok(None) => broker.recreate().await,
            Err(error) => tracing::debug!(stream = broker.dead_letters.stream(), %error, "polling the dead letters"),
        }
    }
}

pub(super) async fn list(broker: Arc<NatsBroker>) {
    loop {
        tokio::time::sleep(LIST_EVERY).await;
        match broker.server.consumers(&broker.settings.stream).await {
            Ok(consumers) => *broker.listed.lock() = listed(&consumers),
            Err(error) => tracing::debug!(stream = broker.settings.stream, %error, "listing the consumers"),
        }
    }
}

pub(super) async fn trim(broker: Arc<NatsBroker>) {
    loop {
        tokio::time::sleep(trim::TRIM_EVERY).await;
        let Ends { first, last, .. } = *broker.ends.lock();
        if broker.found.ours && broker.found.keeps_all {
            trim::trim(&broker.server, &broker.settings.stream, first, last).await;
        }
    }
}

impl NatsBroker {
    /// Moves the known ends to those that the server reported. They may lie behind what this process wrote meanwhile.
    pub(super) fn seen(&self, seen: &async_nats::jetstream::stream::Info) {
        self.bytes.store(seen.state.bytes, Ordering::Relaxed);
        let created = seen.created.into();
        let mut known = self.ends.lock();
        let grown = if created == known.created {
            let grown = seen.state.last_sequence > known.last;
            known.first = known.first.max(seen.state.first_sequence);
            known.last = known.last.max(seen.state.last_sequence);
            grown
        } else {
            *known = Ends {
                first: seen.state.first_sequence,
                last: seen.state.last_sequence,
                created,
            };
            true
        };
        drop(known);
        if grown {
            self.state.notify_grown();
        }
    }

    /// Recreates a stream of this gateway that was deleted. An adopted stream is recreated by its owner.
    async fn recreate(&self) {
        let made = async {
            if !self.found.ours {
                return Err(OpenError::Unfit {
                    stream: self.settings.stream.clone(),
                    why: "it was deleted; Headgate did not make it, so it waits until somebody makes it again".into(),
                });
            }
            let found = stream::events(&self.server, &self.settings).await?;
            stream::companion(&self.server, self.dead_letters.stream(), &found, false).await?;
            stream::companion(&self.server, &self.attempts, &found, true).await
        };
        match made.await {
            Ok(_) => {
                tracing::warn!(
                    stream = self.settings.stream,
                    "a stream was deleted and has been made again"
                );
                if let Ok(Some(info)) = self.server.stream_info(&self.settings.stream).await {
                    self.seen(&info);
                }
            }
            Err(error) => {
                tracing::warn!(stream = self.settings.stream, %error, "a stream was deleted and cannot be made again");
                self.refuse(error.to_string(), None);
            }
        }
    }
}
