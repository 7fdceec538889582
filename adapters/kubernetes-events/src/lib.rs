//! Kubernetes Events become CloudEvents.
//!
//! The Event objects of a namespace, or of all, are listed and watched with requests of our own, so that an object's bytes reach
//! the sink as the API server sent them (CONTRACT SR-3). Each version of an object is an occurrence: the same object is written
//! again when the same thing happens again. How far was read is a mark that moves only with proof of storage (SR-1); with it a
//! restart repeats nothing and, within the hour that Event objects live, misses nothing. A longer absence becomes an event
//! (SR-4).
//!
//! In the order an object passes: follow.rs (the loop), identity.rs (credentials), upstream.rs (requests), wire.rs (answers),
//! event_fields.rs (what is read of an object), convert.rs with path.rs (the event), coalesce.rs (bundles), intake.rs (stored, then
//! marked), mark.rs (how far). failure.rs has the messages of failures.

mod adapter;
mod coalesce;
mod config;
mod convert;
mod event_fields;
mod failure;
mod follow;
mod identity;
mod intake;
mod mark;
mod path;
#[cfg(test)]
mod tests;
mod upstream;
mod wire;

pub use adapter::KubernetesEvents;
pub use config::{Config, Identity, RequestObserver};
