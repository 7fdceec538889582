//! The built gateway from outside: one behaviour per file, each test a sentence to read aloud.
//!
//! One binary on purpose: it is linked once, and tests that wait do so side by side.

mod adapter_alone;
mod admin;
mod backoff;
mod brokers;
mod command_line;
mod containers;
mod crash;
mod dead_letters;
mod dedup;
mod delivery;
mod deploy;
mod disk;
mod draining;
mod event_forms;
mod explain;
mod fan_out;
mod foreign_clients;
mod gcp_pubsub;
mod github;
mod github_upstream;
mod ingress;
mod ingress_limits;
mod isolation;
mod kafka;
mod kubernetes;
mod kubernetes_events;
mod log_files;
mod nats;
mod ordering;
mod pausing;
mod reload;
mod replay;
mod replies;
mod validation;
