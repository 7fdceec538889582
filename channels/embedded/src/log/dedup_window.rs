//! Fills the dedup window from the end of a log, when the log is opened or the window is new.

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

/// Bytes of the log's end that are read at most, rounded to segments: about 0.3 s on a warm disk, and as many events
/// of 1 KiB as a window remembers.
const READ_MAX: u64 = 512 << 20;
/// Bytes read at once.
const CHUNK: usize = 1 << 20;

impl Log {
    /// Sets the dedup window; `None` turns it off. Blocks while the end of the log is read.
    ///
    /// Events that cannot be read are not remembered, and their repeats are stored: too many rather than too few.
    pub(crate) fn dedup(self: &Arc<Self>, span: Option<Duration>) {
        let (mut older, end) = {
            let mut append_state = self.append_state.lock();
            let Some(span) = span else {
                append_state.window = None;
                return;
            };
            let window = Window::new(span);
            if append_state.window.as_ref().map(Window::span_ms) == Some(window.span_ms()) {
                return;
            }
            let older = window.empty_predecessor();
            append_state.window = Some(window);
            (older, append_state.next)
        };
        // Appends enqueued before the window began are found in the log.
        if end > self.committed() && self.commit() {
            self.committers.submit(self.clone());
        }
        if let Err(error) = self.load_dedup_window(&mut older, end) {
            tracing::warn!(path = %self.dir.display(), %error, "log cannot be read to fill the dedup window, repeats may be stored");
        }
        if let Some(window) = &mut self.append_state.lock().window {
            window.prepend(older);
        }
    }

    fn load_dedup_window(&self, window: &mut Window, end: u64) -> io::Result<()> {
        let end = end.min(self.committed());
        let now_ms = self.append_state.lock().last_ms.max(clock::to_ms(SystemTime::now()));
        let begin = clock::from_ms(now_ms.saturating_sub(window.span_ms()));
        let mut offset = self
            .offset_at(begin)?
            .max(self.offset_within(READ_MAX))
            .max(end.saturating_sub(REMEMBERED_MAX as u64));
        while offset < end {
            let chunk = self.load(offset, CHUNK)?;
            for read in chunk.records.iter().filter(|read| read.offset < end) {
                window.insert_stored(&read.event, read.offset, read.stored_ms);
            }
            offset = chunk.covers.end;
        }
        Ok(())
    }

    /// The base of the first segment of the last `bytes` bytes; at least the newest segment.
    fn offset_within(&self, bytes: u64) -> u64 {
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

    /// Frees what the window no longer needs, on a quiet log.
    pub(super) fn trim_dedup_window(&self) {
        if let Some(window) = &mut self.append_state.lock().window {
            window.expire_before(clock::to_ms(SystemTime::now()));
            window.rest();
        }
    }
}
