//! The channel itself: how it is opened, appended to and read.

mod cursors;
mod open;
mod poll;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use channel::{
    AppendError, CursorName, CursorStatus, DeadLetterLog, Offset, Promises, ReadError, Record, SettlementState, Start,
    is_anothers,
};
use channel_broker::{
    Broker, BrokerChannel, ChannelState, OpenCursor, Outage, Page, RETRY_AFTER, unavailable, unreadable,
};
use event::Event;
use parking_lot::Mutex;

use self::cursors::Listed;
use crate::{
    Settings,
    api::ApiError,
    connection::Server,
    consumer,
    cursor::NatsCursor,
    dead_letters::NatsDeadLetters,
    message::{Outgoing, incoming},
    publisher::{Fault, Publisher},
    reader,
    stream::{self, StreamState},
    trim,
};

/// A channel on NATS JetStream.
pub type NatsChannel = BrokerChannel<NatsBroker>;

/// A stream as a channel: the parts that are JetStream's own.
pub struct NatsBroker {
    state: ChannelState<NatsCursor>,
    server: Arc<Server>,
    settings: Settings,
    found: StreamState,
    publisher: Publisher,
    dead_letters: Arc<NatsDeadLetters>,
    attempts: String,
    ends: Mutex<Ends>,
    /// The cursors of the stream, as the server listed them last.
    listed: Mutex<Vec<Listed>>,
    /// Held while space is made.
    freeing: tokio::sync::Mutex<()>,
    /// Why appends are refused while the servers answer.
    refusing: Mutex<Option<Refusal>>,
    outage: Outage,
    /// Bytes of the stream, as the server reported last, and what this process wrote since.
    bytes: AtomicU64,
}

/// Where a stream begins and ends.
#[derive(Clone, Copy)]
struct Ends {
    first: u64,
    last: u64,
    created: SystemTime,
}

struct Refusal {
    why: String,
    /// The stream is full, and this was settled below: what is settled since makes space.
    full_at: Option<u64>,
}

impl NatsBroker {
    /// Changes the largest event of a channel in use; what the server takes stays the limit.
    pub fn configure(&self, max_event_bytes: Option<usize>) {
        let limit = stream::event_bytes(&self.found, max_event_bytes);
        self.state.set_max_event_bytes(limit);
    }
}

/// Faults for tests.
#[cfg(test)]
impl NatsBroker {
    pub(crate) fn panic_in_cursor(&self, name: &CursorName) {
        use channel_broker::BrokerCursor as _;

        let open = self.state.open_cursor(name).expect("an open cursor");
        open.cursor.panics.store(true, Ordering::SeqCst);
        open.cursor.core().room.notify_one();
    }
}

impl NatsBroker {
    fn wrote(&self, sequence: u64, events: &[Event]) {
        let bytes: usize = events.iter().map(Event::size).sum();
        self.bytes
            .fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
        let mut known = self.ends.lock();
        known.last = known.last.max(sequence);
        drop(known);
        *self.refusing.lock() = None;
        if self.outage.end() {
            tracing::info!(stream = self.settings.stream, "JetStream acknowledges again");
        }
        self.state.notify_grown();
    }

    fn refuse(&self, why: String, full_at: Option<u64>) {
        *self.refusing.lock() = Some(Refusal { why, full_at });
    }

    /// The sequence below which every cursor that is open here has settled everything.
    fn settled_here(&self) -> u64 {
        let last = self.ends.lock().last;
        let open = self.state.open_cursors();
        let settled = open.iter().map(|open| open.cursor.settled_below());
        settled.min().unwrap_or(last + 1).min(last + 1)
    }

    /// Deletes what every cursor has settled. `false`: there is nothing to delete.
    async fn make_space(&self) -> Result<bool, ApiError> {
        if !self.found.ours {
            return Ok(false);
        }
        let name = &self.settings.stream;
        let Some(info) = self.server.stream_info(name).await? else {
            return Ok(false);
        };
        let first = info.state.first_sequence;
        let Some(settled) = trim::settled_below(&self.server, name, info.state.last_sequence).await? else {
            return Ok(false);
        };
        if settled <= first {
            return Ok(false);
        }
        trim::purge(&self.server, name, settled).await?;
        let mut known = self.ends.lock();
        known.first = known.first.max(settled);
        Ok(true)
    }

    async fn publish(&self, messages: &[Outgoing<'_>]) -> Result<u64, Fault> {
        match self.publisher.publish(&self.server, messages).await {
            Err(Fault::Full(why)) => {
                let _alone = self.freeing.lock().await;
                match self.make_space().await {
                    Ok(true) => self.publisher.publish(&self.server, messages).await,
                    Ok(false) => Err(Fault::Full(why)),
                    Err(error) => {
                        tracing::debug!(stream = self.settings.stream, %error, "space cannot be made");
                        Err(Fault::Full(why))
                    }
                }
            }
            done => done,
        }
    }
}

#[async_trait]
impl Broker for NatsBroker {
    type Cursor = NatsCursor;

    fn state(&self) -> &ChannelState<NatsCursor> {
        &self.state
    }

    fn name(&self) -> &str {
        &self.settings.stream
    }

    fn promises(&self) -> Promises {
        Promises {
            durability: self.found.durability,
            survives_restart: self.found.on_disk,
            total_order: true,
            replay: true,
            remembers_attempts: self.found.on_disk,
            max_event_bytes: self.state.max_event_bytes(),
        }
    }

    async fn append(&self, events: &[Event]) -> Result<Offset, AppendError> {
        if let Some(why) = self.outage.refusal() {
            return Err(unavailable(why));
        }
        let messages: Vec<Outgoing<'_>> = events.iter().map(Outgoing::new).collect();
        let fault = match self.publish(&messages).await {
            Ok(sequence) => {
                self.wrote(sequence, events);
                return Ok(Offset(sequence));
            }
            Err(fault) => fault,
        };
        let stream = &self.settings.stream;
        Err(match fault {
            Fault::Full(why) => {
                let why = format!("stream {stream} is full of events that not every subscription has settled ({why})");
                self.refuse(why, Some(self.settled_here()));
                AppendError::Full {
                    retry_after: RETRY_AFTER,
                }
            }
            Fault::NoSpace(why) => {
                self.refuse(format!("NATS has no storage left ({why})"), None);
                AppendError::DiskFull {
                    retry_after: RETRY_AFTER,
                }
            }
            Fault::TooLarge(bytes) => AppendError::TooLarge {
                bytes,
                limit: self.state.max_event_bytes(),
            },
            Fault::NotConnected => unavailable(fault),
            fault => {
                let why = fault.to_string();
                if self.outage.failed(why.clone()) {
                    tracing::warn!(
                        stream,
                        why,
                        "JetStream does not acknowledge, appends are refused until it does"
                    );
                }
                unavailable(fault)
            }
        })
    }

    async fn open(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
        current: Option<Arc<OpenCursor<NatsCursor>>>,
    ) -> Result<Arc<OpenCursor<NatsCursor>>, ReadError> {
        let serves =
            |open: &&Arc<OpenCursor<_>>| open.is_running() && (owner.is_none() || open.owner.as_deref() == owner);
        if let Some(open) = current.as_ref().filter(serves) {
            return Ok(open.clone());
        }
        // An unowned cursor is the same when it becomes the owner's.
        let is_same = |open: &OpenCursor<_>| !is_anothers(open.owner.as_deref(), owner);
        let gaps = OpenCursor::retire(current, is_same).await;
        let open = self.consume(name, owner, start).await?;
        open.inherit(gaps);
        Ok(open)
    }

    async fn delete(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        current: Option<Arc<OpenCursor<NatsCursor>>>,
    ) -> Result<(), ReadError> {
        let owner = owner.or_else(|| current.as_ref()?.owner.as_deref());
        if let Some(open) = current.as_ref().filter(|open| open.owner.as_deref() == owner) {
            self.state.end_deleted(open).await;
            self.reachable()?;
            return self.unregister(&open.id).await;
        }
        self.reachable()?;
        match self.registered(name, owner).await? {
            Some(info) if consumer::owner_of(&info) == owner => self.unregister(&info.name).await,
            _ => Ok(()),
        }
    }

    async fn read(&self, from: Offset, mut page: Page<Record>) -> Result<Page<Record>, ReadError> {
        if from.0 > self.ends.lock().last {
            return Ok(page);
        }
        let max = page.max();
        let visit = |message: &async_nats::jetstream::Message| {
            let Some(message) = incoming(message) else { return true };
            // A malformed message is among the dead letters of the cursors it was for.
            let Ok(event) = message.content else { return true };
            let bytes = event.size();
            let record = Record {
                offset: Offset(message.sequence),
                stored_at: message.stored_at,
                event,
            };
            page.push(record, bytes)
        };
        let from = reader::from_sequence(from.0);
        let read = reader::page(&self.server, &self.settings.stream, from, None, max, visit).await;
        read.map_err(unreadable)?;
        Ok(page)
    }

    async fn ranges(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError> {
        let begin = self.start(start).await?;
        let end = self.ends.lock().last + 1;
        Ok(vec![Offset(begin)..Offset(end.max(begin))])
    }

    fn settlement_state(&self, cursor: &NatsCursor, offset: Offset) -> Option<SettlementState> {
        cursor.settlement_state(offset.0, consumer::pins(&self.server))
    }

    fn reaches(&self, from: Offset) -> bool {
        let last = self.ends.lock().last;
        last > 0 && last >= from.0
    }

    fn dead_letters(&self) -> &dyn DeadLetterLog {
        &*self.dead_letters
    }

    fn findings(&self) -> Vec<String> {
        self.found.findings.clone()
    }

    fn extent(&self) -> Range<Offset> {
        let Ends { first, last, .. } = *self.ends.lock();
        Offset(first.max(1))..Offset(last + 1)
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed))
    }

    fn refusing(&self) -> Option<String> {
        if !self.server.is_connected() {
            return Some(self.server.health.away());
        }
        let refusing = self.refusing.lock();
        let still = |refusal: &&Refusal| refusal.full_at.is_none_or(|full_at| self.settled_here() <= full_at);
        let refusal = || refusing.as_ref().filter(still).map(|refusal| refusal.why.clone());
        self.outage.why().or_else(refusal)
    }

    fn cursors(&self) -> Vec<CursorStatus> {
        let last = self.ends.lock().last;
        let open = self.state.open_cursors();
        let ours = open.iter().map(|open| open.cursor.status(open.owner.as_deref(), last));
        let listed = self.listed.lock();
        let elsewhere = listed
            .iter()
            .filter(|listed| open.iter().all(|open| open.id != listed.consumer))
            .map(|listed| listed.progress.status(&listed.name, listed.owner.as_deref(), last));
        ours.chain(elsewhere).collect()
    }

    fn release(&self) {
        self.dead_letters.close();
        self.server.health.leaves(&self.settings.channel);
    }
}
