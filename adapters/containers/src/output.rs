//! The end of a container's output, bounded, and shown without the secrets that the container was given (CONTRACT SR-6).

use std::collections::VecDeque;

/// As much as SOURCES.md promises: enough for a long stack trace.
pub(crate) const OUTPUT_MAX_BYTES: usize = 64 * 1024;

/// How much output a condition's message quotes: the last words usually say what was wrong.
const LAST_WORDS_MAX_BYTES: usize = 512;

const REDACTED: &[u8] = b"<redacted>";

/// The end of a container's output.
pub(crate) struct Output {
    bytes: VecDeque<u8>,
    /// The longest first, none empty.
    secrets: Vec<Vec<u8>>,
    cut: bool,
}

impl Output {
    pub(crate) fn new(secrets: Vec<Vec<u8>>) -> Self {
        Self {
            bytes: VecDeque::new(),
            secrets,
            cut: false,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.cut = false;
    }

    /// Appends output. More is kept than is shown, so that a secret that is cut in two can still be recognized.
    pub(crate) fn push(&mut self, printed: &[u8]) {
        let room = OUTPUT_MAX_BYTES + self.margin();
        let printed = &printed[printed.len().saturating_sub(room)..];
        let surplus = (self.bytes.len() + printed.len()).saturating_sub(room);
        if surplus > 0 {
            self.bytes.drain(..surplus);
            self.cut = true;
        }
        self.bytes.extend(printed);
    }

    /// The last 64 KiB, as text.
    pub(crate) fn shown(&mut self) -> String {
        let skip = if self.cut { self.margin() } else { 0 };
        let text = redact(self.bytes.make_contiguous(), &self.secrets, skip);
        let mut text = String::from_utf8_lossy(&text).into_owned();
        keep_end(&mut text, OUTPUT_MAX_BYTES);
        text
    }

    /// The last words, for a condition's message.
    pub(crate) fn last_words(&mut self) -> String {
        let mut text = self.shown();
        text.truncate(text.trim_end().len());
        keep_end(&mut text, LAST_WORDS_MAX_BYTES);
        text
    }

    /// Redacts a text of the engine's, which may quote the container's configuration.
    pub(crate) fn clean(&self, text: &str) -> String {
        String::from_utf8_lossy(&redact(text.as_bytes(), &self.secrets, 0)).into_owned()
    }

    fn margin(&self) -> usize {
        self.secrets.first().map_or(0, Vec::len)
    }
}

/// Returns `bytes` from `skip` on with secrets replaced, also a secret that begins before.
fn redact(bytes: &[u8], secrets: &[Vec<u8>], skip: usize) -> Vec<u8> {
    let mut shown = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match secrets.iter().find(|secret| bytes[at..].starts_with(secret)) {
            Some(secret) => {
                at += secret.len();
                if at > skip {
                    shown.extend_from_slice(REDACTED);
                }
            }
            None => {
                if at >= skip {
                    shown.push(bytes[at]);
                }
                at += 1;
            }
        }
    }
    shown
}

fn keep_end(text: &mut String, max: usize) {
    let from = text.len().saturating_sub(max);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.drain(..from);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(secrets: &[&str]) -> Output {
        Output::new(secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect())
    }

    #[test]
    fn the_last_64_kib_are_kept() {
        let mut output = output(&[]);
        for number in 0..20_000 {
            output.push(format!("line {number}\n").as_bytes());
        }
        let shown = output.shown();
        assert!(shown.len() <= OUTPUT_MAX_BYTES && shown.len() > OUTPUT_MAX_BYTES - 16);
        assert!(shown.ends_with("line 19999\n"));
        output.push(&[b'x'; 3 * OUTPUT_MAX_BYTES]);
        assert_eq!(output.shown(), "x".repeat(OUTPUT_MAX_BYTES));
        output.clear();
        assert_eq!(output.shown(), "");
    }

    /// Proves: SR-6
    #[test]
    fn secrets_are_left_out_however_they_were_split() {
        let mut output = output(&["hunter2-and-more", "hunter2"]);
        output.push(b"password hun");
        output.push(b"ter2 and hunter2-and-more\n");
        assert_eq!(output.shown(), "password <redacted> and <redacted>\n");
        assert_eq!(
            output.clean("invalid variable A=hunter2"),
            "invalid variable A=<redacted>"
        );
    }

    /// Proves: SR-6
    #[test]
    fn a_secret_at_the_cut_shows_no_part_of_itself() {
        for offset in 0..40 {
            let mut output = output(&["0123456789"]);
            output.push("0123456789".repeat(20).as_bytes());
            output.push(&vec![b'x'; OUTPUT_MAX_BYTES - offset]);
            let shown = output.shown();
            assert!(
                !shown.contains(|c: char| c.is_ascii_digit()),
                "{offset}: {}",
                &shown[..60]
            );
        }
    }

    #[test]
    fn last_words_are_short_and_end_between_letters() {
        let mut output = output(&[]);
        output.push("é".repeat(1000).as_bytes());
        output.push(b"x\n\n");
        let words = output.last_words();
        assert!(words.len() <= LAST_WORDS_MAX_BYTES && words.ends_with("éx"), "{words}");
    }
}
