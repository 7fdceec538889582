//! Headers that a document may set on the requests to a destination.

/// Names in use stay well below.
pub(super) const NAME_MAX: usize = 64;

/// Servers take heads of 8 KiB in all.
pub(super) const VALUE_MAX: usize = 1024;

const NAME: &str = "a header's name has small letters, digits, `-`, `_` and `.`";
const EVENT: &str = "headers that begin with `ce-` are the event's attributes";
const CONTENT: &str = "headers that begin with `content-` describe the event's data";
const SIGNATURE: &str = "headers that begin with `webhook-` are those of `sign`";
const PROXY: &str = "headers that begin with `proxy-` are those of a proxy";
const VALUE: &str = "a header's value has visible ASCII characters, with spaces between them and not around them";

/// Beginnings of names that are not free, and the message about each. Headers that keep their old name, such as `te`, are
/// listed where the field is declared.
const RESERVED: [(&str, &str); 4] = [
    ("ce-", EVENT),
    ("content-", CONTENT),
    ("webhook-", SIGNATURE),
    ("proxy-", PROXY),
];

/// RE2, which the API server has, knows no "does not begin with": each pattern lists the names that leave the beginning at some
/// character.
pub(super) const NAMES: [(&str, &str); 5] = [
    (r"^[a-z0-9][-_.a-z0-9]*$", NAME),
    (r"^([^c]|c[^e]|ce[^-]|ce?$)", EVENT),
    (
        r"^([^c]|c[^o]|co[^n]|con[^t]|cont[^e]|conte[^n]|conten[^t]|content[^-]|co?n?t?e?n?t?$)",
        CONTENT,
    ),
    (
        r"^([^w]|w[^e]|we[^b]|web[^h]|webh[^o]|webho[^o]|webhoo[^k]|webhook[^-]|we?b?h?o?o?k?$)",
        SIGNATURE,
    ),
    (r"^([^p]|p[^r]|pr[^o]|pro[^x]|prox[^y]|proxy[^-]|pr?o?x?y?$)", PROXY),
];

pub(super) const VALUES: [(&str, &str); 1] = [(r"^[!-~]([ -~\t]*[!-~])?$", VALUE)];

pub(super) fn name(text: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !starts || !text.bytes().all(allowed) {
        let small = text.to_ascii_lowercase();
        let instead = match small != text && name(&small).is_ok() {
            true => format!(": write `{small}`"),
            false => String::new(),
        };
        return Err(format!("`{text}` cannot be set: {NAME}{instead}"));
    }
    match RESERVED.iter().find(|(start, _)| text.starts_with(start)) {
        Some((_, words)) => Err(format!("`{text}` cannot be set: {words}")),
        None => Ok(()),
    }
}

/// The text is not repeated: people write tokens there.
pub(super) fn value(text: &str) -> Result<(), String> {
    let visible = |byte: u8| byte.is_ascii_graphic();
    let inner = |byte: u8| visible(byte) || byte == b' ' || byte == b'\t';
    let ends = text.bytes().next().is_some_and(visible) && text.bytes().last().is_some_and(visible);
    if ends && text.bytes().all(inner) {
        return Ok(());
    }
    Err(VALUE.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_refused_and_names_like_them_are_not() {
        for taken in [
            "x-team", "c", "ce", "cex", "contents", "content", "webhook", "x-ce-id", "proxies", "w", "p", "1",
        ] {
            assert_eq!(name(taken), Ok(()), "{taken}");
        }
        for (refused, words) in [
            ("ce-id", EVENT),
            ("content-type", CONTENT),
            ("webhook-id", SIGNATURE),
            ("proxy-authorization", PROXY),
            ("X-Team", "write `x-team`"),
            ("a b", NAME),
            ("", NAME),
            ("Ce-Id", NAME),
        ] {
            let why = name(refused).expect_err(refused);
            assert!(why.contains(words), "{refused}: {why}");
        }
    }

    #[test]
    fn a_value_is_what_http_can_carry() {
        for taken in ["a", "a b\tc", "key=\"v\""] {
            assert_eq!(value(taken), Ok(()), "{taken}");
        }
        for refused in ["", " a", "a ", "a\r\nb: c", "caf\u{e9}", "\u{7f}"] {
            assert!(value(refused).is_err(), "{refused:?}");
        }
    }
}
