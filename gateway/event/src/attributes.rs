//! The attribute table: one allocation, checked once, read without parsing.
//!
//! Layout: a version byte, then one entry after the other: kind (u8), length of the name (u8), length of the value (u32 little
//! endian), name, value. `specversion`, `id`, `source`, `type` come first, in this order, in every table. The form in memory is
//! the stored form.

use bytes::Bytes;

use crate::{InvalidAttribute, Malformed, Value, ValueKind, rules};

const VERSION: u8 = 1;
const ENTRY_HEAD: usize = 6;
pub(crate) const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// Attributes of one event at most, the gateway's own among them.
pub(crate) const COUNT_MAX: usize = 256;
/// Bytes of a whole table at most, the gateway's own attributes among them.
pub(crate) const TABLE_MAX_BYTES: usize = 256 * 1024;

/// Attributes that an event may bring: ten times what any producer we know sends. Less than [`COUNT_MAX`] by more than the gateway
/// ever adds (hops, chain, publisher, a trace, and what a dead-letter sink is sent: 14), so that there is always room (CONTRACT IN-8).
pub const BROUGHT_MAX: usize = 224;
/// Bytes of the attributes that an event may bring, names and values: twice the headers that the ingress reads. The rest of
/// [`TABLE_MAX_BYTES`] is room for the gateway's own.
pub const BROUGHT_MAX_BYTES: usize = 128 * 1024;
/// Bytes of those attributes of [`PASSED_ON`] that an event brings: what the gateway itself writes into them is less.
const PASSED_ON_MAX_BYTES: usize = 16 * 1024;

/// Our own attributes begin so.
const OURS: &str = "headgate";
/// Attributes that a gateway adds and another takes from it: they do not count as brought, or an event that is just small enough
/// could not be passed on.
const PASSED_ON: [&str; 5] = [
    "knativeerrordest",
    "knativeerrorcode",
    "knativeerrordata",
    "traceparent",
    "tracestate",
];

pub(crate) const CONTENT_TYPE: &str = "datacontenttype";
/// The kind of an entry that is no attribute: it says that the event came in JSON without a `datacontenttype`, so that its data is
/// [`IMPLIED_TYPE`] wherever a content type is needed.
const IMPLIED: u8 = 3;
pub(crate) const IMPLIED_TYPE: &str = "application/json";

#[derive(Clone, Copy)]
pub(crate) struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    pub(crate) fn of(table: &'a [u8]) -> Self {
        Self(table.get(1..).unwrap_or_default())
    }

    fn raw_next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let head = self.0.get(..ENTRY_HEAD)?;
        let name = usize::from(head[1]);
        let value = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
        let end = ENTRY_HEAD.checked_add(name)?.checked_add(value)?;
        let entry = self.0.get(ENTRY_HEAD..end)?;
        let kind = head[0];
        self.0 = &self.0[end..];
        Some((kind, &entry[..name], &entry[name..]))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (mut kind, mut name, mut value) = self.raw_next()?;
        while kind == IMPLIED {
            (kind, name, value) = self.raw_next()?;
        }
        // Both were checked when the table was made.
        Some((
            text(name),
            Value {
                text: text(value),
                kind: ValueKind::from_byte(kind)?,
            },
        ))
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

pub(crate) fn find<'a>(table: &'a [u8], name: &str) -> Option<Value<'a>> {
    let mut entries = Entries::of(table);
    while let Some((kind, found, value)) = entries.raw_next() {
        if found == name.as_bytes() {
            return Some(Value {
                text: text(value),
                kind: ValueKind::from_byte(kind)?,
            });
        }
    }
    None
}

/// Like [`find`] for each of the names, which differ: ends as soon as all are found.
pub(crate) fn select<'a>(table: &'a [u8], names: &[impl AsRef<str>], found: &mut [Option<Value<'a>>]) {
    let mut entries = Entries::of(table);
    let mut missing = names.len();
    while missing > 0 {
        let Some((kind, name, value)) = entries.raw_next() else {
            return;
        };
        let expected = names.iter().position(|expected| expected.as_ref().as_bytes() == name);
        if let Some(slot @ None) = expected.and_then(|index| found.get_mut(index)) {
            missing -= 1;
            *slot = ValueKind::from_byte(kind).map(|kind| Value {
                text: text(value),
                kind,
            });
        }
    }
}

/// Whether the data is JSON because nothing else is said.
pub(crate) fn is_implied(table: &[u8]) -> bool {
    let mut entries = Entries::of(table);
    while let Some((kind, ..)) = entries.raw_next() {
        if kind == IMPLIED {
            return true;
        }
    }
    false
}

/// Checks that attributes from outside leave room for the gateway's own.
pub(crate) fn ensure_room<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), InvalidAttribute> {
    let (mut count, mut bytes, mut passed_on) = (0, 0, 0);
    for (name, value) in entries {
        let size = ENTRY_HEAD + name.len() + value.len();
        if PASSED_ON.contains(&name) {
            passed_on += size;
        } else if !name.starts_with(OURS) {
            count += 1;
            bytes += size;
        }
    }
    let over = |what: String| Err(InvalidAttribute::new("", what));
    if count > BROUGHT_MAX {
        return over(format!(
            "{count} attributes are more than the {BROUGHT_MAX} that an event may have"
        ));
    }
    if bytes > BROUGHT_MAX_BYTES {
        return over(format!(
            "{bytes} bytes of attributes are more than the {BROUGHT_MAX_BYTES} that an event may have"
        ));
    }
    if passed_on > PASSED_ON_MAX_BYTES {
        return over(format!(
            "{passed_on} bytes of {} are more than {PASSED_ON_MAX_BYTES}",
            PASSED_ON.join(", ")
        ));
    }
    Ok(())
}

/// The value's place in the table, so that it can be shared instead of copied.
pub(crate) fn shared(table: &Bytes, value: &str) -> Bytes {
    table.slice_ref(value.as_bytes())
}

/// Checks a table that comes from a disk or a network: bounds, UTF-8, names, kinds, the required ones first.
pub(crate) fn check(table: &[u8]) -> Result<(), Malformed> {
    if table.first() != Some(&VERSION) {
        return Err(Malformed("unknown version of the attribute table"));
    }
    let mut entries = Entries::of(table);
    let mut count = 0;
    while !entries.0.is_empty() {
        let (kind, name, value) = entries.raw_next().ok_or(Malformed("attribute table is cut short"))?;
        let is_known = ValueKind::from_byte(kind).is_some() || (kind == IMPLIED && name == CONTENT_TYPE.as_bytes());
        if !is_known || std::str::from_utf8(value).is_err() || !rules::is_name(name) {
            return Err(Malformed("attribute is malformed"));
        }
        if REQUIRED.get(count).is_some_and(|required| required.as_bytes() != name) {
            return Err(Malformed("a required attribute is missing"));
        }
        count += 1;
    }
    if count < REQUIRED.len() {
        Err(Malformed("a required attribute is missing"))
    } else {
        Ok(())
    }
}

/// Collects attributes in any order and writes the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    entries: Vec<(Box<str>, Box<str>, ValueKind)>,
    is_implied: bool,
}

impl Table {
    pub(crate) fn of(table: &[u8]) -> Self {
        Self {
            entries: Entries::of(table)
                .map(|(name, value)| (name.into(), value.text.into(), value.kind))
                .collect(),
            is_implied: is_implied(table),
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str, kind: ValueKind) {
        if name == CONTENT_TYPE {
            self.is_implied = false;
        }
        match self.entries.iter_mut().find(|(known, ..)| **known == *name) {
            Some(entry) => (entry.1, entry.2) = (value.into(), kind),
            None => self.entries.push((name.into(), value.into(), kind)),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.entries.retain(|(known, ..)| **known != *name);
    }

    pub(crate) fn finish(&self) -> Result<Bytes, InvalidAttribute> {
        let entries = self
            .entries
            .iter()
            .map(|(name, value, kind)| (&**name, &**value, *kind));
        write(entries.clone(), entries.clone().count(), self.is_implied)
    }
}

/// As [`write`], what comes from outside.
pub(crate) fn write_brought<'a>(
    entries: impl Iterator<Item = (&'a str, &'a str, ValueKind)> + Clone,
    count: usize,
    is_implied: bool,
) -> Result<Bytes, InvalidAttribute> {
    ensure_room(entries.clone().map(|(name, value, _)| (name, value)))?;
    write(entries, count, is_implied)
}

/// Checks and writes a table: the required attributes first, the others in the order they came.
pub(crate) fn write<'a>(
    entries: impl Iterator<Item = (&'a str, &'a str, ValueKind)> + Clone,
    count: usize,
    is_implied: bool,
) -> Result<Bytes, InvalidAttribute> {
    if count > COUNT_MAX {
        return Err(InvalidAttribute::new(
            "",
            format!("{count} attributes are more than {COUNT_MAX}"),
        ));
    }
    let bytes = 1 + entries
        .clone()
        .map(|(name, value, _)| ENTRY_HEAD + name.len() + value.len())
        .sum::<usize>();
    if bytes > TABLE_MAX_BYTES {
        return Err(InvalidAttribute::new(
            "",
            format!("{bytes} bytes of attributes are more than {TABLE_MAX_BYTES}"),
        ));
    }
    let mut table = Vec::with_capacity(bytes);
    table.push(VERSION);
    for required in REQUIRED {
        let found = entries.clone().find(|(name, ..)| *name == required);
        let (name, value, kind) =
            found.ok_or_else(|| InvalidAttribute::new(required, "required attribute is missing"))?;
        push(&mut table, name, value, kind)?;
    }
    for (name, value, kind) in entries.filter(|(name, ..)| !REQUIRED.contains(name)) {
        push(&mut table, name, value, kind)?;
    }
    if is_implied {
        entry(&mut table, IMPLIED, CONTENT_TYPE, IMPLIED_TYPE)?;
    }
    Ok(table.into())
}

fn push(table: &mut Vec<u8>, name: &str, value: &str, kind: ValueKind) -> Result<(), InvalidAttribute> {
    rules::check(name, value, kind)?;
    entry(table, kind.to_byte(), name, value)
}

fn entry(table: &mut Vec<u8>, kind: u8, name: &str, value: &str) -> Result<(), InvalidAttribute> {
    // Both lengths were bounded: names by the rules, values by the table's maximum.
    let name_length = u8::try_from(name.len()).map_err(|_| InvalidAttribute::new(name, "name is too long"))?;
    let value_length = u32::try_from(value.len()).map_err(|_| InvalidAttribute::new(name, "value is too long"))?;
    table.push(kind);
    table.push(name_length);
    table.extend_from_slice(&value_length.to_le_bytes());
    table.extend_from_slice(name.as_bytes());
    table.extend_from_slice(value.as_bytes());
    Ok(())
}
