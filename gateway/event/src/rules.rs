//! The rules of a valid attribute (CloudEvents 1.0.2, "Context Attributes"; CONTRACT IN-6, IN-8).

use crate::{InvalidAttribute, SpecVersion, ValueKind};

/// Longest name: the specification advises 20 characters; ours need 20, and a header name has to stay reasonable.
const NAME_MAX: usize = 64;

/// Lower-case ASCII letters and digits.
pub(crate) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX && name.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

pub(crate) fn check(name: &str, value: &str, kind: ValueKind) -> Result<(), InvalidAttribute> {
    let invalid = |why: &str| Err(InvalidAttribute::new(name, why));
    if !is_name(name.as_bytes()) {
        return invalid("attribute names are lower-case ASCII letters and digits, at most 64");
    }
    if name == "data" {
        return invalid("`data` is no attribute");
    }
    if let Some(bad) = value.chars().find(|c| is_forbidden(*c)) {
        return invalid(&format!(
            "value contains the character {}, which CloudEvents does not allow",
            bad.escape_unicode()
        ));
    }
    let is_text = kind == ValueKind::String;
    match name {
        "specversion" if is_text && SpecVersion::parse(value).is_some() => Ok(()),
        "specversion" => invalid(&format!("specversion {value:?} is neither \"1.0\" nor \"0.3\"")),
        "id" | "source" | "type" if value.is_empty() => invalid("required attribute is empty"),
        "id"
        | "source"
        | "type"
        | "subject"
        | "dataschema"
        | "schemaurl"
        | "datacontenttype"
        | "datacontentencoding"
            if !is_text =>
        {
            invalid("value must be a string")
        }
        "source" | "dataschema" | "schemaurl" if !is_uri_reference(value) => {
            invalid("value is no URI reference: it is empty or contains a space or one of <>\"{}|\\^`")
        }
        "subject" | "datacontenttype" if value.is_empty() => invalid("value is empty"),
        "time" if !is_text || !is_rfc3339(value) => {
            invalid(&format!("{value:?} is no RFC 3339 time such as 2026-01-31T12:00:00Z"))
        }
        _ => match kind {
            ValueKind::String => Ok(()),
            ValueKind::Boolean if value == "true" || value == "false" => Ok(()),
            ValueKind::Boolean => invalid("value is no boolean"),
            ValueKind::Integer if value.parse::<i32>().is_ok() => Ok(()),
            ValueKind::Integer => invalid("value is no integer of 32 bits"),
        },
    }
}

/// Control characters and noncharacters (CloudEvents 1.0.2, type system, String).
fn is_forbidden(c: char) -> bool {
    let code = c as u32;
    c.is_control() || matches!(code, 0xFDD0..=0xFDEF) || code & 0xFFFE == 0xFFFE
}

/// The text without the characters that no attribute may have: for what strangers named, which may not stop its event.
/// Nothing is left of some texts.
pub fn storable(text: &str) -> String {
    text.chars().filter(|c| !is_forbidden(*c)).collect()
}

/// RFC 3986 as far as it can be told without knowing the scheme: characters that never occur in one.
fn is_uri_reference(value: &str) -> bool {
    !value.is_empty()
        && !value
            .chars()
            .any(|c| matches!(c, ' ' | '<' | '>' | '"' | '{' | '}' | '|' | '\\' | '^' | '`'))
}

/// RFC 3339 section 5.6, strictly: real dates, real offsets, a leap second where one may be.
pub(crate) fn is_rfc3339(value: &str) -> bool {
    let bytes = value.as_bytes();
    let number = |from: usize, length: usize| -> Option<u32> {
        let digits = bytes.get(from..from + length)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    let is = |at: usize, allowed: &[u8]| bytes.get(at).is_some_and(|b| allowed.contains(b));
    let shape = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let parts = (
        number(0, 4),
        number(5, 2),
        number(8, 2),
        number(11, 2),
        number(14, 2),
        number(17, 2),
    );
    let (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) = parts else {
        return false;
    };
    if !shape || is(10, b" ") || !(1..=12).contains(&month) || day < 1 || day > days(year, month) {
        return false;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return false;
    }
    let mut at = 19;
    if is(at, b".") {
        let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return false;
        }
        at += 1 + digits;
    }
    match bytes.get(at) {
        Some(b'Z' | b'z') => at + 1 == bytes.len(),
        Some(b'+' | b'-') => {
            let offset = (number(at + 1, 2), number(at + 4, 2));
            at + 6 == bytes.len() && is(at + 3, b":") && matches!(offset, (Some(0..=23), Some(0..=59)))
        }
        _ => false,
    }
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
