//! The codecs against generated events, hostile bytes and the official SDK.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod any_event;
mod hostile;
mod round_trips;
mod rules;
mod sdk;
