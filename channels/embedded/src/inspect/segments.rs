//! The segments of one log, read from the first byte to the last.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use channel::Offset;
use event::Event;

use super::{Fault, Log, Seen, Summary};
use crate::{
    clock,
    format::{BadHeader, SEGMENT_HEADER, SegmentHeader},
    frames::Frames,
    index::Index,
    recovery::{Recovered, recover},
    segment::Segment,
    state::Saved,
    storage::{File, Mode, Storage},
};

const START: u64 = SEGMENT_HEADER as u64;
const CHUNK: usize = 1 << 20;

pub(super) struct Found {
    pub(super) summary: Summary,
    pub(super) salt: Option<u32>,
}

struct Open {
    base: u64,
    path: PathBuf,
    length: u64,
    file: Arc<dyn File>,
    header: Result<SegmentHeader, BadHeader>,
}

/// Reads a log. `salt`: the one to try when no header and no checkpoint tells it.
pub(super) fn read(
    storage: &dyn Storage,
    dir: &Path,
    log: Log,
    state: &Saved,
    salt: Option<u32>,
    seen: &mut dyn FnMut(Seen),
) -> io::Result<Found> {
    let mut segments = Vec::new();
    let files = storage.list(dir)?;
    for (name, length) in files.iter().cloned() {
        let Some(base) = Segment::parse_name(&name) else {
            continue;
        };
        let path = dir.join(name);
        let file = storage.open(&path, Mode::Existing)?;
        let mut bytes = [0; SEGMENT_HEADER];
        let read = file.read_at(&mut bytes, 0)?;
        let header = SegmentHeader::decode(&bytes[..read]);
        segments.push((
            bytes,
            Open {
                base,
                path,
                length,
                file,
                header,
            },
        ));
    }
    segments.sort_by_key(|(_, segment)| segment.base);
    let of_headers = segments
        .iter()
        .rev()
        .find_map(|(_, segment)| Some(segment.header.ok()?.salt));
    let repaired = || {
        segments
            .iter()
            .rev()
            .find_map(|(bytes, _)| Some(SegmentHeader::repaired(bytes)?.salt))
    };
    let known = state.checkpoint.map(|checkpoint| checkpoint.salt);
    let salt = known.or(of_headers).or_else(repaired).or(salt);
    let mut walk = Walk {
        log,
        state,
        salt: salt.unwrap_or_default(),
        seen,
        summary: Summary::default(),
    };
    let segments: Vec<Open> = segments.into_iter().map(|(_, segment)| segment).collect();
    walk.summary.segments = segments.len();
    walk.summary.first = segments.first().map_or(0, |first| first.base);
    walk.summary.next = walk.summary.first;
    for (index, segment) in segments.iter().enumerate() {
        walk.segment(segment, segments.get(index + 1).map(|next| next.base))?;
    }
    for (name, length) in files {
        let of = Segment::parse_index_name(&name).and_then(|base| segments.iter().find(|segment| segment.base == base));
        let Some(of) = of else { continue };
        let segment = Segment::new(dir, of.base, of.length);
        if Index::read(storage, &segment, walk.salt).is_none() {
            (walk.seen)(Seen::Fault(Fault {
                file: dir.join(name),
                at: 0,
                bytes: length,
                places: 0..0,
                what: "index that does not fit its segment, made again when it is needed".to_owned(),
                is_harmless: true,
            }));
        }
    }
    Ok(Found {
        summary: walk.summary,
        salt,
    })
}

struct Walk<'a> {
    log: Log,
    state: &'a Saved,
    salt: u32,
    seen: &'a mut dyn FnMut(Seen),
    /// `next` is the place expected next.
    summary: Summary,
}

impl Walk<'_> {
    fn segment(&mut self, segment: &Open, next_base: Option<u64>) -> io::Result<()> {
        self.summary.bytes += segment.length;
        match segment.header {
            Ok(_) => {}
            Err(BadHeader::Damaged) if next_base.is_none() && segment.length <= START => {
                self.harmless(segment, 0..segment.length, "segment that was never begun");
                return Ok(());
            }
            Err(BadHeader::Damaged) => {
                self.damage(segment, 0..START.min(segment.length), 0..0, "damaged segment header");
            }
            Err(BadHeader::Version(version)) => {
                let what = format!("format version {version}, which this program cannot read");
                self.damage(segment, 8..10, 0..0, &what);
                self.summary.next = next_base.unwrap_or(segment.base);
                return Ok(());
            }
            Err(BadHeader::Features(features)) => {
                let what = format!("features {features:#x}, which this program cannot read");
                self.damage(segment, 14..16, 0..0, &what);
                self.summary.next = next_base.unwrap_or(segment.base);
                return Ok(());
            }
        }
        self.summary.next = self.summary.next.max(segment.base);
        let (last, proven) = match next_base {
            Some(_) => (None, segment.length),
            None => self.recovered(segment)?,
        };
        let mut frames = Frames::new(segment.file.clone(), self.salt, START, segment.length, CHUNK);
        let mut end = START;
        while let Some(frame) = frames.next()? {
            let place = frame.header.offset;
            let is_dropped = |found: &Recovered| {
                frame.position >= found.length || found.missing.iter().any(|gone| gone.contains(&place))
            };
            if next_base.is_some_and(|base| place >= base) || last.as_ref().is_some_and(is_dropped) {
                if last.as_ref().is_some_and(|found| frame.position < found.length) {
                    end = frame.end();
                }
                continue;
            }
            if place < self.summary.next {
                // What an older, longer write left behind.
                end = frame.end();
                continue;
            }
            if frame.position > end || place > self.summary.next {
                let places = self.summary.next..place;
                self.damage(segment, end..frame.position, places, "no whole record");
            }
            end = frame.end();
            self.summary.next = place + 1;
            match Event::decode(Bytes::copy_from_slice(frames.body(&frame))) {
                Ok(event) => {
                    self.summary.records += 1;
                    (self.seen)(Seen::Record {
                        log: self.log,
                        place,
                        stored_at: clock::from_ms(frame.header.stored_ms),
                        event,
                    });
                }
                Err(_) => self.damage(
                    segment,
                    frame.position..frame.end(),
                    place..place + 1,
                    "a record that holds no event",
                ),
            }
        }
        let gone = self.summary.next..next_base.unwrap_or_else(|| self.known().max(self.summary.next));
        self.summary.next = gone.end.max(self.summary.next);
        if (end < proven && !is_blank(segment, end, proven)?) || !gone.is_empty() {
            self.damage(segment, end..proven.max(end), gone, "no whole record");
            end = end.max(proven);
        }
        if end < segment.length && !is_blank(segment, end, segment.length)? {
            self.harmless(
                segment,
                end..segment.length,
                "unfinished write, cut off by the next start",
            );
        }
        Ok(())
    }

    /// What a start would find in the last segment, and how far it is known to have been good.
    fn recovered(&self, segment: &Open) -> io::Result<(Option<Recovered>, u64)> {
        let mut frames = Frames::new(segment.file.clone(), self.salt, START, segment.length, CHUNK);
        let mut found = recover(&mut frames, segment.base, |_| {})?;
        let known = self.state.checkpoint.filter(|known| known.segment == segment.base);
        if let Some(known) = known {
            // What lies before the checkpoint was finished, whatever is left of it.
            found.missing.retain(|gone| gone.start >= known.next);
            found.length = found.length.max(known.position.min(segment.length));
        }
        let proven = found.length;
        Ok((Some(found), proven))
    }

    /// The place that comes next by what the state says.
    fn known(&self) -> u64 {
        let checkpoint = self.state.checkpoint.map_or(0, |checkpoint| checkpoint.next);
        checkpoint.max(self.state.floor())
    }

    fn damage(&mut self, segment: &Open, bytes: Range<u64>, places: Range<u64>, what: &str) {
        let known = |gap: &channel::Gap| gap.from <= Offset(places.start) && Offset(places.end) <= gap.to;
        let is_harmless = bytes.is_empty() && self.state.gaps.iter().any(known);
        self.fault(segment, bytes, places, what, is_harmless);
    }

    fn harmless(&mut self, segment: &Open, bytes: Range<u64>, what: &str) {
        self.fault(segment, bytes, 0..0, what, true);
    }

    fn fault(&mut self, segment: &Open, bytes: Range<u64>, places: Range<u64>, what: &str, is_harmless: bool) {
        (self.seen)(Seen::Fault(Fault {
            file: segment.path.clone(),
            at: bytes.start,
            bytes: bytes.end - bytes.start,
            places,
            what: what.to_owned(),
            is_harmless,
        }));
    }
}

/// Room for records that were never written.
fn is_blank(segment: &Open, from: u64, to: u64) -> io::Result<bool> {
    let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(CHUNK).min(CHUNK)];
    let mut at = from;
    while at < to {
        let wanted = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
        let read = segment.file.read_at(&mut bytes[..wanted], at)?;
        if read == 0 || bytes[..read].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += read as u64;
    }
    Ok(true)
}
