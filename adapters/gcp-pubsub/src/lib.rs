//! Messages of Google Cloud Pub/Sub become CloudEvents.
//!
//! A message is acknowledged after its event is stored, never before (CONTRACT SR-1). While the sink refuses, messages are
//! held and their leases extended; after a while they are given back and asked for again later (SR-5). What Google says no to
//! is a condition, waited out with growing pauses: a run ends only when it is told to.
//!
//! In the order a message passes: adapter.rs (one attempt after another), upstream.rs (the connection), subscription.rs (found,
//! adopted, made), reader.rs (taken in batches, stored), hand.rs (what is in hand), convert.rs (the event), confirm.rs
//! (acknowledged). Beside them: look.rs watches a quiet stream, pull.rs asks whether messages wait, parked.rs holds what cannot be stored, names.rs says how things
//! are called at Google, fault.rs what went wrong.

mod adapter;
mod config;
mod confirm;
mod convert;
mod fault;
mod hand;
mod look;
mod names;
mod parked;
mod pull;
mod reader;
mod subscription;
#[cfg(test)]
mod tests;
mod upstream;

pub use adapter::PubSubSource;
pub use config::{Access, Config, ServiceAccountKey};
