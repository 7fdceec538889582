//! Reads the newest events of a channel, or those before an offset, backwards and within bounds.
//!
//! A list keeps of each event what it shows, not its data: fifty events of 1 MiB would be 50 MiB for one page.

use std::ops::Range;

use bytes::Bytes;
use cesql::{Budget, Filter};
use channel::{Channel, Offset, ReadError, Record, Start};
use event::Event;

use crate::{
    admin::trial::{STEPS_PER_TURN, STEPS_TOTAL_MAX, Tally},
    api::Trial,
    console::Trouble,
};

/// Events of one page.
pub(super) const SHOWN: usize = 50;

/// Events that one page searches for those that were asked for. An older page goes on from there.
pub(super) const SEARCHED_MAX: u64 = 2000;

/// Events read at once; the channel bounds their bytes.
const PAGE: usize = 64;

/// Ranges, which is to say partitions, that a link to an older page can name.
const RANGES_MAX: usize = 256;

/// The events that are shown.
pub(super) struct Selection {
    /// By the values of attributes.
    pub(super) exact: Option<Filter>,
    /// By an expression, whose clauses are counted.
    pub(super) expression: Option<Filter>,
}

/// The end of each range in an older page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Before(Vec<Offset>);

impl Before {
    /// As in a link: offsets with dots between them; nothing means the end.
    pub(super) fn parse(text: &str) -> Result<Self, Trouble> {
        let offsets = text.split('.').filter(|part| !part.is_empty()).map(str::parse);
        let offsets: Result<Vec<u64>, _> = offsets.collect();
        match offsets {
            Ok(offsets) if offsets.len() <= RANGES_MAX => Ok(Self(offsets.into_iter().map(Offset).collect())),
            Ok(_) | Err(_) => {
                let message = "`before` is offsets with dots between them: use the link to older events";
                Err(Trouble::bad_request(message))
            }
        }
    }

    fn shown(&self) -> String {
        let offsets: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        offsets.join(".")
    }
}

/// A part of a channel.
pub(super) struct Slice {
    /// Newest first, without their data.
    pub(super) records: Vec<Record>,
    /// The size of each event, data included.
    pub(super) sizes: Vec<usize>,
    /// Events that were searched.
    pub(super) searched: u64,
    /// How the expression did, where there is one.
    pub(super) trial: Option<Trial>,
    /// The link to older events; `None` at the oldest.
    pub(super) older: Option<String>,
}

/// The newest events before these offsets that are selected.
pub(super) async fn newest(channel: &dyn Channel, before: Before, selection: &Selection) -> Result<Slice, ReadError> {
    let mut ranges = channel.ranges(Start::Earliest).await?;
    for (range, end) in ranges.iter_mut().zip(&before.0) {
        range.end = range.end.min(*end).max(range.start);
    }
    let count = ranges.len().max(1);
    let share = (SHOWN / count).max(1);
    let mut search = Search {
        selection,
        searched: 0,
        searched_max: (SEARCHED_MAX / count as u64).max(1),
        tally: Tally::default(),
        turn: 0,
    };
    let mut found: Vec<(Record, usize)> = Vec::new();
    let mut rest = Before::default();
    let mut is_all = true;
    for range in &ranges {
        let (mut records, left) = search.backwards(channel, range, share).await?;
        found.append(&mut records);
        is_all &= left <= range.start;
        rest.0.push(left);
    }
    found.sort_by_key(|(record, _)| std::cmp::Reverse((record.stored_at, record.offset)));
    let (records, sizes) = found.into_iter().unzip();
    let is_named = rest.0.len() <= RANGES_MAX;
    Ok(Slice {
        records,
        sizes,
        searched: search.searched,
        trial: selection.expression.is_some().then(|| search.tally.shown()),
        older: (!is_all && is_named).then(|| rest.shown()),
    })
}

struct Search<'a> {
    selection: &'a Selection,
    searched: u64,
    /// Events searched in one range at most.
    searched_max: u64,
    tally: Tally,
    /// Steps since others had their turn.
    turn: usize,
}

impl Search<'_> {
    /// Up to `max` events of a range, newest first, and the offset before which an older page begins.
    async fn backwards(
        &mut self,
        channel: &dyn Channel,
        range: &Range<Offset>,
        max: usize,
    ) -> Result<(Vec<(Record, usize)>, Offset), ReadError> {
        let mut end = range.end;
        let mut window = max as u64;
        let (mut kept, mut searched) = (Vec::new(), 0);
        while end > range.start && kept.len() < max && searched < self.searched_max {
            let start = Offset(end.0.saturating_sub(window)).max(range.start);
            let (mut records, count) = self.window(channel, start..end).await?;
            searched += count;
            records.reverse();
            kept.append(&mut records);
            end = start;
            // Offsets may be empty, and few events may be meant.
            window = (window * 2).min(self.searched_max);
        }
        self.searched += searched;
        if kept.len() > max {
            kept.truncate(max);
            end = kept.last().map_or(end, |(oldest, _)| oldest.offset);
        }
        Ok((kept, end))
    }

    /// The selected events of these offsets, oldest first, and how many there were.
    async fn window(
        &mut self,
        channel: &dyn Channel,
        range: Range<Offset>,
    ) -> Result<(Vec<(Record, usize)>, u64), ReadError> {
        let (mut from, mut kept, mut count) = (range.start, Vec::new(), 0);
        while from < range.end {
            let page = channel.read(from, PAGE).await?;
            let Some(last) = page.last() else { break };
            from = last.offset.next();
            for record in page.into_iter().filter(|record| record.offset < range.end) {
                count += 1;
                if self.selects(&record.event) {
                    let size = record.event.size();
                    let event = without_data(&record.event);
                    kept.push((Record { event, ..record }, size));
                }
                if self.turn >= STEPS_PER_TURN {
                    self.turn = 0;
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok((kept, count))
    }

    fn selects(&mut self, event: &Event) -> bool {
        if let Some(exact) = &self.selection.exact {
            let budget = Budget::default();
            let is_meant = exact.evaluate_within(event, &budget).unwrap_or(false);
            self.turn += budget.taken();
            if !is_meant {
                return false;
            }
        }
        let Some(expression) = &self.selection.expression else {
            return true;
        };
        if self.tally.steps() >= STEPS_TOTAL_MAX {
            self.tally.cut();
            return false;
        }
        let counted = self.tally.count(expression, event);
        self.turn += counted.steps;
        counted.is_match
    }
}

/// Copies the attributes, which a list shows and filters read, into a buffer of their own.
fn without_data(event: &Event) -> Event {
    let edit = match event.content_type() {
        Some(kind) => event.edit().data(kind, Bytes::new()),
        None => event.edit().data("text/plain", Bytes::new()).remove("datacontenttype"),
    };
    edit.finish().unwrap_or_else(|_| event.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_an_older_page_names_an_offset_for_each_range() {
        let before = Before(vec![Offset(7), Offset(0)]);
        assert_eq!(before.shown(), "7.0");
        assert_eq!(Before::parse("7.0").ok(), Some(before));
        assert_eq!(Before::parse("").ok(), Some(Before::default()));
        let many = vec!["1"; RANGES_MAX + 1].join(".");
        for wrong in ["x", "1.-1", "99999999999999999999", &many] {
            assert!(Before::parse(wrong).is_err(), "{wrong}");
        }
    }
}
