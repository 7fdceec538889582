//! Objects that were read and are not stored yet.

use event::Event;
use jiff::Timestamp;

use crate::coalesce::ObjectVersion;

/// Enough for one append to be worth its sync; more would only make a refused one costlier.
const EVENTS_MAX: usize = 256;

/// The channels take batches of any size; this one bounds our memory.
const BYTES_MAX: usize = 1024 * 1024;

/// Versions that were read and are not wanted need no sink, but memory.
const SEEN_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Event>,
    /// Versions that are stored when the events are, or that are not wanted.
    pub(super) object_versions: Vec<ObjectVersion>,
    /// Objects that are deleted.
    pub(super) gone: Vec<Box<str>>,
    /// The newest version of the watch, 0 when there is none.
    pub(super) version: u64,
    /// How many of the events were found by a list.
    pub(super) recovered: u64,
    /// When the latest of the occurrences was, and as the API server writes it.
    pub(super) newest: Option<(Timestamp, String)>,
    bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, event: Event, object_versions: impl IntoIterator<Item = ObjectVersion>) {
        self.bytes += event.size();
        self.events.push(event);
        self.object_versions.extend(object_versions);
    }

    pub(super) fn read(&mut self, time: Option<(Timestamp, &str)>) {
        if let Some((time, text)) = time
            && self.newest.as_ref().is_none_or(|(newest, _)| *newest < time)
        {
            self.newest = Some((time, text.to_owned()));
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= EVENTS_MAX
            || self.bytes >= BYTES_MAX
            || self.object_versions.len() + self.gone.len() >= SEEN_MAX
    }

    /// Whether it changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.object_versions.is_empty() && self.gone.is_empty() && self.version == 0
    }
}
