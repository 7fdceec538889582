//! The mark as the checkpoint keeps it: one JSON object. A text that cannot be read is as if absent, which repeats events and
//! loses none.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Gap, Mark};

/// Another form gets another number; of a text with a number we do not know nothing is read.
const FORM: u32 = 1;

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
}
