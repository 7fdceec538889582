//! The journey of an event: accepted, kept, delivered, settled.
//!
//! Read it in this order: [`ingress`] (what is refused, and 202 only after storage), then [`journey`] (one subscription is one
//! task: try, classify, wait, again, until the delivery is settled).
//! [`plane`] puts the pieces together from a [`spec::Spec`]. Nothing in here names a backend or an adapter:
//! [`plane::Backends`] opens them.

#![warn(missing_docs)]

mod dead_letters;
mod ingress;
mod inspect;
mod journey;
mod metrics;
mod plane;
mod publishers;
pub mod server;
#[cfg(test)]
mod tests;

pub use adapter::chain;
pub use dead_letters::{
    DeadLetter, DeadLetterError, FailureGroup, ListedDeadLetter, Redrive, RedriveCounts, RunningRedrive,
};
pub use inspect::{
    explain::{Explain, Explanation, FoundEvent, Row, Searched, Stage},
    replay::{Progress, Replay, ReplayCounts, ReplayError, Until},
    traffic::{Backlog, SubscriptionTraffic, Traffic},
    tries::{FailedTry, Try, TryEnd},
};
pub use plane::{Backends, Identity, Plane, Readiness, RouteKind, Settings, SourceParts, SwitchError};
