//! The pattern of `LIKE` (3.4.3), taken apart once: what stands between two `%` is a segment.
//!
//! A segment always matches the same number of characters, so taking each one at the first place where it fits is never
//! wrong: nothing is tried again. Segments without `_` are searched in time linear in the text, those with `_` in text times
//! segment, which is why their length is bounded.

/// Characters at most between two `%` when there is a `_` among them. Against an attribute of 64 KiB, the most that an HTTP
/// request brings, such a search is 16 million comparisons at worst: some 30 ms.
pub const SEGMENT_CHARS_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    source: Box<str>,
    /// Before the first `%`.
    first: Segment,
    /// After each `%`.
    rest: Box<[Segment]>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part with `_` between two `%` has {SEGMENT_CHARS_MAX} characters at most")]
pub struct InvalidPattern;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Segment {
    pieces: Vec<Piece>,
    chars: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// One character, whichever.
    Any,
}

impl Pattern {
    /// From the text of a literal. `\%` and `\_` stand for themselves, and so do `\\%` and `\\_`: the specification's example
    /// writes it so. Any other `\` is a character like any other.
    pub fn parse(source: &str) -> Result<Self, InvalidPattern> {
        let mut segments = vec![Segment::default()];
        let mut rest = source;
        while let Some(character) = rest.chars().next() {
            let escaped = [r"\%", r"\_", r"\\%", r"\\_"]
                .iter()
                .find(|escape| rest.starts_with(**escape));
            let (taken, wildcard) = escaped.map_or((character.len_utf8(), true), |escape| (escape.len(), false));
            // The last character of an escape is what it stands for.
            let meant = rest[..taken].chars().next_back().unwrap_or(character);
            let last = segments.len() - 1;
            match meant {
                '%' if wildcard => segments.push(Segment::default()),
                '_' if wildcard => segments[last].push_any(),
                _ => segments[last].push(meant),
            }
            rest = &rest[taken..];
        }
        // The first and the last have their place; those between are searched for.
        let searched = segments.get(1..segments.len() - 1).unwrap_or_default();
        if searched.iter().any(Segment::is_too_costly) {
            return Err(InvalidPattern);
        }
        let first = segments.remove(0);
        Ok(Self {
            source: source.into(),
            first,
            rest: segments.into(),
        })
    }

    /// Matches what begins with `text`.
    pub fn prefix(text: &str) -> Self {
        Self {
            source: format!("{}%", escape(text)).into(),
            first: Segment::of(text),
            rest: [Segment::default()].into(),
        }
    }

    /// Matches what ends with `text`.
    pub fn suffix(text: &str) -> Self {
        Self {
            source: format!("%{}", escape(text)).into(),
            first: Segment::default(),
            rest: [Segment::of(text)].into(),
        }
    }

    /// As it is written in an expression.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn matches(&self, text: &str) -> bool {
        let Some(mut text) = self.first.strip(text) else {
            return false;
        };
        let Some((last, middle)) = self.rest.split_last() else {
            return text.is_empty();
        };
        for segment in middle {
            match segment.find(text) {
                Some(after) => text = after,
                None => return false,
            }
        }
        last.ends(text)
    }
}

impl Segment {
    fn of(text: &str) -> Self {
        let mut segment = Self::default();
        text.chars().for_each(|character| segment.push(character));
        segment
    }

    fn push(&mut self, character: char) {
        self.chars += 1;
        match self.pieces.last_mut() {
            Some(Piece::Text(text)) => text.push(character),
            _ => self.pieces.push(Piece::Text(character.into())),
        }
    }

    fn push_any(&mut self) {
        self.chars += 1;
        self.pieces.push(Piece::Any);
    }

    fn is_too_costly(&self) -> bool {
        self.chars > SEGMENT_CHARS_MAX && self.pieces.contains(&Piece::Any)
    }

    /// What follows this segment at the beginning of `text`.
    fn strip<'t>(&self, mut text: &'t str) -> Option<&'t str> {
        for piece in &self.pieces {
            text = match piece {
                Piece::Text(wanted) => text.strip_prefix(&**wanted)?,
                Piece::Any => {
                    let mut characters = text.chars();
                    characters.next()?;
                    characters.as_str()
                }
            };
        }
        Some(text)
    }

    /// What follows the first place where this segment fits.
    fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        match &*self.pieces {
            [] => Some(text),
            [Piece::Text(wanted)] => text.find(&**wanted).map(|at| &text[at + wanted.len()..]),
            _ => text.char_indices().find_map(|(at, _)| self.strip(&text[at..])),
        }
    }

    fn ends(&self, text: &str) -> bool {
        match &*self.pieces {
            [] => true,
            [Piece::Text(wanted)] => text.ends_with(&**wanted),
            _ => {
                let start = text.char_indices().nth_back(self.chars - 1);
                start.is_some_and(|(at, _)| self.strip(&text[at..]).is_some())
            }
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('%', r"\%").replace('_', r"\_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(text: &str, pattern: &str) -> bool {
        match Pattern::parse(pattern) {
            Ok(pattern) => pattern.matches(text),
            Err(error) => panic!("{pattern}: {error}"),
        }
    }

    #[test]
    fn wildcards_stand_for_characters_and_everything_else_for_itself() {
        for (text, pattern) in [
            ("", ""),
            ("", "%"),
            ("", "%%"),
            ("abc", "abc"),
            ("abc", "a%"),
            ("abc", "%c"),
            ("abc", "%b%"),
            ("abc", "a%c"),
            ("abc", "___"),
            ("abc", "_%_"),
            ("ab", "_b%"),
            ("abcd1", "_b%"),
            ("aab", "%ab"),
            ("abab", "%ab"),
            ("xaxb", "%_xb"),
            ("äöü", "_ö_"),
            ("日本語", "%本_"),
            ("a\nb", "a%b"),
            ("a.b*c", "a.b*c"),
            ("mississippi", "m%iss%pi"),
            ("abcabd", "%ab_%abd"),
        ] {
            assert!(like(text, pattern), "{text:?} LIKE {pattern:?}");
        }
        for (text, pattern) in [
            ("", "_"),
            ("abc", "ab"),
            ("abc", "ABC"),
            ("abc", "b%"),
            ("b", "_b%"),
            ("acd", "_b%"),
            ("aBc", "_b%"),
            ("ab", "a%b%b"),
            ("aba", "ab%ba"),
            ("a", "a%a"),
            ("axc", "a.c"),
            ("abc", "____"),
            ("ä", "__"),
        ] {
            assert!(!like(text, pattern), "{text:?} LIKE {pattern:?}");
        }
    }

    #[test]
    fn an_escaped_wildcard_stands_for_itself() {
        for pattern in [r"abc\%", r"abc\\%"] {
            assert!(like("abc%", pattern) && !like("abcd", pattern), "{pattern}");
        }
        assert!(like("a_c", r"a\_c") && !like("abc", r"a\_c"));
        assert!(like("a%bc_", r"a\%%\_"));
        assert!(like(r"a\b", r"a\b") && like(r"a\\b", r"a\\b") && like(r"\", r"\"));
        assert!(like(r"\%", r"\\\%") && !like("%", r"\\\%"));
    }

    #[test]
    fn prefix_and_suffix_take_their_text_as_it_is() {
        assert!(Pattern::prefix("50%_").matches("50%_off") && !Pattern::prefix("50%_").matches("500_off"));
        assert!(Pattern::suffix(r"\").matches(r"a\") && Pattern::suffix("").matches(""));
        let read = |pattern: &Pattern| Pattern::parse(pattern.source());
        for written in [Pattern::prefix("a%b_c"), Pattern::suffix("ä_")] {
            assert_eq!(read(&written).as_ref(), Ok(&written));
        }
    }

    #[test]
    fn what_would_be_tried_again_and_again_is_searched_once() {
        let text = "a".repeat(20_000);
        // Exponential for a matcher that goes back at every `%`.
        assert!(!like(&text, &format!("{}b", "a%".repeat(200))));
        assert!(!like(&text, &format!("%{}b%", "_a".repeat(100))));
        assert!(like(&text, &"%a".repeat(2_000)));
        assert_eq!(
            Pattern::parse(&format!("%{}%", "_".repeat(SEGMENT_CHARS_MAX + 1))),
            Err(InvalidPattern)
        );
        assert!(Pattern::parse(&"_".repeat(SEGMENT_CHARS_MAX)).is_ok());
    }
}
