//! Counts of events by channel and subscription, and how far each subscription is behind, for people who watch the flow.
//!
//! The same facts are in `/metrics`. Here they are values that can be compared with those of a moment before.

use std::collections::BTreeMap;

use spec::ObjectName;

use crate::Plane;
pub use crate::plane::collector::Backlog;

/// The counts of everything that runs. They start again when a subscription or the process is started again.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Events that each open channel accepted.
    pub accepted: BTreeMap<ObjectName, u64>,
    /// The counts of each running subscription.
    pub subscriptions: BTreeMap<ObjectName, SubscriptionTraffic>,
}

/// The counts of one subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionTraffic {
    /// Events that the subscriber took.
    pub delivered: u64,
    /// Events that filters left out.
    pub left_out: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Events that became dead letters.
    pub dead_lettered: u64,
}

impl Plane {
    /// Returns the counts of now. Cheap: some loads of atomics for each object.
    pub fn traffic(&self) -> Traffic {
        let state = self.0.runtime.state.lock();
        let accepted = state.channels.iter();
        let accepted = accepted.map(|(name, open)| (name.clone(), open.endpoint.metrics.accepted.get()));
        let running = state.subscriptions.iter();
        let running = running.map(|(name, running)| (name.clone(), running.context.reports.metrics.traffic()));
        Traffic {
            accepted: accepted.collect(),
            subscriptions: running.collect(),
        }
    }

    /// Returns how far each subscription is behind. Each open channel is asked once.
    pub fn backlogs(&self) -> BTreeMap<ObjectName, Backlog> {
        crate::plane::collector::backlogs(&self.0)
    }
}
