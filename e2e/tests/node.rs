//! Headgate on a whole Kubernetes node, where pods run: slow, and the only place where some things can be seen.

#[path = "node/pods.rs"]
mod pods;
