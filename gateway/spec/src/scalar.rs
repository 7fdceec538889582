//! Where a character of a text stands in the YAML that the text was written in: behind quotes, escapes, folds and indents.

/// How the writer wrote it, by its first character.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Plain,
    Single,
    Double,
    /// `|` or `>`.
    Block,
}

/// The byte of `raw` at which the character stands that is at byte `at` of `text`; the end of `raw` when the two do not fit.
pub(crate) fn raw_offset(raw: &str, text: &str, at: usize) -> usize {
    let (style, mut done) = opening(raw);
    for character in text.get(..at).unwrap_or(text).chars() {
        done += width(raw.get(done..).unwrap_or_default(), character, style);
    }
    done.min(raw.len())
}

fn opening(raw: &str) -> (Style, usize) {
    // A block's first line says how it is meant; its text begins in the next one with something on it.
    let block = || {
        let first = raw.find('\n').unwrap_or(raw.len());
        let rest = &raw[first..];
        first + (rest.len() - rest.trim_start().len())
    };
    match raw.chars().next() {
        Some('\'') => (Style::Single, 1),
        Some('"') => (Style::Double, 1),
        Some('|' | '>') => (Style::Block, block()),
        _ => (Style::Plain, 0),
    }
}

/// Bytes at the beginning of `raw` that make this one character of the text.
fn width(raw: &str, character: char, style: Style) -> usize {
    let gap = raw.len() - raw.trim_start().len();
    let breaks = raw[..gap].contains('\n');
    match style {
        // A gap with line breaks made one space, or a few line breaks and spaces: the first has all of its width.
        _ if character.is_whitespace() && breaks => gap,
        Style::Plain | Style::Single | Style::Block if character.is_whitespace() && gap == 0 => 0,
        Style::Single if raw.starts_with("''") => 2,
        Style::Double => escape(raw),
        _ => raw.chars().next().map_or(0, char::len_utf8),
    }
}

fn escape(raw: &str) -> usize {
    let mut characters = raw.chars();
    match (characters.next(), characters.next()) {
        (Some('\\'), Some('x')) => 4,
        (Some('\\'), Some('u')) => 6,
        (Some('\\'), Some('U')) => 10,
        (Some('\\'), Some(escaped)) => 1 + escaped.len_utf8(),
        (first, _) => first.map_or(0, char::len_utf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the text's `!` is in the raw form.
    #[track_caller]
    fn found(raw: &str, text: &str) {
        let at = text.find('!').map(|at| raw_offset(raw, text, at));
        assert_eq!(at, raw.find('!'), "{raw:?}");
    }

    #[test]
    fn a_character_is_found_in_every_way_of_writing() {
        found("a = é !", "a = é !");
        found("'a = ''b'' !'", "a = 'b' !");
        found("'a = '''' !'", "a = '' !");
        found(r#""a = \"b\" \\% \u00e9 \x41 !""#, r#"a = "b" \% é A !"#);
        found("a =\n    b\n    !", "a = b !");
        found("'a =\n\n    b !'", "a =\nb !");
        found(r#""a\n\t!""#, "a\n\t!");
        found("|\n    a = 'b'\n      AND !\n", "a = 'b'\n  AND !\n");
        found(">-\n    a = 'b'\n    AND !\n", "a = 'b' AND !");
    }

    #[test]
    fn what_does_not_fit_ends_at_the_end() {
        assert_eq!(raw_offset("", "abc", 2), 0);
        assert_eq!(raw_offset("'a'", "abc", 3), 3);
        assert_eq!(raw_offset("a", "a", 9), 1);
    }
}
