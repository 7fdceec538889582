//! Names of streams, consumers and subjects, from names that may hold anything.
//!
//! JetStream refuses white space, `.`, `*`, `>` and path separators in the names of streams and consumers.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The server's bound of a name is 255 bytes; this leaves space for what is put before or after.
pub(crate) const NAME_MAX: usize = 200;

/// After each channel's stream.
const DEAD_LETTERS: &str = "-dead-letters";
const ATTEMPTS: &str = "-attempts";

pub(crate) fn dead_letters(stream: &str) -> String {
    format!("{stream}{DEAD_LETTERS}")
}

pub(crate) fn attempts(stream: &str) -> String {
    format!("{stream}{ATTEMPTS}")
}

/// The stream of a channel: its name after a prefix.
pub fn stream(prefix: &str, channel: &str) -> String {
    // A stream's name is its subject, too: what no consumer's name may hold is not in it either.
    let name = consumer(channel);
    let room = NAME_MAX.saturating_sub(prefix.len());
    if name.len() <= room {
        return format!("{prefix}{name}");
    }
    format!("{prefix}{}", shortened(name, channel, room))
}

/// The consumer's name for a cursor of this owner. Each owner has its own, because a consumer is deleted by its name, also when another
/// owner created one meanwhile.
pub(crate) fn owned(cursor: &str, owner: Option<&str>) -> String {
    match owner {
        Some(owner) => consumer(&format!("{cursor}/{owner}")),
        None => consumer(cursor),
    }
}

/// The consumer's name for an unowned cursor: letters, digits and `-` as they are, `/` as `_`, everything else as `=XX`. What is
/// too long ends in a hash instead.
pub(crate) fn consumer(cursor: &str) -> String {
    let mut name = String::with_capacity(cursor.len());
    for byte in cursor.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            b'/' => name.push('_'),
            // Writing into a string cannot fail.
            _ => drop(write!(name, "={byte:02X}")),
        }
    }
    if name.len() > NAME_MAX {
        name = shortened(name, cursor, NAME_MAX);
    }
    if name.is_empty() {
        name.push('=');
    }
    name
}

/// Shortens a name to its beginning and a hash. At most `longest` letters, and never fewer than the hash has.
fn shortened(mut name: String, of: &str, longest: usize) -> String {
    let hash = hex::encode(&Sha256::digest(of.as_bytes())[..16]);
    name.truncate(longest.saturating_sub(hash.len() + 1));
    format!("{name}={hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_cursors_have_different_names_that_a_server_takes() {
        let long = "x".repeat(500);
        let other = format!("{}y", "x".repeat(499));
        let cursors = [
            "default/s",
            "default_s",
            "default=s",
            "a.b/c",
            "a b",
            "\u{20ac}",
            "",
            &long,
            &other,
        ];
        assert_eq!(stream("headgate-", "default/orders"), "headgate-default_orders");
        let prefix = "p".repeat(64);
        assert_ne!(stream(&prefix, &long), stream(&prefix, &other));
        assert_eq!(stream(&prefix, &long).len(), NAME_MAX);
        assert_eq!(owned("default/s", None), "default_s");
        assert_eq!(owned("default/s", Some("1f-2")), "default_s_1f-2");
        assert_ne!(owned(&long, Some("1")), owned(&long, Some("2")));
        let names: std::collections::BTreeSet<String> = cursors.iter().map(|cursor| consumer(cursor)).collect();
        assert_eq!(names.len(), cursors.len(), "{names:?}");
        assert!(names.contains("default_s") && names.contains("a=2Eb_c"));
        assert!(
            names
                .iter()
                .all(|name| name.len() <= NAME_MAX && !name.contains(['.', '*', '>', '/', '\\', ' ']))
        );
    }
}
