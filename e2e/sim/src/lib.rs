//! A simulation of the data plane: the real plane, dispatchers, deliveries, replays and redrives, over channels that fail, stall,
//! lie about an append, crash and come back, and subscribers that answer anything at any time.
//!
//! A run is a [`Scenario`], plain data made from a seed: what is published, edited, broken and restarted, and when. It runs on one
//! thread under paused time and leaves a [`History`]. Each file in `invariants` reads the history and names what must not have
//! happened. Shrinking removes steps from the scenario for as long as the same invariant is broken.
//!
//! Deliberately absent: listeners, documents as text, and the channels that ship. Their own suites and the end-to-end tests have them.
//! The jitter of backoffs and the iteration order of hash maps are not seeded: a failure that depends on them may need several runs.

mod channel;
mod documents;
pub mod history;
pub mod invariants;
mod panics;
mod random;
pub mod scenario;
pub mod shrink;
mod subscribers;
mod world;

pub use history::History;
pub use scenario::Scenario;
pub use world::run;
