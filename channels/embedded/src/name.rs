//! Names in a data folder, and a channel's name as a folder name: readable where possible, never a path.

use std::fmt::Write;

/// The file in a data folder that the process using it holds locked.
pub(crate) const LOCK: &str = "LOCK";
/// The folder in a data folder that has one folder for each channel.
pub(crate) const CHANNELS: &str = "channels";
/// The folder in a channel's folder that has its dead letters.
pub(crate) const DEAD_LETTERS: &str = "letters";

/// File systems allow 255 bytes.
const LENGTH_MAX: usize = 200;

/// Letters, digits, `-`, `_` and inner dots stay; every other byte becomes `%` and two hex digits. A name that would
/// be too long is cut and ends in a checksum of the whole.
pub(crate) fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len() + 8);
    for (index, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || (byte == b'.' && index > 0);
        if plain {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02x}");
        }
    }
    if escaped.is_empty() {
        escaped.push('%');
    }
    if escaped.len() > LENGTH_MAX {
        escaped.truncate(LENGTH_MAX);
        let _ = write!(escaped, "%~{:016x}", fingerprint(name));
    }
    escaped
}

/// Decodes a folder name; `None` if [`escape`] did not make it, or cut it.
pub(crate) fn unescape(escaped: &str) -> Option<String> {
    if escaped == "%" {
        return Some(String::new());
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(escaped.len()), escaped.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|name| escape(name) == escaped)
}

/// FNV-1a. Must never change, because it is part of folder names.
fn fingerprint(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_never_a_path() {
        assert_eq!(escape("team/orders"), "team%2forders");
        assert_eq!([escape(".."), escape("."), escape("")], ["%2e.", "%2e", "%"]);
        assert_eq!(escape(&"ä".repeat(300)).len(), LENGTH_MAX + 18);
        assert_ne!(escape(&"a".repeat(300)), escape(&"a".repeat(301)));
    }

    proptest! {
        #[test]
        fn a_name_comes_back(name in ".{0,14}") {
            prop_assert_eq!(unescape(&escape(&name)), Some(name));
        }
    }
}
