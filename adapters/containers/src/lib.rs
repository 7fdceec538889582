//! Images that post CloudEvents, run on a container engine: Docker's, or Podman by the same API.
//!
//! One source is one container, which outlives the gateway: after a restart it is found by its labels and adopted, never
//! started twice; a changed source replaces it, a deleted one takes it away. Its events come in by a URL of its own, and are
//! stored before they are answered (CONTRACT SR-1). What an image keeps in itself and cannot post is lost with it: this adapter
//! reads nothing upstream.
//!
//! In the order of a container's life: config.rs, wanted.rs (what is created, from args.rs and expand.rs), address.rs and
//! engine.rs (who runs it), adapter.rs (one run after another), follow.rs (one run), output.rs (what it printed, without
//! secrets), restart.rs (what follows an end), hook.rs (its events), orphans.rs (what nobody wants any more).

mod adapter;
mod address;
mod args;
mod config;
mod engine;
mod expand;
mod follow;
mod hook;
mod metrics;
mod orphans;
mod output;
mod restart;
#[cfg(test)]
mod tests;
mod trouble;
mod wanted;

pub use self::adapter::{ContainerAdapter, Reach};
pub use address::EngineAddress;
pub use args::with_sink;
pub use config::{Config, Restart, Value, Variable};
pub use engine::{Engine, HOST};
pub use hook::{ContainerHook, HookConfig};
pub use metrics::Metrics;
pub use orphans::remove_orphans;
pub use trouble::Trouble;
pub use wanted::overrides;
