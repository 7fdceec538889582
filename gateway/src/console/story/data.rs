//! The bytes of an event for people: as JSON, as text, in hexadecimal digits. What is shown is a copy; the bytes themselves are
//! downloaded.

use std::fmt::Write;

use maud::{Markup, html};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{console::parts, json_view};

/// Bytes that are shown at most: a person reads no more, and a page stays small.
const SHOWN_MAX: usize = 64 * 1024;

/// Bytes that are shown as digits: each takes four characters and more.
const HEX_MAX: usize = 4096;

/// How data is shown.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// Indented JSON where it is JSON, else text, else digits.
    #[default]
    Pretty,
    /// As it came.
    Raw,
    Hex,
}

impl Form {
    pub(super) const ALL: [(Self, &str, &str); 3] = [
        (Self::Pretty, "", "Pretty"),
        (Self::Raw, "raw", "Raw"),
        (Self::Hex, "hex", "Hex"),
    ];
}

pub(super) fn show(data: &[u8], form: Form) -> Markup {
    if data.is_empty() {
        return html! { p.empty { "The event has no data." } };
    }
    let text = std::str::from_utf8(&data[..data.len().min(SHOWN_MAX)]);
    // A character may be cut in two at the end of what is shown.
    let text = match text {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&data[..error.valid_up_to()]).ok(),
        Err(_) => None,
    };
    let (shown, max) = match (form, text) {
        (Form::Pretty, Some(text)) if data.len() <= SHOWN_MAX => (pretty(text), SHOWN_MAX),
        (Form::Pretty | Form::Raw, Some(text)) => (text.to_owned(), SHOWN_MAX),
        (Form::Hex, _) | (_, None) => (hex(&data[..data.len().min(HEX_MAX)]), HEX_MAX),
    };
    html! {
        pre tabindex="0" { (visible(&shown)) }
        @if data.len() > max {
            p.quiet { "The first " (parts::bytes(max as u64)) " of " (parts::bytes(data.len() as u64)) ". Download the data to see all of it." }
        }
    }
}

/// JSON is indented, each value as it was written; other text is left alone.
fn pretty(text: &str) -> String {
    if serde_json::from_str::<&RawValue>(text).is_ok() {
        json_view::pretty(text)
    } else {
        text.to_owned()
    }
}

/// Characters that change how others are shown, as code points: text that runs backwards would show another event than was sent.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                // A String takes all that is written to it.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Sixteen bytes a line, with their offset and what is ASCII.
fn hex(data: &[u8]) -> String {
    let mut out = String::with_capacity(data.len() * 5);
    for (line, bytes) in data.chunks(16).enumerate() {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let ascii: String = bytes
            .iter()
            .map(|byte| {
                if byte.is_ascii_graphic() {
                    char::from(*byte)
                } else {
                    '.'
                }
            })
            .collect();
        // A String takes all that is written to it.
        let _ = writeln!(out, "{:08x}  {:<47}  {ascii}", line * 16, digits.join(" "));
    }
    out
}

/// The command that sends the event again, as it was; `None` where its data is no text that a command line can hold.
pub(super) fn curl(event: &event::Event, address: &str) -> Option<String> {
    /// Longer commands are no longer copied by hand.
    const DATA_MAX: usize = 8192;
    let data = std::str::from_utf8(event.data())
        .ok()
        .filter(|data| data.len() <= DATA_MAX && !data.contains('\0'))?;
    let mut command = format!("curl -i {}", parts::quoted(address));
    for (name, value) in event.attributes() {
        let header = match name {
            "datacontenttype" => format!("content-type: {}", value.text),
            name => format!("ce-{name}: {}", encoded(value.text)),
        };
        command.push_str(&format!(" -H {}", parts::quoted(&header)));
    }
    if !event.data().is_empty() {
        command.push_str(&format!(" --data-binary {}", parts::quoted(data)));
    } else {
        command.push_str(" -X POST");
    }
    Some(command)
}

/// An attribute in a header of HTTP, as the CloudEvents binding encodes it.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if (' '..='~').contains(&c) && c != '%' && c != '"' && c != ' ' {
            out.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // A String takes all that is written to it.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn data_is_shown_in_three_forms_and_never_as_markup() {
        let shown = |data: &[u8], form| show(data, form).into_string();
        assert!(shown(br#"{"a":1.50}"#, Form::Pretty).contains("{\n  &quot;a&quot;: 1.50\n}"));
        assert!(shown(b"<script>", Form::Raw).contains("&lt;script&gt;"));
        assert!(
            shown(b"\xff\x00a", Form::Pretty).contains("00000000  ff 00 61")
                && shown(b"ab", Form::Hex).contains("  ab")
        );
        assert!(shown("a\u{202e}b\u{1b}[2J".as_bytes(), Form::Raw).contains("a\\u{202e}b\\x1b[2J"));
        let long = format!("{}é", "a".repeat(SHOWN_MAX - 1));
        assert!(shown(long.as_bytes(), Form::Pretty).contains("The first 64.0 KiB of"));
    }

    #[test]
    fn the_command_sends_the_event_as_it_was() {
        let event = event::Event::builder("it's", "/s", "t").set("subject", "ü \"x\"");
        let event = event.data("text/plain", "it's $HOME".into()).finish().unwrap();
        let command = curl(&event, "http://h/a/b").unwrap();
        assert!(
            command.contains(r"'ce-id: it'\''s'") && command.contains("ce-subject: %C3%BC%20%22x%22"),
            "{command}"
        );
        assert!(command.ends_with(r"--data-binary 'it'\''s $HOME'"), "{command}");
    }
}
