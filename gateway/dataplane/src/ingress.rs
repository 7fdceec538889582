//! The one way in: what is refused and how, and 202 only after `append` returned.
//!
//! HTTP requests and in-process adapters pass the same [`Door`]. A door belongs to a channel and is published only once the
//! channel's subscriptions have their cursors, so that what it takes reaches all of them (CONTRACT CH-1). Nothing is
//! buffered here: a caller waits for its own append, and a refusal says when to come back (IN-3).

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use adapter::{Accept, Accepted, Hook, Refused};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use channel::{AppendError, Channel};
use event::Event;
use spec::ObjectName;

use crate::{
    lineage,
    metrics::{DoorMetrics, Metrics},
    server::Forwarder,
};

/// What a client that is refused because the gateway drains or is overloaded is asked to wait: another replica, or this one
/// restarted, is there by then.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// A channel's way in.
pub(crate) struct Door {
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) max_event_bytes: usize,
    pub(crate) metrics: DoorMetrics,
    draining: Arc<AtomicBool>,
}

impl Door {
    /// Stores events from outside, all or none.
    pub(crate) async fn store(&self, mut events: Vec<Event>) -> Result<Accepted, Refused> {
        for event in &mut events {
            if event.text(lineage::HOPS).is_some() {
                *event = lineage::from_outside(event.clone());
            }
        }
        self.append(&events).await
    }

    /// One event needs no list of its own.
    pub(crate) async fn store_one(&self, event: Event) -> Result<Accepted, Refused> {
        self.append(std::slice::from_ref(&lineage::from_outside(event))).await
    }

    async fn append(&self, events: &[Event]) -> Result<Accepted, Refused> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(self.refused(Refused::Draining { retry_after: SOON }));
        }
        match self.channel.append(events).await {
            Ok(stored) => {
                self.metrics.accepted.inc_by(events.len() as u64);
                self.metrics
                    .accepted_bytes
                    .inc_by(events.iter().map(Event::size).sum::<usize>() as u64);
                Ok(Accepted::stored(stored))
            }
            Err(error) => Err(self.refused(refusal(error))),
        }
    }

    fn refused(&self, refused: Refused) -> Refused {
        self.metrics.refused(refused.reason());
        refused
    }
}

fn refusal(error: AppendError) -> Refused {
    match error {
        AppendError::Full { retry_after } => Refused::Full { retry_after },
        AppendError::DiskFull { retry_after } => Refused::DiskFull { retry_after },
        AppendError::TooLarge { bytes, limit } => Refused::TooLarge { bytes, limit },
        AppendError::Unavailable { retry_after, source } => Refused::Unavailable {
            reason: source.to_string(),
            retry_after,
        },
        AppendError::Closed => Refused::Unavailable {
            reason: "it is being closed".to_owned(),
            retry_after: SOON,
        },
    }
}

/// A source that is called by HTTP.
pub(crate) struct HookDoor {
    pub(crate) hook: Arc<dyn Hook>,
    /// False while the source's secret is not there: no adapter counts its deliveries.
    pub(crate) is_ready: bool,
}

impl HookDoor {
    pub(crate) fn new(hook: Arc<dyn Hook>) -> Self {
        Self { hook, is_ready: true }
    }

    /// Of a source that is known and cannot take deliveries.
    pub(crate) fn unready() -> Self {
        Self {
            is_ready: false,
            ..Self::new(Arc::new(adapter::Unready))
        }
    }
}

/// What a path leads to.
#[derive(Default)]
pub(crate) struct Doors {
    /// By `NAMESPACE/NAME`.
    pub(crate) channels: HashMap<String, Arc<Door>, foldhash::fast::RandomState>,
    /// Of sources whose deliveries have a form of their own, by `NAMESPACE/NAME`.
    pub(crate) hooks: HashMap<String, Arc<HookDoor>, foldhash::fast::RandomState>,
    /// Of sources that are posted CloudEvents.
    pub(crate) sources: HashMap<String, Arc<HookDoor>, foldhash::fast::RandomState>,
    /// Doors without an address: outboxes of sources with a direct sink.
    pub(crate) implicit: HashMap<String, Arc<Door>, foldhash::fast::RandomState>,
}

/// What other processes have.
#[derive(Default)]
pub(crate) struct Others {
    /// By path: who answers it instead of this process; `None` while nobody does.
    pub(crate) elsewhere: HashMap<String, Option<Arc<str>>>,
    /// Who may know a path that this process does not; `None` for one that is not there now.
    pub(crate) asked: Vec<Option<Arc<str>>>,
}

/// Shared by the server, the adapters and the plane.
pub(crate) struct Ingress {
    doors: ArcSwap<Doors>,
    /// Before the first doors are published nothing is known of any path.
    is_open: AtomicBool,
    others: ArcSwap<Others>,
    pub(crate) forwarder: Forwarder,
    draining: Arc<AtomicBool>,
    pub(crate) metrics: Metrics,
    pub(crate) max_body_bytes: usize,
    pub(crate) bodies: BodyBudget,
}

impl Ingress {
    pub(crate) fn new(metrics: Metrics, max_body_bytes: usize) -> Self {
        Self {
            doors: ArcSwap::default(),
            is_open: AtomicBool::new(false),
            others: ArcSwap::default(),
            forwarder: Forwarder::default(),
            draining: Arc::default(),
            metrics,
            max_body_bytes,
            bodies: BodyBudget::new(max_body_bytes),
        }
    }

    pub(crate) fn door(&self, name: &ObjectName, channel: Arc<dyn Channel>) -> Arc<Door> {
        let (metrics, draining) = (self.metrics.door(name), self.draining.clone());
        let max_event_bytes = channel.promises().max_event_bytes;
        Arc::new(Door {
            channel,
            max_event_bytes,
            metrics,
            draining,
        })
    }

    pub(crate) fn publish(&self, doors: Doors) {
        self.doors.store(Arc::new(doors));
        self.is_open.store(true, Ordering::Release);
    }

    /// Whether a path that leads nowhere does so by the documents, and not because they are still being read.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    pub(crate) fn doors(&self) -> arc_swap::Guard<Arc<Doors>> {
        self.doors.load()
    }

    pub(crate) fn publish_others(&self, others: Others) {
        self.others.store(Arc::new(others));
    }

    pub(crate) fn others(&self) -> Arc<Others> {
        self.others.load_full()
    }

    /// Whether another process answers what is asked for at this path, and its base URL if one does now.
    pub(crate) fn elsewhere(&self, path: &str) -> Option<Option<Arc<str>>> {
        self.others.load().elsewhere.get(path).cloned()
    }

    /// From now on everything is refused with 503.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// A source's way in: its sink's door, found per call, because a channel may be opened again.
pub(crate) struct SourceOutlet {
    pub(crate) ingress: Arc<Ingress>,
    /// `NAMESPACE/NAME` of the channel; `None` while the sink is not there.
    pub(crate) channel: Option<String>,
}

#[async_trait]
impl Accept for SourceOutlet {
    async fn accept(&self, events: Vec<Event>) -> Result<Accepted, Refused> {
        let door = self.channel.as_ref().and_then(|channel| {
            let doors = self.ingress.doors();
            let door = doors.channels.get(channel).or_else(|| doors.implicit.get(channel));
            door.cloned()
        });
        match door {
            Some(door) => door.store(events).await,
            None => Err(Refused::NoChannel),
        }
    }
}

/// Bodies held in memory at once, over all requests (CONTRACT IN-9). Two of the largest hook bodies (25 MiB) fit, and the
/// process stays near 100 MiB when it is full.
const BODY_BUDGET_BYTES: usize = 56 * 1024 * 1024;

pub(crate) struct BodyBudget {
    free: AtomicUsize,
}

impl BodyBudget {
    fn new(max_body_bytes: usize) -> Self {
        Self {
            free: AtomicUsize::new(BODY_BUDGET_BYTES.max(max_body_bytes.saturating_mul(2))),
        }
    }

    /// A share that grows with the body and is given back when dropped.
    pub(crate) fn share(&self) -> BodyShare<'_> {
        BodyShare { budget: self, bytes: 0 }
    }
}

pub(crate) struct BodyShare<'a> {
    budget: &'a BodyBudget,
    bytes: usize,
}

impl BodyShare<'_> {
    /// Makes the share at least this large; false when there is no room.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let taken = self
            .budget
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(more));
        if taken.is_ok() {
            self.bytes = bytes;
        }
        taken.is_ok()
    }
}

impl Drop for BodyShare<'_> {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: IN-9
    #[test]
    fn the_body_budget_is_shared_and_given_back() {
        let budget = BodyBudget::new(1024);
        let mut first = budget.share();
        assert!(first.grow_to(BODY_BUDGET_BYTES - 10));
        let mut second = budget.share();
        assert!(second.grow_to(10));
        assert!(!second.grow_to(11));
        drop(first);
        assert!(second.grow_to(11));
        drop(second);
        assert_eq!(budget.free.load(Ordering::Relaxed), BODY_BUDGET_BYTES);
    }
}
