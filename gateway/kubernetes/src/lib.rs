//! What turns a gateway into one of Kubernetes: the only part, beside the adapter for Kubernetes Events, that knows kube.
//!
//! Documents are objects of the API server instead of files. Each kind is listed and watched, what comes is kept in a pure
//! index of `spec`, and each change publishes a whole `Spec`, as the watcher of files does: the data plane does not know the
//! difference. What the data plane observes goes back the same way, into the status of the objects.
//!
//! Whatever the API server refuses or does not know becomes a condition or a line of the log that says what to do, and is tried
//! again; the gateway goes on with what it has. Nothing here is in the way of an event.

mod client;

pub use client::{Cluster, ConnectError, connect};
