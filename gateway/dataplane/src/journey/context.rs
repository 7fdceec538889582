//! The state that all deliveries of one subscription share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use channel::{Channel, Delivery};
use event::Event;
use spec::ObjectName;

use super::{breaker::Health, failure::Failure, gate::Gate, report::Reports, route::Route};

/// Bytes of replies at most that wait for their target, of one subscription. Beyond that no event is pulled and no attempt begins:
/// each could bring another reply, and giving events back would call the subscriber again (CONTRACT RP-2). As large as what a
/// dispatcher holds of events; attempts in flight may add one reply each, so at most `maxInFlight` times `maxReplyBytes` more.
const REPLIES_HELD_MAX_BYTES: usize = 16 * 1024 * 1024;

/// The wait before a check is repeated for something other than the sink: file descriptors, room for replies, a target that is
/// not resolved.
pub(crate) const RECHECK_AFTER: Duration = Duration::from_secs(1);

pub(crate) struct Context {
    pub(crate) name: Arc<ObjectName>,
    pub(crate) channel_name: ObjectName,
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) max_hops: u32,
    pub(crate) gate: Arc<Gate>,
    pub(crate) reports: Reports,
    /// The dispatcher holds so many events that those which wait go back to the channel until their time comes.
    pub(crate) crowded: AtomicBool,
    route: ArcSwap<Route>,
    /// Bytes of replies that wait for their target.
    replies_held_bytes: AtomicUsize,
}

impl Context {
    pub(crate) fn new(channel: Arc<dyn Channel>, max_hops: u32, reports: Reports, route: Arc<Route>) -> Self {
        Self {
            name: reports.name.clone(),
            channel_name: route.subscription.channel.clone(),
            channel,
            max_hops,
            gate: Arc::default(),
            reports,
            crowded: AtomicBool::new(false),
            route: ArcSwap::new(route),
            replies_held_bytes: AtomicUsize::new(0),
        }
    }

    pub(crate) fn route(&self) -> Arc<Route> {
        self.route.load_full()
    }

    /// Uses the new route from the next attempt on; attempts in flight are not disturbed.
    pub(crate) fn reroute(&self, route: Arc<Route>) {
        self.route.store(route);
        self.gate.changed.notify_one();
    }

    /// The subscriber took the event, with this status where it has one. `fault` is the fault of its reply.
    pub(crate) fn succeeded(&self, event: &Event, status: Option<u16>, took: Duration, fault: Option<Box<str>>) {
        self.reports.succeeded(event, status, took, fault);
        if self.gate.succeeded() {
            self.reports.health_changed(Health::Healthy, None);
        }
    }

    /// An attempt failed. `wait` is the time to the next one, if there is one.
    pub(crate) fn failed(&self, delivery: &Delivery, failure: &Failure, took: Duration, wait: Option<Duration>) {
        self.reports.failed(delivery, failure, took, wait);
        if let Some(health) = self.gate.failed(delivery.offset(), failure) {
            self.reports.health_changed(health, Some(failure));
        }
    }

    /// Whether another reply may have to be held.
    pub(crate) fn has_reply_room(&self) -> bool {
        self.replies_held_bytes.load(Ordering::Relaxed) < REPLIES_HELD_MAX_BYTES
    }

    /// Counts a reply that waits for its target, until the guard is dropped.
    pub(crate) fn hold_reply(&self, reply: &Event) -> HeldReply<'_> {
        let bytes = reply.size();
        self.replies_held_bytes.fetch_add(bytes, Ordering::Relaxed);
        HeldReply { context: self, bytes }
    }
}

/// A reply that waits for its target.
pub(crate) struct HeldReply<'a> {
    context: &'a Context,
    bytes: usize,
}

impl Drop for HeldReply<'_> {
    fn drop(&mut self) {
        self.context.replies_held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        // The dispatcher may pull again.
        self.context.gate.changed.notify_one();
    }
}
