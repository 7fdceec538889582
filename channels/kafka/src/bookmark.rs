//! The metadata of a commit: the settled ranges above its offset, so that a clean restart repeats nothing (CONTRACT CH-5).
//!
//! A consumer group commits one offset a partition: everything below is settled. What was settled above it travels in the
//! commit's metadata, as `headgate1 ID GAP+LENGTH,GAP+LENGTH,...`: places not settled since the last range's end (the first
//! counts from the offset), then settled ones. `ID` is the cursor's own, so that the commits of a forgotten cursor of the same
//! name are not taken for it. A commit without metadata is a person's who moved the group with Kafka's tools, and is obeyed.

use channel::{Offset, Watermark};

const VERSION: &str = "headgate1";

/// Brokers refuse longer metadata (`offset.metadata.max.bytes`, default 4096).
const METADATA_MAX: usize = 4096;

/// Metadata for a commit at `settled.settled_below()`. Ranges that do not fit are left out, the highest first: they are
/// delivered again after a restart, never lost.
pub(crate) fn write(id: &str, settled: &Watermark) -> String {
    let mut out = format!("{VERSION} {id} ");
    let mut at = settled.settled_below().0;
    for (index, range) in settled.above().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let next = format!("{comma}{}+{}", range.start.0 - at, range.end.0 - range.start.0);
        if out.len() + next.len() > METADATA_MAX {
            break;
        }
        out.push_str(&next);
        at = range.end.0;
    }
    out
}

/// Reads the metadata of a commit of this offset for the cursor `id`. `None`: it is another cursor's.
pub(crate) fn read(id: &str, offset: u64, metadata: &str) -> Option<Watermark> {
    let mut settled = Watermark::new(Offset(offset));
    let mut split = metadata.splitn(3, ' ');
    if split.next() != Some(VERSION) {
        return Some(settled);
    }
    if split.next() != Some(id) {
        return None;
    }
    let mut at = offset;
    for range in split.next().unwrap_or_default().split(',') {
        let numbers = range.split_once('+');
        let Some((gap, length)) =
            numbers.and_then(|(gap, length)| Some((gap.parse::<u64>().ok()?, length.parse::<u64>().ok()?)))
        else {
            break;
        };
        let (Some(start), Some(end)) = (
            at.checked_add(gap),
            at.checked_add(gap).and_then(|start| start.checked_add(length)),
        ) else {
            break;
        };
        settled.settle_range(Offset(start)..Offset(end));
        at = end;
    }
    Some(settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: CH-5
    #[test]
    fn settled_ranges_come_back_and_other_cursors_commits_do_not_count() {
        let mut settled = Watermark::new(Offset(100));
        for range in [102..103, 110..250] {
            settled.settle_range(Offset(range.start)..Offset(range.end));
        }
        let written = write("id", &settled);
        assert_eq!(written, "headgate1 id 2+1,7+140");
        assert_eq!(read("id", 100, &written), Some(settled));
        assert_eq!(read("other", 100, &written), None);
        for foreign in [
            "",
            "a person's note",
            "headgate1",
            "headgate1 id ",
            "headgate1 id x+1",
            "headgate1 id 18446744073709551615+5",
        ] {
            let read = read("id", 100, foreign);
            assert!(
                foreign == "headgate1" && read.is_none() || read == Some(Watermark::new(Offset(100))),
                "{foreign}"
            );
        }
    }

    /// Proves: CH-3
    #[test]
    fn ranges_that_do_not_fit_are_repeated_not_lost() {
        let mut settled = Watermark::new(Offset(0));
        for channel_offset in (1..9000).step_by(2) {
            settled.settle(Offset(channel_offset));
        }
        let written = write("id", &settled);
        assert!(written.len() <= METADATA_MAX && written.len() > METADATA_MAX - 10);
        let read = read("id", 0, &written).unwrap_or_default();
        assert!(
            read.ranges() > 900
                && read
                    .above()
                    .all(|range| settled.is_settled(range.start) && !settled.is_settled(range.end))
        );
    }
}
