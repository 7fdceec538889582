//! Real servers for tests, as PEERS of the product: fetched once into a cache outside the build, at pinned versions with
//! checked hashes (Docker is the system's), started on free ports with data in a folder of their own.
//!
//! A server lives as long as its handle, or as the test process: however that ends, nothing is left running. One that
//! cannot be had fails the test that needs it, with what to install; `HEADGATE_SKIP_PEERS=kafka,nats,pubsub,node` skips such tests
//! loudly instead.
//!
//! GitHub cannot be had: [`github`] is a stand-in, and strict.
//!
//! Functions here panic when they cannot do what they say: a test has nothing better to do with an error.

pub mod cache;
pub mod docker;
pub mod github;
mod go;
pub mod helm;
pub mod kafka;
pub mod kubernetes;
pub mod nats;
pub mod node;
pub mod ports;
mod process;
pub mod pubsub;
pub mod python;

pub use docker::Docker;
pub use github::GitHub;
pub use kafka::Kafka;
pub use kubernetes::Kubernetes;
pub use nats::Nats;
pub use node::Node;
pub use process::run;
pub use pubsub::PubSub;
