//! Reads the segments of one log from the first byte to the last.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use channel::Offset;
use event::Event;

use super::{Fault, Finding, LogKind, Summary};
use crate::{
    clock,
    format::{BadHeader, SEGMENT_HEADER, SegmentHeader},
    frames::{self, Frame, Frames},
    index::Index,
    recovery::{Recovered, recover},
    segment::{Mark, Segment},
    state::Saved,
    storage::{File, Mode, Storage, is_blank},
};

const START: u64 = SEGMENT_HEADER as u64;
const CHUNK: usize = 1 << 20;

pub(super) struct LogContents {
    pub(super) summary: Summary,
    pub(super) salt: Option<u32>,
}

struct Open {
    base: u64,
    path: PathBuf,
    length: u64,
    file: Arc<dyn File>,
    bytes: [u8; SEGMENT_HEADER],
    header: Result<SegmentHeader, BadHeader>,
}

/// Reads a log. `salt`: the one to try if no header and no checkpoint contains it.
pub(super) fn read(
    storage: &dyn Storage,
    dir: &Path,
    log: LogKind,
    state: &Saved,
    salt: Option<u32>,
    seen: &mut dyn FnMut(Finding),
) -> io::Result<LogContents> {
    let files = storage.list(dir)?;
    let segments = open_segments(storage, dir, &files, seen)?;
    let in_headers = || {
        segments
            .iter()
            .rev()
            .find_map(|segment| Some(segment.header.ok()?.salt))
    };
    let repaired = || {
        let mut newest_first = segments.iter().rev();
        newest_first.find_map(|segment| Some(SegmentHeader::repaired(&segment.bytes)?.salt))
    };
    let known = state.checkpoint.map(|checkpoint| checkpoint.salt);
    let salt = known.or_else(in_headers).or_else(repaired).or(salt);
    let first = segments.first().map_or(0, |first| first.base);
    let mut walk = Walk {
        log,
        state,
        salt: salt.unwrap_or_default(),
        seen,
        summary: Summary {
            segments: segments.len(),
            first,
            next: first,
            ..Summary::default()
        },
    };
    for (index, segment) in segments.iter().enumerate() {
        walk.segment(segment, segments.get(index + 1).map(|next| next.base))?;
    }
    for (name, length) in files {
        let base = Segment::parse_index_name(&name);
        let Some(of) = segments.iter().find(|segment| Some(segment.base) == base) else {
            continue;
        };
        let segment = Segment::new(dir, of.base, of.length);
        if Index::read(storage, &segment, walk.salt).is_none() {
            let what = "index that does not match its segment, rebuilt when needed";
            (walk.seen)(whole_file(dir.join(name), length, what, true));
        }
    }
    Ok(LogContents {
        summary: walk.summary,
        salt,
    })
}

/// Opens the segments among `files`, in the order of their offsets.
fn open_segments(
    storage: &dyn Storage,
    dir: &Path,
    files: &[(String, u64)],
    seen: &mut dyn FnMut(Finding),
) -> io::Result<Vec<Open>> {
    let mut segments = Vec::new();
    for (name, length) in files {
        let path = dir.join(name);
        let Some(base) = Segment::parse_name(name) else {
            if Segment::is_impossible(name) {
                let what = "a segment with an impossible offset in its name";
                seen(whole_file(path, *length, what, false));
            }
            continue;
        };
        let file = storage.open(&path, Mode::Existing)?;
        let mut bytes = [0; SEGMENT_HEADER];
        let read = file.read_at(&mut bytes, 0)?;
        segments.push(Open {
            base,
            path,
            length: *length,
            file,
            header: SegmentHeader::decode(&bytes[..read]),
            bytes,
        });
    }
    segments.sort_by_key(|segment| segment.base);
    Ok(segments)
}

fn whole_file(file: PathBuf, bytes: u64, what: &str, is_harmless: bool) -> Finding {
    Finding::Fault(Fault {
        file,
        at: 0,
        bytes,
        offsets: 0..0,
        what: what.to_owned(),
        is_harmless,
    })
}

struct Walk<'a> {
    log: LogKind,
    state: &'a Saved,
    salt: u32,
    seen: &'a mut dyn FnMut(Finding),
    /// `next` is the next offset expected.
    summary: Summary,
}

impl Walk<'_> {
    fn segment(&mut self, segment: &Open, next_base: Option<u64>) -> io::Result<()> {
        self.summary.bytes += segment.length;
        if !self.check_header(segment, next_base) {
            return Ok(());
        }
        self.summary.next = self.summary.next.max(segment.base);
        let (last, proven) = match next_base {
            Some(_) => (None, segment.length),
            None => self.recovered(segment)?,
        };
        let from = Mark::first(segment.base);
        let mut frames = Frames::new(segment.file.clone(), self.salt, from, segment.length, CHUNK);
        let mut end = START;
        while let Some(found) = frames.next_any()? {
            let frame = match found {
                frames::Scanned::Record(frame) if frame.header.offset >= self.summary.next => frame,
                frames::Scanned::Record(frame) | frames::Scanned::Misplaced(frame) => {
                    self.misplaced(segment, &frame);
                    end = frame.end();
                    continue;
                }
            };
            let offset = frame.header.offset;
            let is_dropped = |found: &Recovered| {
                frame.position >= found.length || found.missing.iter().any(|missing| missing.contains(&offset))
            };
            if next_base.is_some_and(|base| offset >= base) || last.as_ref().is_some_and(is_dropped) {
                if last.as_ref().is_some_and(|found| frame.position < found.length) {
                    end = frame.end();
                }
                continue;
            }
            if frame.position > end || offset > self.summary.next {
                let offsets = self.summary.next..offset;
                self.damage(segment, end..frame.position, offsets, "no whole record");
            }
            end = frame.end();
            self.summary.next = offset + 1;
            self.record(segment, &frame, frames.event(&frame));
        }
        let missing = self.summary.next..next_base.unwrap_or_else(|| self.known().max(self.summary.next));
        self.summary.next = missing.end.max(self.summary.next);
        if (end < proven && !is_blank(&*segment.file, end..proven)?) || !missing.is_empty() {
            self.damage(segment, end..proven.max(end), missing, "no whole record");
            end = end.max(proven);
        }
        if end < segment.length && !is_blank(&*segment.file, end..segment.length)? {
            let what = "unfinished write, cut off by the next start";
            self.harmless(segment, end..segment.length, what);
        }
        Ok(())
    }

    /// Reports a bad header; `false` if nothing behind it can be read.
    fn check_header(&mut self, segment: &Open, next_base: Option<u64>) -> bool {
        let (bytes, what) = match segment.header {
            Ok(_) => return true,
            Err(BadHeader::Damaged) if next_base.is_none() && segment.length <= START => {
                self.harmless(segment, 0..segment.length, "empty segment");
                return false;
            }
            Err(BadHeader::Damaged) => {
                self.damage(segment, 0..START.min(segment.length), 0..0, "damaged segment header");
                return true;
            }
            Err(BadHeader::Version(version)) => (8..10, format!("format version {version}")),
            Err(BadHeader::Features(features)) => (14..16, format!("features {features:#x}")),
        };
        let what = format!("{what}, which this program cannot read");
        self.damage(segment, bytes, 0..0, &what);
        self.summary.next = next_base.unwrap_or(segment.base);
        false
    }

    fn record(&mut self, segment: &Open, frame: &Frame, read: Option<(Event, Bytes)>) {
        let offset = frame.header.offset;
        let Some((event, facts)) = read else {
            let bytes = frame.position..frame.end();
            self.damage(segment, bytes, offset..offset + 1, "a record that holds no event");
            return;
        };
        self.summary.records += 1;
        (self.seen)(Finding::Record {
            log: self.log,
            offset,
            stored_at: clock::from_ms(frame.header.stored_ms),
            event,
            facts,
        });
    }

    /// Scans the last segment as a start would; also returns how far it is known to have been good.
    fn recovered(&self, segment: &Open) -> io::Result<(Option<Recovered>, u64)> {
        let from = Mark::first(segment.base);
        let mut frames = Frames::new(segment.file.clone(), self.salt, from, segment.length, CHUNK);
        let mut found = recover(&mut frames, segment.base, |_| {})?;
        let known = self.state.checkpoint.filter(|known| known.segment == segment.base);
        if let Some(known) = known {
            // Everything before the checkpoint was complete once, whatever is left of it.
            found.missing.retain(|missing| missing.start >= known.next);
            found.length = found.length.max(known.position.min(segment.length));
        }
        let proven = found.length;
        Ok((Some(found), proven))
    }

    /// The next offset according to the state.
    fn known(&self) -> u64 {
        let checkpoint = self.state.checkpoint.map_or(0, |checkpoint| checkpoint.next);
        checkpoint.max(self.state.floor())
    }

    fn damage(&mut self, segment: &Open, bytes: Range<u64>, offsets: Range<u64>, what: &str) {
        let known = |gap: &channel::Gap| gap.from <= Offset(offsets.start) && Offset(offsets.end) <= gap.to;
        let is_harmless = bytes.is_empty() && self.state.gaps.iter().any(known);
        self.fault(segment, bytes, offsets, what, is_harmless);
    }

    fn misplaced(&mut self, segment: &Open, frame: &Frame) {
        let what = format!(
            "a record with sound checksums at offset {}, where {} comes next",
            frame.header.offset, self.summary.next
        );
        self.damage(segment, frame.position..frame.end(), 0..0, &what);
    }

    fn harmless(&mut self, segment: &Open, bytes: Range<u64>, what: &str) {
        self.fault(segment, bytes, 0..0, what, true);
    }

    fn fault(&mut self, segment: &Open, bytes: Range<u64>, offsets: Range<u64>, what: &str, is_harmless: bool) {
        (self.seen)(Finding::Fault(Fault {
            file: segment.path.clone(),
            at: bytes.start,
            bytes: bytes.end - bytes.start,
            offsets,
            what: what.to_owned(),
            is_harmless,
        }));
    }
}
