//! The journey of an event: accepted, kept, delivered, settled.
//!
//! Read it in this order: [`ingress`] (what is refused, and 202 only after storage), [`dispatcher`] (one subscription is one
//! task), [`delivery`] (try, classify, wait, again), [`settlement`] (the only place where a delivery is acknowledged).
//! [`plane`] puts the pieces together from a [`spec::Spec`]. Nothing in here names a backend or an adapter:
//! [`plane::Backends`] opens them.

mod apart;
mod breaker;
mod classify;
mod collector;
mod context;
mod deadletters;
mod delivery;
mod dispatcher;
mod explain;
mod failure;
mod ingress;
mod lanes;
mod letter;
mod lineage;
mod metrics;
mod plan;
mod plane;
mod remote;
mod replay;
mod route;
pub mod server;
mod settlement;
mod sink;
mod source_states;
mod switches;
#[cfg(test)]
mod tests;
mod tries;

pub use adapter::chain;
pub use deadletters::{DeadLetter, LetterError, Redrive, Redriven};
pub use explain::{Explain, Explained, Found, Looked, Row, Stage};
pub use plane::{Backends, Built, Plane, Readiness, Settings, SwitchError, Way};
pub use replay::{Progress, Replay, ReplayError, Replayed, Until};
pub use source_states::Identity;
pub use tries::{FailedTry, Try, TryEnd};
