//! What must be true of a channel after a crash, told from nothing but the answers it gave before.
//!
//! It knows no file and no fault: only which appends were acknowledged, refused or neither, what each cursor settled and
//! tried, which letters were stored and removed. Whatever was neither acknowledged nor refused may be there or not, all of
//! it or nothing. Once it was seen to be there it stays, and once something later is stored it is there or never will be:
//! until then a power cut may bring back a file whose deletion nobody was promised.

use std::collections::{BTreeMap, BTreeSet};

use channel::{Depth, GapReason};

/// What became of something that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Acknowledged, or found later: it must be there. The first event's place.
    Stored(u64),
    /// Refused, or found not to be there: it must never be there.
    Absent,
    /// Neither. Left when it is found after a start, or something later was stored.
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

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    Yes,
    No,
    /// A call failed that would have made or deleted it.
    Perhaps,
}

#[derive(Debug)]
pub(super) struct Follower {
    pub(super) there: There,
    /// Numbers of events appended while it was surely there.
    owed: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    /// Those of them that were settled since the last crash: they never come again before the next.
    surely_settled: BTreeSet<u64>,
    tried: BTreeMap<u64, Tried>,
}

/// Failed tries that were remembered, oldest first.
#[derive(Debug, Default)]
struct Tried {
    values: Vec<u32>,
    /// No crash since the last of them, which may have gone back to one before.
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
pub(super) struct LetterFact {
    pub(super) number: u64,
    pub(super) fate: Fate,
    pub(super) removed: There,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) appends: Vec<Append>,
    pub(super) followers: BTreeMap<&'static str, Follower>,
    pub(super) letters: Vec<LetterFact>,
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

    /// `calm`: nothing was wrong with the disk. On one that cannot be written, a cursor that is there is handed out all the
    /// same, and what is not known of it stays so.
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

    pub(super) fn forgotten(&mut self, name: &'static str, stored: bool) {
        let follower = self.followers.entry(name).or_default();
        match stored {
            true => *follower = Follower::default(),
            // It may be gone with the next start, and with it all it is owed.
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

    /// What was settled and tried last may be lost.
    pub(super) fn crashed(&mut self) {
        for follower in self.followers.values_mut() {
            follower.surely_settled.clear();
            follower.tried.values_mut().for_each(|tried| tried.is_sure = false);
        }
    }

    /// An event was handed out with so many failed tries.
    pub(super) fn came(&mut self, name: &'static str, number: u64, failed: u32) {
        let fate = self.append_of(number).fate;
        assert_ne!(fate, Fate::Absent, "{number} was refused, or was gone, and came");
        let follower = self.followers.entry(name).or_default();
        assert!(
            !follower.surely_settled.contains(&number),
            "{number} was settled and came to {name} again"
        );
        let tried = follower.tried.entry(number).or_default();
        match tried.is_sure {
            true => assert_eq!(Some(&failed), tried.values.last(), "tries of {number} at {name}"),
            false => assert!(
                failed == 0 || tried.values.contains(&failed),
                "{number} was tried {tried:?}, not {failed} times"
            ),
        }
        tried.values.push(failed);
        tried.is_sure = true;
    }

    fn append_of(&self, number: u64) -> &Append {
        let at = self.appends.partition_point(|append| append.first <= number);
        &self.appends[at - 1]
    }

    /// After a start: every event found, by number, with its place.
    pub(super) fn found(&mut self, kept: &BTreeMap<u64, u64>, depth: &Depth) {
        let limited = |place: &u64| {
            let gaps = depth.gaps.iter().filter(|gap| gap.reason == GapReason::Limit);
            gaps.clone().any(|gap| gap.from.0 <= *place && *place < gap.to.0)
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
                    // What retention deleted was settled, which is checked by what is delivered, or said.
                    let places = first..first + append.count;
                    let expected: Vec<u64> = places
                        .clone()
                        .filter(|place| *place >= depth.earliest.0 && !limited(place))
                        .collect();
                    let found: Vec<u64> = found.into_iter().filter(|place| !limited(place)).collect();
                    assert_eq!(found, expected, "acknowledged {append:?}, {depth:?}");
                    let damaged = depth.gaps.iter().filter(|gap| gap.reason == GapReason::Damage);
                    for gap in damaged {
                        assert!(
                            gap.to.0 <= places.start || places.end <= gap.from.0,
                            "{append:?} was acknowledged and is a gap: {gap:?}"
                        );
                    }
                }
                Fate::Absent => assert_eq!(found, Vec::<u64>::new(), "{append:?}"),
                Fate::Unknown => {
                    let whole = found.len() as u64 == append.count || found.is_empty();
                    assert!(whole || depth.earliest.0 > 0, "{append:?} is there in part: {found:?}");
                    append.fate = match (append.numbers().find(|number| kept.contains_key(number)), found.first()) {
                        (Some(number), Some(place)) => Fate::Stored(place - (number - append.first)),
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
                // It is owed nothing any more. A power cut may bring it back: nobody was told that it is gone for good.
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
                if let Some(place) = self.place_of(*number) {
                    assert!(
                        place >= cursor.settled_below.0 || follower.settled.contains(number) || limited(&place),
                        "cursor {} is at {} and has not settled {number}",
                        cursor.name,
                        cursor.settled_below
                    );
                }
            }
        }
    }

    fn place_of(&self, number: u64) -> Option<u64> {
        let append = self.append_of(number);
        match append.fate {
            Fate::Stored(first) => Some(first + number - append.first),
            _ => None,
        }
    }

    /// After a start: the letters there are, by number, each with its place.
    pub(super) fn found_letters(&mut self, listed: &BTreeMap<u64, u64>) {
        let is_stored = |letter: &LetterFact| matches!(letter.fate, Fate::Stored(_));
        let last_stored = self.letters.iter().rposition(is_stored);
        for (index, letter) in self.letters.iter_mut().enumerate() {
            let place = listed.get(&letter.number).copied();
            if letter.fate == Fate::Unknown && last_stored.is_some_and(|last| index < last) {
                letter.fate = Fate::Absent;
            }
            match (letter.fate, letter.removed) {
                (Fate::Stored(stored), There::No) => assert_eq!(place, Some(stored), "{letter:?}"),
                (Fate::Stored(_), There::Perhaps) => {
                    // Seen to be gone it may still be a change that only the system's cache has.
                    if place.is_some() {
                        letter.removed = There::No;
                    }
                }
                (Fate::Absent, _) | (_, There::Yes) => assert_eq!(place, None, "{letter:?}"),
                (Fate::Unknown, _) => letter.fate = place.map_or(Fate::Unknown, Fate::Stored),
            }
        }
        let known: BTreeSet<u64> = self.letters.iter().map(|letter| letter.number).collect();
        assert!(listed.keys().all(|number| known.contains(number)), "{listed:?}");
    }

    /// In the end: everything owed came or was settled before.
    pub(super) fn drained(&self, name: &'static str, came: &BTreeSet<u64>, depth: &Depth) {
        let follower = &self.followers[name];
        let limited = |place: u64| {
            depth
                .gaps
                .iter()
                .any(|gap| gap.reason == GapReason::Limit && gap.from.0 <= place && place < gap.to.0)
        };
        for number in &follower.owed {
            if let Some(place) = self.place_of(*number) {
                assert!(
                    came.contains(number) || follower.settled.contains(number) || limited(place),
                    "{number} at {place} was acknowledged and {name} never got it"
                );
            }
        }
    }
}
