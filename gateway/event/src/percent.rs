//! Percent-encoding of `ce-` header values (CloudEvents HTTP binding 1.0.2, section 3.1.3.2; CONTRACT IN-6).

use std::borrow::Cow;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Space, `"`, `%` and everything outside U+0021..U+007E.
fn must_encode(byte: u8) -> bool {
    !(0x21..=0x7E).contains(&byte) || byte == b'"' || byte == b'%'
}

/// `None` when the value can be sent as it is.
pub(crate) fn encode(value: &str) -> Option<Vec<u8>> {
    if !value.bytes().any(must_encode) {
        return None;
    }
    let mut out = Vec::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        if must_encode(byte) {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

/// Decodes escapes; a bad one stays as it is, and so does a value that would not be UTF-8.
pub(crate) fn decode(value: &str) -> Cow<'_, str> {
    let value = unquoted(value);
    if !value.contains('%') {
        return value;
    }
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| Some((digit(*bytes.get(at + 1)?)?, digit(*bytes.get(at + 2)?)?)));
        match escape.flatten() {
            Some((high, low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    match String::from_utf8(out) {
        Ok(decoded) => Cow::Owned(decoded),
        Err(_) => value,
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Section 3.1.3.2: a quoted value is unquoted and unescaped first. A `"` is always encoded by senders that follow it, so
/// a value that begins with one was quoted.
fn unquoted(value: &str) -> Cow<'_, str> {
    let inner = value
        .len()
        .checked_sub(2)
        .and_then(|_| value.strip_prefix('"')?.strip_suffix('"'));
    match inner {
        None => Cow::Borrowed(value),
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        Some(inner) => {
            let mut out = String::with_capacity(inner.len());
            let mut escaped = false;
            for c in inner.chars() {
                if c == '\\' && !escaped {
                    escaped = true;
                } else {
                    out.push(c);
                    escaped = false;
                }
            }
            Cow::Owned(out)
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Proves: IN-6
    #[test]
    fn what_must_be_encoded_is_and_decodes_to_itself() {
        assert_eq!(
            encode("Euro \u{20AC} \u{1F600}").unwrap(),
            b"Euro%20%E2%82%AC%20%F0%9F%98%80"
        );
        assert_eq!(encode("a\"b%c").unwrap(), b"a%22b%25c");
        assert_eq!(encode("!~plain"), None);
        for text in ["Euro \u{20AC}", "100%", "%41", "\"quoted\"", "\u{7f}"] {
            let sent = encode(text).map_or(text.to_owned(), |bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(decode(&sent), text);
        }
    }

    /// Proves: IN-6
    #[test]
    fn a_bad_escape_stays_as_it_is() {
        for (sent, read) in [
            ("%", "%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
            ("a%20b%", "a b%"),
            ("%ff", "%ff"),
            ("%e2%82%ac", "\u{20AC}"),
        ] {
            assert_eq!(decode(sent), read, "{sent}");
        }
        assert_eq!(decode(r#""a \"b\" %20c""#), r#"a "b"  c"#);
        assert_eq!(decode("\""), "\"");
    }
}
