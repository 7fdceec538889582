//! Headgate on a whole Kubernetes node, where pods run: slow, and the only place where some things can be seen.

#[path = "node/disturbance.rs"]
mod disturbance;
#[path = "node/installation.rs"]
mod installation;
#[path = "node/pods.rs"]
mod pods;
#[path = "node/removal.rs"]
mod removal;
#[path = "node/steps.rs"]
mod steps;
#[path = "node/workloads.rs"]
mod workloads;
