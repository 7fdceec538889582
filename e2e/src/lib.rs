//! The end-to-end kit: the built gateway as a process, sinks that record, and other people's clients.
//!
//! The kit knows the product only by its public face: documents, HTTP, command line, exit codes. It links none of
//! its crates, so a test here cannot pass because both sides share a mistake. What the kit promises to a test:
//! its own ports and folders (tests run side by side), no fixed sleeps (everything waits for something, within a
//! bound, and says what it was waiting for when it gives up), and the gateway's own log printed when a test fails.
//!
//! Functions of the kit panic when they cannot do what they say: a test has nothing better to do with an error.

pub mod binary;
pub mod certificates;
pub mod cli;
pub mod client;
pub mod contract;
pub mod documents;
pub mod field_pages;
pub mod gateway;
pub mod github;
pub mod hosts;
pub mod peers;
pub mod sink;
pub mod tree;
pub mod wait;

pub use client::{Answer, Request};
pub use gateway::Gateway;
pub use servers::ports;
pub use sink::{Response, Sink};
pub use wait::{eventually, holds};
