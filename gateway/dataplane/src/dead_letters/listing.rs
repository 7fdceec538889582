//! Dead letters listed newest first, for people: page by page, however many there are and however large.
//!
//! A letter may be as large as the largest event, and a log may hold a million. So nothing is collected: the listing reads each log
//! backwards from its end, one window of offsets at a time, and keeps only the shown text of its letters, in a few KiB. One window is
//! read at a time in the whole gateway ([`crate::plane::Requests::listing`]), because each may cost a few MiB while it is read.

use std::{collections::VecDeque, sync::Arc};

use channel::{Channel, Offset, ReadError, StoredDeadLetter};
use futures_util::{Stream, stream};
use jiff::Timestamp;
use spec::ObjectName;

use super::encoding;
use super::{DeadLetter, DeadLetterError, PAGE};
use crate::Plane;

/// Offsets in the first window: a request for a few letters is cheap.
const WINDOW_MIN: u64 = 16;

/// Offsets in a window at most: the rest of a window that does not fit is read again.
const WINDOW_MAX: u64 = 4096;

/// Bytes of shown letters kept of all channels together, beside one of each channel.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// Bytes kept of one channel at least, or a page would be read for each letter.
const KEPT_BYTES_MIN: usize = 16 << 10;

/// Letters kept of one channel: one window of the usual size, in some 100 KiB.
const KEPT_MAX: usize = 256;

/// A letter in a listing: its location, and its shown text.
pub struct ListedDeadLetter {
    channel: (ObjectName, Arc<dyn Channel>),
    offset: Offset,
    /// The text that the `show` of [`Plane::list_dead_letters`] made of the letter.
    pub shown: String,
}

impl ListedDeadLetter {
    /// Reads the whole letter; `None` when it was removed since.
    pub async fn read(&self) -> Result<Option<DeadLetter>, DeadLetterError> {
        let (name, channel) = &self.channel;
        let page = channel.dead_letters().list(self.offset, 1).await?;
        let found = page.iter().find(|found| found.offset == self.offset);
        Ok(found.map(|found| encoding::read(found, name)))
    }
}

impl Plane {
    /// Lists letters of one subscription or of all, newest first. `show` returns the text to keep of a letter; `None` leaves it out.
    pub fn list_dead_letters<F>(
        &self,
        subscription: Option<&ObjectName>,
        show: F,
    ) -> impl Stream<Item = Result<ListedDeadLetter, DeadLetterError>> + Send + use<F>
    where
        F: Fn(&DeadLetter) -> Option<String> + Send + Sync + 'static,
    {
        let channels = self.channels_of(subscription);
        let kept_bytes = (KEPT_BYTES_MAX / channels.len().max(1)).max(KEPT_BYTES_MIN);
        let walks: Vec<Walk> = channels
            .into_iter()
            .map(|channel| Walk::new(channel, kept_bytes))
            .collect();
        let subscription = subscription.cloned();
        let show = move |dead_letter: &DeadLetter| {
            let is_match = subscription
                .as_ref()
                .is_none_or(|name| *name == dead_letter.subscription);
            is_match.then(|| show(dead_letter)).flatten()
        };
        stream::try_unfold((self.clone(), walks, show), |(plane, mut walks, show)| async move {
            for walk in &mut walks {
                walk.fill(&plane, &show).await?;
            }
            let newest = walks
                .iter_mut()
                .max_by_key(|walk| walk.kept.back().map(|kept| kept.stored_at));
            let listed = newest.and_then(Walk::take);
            Ok::<_, DeadLetterError>(listed.map(|listed| (listed, (plane, walks, show))))
        })
    }

    /// How many letters lie in the channels that a listing goes through.
    pub fn count_dead_letters(&self, subscription: Option<&ObjectName>) -> u64 {
        let channels = self.channels_of(subscription);
        channels.iter().map(|(_, channel)| channel.dead_letters().count()).sum()
    }
}

struct ShownDeadLetter {
    offset: Offset,
    stored_at: Timestamp,
    shown: String,
}

/// One channel's letters, from the end backwards.
struct Walk {
    channel: (ObjectName, Arc<dyn Channel>),
    /// `None` before the first window: everything at or after it was read.
    below: Option<Offset>,
    window: u64,
    /// Oldest first; taken from the back.
    kept: VecDeque<ShownDeadLetter>,
    kept_bytes: usize,
}

impl Walk {
    fn new(channel: (ObjectName, Arc<dyn Channel>), kept_bytes: usize) -> Self {
        Self {
            channel,
            below: None,
            window: WINDOW_MIN,
            kept: VecDeque::new(),
            kept_bytes,
        }
    }

    fn take(&mut self) -> Option<ListedDeadLetter> {
        let kept = self.kept.pop_back()?;
        Some(ListedDeadLetter {
            channel: self.channel.clone(),
            offset: kept.offset,
            shown: kept.shown,
        })
    }

    /// Reads windows until one has a letter that is shown, or nothing is left.
    async fn fill(
        &mut self,
        plane: &Plane,
        show: &(impl Fn(&DeadLetter) -> Option<String> + Sync),
    ) -> Result<(), ReadError> {
        while self.kept.is_empty() {
            let below = match self.below {
                Some(below) => below,
                None => self.channel.1.dead_letters().end().await?,
            };
            if below == Offset(0) {
                self.below = Some(below);
                return Ok(());
            }
            let _turn = plane.turn_to_list().await;
            self.read_window(below, show).await?;
        }
        Ok(())
    }

    async fn read_window(
        &mut self,
        below: Offset,
        show: &(impl Fn(&DeadLetter) -> Option<String> + Sync),
    ) -> Result<(), ReadError> {
        let start = Offset(below.0.saturating_sub(self.window));
        let (name, channel) = &self.channel;
        let (mut from, mut bytes, mut dead_letters, mut is_cut) = (start, 0, 0_u64, false);
        while from < below {
            let max = usize::try_from(below.0 - from.0).unwrap_or(PAGE).min(PAGE);
            let page = channel.dead_letters().list(from, max).await?;
            let Some(last) = page.last() else { break };
            from = last.offset.next();
            for stored in page.iter().filter(|stored| stored.offset < below) {
                dead_letters += 1;
                let Some(kept) = kept(stored, name, show) else { continue };
                bytes += kept.shown.len();
                self.kept.push_back(kept);
                while self.kept.len() > KEPT_MAX || bytes > self.kept_bytes && self.kept.len() > 1 {
                    let dropped = self.kept.pop_front();
                    bytes -= dropped.map_or(0, |dropped| dropped.shown.len());
                    is_cut = true;
                }
            }
            // A log in memory answers at once, and others want to run as well.
            tokio::task::yield_now().await;
        }
        self.below = Some(match self.kept.front() {
            Some(oldest) if is_cut => oldest.offset,
            _ => start,
        });
        self.window = match (dead_letters, is_cut) {
            // Removed letters leave places behind, as many as there ever were.
            (0, _) => self.window.saturating_mul(8),
            (_, true) => (self.window / 2).max(WINDOW_MIN),
            (_, false) => self.window.saturating_mul(2).min(WINDOW_MAX),
        };
        Ok(())
    }
}

fn kept(
    stored: &StoredDeadLetter,
    channel: &ObjectName,
    show: &impl Fn(&DeadLetter) -> Option<String>,
) -> Option<ShownDeadLetter> {
    let dead_letter = encoding::read(stored, channel);
    Some(ShownDeadLetter {
        offset: stored.offset,
        stored_at: dead_letter.stored_at,
        shown: show(&dead_letter)?,
    })
}
