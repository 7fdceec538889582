//! How much a channel holds, and what troubles it.

use std::time::SystemTime;

use crate::{CursorName, Offset};

/// Why events are missing from a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The limit the user set was reached before every subscription was done with them.
    Limit,
    /// They could not be read back.
    Damage,
}

impl GapReason {
    /// The word used in logs and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Damage => "damage",
        }
    }
}

/// A range of offsets whose events are gone although not every subscription had settled them: recorded, never silent (CH-9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first missing offset.
    pub from: Offset,
    /// The offset after the last missing one.
    pub to: Offset,
    /// When the channel noticed that they are gone.
    pub found_at: SystemTime,
    /// Why they are gone.
    pub reason: GapReason,
}

/// How much a channel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// The offset of the oldest event kept.
    pub earliest: Offset,
    /// The offset that the next event will get.
    pub next: Offset,
    /// Events that at least one cursor has not settled.
    pub unsettled: u64,
    /// Bytes held in memory or on disk, settled ones that are retained included. `None` where the backend does not say.
    pub bytes: Option<u64>,
    /// The cursors of the channel, also those that another process serves where the backend lists them.
    pub cursors: Vec<CursorStatus>,
    /// Known gaps, oldest first.
    pub gaps: Vec<Gap>,
    /// Why the channel refuses appends now, if it does: a phrase for a condition's message.
    pub refusing: Option<String>,
    /// The trouble with the channel's disk. `None` where there is none, or the channel is not on a disk of this machine.
    pub disk: Option<DiskTrouble>,
    /// Why storing takes longer than it should, if it does and that is known here: a phrase for a condition's message.
    pub slow: Option<String>,
}

/// Trouble with a disk, each with a phrase for a condition's message that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskTrouble {
    /// Nothing can be written. Events are refused.
    ReadOnly(String),
    /// There is no room for events. They are refused.
    Full(String),
    /// Events are taken, for as long as there is room.
    NearlyFull(String),
}

impl DiskTrouble {
    /// Why events are refused, if they are.
    pub fn refusing(&self) -> Option<&str> {
        match self {
            Self::ReadOnly(why) | Self::Full(why) => Some(why),
            Self::NearlyFull(_) => None,
        }
    }
}

/// The work that one cursor has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorStatus {
    /// The cursor's name.
    pub name: CursorName,
    /// The uid of the Subscription that it serves, where that is known.
    pub owner: Option<String>,
    /// Every event below this offset is settled.
    pub settled_below: Offset,
    /// Events not yet settled: those in flight and those not yet handed out.
    pub unsettled: u64,
    /// When the oldest unsettled event was stored.
    pub oldest: Option<SystemTime>,
}
