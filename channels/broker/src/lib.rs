//! Channels on message brokers: the parts that do not depend on the broker.
//!
//! A channel on a broker keeps no events itself. It appends to a log on servers, and consumes from it for each cursor with a
//! member, a task that talks to the servers. This crate has the channel around that: [`BrokerChannel`] implements
//! [`channel::Channel`] over a [`Broker`]; [`OpenCursor`] runs the member of a cursor; [`CursorCore`] is the part of a cursor
//! that its holder and its member share; [`MalformedMessages`] stores what is no CloudEvent as dead letters; [`Outage`]
//! refuses appends at once while servers do not acknowledge.

mod broker;
mod cursor;
mod malformed;
mod member;
mod outage;
mod page;

use std::{error::Error, time::Duration};

use channel::{AppendError, ReadError};

pub use crate::{
    broker::{Broker, BrokerChannel, ChannelState, OpenGate},
    cursor::{BrokerCursor, CursorCore, HELD_MAX, HeldSize, release_time},
    malformed::MalformedMessages,
    member::{Member, OpenCursor, Stop, StopSignal, stop_signal},
    outage::Outage,
    page::{PAGE_BYTES, Page},
};

/// The delay that a refused publisher is asked to wait before it retries. Servers that restart or elect a leader are back within
/// seconds.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long a member waits between tries after something failed.
pub const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Dead letters stored at most. A full log refuses them, and their events stay in the channel.
pub const DEAD_LETTERS_MAX: u64 = 1_000_000;

/// Sleeps until that time; for ever without one. Cancel safe.
pub async fn sleep_until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The error for an append that failed because of the servers.
pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> AppendError {
    AppendError::Unavailable {
        retry_after: RETRY_AFTER,
        source: source.into(),
    }
}

/// The error for a read that failed because of the servers.
pub fn unreadable(source: impl Into<Box<dyn Error + Send + Sync>>) -> ReadError {
    ReadError::Unavailable(source.into())
}
