//! The oracle: what must hold for a channel after a crash, derived only from the answers it gave before.
//!
//! It sees no file and no fault: only which appends were acknowledged, refused or neither, what each cursor settled
//! and tried, and which dead letters were stored and removed. An append that was neither acknowledged nor refused may
//! be stored completely or not at all. Once it was found stored it stays, and once something later is stored it is
//! decided. Until then a power cut may bring back a file whose deletion was not acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use channel::{Depth, GapReason};

/// The fate of an append or a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Acknowledged, or found later: it must be stored. The first event's offset.
    Stored(u64),
    /// Refused, or found missing: it must never be stored.
    Absent,
    /// Neither. Decided when it is found after a start, or something later was stored.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Append {
    /// The number of its first event, and how many there are.
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) fate: Fate,
}

impl Append {
    fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }
}

/// Whether something exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    Yes,
    No,
    /// A call failed that would have created or deleted it.
    Perhaps,
}

#[derive(Debug)]
pub(super) struct Follower {
    pub(super) there: There,
    /// Numbers of events appended while the cursor surely existed.
    owed: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    /// Those settled since the last crash: they never come again before the next one.
    surely_settled: BTreeSet<u64>,
    tried: BTreeMap<u64, Tried>,
}

/// Remembered counts of failed attempts, oldest first.
#[derive(Debug, Default)]
struct Tried {
    values: Vec<u32>,
    /// No crash since the last of them, which may have restored an earlier one.
    is_sure: bool,
}

impl Default for Follower {
    fn default() -> Self {
        Self {
            there: There::No,
            owed: BTreeSet::new(),
            settled: BTreeSet::new(),
            surely_settled: BTreeSet::new(),
            tried: BTreeMap::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct DeadLetterFact {
    pub(super) number: u64,
    pub(super) fate: Fate,
    pub(super) removed: There,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) appends: Vec<Append>,
    pub(super) followers: BTreeMap<&'static str, Follower>,
    pub(super) dead_letters: Vec<DeadLetterFact>,
}

impl Oracle {
    pub(super) fn next_number(&self) -> u64 {
        self.appends.last().map_or(0, |last| last.first + last.count)
    }

    pub(super) fn appended(&mut self, first: u64, count: u64, fate: Fate) {
        for follower in self
            .followers
            .values_mut()
            .filter(|follower| follower.there == There::Yes)
        {
            follower.owed.extend(first..first + count);
        }
        self.appends.push(Append { first, count, fate });
    }

    /// `calm`: the disk had no fault. On a disk that cannot be written, an existing cursor can be opened, and its fate
    /// stays as uncertain as before.
    pub(super) fn subscribed(&mut self, name: &'static str, stored: bool, calm: bool) {
        let follower = self.followers.entry(name).or_default();
        match (stored, follower.there) {
            (true, There::Perhaps) if !calm => {}
            (true, There::No) => {
                *follower = Follower {
                    there: There::Yes,
                    ..Follower::default()
                }
            }
            (true, _) => follower.there = There::Yes,
            (false, There::No) => follower.there = There::Perhaps,
            (false, _) => {}
        }
    }

    pub(super) fn deleted(&mut self, name: &'static str, stored: bool) {
        let follower = self.followers.entry(name).or_default();
        match stored {
            true => *follower = Follower::default(),
            // It may be gone after the next start, with everything it is owed.
            false if follower.there == There::Yes => follower.there = There::Perhaps,
            false => {}
        }
    }

    pub(super) fn settled(&mut self, name: &'static str, number: u64) {
        if let Some(follower) = self.followers.get_mut(name) {
            follower.settled.insert(number);
            follower.surely_settled.insert(number);
        }
    }

    pub(super) fn tried(&mut self, name: &'static str, number: u64, failed: u32) {
        if let Some(follower) = self.followers.get_mut(name) {
            let tried = follower.tried.entry(number).or_default();
            tried.values.push(failed);
            tried.is_sure = true;
        }
    }

    /// The last settlements and attempts may be lost.
    pub(super) fn crashed(&mut self) {
        for follower in self.followers.values_mut() {
            follower.surely_settled.clear();
            follower.tried.values_mut().for_each(|tried| tried.is_sure = false);
        }
    }

    /// An event was delivered with this many failed attempts.
    pub(super) fn came(&mut self, name: &'static str, number: u64, failed: u32) {
        let fate = self.append_of(number).fate;
        assert_ne!(fate, Fate::Absent, "{number} was refused, or was gone, and came");
        let follower = self.followers.entry(name).or_default();
        assert!(
            !follower.surely_settled.contains(&number),
            "{number} was settled and came to {name} again"
        );
        let tried = follower.tried.entry(number).or_default();
        if tried.is_sure {
            assert_eq!(Some(&failed), tried.values.last(), "tries of {number} at {name}");
        } else {
            assert!(
                failed == 0 || tried.values.contains(&failed),
                "{number} was tried {tried:?}, not {failed} times"
            );
        }
        tried.values.push(failed);
        tried.is_sure = true;
    }

    fn append_of(&self, number: u64) -> &Append {
        let at = self.appends.partition_point(|append| append.first <= number);
        &self.appends[at - 1]
    }

    /// After a start: every event found, by number, with its offset.
    pub(super) fn found(&mut self, kept: &BTreeMap<u64, u64>, depth: &Depth) {
        let limited = |offset: &u64| {
            let gaps = depth.gaps.iter().filter(|gap| gap.reason == GapReason::Limit);
            gaps.clone().any(|gap| gap.from.0 <= *offset && *offset < gap.to.0)
        };
        let is_stored = |append: &Append| matches!(append.fate, Fate::Stored(_));
        let last_stored = self.appends.iter().rposition(is_stored);
        for (index, append) in self.appends.iter_mut().enumerate() {
            if append.fate == Fate::Unknown && last_stored.is_some_and(|last| index < last) {
                append.fate = Fate::Absent;
            }
            let found: Vec<u64> = append
                .numbers()
                .filter_map(|number| kept.get(&number).copied())
                .collect();
            match append.fate {
                Fate::Stored(first) => {
                    // Retention deletes settled events only; deliveries and gaps are checked elsewhere.
                    let offsets = first..first + append.count;
                    let expected: Vec<u64> = offsets
                        .clone()
                        .filter(|offset| *offset >= depth.earliest.0 && !limited(offset))
                        .collect();
                    let found: Vec<u64> = found.into_iter().filter(|offset| !limited(offset)).collect();
                    assert_eq!(found, expected, "acknowledged {append:?}, {depth:?}");
                    let damaged = depth.gaps.iter().filter(|gap| gap.reason == GapReason::Damage);
                    for gap in damaged {
                        assert!(
                            gap.to.0 <= offsets.start || offsets.end <= gap.from.0,
                            "{append:?} was acknowledged and is a gap: {gap:?}"
                        );
                    }
                }
                Fate::Absent => assert_eq!(found, Vec::<u64>::new(), "{append:?}"),
                Fate::Unknown => {
                    let whole = found.len() as u64 == append.count || found.is_empty();
                    assert!(whole || depth.earliest.0 > 0, "{append:?} is there in part: {found:?}");
                    append.fate = match (append.numbers().find(|number| kept.contains_key(number)), found.first()) {
                        (Some(number), Some(offset)) => Fate::Stored(offset - (number - append.first)),
                        _ => Fate::Unknown,
                    };
                }
            }
        }
        let names: BTreeSet<&str> = depth.cursors.iter().map(|cursor| cursor.name.as_str()).collect();
        for (name, follower) in &mut self.followers {
            let is_listed = names.contains(name);
            match follower.there {
                There::Yes => assert!(is_listed, "cursor {name} is gone: {follower:?}"),
                There::No => assert!(!is_listed, "cursor {name} was forgotten"),
                There::Perhaps if is_listed => {}
                // It is owed nothing any more. A power cut may bring it back, because its deletion was not
                // acknowledged.
                There::Perhaps => {
                    *follower = Follower {
                        there: There::Perhaps,
                        ..Follower::default()
                    }
                }
            }
        }
        for cursor in &depth.cursors {
            let follower = &self.followers[cursor.name.as_str()];
            for number in &follower.owed {
                if let Some(offset) = self.offset_at(*number) {
                    assert!(
                        offset >= cursor.settled_below.0 || follower.settled.contains(number) || limited(&offset),
                        "cursor {} is at {} and has not settled {number}",
                        cursor.name,
                        cursor.settled_below
                    );
                }
            }
        }
    }

    fn offset_at(&self, number: u64) -> Option<u64> {
        let append = self.append_of(number);
        match append.fate {
            Fate::Stored(first) => Some(first + number - append.first),
            _ => None,
        }
    }

    /// After a start: the dead letters found, by number, each with its offset.
    pub(super) fn found_dead_letters(&mut self, listed: &BTreeMap<u64, u64>) {
        let is_stored = |dead_letter: &DeadLetterFact| matches!(dead_letter.fate, Fate::Stored(_));
        let last_stored = self.dead_letters.iter().rposition(is_stored);
        for (index, dead_letter) in self.dead_letters.iter_mut().enumerate() {
            let offset = listed.get(&dead_letter.number).copied();
            if dead_letter.fate == Fate::Unknown && last_stored.is_some_and(|last| index < last) {
                dead_letter.fate = Fate::Absent;
            }
            match (dead_letter.fate, dead_letter.removed) {
                (Fate::Stored(stored), There::No) => assert_eq!(offset, Some(stored), "{dead_letter:?}"),
                (Fate::Stored(_), There::Perhaps) => {
                    // Its absence may still be a change that only the page cache has.
                    if offset.is_some() {
                        dead_letter.removed = There::No;
                    }
                }
                (Fate::Absent, _) | (_, There::Yes) => assert_eq!(offset, None, "{dead_letter:?}"),
                (Fate::Unknown, _) => dead_letter.fate = offset.map_or(Fate::Unknown, Fate::Stored),
            }
        }
        let known: BTreeSet<u64> = self.dead_letters.iter().map(|dead_letter| dead_letter.number).collect();
        assert!(listed.keys().all(|number| known.contains(number)), "{listed:?}");
    }

    /// In the end: everything owed was delivered, or settled before.
    pub(super) fn drained(&self, name: &'static str, came: &BTreeSet<u64>, depth: &Depth) {
        let follower = &self.followers[name];
        let limited = |offset: u64| {
            depth
                .gaps
                .iter()
                .any(|gap| gap.reason == GapReason::Limit && gap.from.0 <= offset && offset < gap.to.0)
        };
        for number in &follower.owed {
            if let Some(offset) = self.offset_at(*number) {
                assert!(
                    came.contains(number) || follower.settled.contains(number) || limited(offset),
                    "{number} at {offset} was acknowledged and {name} never got it"
                );
            }
        }
    }
}
