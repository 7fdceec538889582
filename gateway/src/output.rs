//! Results to standard output, everything else to standard error. The only place that prints.

use std::io::{IsTerminal, Write};

/// A line of a result. A closed pipe (`headgate get | head`) ends the command quietly.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        #[expect(
            clippy::disallowed_methods,
            reason = "nobody reads what this command prints; there is nothing left to do"
        )]
        std::process::exit(0);
    }
}

/// Several lines, ending with or without a newline.
pub(crate) fn text(text: &str) {
    line(text.strip_suffix('\n').unwrap_or(text));
}

/// A message that is no result.
pub(crate) fn note(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{message}");
}

/// Why a command failed.
pub(crate) fn complain(message: &str) {
    note(&format!("error: {message}"));
}

/// Colour on a terminal, unless `NO_COLOR` is set (no-color.org).
pub(crate) fn in_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
