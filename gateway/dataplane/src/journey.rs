//! The journey of one event to one subscription, from the cursor to its settlement.
//!
//! | file | what its reader learns |
//! |--|--|
//! | [`dispatcher`] | one subscription is one task: pull, filter, start what may start, in order per key |
//! | [`delivery`] | try, classify, wait, again, until there is an `Outcome` |
//! | [`outbound`] | one hop: an event is passed to a target, and the proof that it has it |
//! | [`settlement`] | what follows from the outcome, then the acknowledgement: the one place where it happens |
//!
//! The others decide what those four ask: [`lanes`] the order, [`gate`] and [`breaker`] whether another event may start,
//! [`classify`] what an answer means, [`lineage`] when a loop ends, [`reply`] what becomes of an answer's event.

pub(crate) mod breaker;
mod classify;
pub(crate) mod context;
mod delivery;
pub(crate) mod dispatcher;
pub(crate) mod failure;
pub(crate) mod gate;
mod lanes;
pub(crate) mod lineage;
pub(crate) mod outbound;
pub(crate) mod redelivery;
mod reply;
pub(crate) mod report;
pub(crate) mod route;
pub(crate) mod settlement;
pub(crate) mod sink;
pub(crate) mod slot;
