//! The dedup window of a log that holds something already: read from its end when the log is opened, or the window is new.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::Log;
use crate::{
    clock,
    dedup::{REMEMBERED_MAX, Window},
};

/// Bytes of the log's end that are read at most, to the segment: some three tenths of a second on a warm disk. As many events
/// of 1 KiB as a window remembers.
const READ_MAX: u64 = 512 << 20;
/// How much is read at once.
const CHUNK: usize = 1 << 20;

impl Log {
    /// From now on repeats within this time are not stored again; `None`: they are. Blocks while what is there is read.
    ///
    /// What cannot be read is not known, and its repeats are stored: too many rather than too few.
    pub(crate) fn dedup(self: &Arc<Self>, span: Option<Duration>) {
        let (mut older, end) = {
            let mut gathering = self.gathering.lock();
            let Some(span) = span else {
                gathering.window = None;
                return;
            };
            let window = Window::new(span);
            if gathering.window.as_ref().map(Window::span_ms) == Some(window.span_ms()) {
                return;
            }
            let older = window.before();
            gathering.window = Some(window);
            (older, gathering.next)
        };
        // What was gathered before the window began is to be found in the log.
        if end > self.committed() && self.commit() {
            self.committers.submit(self.clone());
        }
        if let Err(error) = self.read_lately(&mut older, end) {
            tracing::warn!(path = %self.dir.display(), %error, "log cannot be read for its dedup window, repeats may be stored");
        }
        if let Some(window) = &mut self.gathering.lock().window {
            window.put_before(older);
        }
    }

    fn read_lately(&self, window: &mut Window, end: u64) -> io::Result<()> {
        let end = end.min(self.committed());
        let now_ms = self.gathering.lock().last_ms.max(clock::to_ms(SystemTime::now()));
        let begin = clock::from_ms(now_ms.saturating_sub(window.span_ms()));
        let mut place = self
            .place_of(begin)?
            .max(self.place_within(READ_MAX))
            .max(end.saturating_sub(REMEMBERED_MAX as u64));
        while place < end {
            let chunk = self.load(place, CHUNK)?;
            for read in chunk.records.iter().filter(|read| read.place < end) {
                window.read(&read.event, read.place, read.stored_ms);
            }
            place = chunk.covers.end;
        }
        Ok(())
    }

    /// Where the last so many bytes begin, to the segment: the newest one in any case.
    fn place_within(&self, bytes: u64) -> u64 {
        let segments = self.segments.lock();
        let mut left = bytes;
        let fitting = segments.iter().rev().take_while(|segment| {
            let fits = segment.length() <= left;
            left = left.saturating_sub(segment.length());
            fits
        });
        let fitting = fitting.count().max(1).min(segments.len());
        segments.get(segments.len() - fitting).map_or(0, |segment| segment.base)
    }

    /// Lets go of what the window does not need any more, on a log that is quiet.
    pub(super) fn forget_lately(&self) {
        if let Some(window) = &mut self.gathering.lock().window {
            window.forget_before(clock::to_ms(SystemTime::now()));
            window.rest();
        }
    }
}
