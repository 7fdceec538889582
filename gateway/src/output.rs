//! Results to standard output, everything else to standard error. The only place that prints.
//!
//! Shown text may come from strangers: an event's data, an answer's body, the name of a host. Text for people goes through
//! [`line`], which lets no control character reach the terminal; text for programs goes out unchanged ([`exact`]).

use std::{
    borrow::Cow,
    io::{IsTerminal, Write},
};

/// A line of a result, or several. A closed pipe (`headgate get | head`) ends the command quietly.
pub(crate) fn line(text: &str) {
    exact(&clean(text));
}

/// Several lines, ending with or without a newline.
pub(crate) fn text(text: &str) {
    line(text.strip_suffix('\n').unwrap_or(text));
}

/// As [`line`], byte for byte: JSON, scripts, our own colours.
pub(crate) fn exact(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        #[expect(
            clippy::disallowed_methods,
            reason = "nobody reads what this command prints; there is nothing left to do"
        )]
        std::process::exit(0);
    }
}

/// A message that is no result.
pub(crate) fn note(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", clean(message));
}

/// Why a command failed.
pub(crate) fn complain(message: &str) {
    note(&format!("error: {message}"));
}

/// Without what a terminal would act on; lines and tabs stay.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    replace(text, |c| acts(c) && !matches!(c, '\n' | '\t'))
}

/// The same, on one line.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(is_break) {
        clean(&text.replace(is_break, " ")).into_owned().into()
    } else {
        clean(text)
    }
}

fn is_break(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\t' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

fn replace(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.contains(&is_bad) {
        text.replace(is_bad, "\u{fffd}").into()
    } else {
        text.into()
    }
}

/// Control characters (C0, DEL, C1), and those that turn the direction of text around or break lines: with them a line can show
/// something else than it says.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Columns of the terminal that results go to; `None` in a pipe.
pub(crate) fn width() -> Option<usize> {
    size().map(|size| size.ws_col.into()).filter(|width| *width > 0)
}

/// Lines of that terminal.
pub(crate) fn height() -> Option<usize> {
    size().map(|size| size.ws_row.into()).filter(|height| *height > 0)
}

fn size() -> Option<rustix::termios::Winsize> {
    let out = std::io::stdout();
    out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok())?
}

/// Colour on a terminal, unless `NO_COLOR` is set (no-color.org).
pub(crate) fn in_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_act_on() {
        let hostile = "a\u{1b}]0;PWN\u{7}\u{9b}2J\u{7f}\u{202e}b\r\nc\td\u{2066}é";
        assert_eq!(
            clean(hostile),
            "a\u{fffd}]0;PWN\u{fffd}\u{fffd}2J\u{fffd}\u{fffd}b\u{fffd}\nc\td\u{fffd}é"
        );
        assert_eq!(one_line("a\nb\u{2028}c\u{1b}"), "a b c\u{fffd}");
        assert!(matches!(clean("plain 日本語"), Cow::Borrowed(_)));
    }
}
