//! A channel on a scripted disk. Events, cursors and dead letters are durable at once; acknowledgements after a while, so that a
//! crash loses some. The disk outlives the process, and notes what the data plane does with it.

mod cursor;
mod dead_letters;

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use channel::{
    AppendError, Channel, Cursor, CursorLease, CursorName, CursorStatus, DeadLetterLog, Delivery, Depth, Durability,
    Offset, Promises, ReadError, Record, SettlementState, Start, Stored, StoredDeadLetter, Watermark,
    progress::{Holder, Progress},
};
use cursor::{Receipt, SimCursor};
use event::Event;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{
    history::{Fact, History, Millis},
    scenario::{ChannelPlan, Fault},
    subscribers::is_intact,
};

const PAGE_BYTES: usize = 2 << 20;

/// What an append or a dead letter takes.
const LATENCY: Duration = Duration::from_millis(1);

/// What survives a process.
pub(crate) struct Disk {
    number: usize,
    plan: ChannelPlan,
    history: Arc<History>,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    events: Vec<Record>,
    cursors: BTreeMap<String, CursorState>,
    dead_letters: BTreeMap<Offset, StoredDeadLetter>,
    next_dead_letter: Offset,
    /// Until when each fault lasts.
    faults: Vec<(Fault, Millis)>,
    /// The channel that is open; what an earlier one is told is ignored.
    opened: u64,
}

/// A cursor on disk, and the part of it that is open.
struct CursorState {
    durable: Watermark,
    /// Settled, and durable after a while.
    fresh: Vec<(Millis, Offset)>,
    progress: Progress<Instant>,
    lease: Arc<CursorLease>,
}

impl Disk {
    pub(crate) fn new(number: usize, plan: ChannelPlan, history: Arc<History>) -> Arc<Self> {
        Arc::new(Self {
            number,
            plan,
            history,
            content: Mutex::default(),
        })
    }

    pub(crate) fn fail(&self, fault: Fault, lasts: Millis) {
        let until = self.history.now() + lasts;
        self.content.lock().faults.push((fault, until));
    }

    pub(crate) fn mend(&self) {
        self.content.lock().faults.clear();
    }

    /// Returns how long the fault lasts from now on.
    pub(crate) fn fails(&self, fault: Fault) -> Option<Duration> {
        let now = self.history.now();
        let content = self.content.lock();
        let until = content
            .faults
            .iter()
            .filter(|(known, until)| *known == fault && *until > now);
        until.map(|(_, until)| Duration::from_millis(until - now)).max()
    }

    /// The process ends at once: what is not durable is lost, and nothing that it still does counts.
    pub(crate) fn crash(&self) {
        let durable_until = self.history.now().saturating_sub(self.plan.lag);
        let mut content = self.content.lock();
        content.opened += 1;
        for state in content.cursors.values_mut() {
            let fresh = std::mem::take(&mut state.fresh);
            fresh
                .iter()
                .filter(|(at, _)| *at <= durable_until)
                .for_each(|(_, offset)| {
                    state.durable.settle(*offset);
                });
        }
    }

    pub(crate) fn open(self: &Arc<Self>) -> Arc<SimChannel> {
        let mut content = self.content.lock();
        content.opened += 1;
        let remembers = self.plan.remembers;
        for state in content.cursors.values_mut() {
            let attempts = if remembers {
                state.progress.attempts().clone()
            } else {
                BTreeMap::new()
            };
            state.progress = Progress::restore(state.durable.clone(), attempts);
            state.lease = Arc::default();
        }
        let generation = content.opened;
        Arc::new_cyclic(|own| SimChannel {
            disk: self.clone(),
            generation,
            own: own.clone(),
            grown: Notify::new(),
        })
    }

    /// Events that no cursor may leave behind.
    pub(crate) fn unsettled(&self) -> Vec<(String, u64)> {
        let content = self.content.lock();
        let next = Offset(content.events.len() as u64);
        let all = content
            .cursors
            .iter()
            .map(|(name, state)| (name.clone(), state.progress.settled().unsettled(next)));
        all.filter(|(_, unsettled)| *unsettled > 0).collect()
    }
}

fn unavailable() -> AppendError {
    AppendError::Unavailable {
        retry_after: Duration::from_secs(1),
        source: io::Error::other("scripted fault").into(),
    }
}

fn unreadable() -> ReadError {
    ReadError::Unavailable(io::Error::other("scripted fault").into())
}

/// The channel of one process.
pub(crate) struct SimChannel {
    disk: Arc<Disk>,
    generation: u64,
    own: Weak<Self>,
    grown: Notify,
}

impl SimChannel {
    fn is_closed(&self, content: &Content) -> bool {
        content.opened != self.generation
    }

    fn store(&self, events: &[Event]) -> Result<Stored, AppendError> {
        let mut content = self.disk.content.lock();
        if self.is_closed(&content) {
            return Err(AppendError::Closed);
        }
        for event in events {
            let offset = Offset(content.events.len() as u64);
            content.events.push(Record {
                offset,
                stored_at: SystemTime::now(),
                event: event.clone(),
            });
            self.disk.history.note(Fact::Stored {
                channel: self.disk.number,
                offset: offset.0,
                id: event.id().to_owned(),
                key: event.text("partitionkey").map(str::to_owned),
                lot: event.text("lot").unwrap_or_default().to_owned(),
                size: event.size(),
                intact: is_intact(event),
            });
        }
        content.cursors.values().for_each(|state| state.lease.wake());
        self.grown.notify_waiters();
        let last = Offset(content.events.len() as u64 - 1);
        Ok(Stored::at(Durability::Disk, last))
    }

    /// Takes what is there; the time to poll again when it is nothing.
    fn take(&self, name: &str, holder: Holder, max: usize) -> Result<Vec<Delivery>, Option<Instant>> {
        let mut content = self.disk.content.lock();
        let Content { events, cursors, .. } = &mut *content;
        let Some(state) = cursors.get_mut(name) else {
            return Err(None);
        };
        let (mut bytes, mut taken) = (0, Vec::new());
        while taken.len() < max.max(1) && bytes < PAGE_BYTES {
            let Some(offset) = state.progress.take(Instant::now, Offset(events.len() as u64)) else {
                break;
            };
            let record = &events[usize::try_from(offset.0).unwrap_or(usize::MAX)];
            bytes += record.event.size();
            let Some(channel) = self.own.upgrade() else { break };
            let receipt = Receipt {
                channel,
                cursor: name.to_owned(),
                lease: state.lease.clone(),
                holder,
                offset,
            };
            let attempts = state.progress.attempts_of(offset);
            self.disk.history.note(Fact::HandedOut {
                channel: self.disk.number,
                cursor: name.to_owned(),
                offset: offset.0,
                size: record.event.size(),
            });
            taken.push(Delivery::new(
                record.event.clone(),
                offset,
                record.stored_at,
                attempts,
                Box::new(receipt),
            ));
        }
        match taken.is_empty() {
            true => Err(state.progress.next_due()),
            false => Ok(taken),
        }
    }
}

#[async_trait]
impl Channel for SimChannel {
    fn promises(&self) -> Promises {
        Promises {
            durability: Durability::Disk,
            survives_restart: true,
            total_order: true,
            replay: true,
            remembers_attempts: self.disk.plan.remembers,
            max_event_bytes: 8 << 20,
        }
    }

    async fn append(&self, events: &[Event]) -> Result<Stored, AppendError> {
        sleep(LATENCY).await;
        while let Some(rest) = self.disk.fails(Fault::Stalls) {
            sleep(rest).await;
        }
        if self.disk.fails(Fault::Full).is_some() {
            return Err(AppendError::Full {
                retry_after: Duration::from_secs(1),
            });
        }
        if self.disk.fails(Fault::Unavailable).is_some() {
            return Err(unavailable());
        }
        let stored = self.store(events)?;
        // A crash between the two is an append whose fate nobody knows.
        sleep(LATENCY).await;
        match self.disk.fails(Fault::Lies) {
            Some(_) => Err(unavailable()),
            None => Ok(stored),
        }
    }

    async fn subscribe(
        &self,
        name: &CursorName,
        _owner: Option<&str>,
        start: Start,
    ) -> Result<Box<dyn Cursor>, ReadError> {
        sleep(LATENCY).await;
        let mut content = self.disk.content.lock();
        if self.is_closed(&content) {
            return Err(ReadError::Closed);
        }
        let next = Offset(content.events.len() as u64);
        let start = match start {
            Start::Latest => next,
            Start::Earliest | Start::Time(_) => Offset(0),
            Start::Offset(offset) => offset.min(next),
        };
        let name = name.as_str().to_owned();
        let state = content.cursors.entry(name.clone()).or_insert_with(|| {
            self.disk.history.note(Fact::CursorCreated {
                channel: self.disk.number,
                cursor: name.clone(),
                start: start.0,
            });
            CursorState {
                durable: Watermark::new(start),
                fresh: Vec::new(),
                progress: Progress::new(start),
                lease: Arc::default(),
            }
        });
        if !state.lease.take() {
            return Err(ReadError::InUse { name });
        }
        let holder = state.progress.take_over();
        let (lease, channel) = (state.lease.clone(), self.own.upgrade().ok_or(ReadError::Closed)?);
        Ok(Box::new(SimCursor {
            channel,
            name,
            lease,
            holder,
        }))
    }

    async fn delete(&self, name: &CursorName, _owner: Option<&str>) -> Result<(), ReadError> {
        sleep(LATENCY).await;
        let mut content = self.disk.content.lock();
        if self.is_closed(&content) {
            return Err(ReadError::Closed);
        }
        if let Some(state) = content.cursors.remove(name.as_str()) {
            state.lease.end();
            self.disk.history.note(Fact::CursorDeleted {
                channel: self.disk.number,
                cursor: name.as_str().to_owned(),
            });
        }
        Ok(())
    }

    async fn read(&self, from: Offset, max: usize) -> Result<Vec<Record>, ReadError> {
        sleep(LATENCY).await;
        let content = self.disk.content.lock();
        let from = usize::try_from(from.0).unwrap_or(usize::MAX);
        Ok(content.events.iter().skip(from).take(max.min(20)).cloned().collect())
    }

    async fn ranges(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError> {
        let next = Offset(self.disk.content.lock().events.len() as u64);
        let start = match start {
            Start::Latest => next,
            Start::Earliest | Start::Time(_) => Offset(0),
            Start::Offset(offset) => offset.min(next),
        };
        Ok(vec![start..next])
    }

    fn settlement_state(&self, cursor: &CursorName, offset: Offset) -> Option<SettlementState> {
        self.disk
            .content
            .lock()
            .cursors
            .get(cursor.as_str())
            .map(|state| state.progress.settlement_state(offset))
    }

    async fn grown(&self, from: Offset) {
        loop {
            let grown = self.grown.notified();
            {
                let content = self.disk.content.lock();
                if self.is_closed(&content) || content.events.len() as u64 > from.0 {
                    return;
                }
            }
            grown.await;
        }
    }

    fn dead_letters(&self) -> &dyn DeadLetterLog {
        self
    }

    fn depth(&self) -> Depth {
        let content = self.disk.content.lock();
        let next = Offset(content.events.len() as u64);
        let cursors = content.cursors.iter().map(|(name, state)| CursorStatus {
            name: CursorName::new(name.clone()),
            owner: None,
            settled_below: state.progress.settled().settled_below(),
            unsettled: state.progress.settled().unsettled(next),
            oldest: None,
        });
        Depth {
            next,
            cursors: cursors.collect(),
            ..Depth::default()
        }
    }

    async fn close(&self) {
        sleep(LATENCY).await;
        let mut content = self.disk.content.lock();
        if self.is_closed(&content) {
            return;
        }
        content.opened += 1;
        for state in content.cursors.values_mut() {
            state.lease.end();
            let fresh = std::mem::take(&mut state.fresh);
            fresh.iter().for_each(|(_, offset)| {
                state.durable.settle(*offset);
            });
        }
        self.grown.notify_waiters();
    }
}
