//! Images that post CloudEvents, run on a container engine: Docker's, or Podman by the same API.
//!
//! One source is one container, which outlives the gateway: after a restart it is found by its labels and adopted, never
//! started twice; a change of the source replaces it, deleting the source removes it. Its events come in by a URL of its own,
//! and are stored before they are answered (CONTRACT SR-1). Events that an image holds and cannot post are lost with it: this
//! adapter reads nothing upstream.
//!
//! In the order of a container's life: config.rs, container_spec.rs (built with expand.rs), address.rs and
//! engine.rs (the client of its engine), adapter.rs (one run after another), follow.rs (one run), output.rs (its output without
//! secrets), restart.rs (the decision after an end), orphans.rs (containers of deleted sources). The endpoint that takes its
//! events is in `adapter-sink-binding`, because pods in a cluster have the same one.

mod adapter;
mod address;
mod config;
mod container_spec;
mod engine;
mod expand;
mod follow;
mod metrics;
mod orphans;
mod output;
mod restart;
#[cfg(test)]
mod tests;
mod trouble;

pub use self::adapter::{ContainerAdapter, Reach};
pub use address::EngineAddress;
pub use config::{Config, Restart, Value, Variable};
pub use engine::{Engine, HOST};
pub use metrics::Metrics;
pub use orphans::remove_orphans;
pub use trouble::Trouble;
