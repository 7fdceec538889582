//! Requests of people to a running gateway: find an event, replay past events, pause a subscription.

pub(crate) mod explain;
pub(crate) mod replay;
pub(crate) mod switches;
pub(crate) mod traffic;
pub(crate) mod tries;
