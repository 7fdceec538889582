//! Messages of Google Cloud Pub/Sub become CloudEvents.
//!
//! A message is acknowledged after its event is stored, never before (CONTRACT SR-1). While the sink refuses, messages are
//! held and their leases extended; after a while they are given back and asked for again later (SR-5). A refusal
//! of Google is a condition, waited out with growing pauses: a run ends only when the gateway stops it.
//!
//! In the order a message passes: adapter.rs (one attempt after another), upstream.rs (the connection), subscription.rs (found,
//! adopted, made), reader.rs (taken in batches, stored), in_flight.rs (messages that Google leased to us), convert.rs (the event), confirm.rs
//! (acknowledged). Beside them: probe.rs checks a quiet stream, pull.rs asks
//! whether messages wait, unstorable.rs holds what cannot be stored, names.rs holds the names of things at Google, fault.rs
//! what went wrong.

mod adapter;
mod config;
mod confirm;
mod convert;
mod fault;
mod in_flight;
mod names;
mod probe;
mod pull;
mod reader;
mod subscription;
#[cfg(test)]
mod tests;
mod unstorable;
mod upstream;

pub use adapter::PubSubSource;
pub use config::{Access, Config, ServiceAccountKey};
