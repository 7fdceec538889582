//! Names and passwords in URIs (`http://user:password@host`), hidden wherever a document or a message is shown.
//!
//! Documents hold them as text, in fields and in annotations that repeat the document, so text is searched, whatever it means.

use std::borrow::Cow;

/// Where an authority ends. White space and quotes end the text that a URI stands in.
fn ends(c: char) -> bool {
    matches!(c, '/' | '?' | '#' | '\\' | '"' | '\'' | '`' | '<' | '>') || c.is_whitespace()
}

/// With `***` in its place.
pub fn without_userinfo(text: &str) -> Cow<'_, str> {
    replaced(text, |_| "***".to_owned())
}

/// With as many asterisks as there were bytes, so that places in the text stay where they are.
pub(crate) fn blanked(text: &str) -> Cow<'_, str> {
    replaced(text, |userinfo| "*".repeat(userinfo.len()))
}

fn replaced(text: &str, with: impl Fn(&str) -> String) -> Cow<'_, str> {
    let mut out = String::new();
    // Copied so far.
    let mut done = 0;
    for (found, separator) in text.match_indices("://") {
        let start = found + separator.len();
        let authority = text[start..].split(ends).next().unwrap_or_default();
        // The last: a password may hold one that was not escaped.
        let Some(at) = authority.rfind('@') else { continue };
        out.push_str(&text[done..start]);
        out.push_str(&with(&authority[..at]));
        done = start + at;
    }
    match done {
        0 => text.into(),
        done => (out + &text[done..]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userinfo_is_hidden_and_nothing_else() {
        let cases = [
            ("http://user:P4SSW0RD@host:80/a@b?c=d@e", "http://***@host:80/a@b?c=d@e"),
            ("https://token@host", "https://***@host"),
            ("https://a:b@c@host/", "https://***@host/"),
            ("servers: nats://v:w@i,nats://x@j", "servers: nats://***@i,nats://***@j"),
            (
                "{\"uri\":\"http://u:p@h\",\"mail\":\"a@b\"}",
                "{\"uri\":\"http://***@h\",\"mail\":\"a@b\"}",
            ),
            ("http://host/", "http://host/"),
            ("a@b", "a@b"),
            ("://@", "://***@"),
        ];
        for (text, shown) in cases {
            assert_eq!(without_userinfo(text), shown);
            assert_eq!(blanked(text).len(), text.len());
        }
    }
}
