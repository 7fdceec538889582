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

/// Attributes of one event at most: ten times what any producer we know sends.
pub(crate) const COUNT_MAX: usize = 256;
/// Bytes of a whole table at most: the ingress reads 64 KiB of headers, a dead letter adds an answer of 64 KiB in base64.
pub(crate) const TABLE_MAX_BYTES: usize = 256 * 1024;

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
        let (kind, name, value) = self.raw_next()?;
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
        let wanted = names.iter().position(|wanted| wanted.as_ref().as_bytes() == name);
        if let Some(slot @ None) = wanted.and_then(|index| found.get_mut(index)) {
            missing -= 1;
            *slot = ValueKind::from_byte(kind).map(|kind| Value {
                text: text(value),
                kind,
            });
        }
    }
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
        if ValueKind::from_byte(kind).is_none() || std::str::from_utf8(value).is_err() || !rules::is_name(name) {
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
}

impl Table {
    pub(crate) fn of(table: &[u8]) -> Self {
        Self {
            entries: Entries::of(table)
                .map(|(name, value)| (name.into(), value.text.into(), value.kind))
                .collect(),
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str, kind: ValueKind) {
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
        write(entries.clone(), entries.clone().count())
    }
}

/// Checks and writes a table: the required attributes first, the others in the order they came.
pub(crate) fn write<'a>(
    entries: impl Iterator<Item = (&'a str, &'a str, ValueKind)> + Clone,
    count: usize,
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
    Ok(table.into())
}

fn push(table: &mut Vec<u8>, name: &str, value: &str, kind: ValueKind) -> Result<(), InvalidAttribute> {
    rules::check(name, value, kind)?;
    // Both lengths were bounded: names by the rules, values by the table's maximum.
    let name_length = u8::try_from(name.len()).map_err(|_| InvalidAttribute::new(name, "name is too long"))?;
    let value_length = u32::try_from(value.len()).map_err(|_| InvalidAttribute::new(name, "value is too long"))?;
    table.push(kind.to_byte());
    table.push(name_length);
    table.extend_from_slice(&value_length.to_le_bytes());
    table.extend_from_slice(name.as_bytes());
    table.extend_from_slice(value.as_bytes());
    Ok(())
}
