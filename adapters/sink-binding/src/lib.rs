//! Binds a program to a source: the arguments and variables by which the program finds its sink, and the endpoint that
//! takes its events.
//!
//! The program runs in a container of an engine (`adapter-containers`) or in pods that a gateway in a cluster creates.
//! Both bind it as Knative does: `K_SINK`, `K_CE_OVERRIDES` and `--sink`.

mod args;
mod hook;
mod overrides;

pub use args::with_sink;
pub use hook::{ContainerHook, HookConfig};
pub use overrides::overrides;
