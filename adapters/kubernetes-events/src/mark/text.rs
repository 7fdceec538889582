//! The mark as the checkpoint keeps it: one JSON object. A text that cannot be read is as if absent, which repeats events and
//! loses none.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Gap, Mark};

/// Another form gets another number; of a text with a number we do not know nothing is read.
const FORM: u32 = 1;

/// Bytes of an entry besides its uid: the longest number, quotes, a colon and a comma.
const ENTRY_BYTES: usize = 24;

#[derive(Serialize, Deserialize)]
struct Text {
    form: u32,
    scope: String,
    version: Option<u64>,
    synced: Timestamp,
    newest: Timestamp,
    floor: u64,
    gap: Option<Gap>,
    known: HashMap<Box<str>, u64>,
    found: Option<HashMap<Box<str>, u64>>,
}

/// The same, borrowed: a mark of a large cluster is megabytes.
#[derive(Serialize)]
struct TextOf<'a> {
    form: u32,
    scope: &'a str,
    version: Option<u64>,
    synced: Timestamp,
    newest: Timestamp,
    floor: u64,
    gap: &'a Option<Gap>,
    known: &'a HashMap<Box<str>, u64>,
    found: &'a Option<HashMap<Box<str>, u64>>,
}

impl Mark {
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let text: Text = serde_json::from_slice(text).ok()?;
        (text.form == FORM).then_some(Self {
            scope: text.scope,
            version: text.version,
            synced: text.synced,
            newest: text.newest,
            known: text.known,
            found: text.found,
            floor: text.floor,
            gap: text.gap,
        })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let text = TextOf {
            form: FORM,
            scope: &self.scope,
            version: self.version,
            synced: self.synced,
            newest: self.newest,
            floor: self.floor,
            gap: &self.gap,
            known: &self.known,
            found: &self.found,
        };
        // Maps with text keys, numbers and texts: nothing that JSON cannot hold.
        serde_json::to_vec(&text).unwrap_or_default()
    }

    /// The same in `max` bytes, and whether something had to be left out for that.
    ///
    /// Everything up to the version is stored, so that the order of versions says what is left out: the oldest objects. Where a
    /// list is being read what it stored is left out, too, and stored again after a restart. It is then as on a mark beyond
    /// `KNOWN_MAX`: a cluster whose etcd was restored may repeat events, and tell of a gap where there may be none.
    pub(crate) fn write_within(&self, max: usize) -> (Vec<u8>, bool) {
        let whole = self.write();
        if whole.len() <= max {
            return (whole, false);
        }
        let mut shortened = Self {
            scope: self.scope.clone(),
            version: self.version,
            synced: self.synced,
            newest: self.newest,
            known: HashMap::new(),
            found: self.found.as_ref().map(|_| HashMap::new()),
            floor: self.floor.max(self.version.unwrap_or_default()),
            gap: self.gap.clone(),
        };
        let mut left = max.saturating_sub(shortened.write().len());
        let mut known: Vec<_> = self.known.iter().collect();
        known.sort_unstable_by_key(|(_, version)| std::cmp::Reverse(**version));
        for (uid, version) in known {
            let Some(rest) = left.checked_sub(uid.len() + ENTRY_BYTES) else {
                break;
            };
            left = rest;
            shortened.known.insert(uid.clone(), *version);
        }
        (shortened.write(), true)
    }
}
