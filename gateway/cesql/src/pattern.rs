//! The pattern of `LIKE` (3.4.3), taken apart once: what stands between two `%` is a segment.
//!
//! A segment always matches the same number of characters, so taking each one at the first place where it fits is never
//! wrong: nothing is tried again. Every segment is searched in time linear in the text. One without `_` is a substring. One
//! with `_` is searched bit-parallel (Shift-And): a bit for each of its characters, at most four machine words for each
//! character of the text.

/// Characters at most between two `%` when there is a `_` among them: what fits into the words of one step of the search.
pub const SEGMENT_CHARS_MAX: usize = 64 * WORDS_MAX;

/// Machine words that hold a segment's characters, one bit each. Four keep a search of the largest attribute (256 KiB) within
/// the steps of one evaluation.
const WORDS_MAX: usize = 4;

/// The pattern of a `LIKE`: `%` stands for any text, `_` for one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    source: Box<str>,
    /// Before the first `%`.
    first: Segment,
    /// After each `%`.
    rest: Box<[Segment]>,
    /// Steps of a search for each byte of the text; 0 where nothing is searched for.
    steps_per_byte: usize,
}

/// The pattern is larger than the matcher permits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part with `_` between two `%` has {SEGMENT_CHARS_MAX} characters at most")]
pub struct InvalidPattern;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Segment {
    pieces: Vec<Piece>,
    chars: usize,
    /// Set for a segment between two `%` that has a `_`.
    search: Option<Box<Search>>,
}

/// Which of a segment's characters each character of a text may be, one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Search {
    /// The class of each ASCII character; class 0 is that of all characters which the segment does not name.
    ascii: [u8; 128],
    /// The other characters that the segment names, sorted.
    others: Vec<(char, u8)>,
    /// The bits of each class.
    masks: Vec<[u64; WORDS_MAX]>,
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
        let end = segments.len() - 1;
        let searched = segments.get_mut(1..end).unwrap_or_default();
        searched.iter_mut().for_each(Segment::prepare);
        let steps_per_byte = searched.iter().map(Segment::steps_per_byte).max().unwrap_or(0);
        let first = segments.remove(0);
        Ok(Self {
            source: source.into(),
            first,
            rest: segments.into(),
            steps_per_byte,
        })
    }

    /// Matches what begins with `text`.
    pub fn prefix(text: &str) -> Self {
        Self {
            source: format!("{}%", escape(text)).into(),
            first: Segment::of(text),
            rest: [Segment::default()].into(),
            steps_per_byte: 0,
        }
    }

    /// Matches what ends with `text`.
    pub fn suffix(text: &str) -> Self {
        Self {
            source: format!("%{}", escape(text)).into(),
            first: Segment::default(),
            rest: [Segment::of(text)].into(),
            steps_per_byte: 0,
        }
    }

    /// As it is written in an expression.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The steps that matching a text of so many bytes takes at most: each part of the pattern is compared once, and the text is
    /// searched once.
    pub(crate) fn steps(&self, text_bytes: usize) -> usize {
        self.source.len().min(text_bytes) + self.steps_per_byte * text_bytes
    }

    /// Whether the whole text matches.
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

    /// Makes ready for `find`.
    fn prepare(&mut self) {
        if self.pieces.contains(&Piece::Any) {
            self.search = Some(Box::new(Search::new(&self.pieces, self.chars)));
        }
    }

    fn steps_per_byte(&self) -> usize {
        match &self.search {
            Some(search) => search.words(),
            None => usize::from(self.chars > 0),
        }
    }

    /// Returns the rest of `text` after this segment at its beginning.
    fn strip<'t>(&self, mut text: &'t str) -> Option<&'t str> {
        for piece in &self.pieces {
            text = match piece {
                Piece::Text(expected) => text.strip_prefix(&**expected)?,
                Piece::Any => {
                    let mut characters = text.chars();
                    characters.next()?;
                    characters.as_str()
                }
            };
        }
        Some(text)
    }

    /// Returns the rest of `text` after the first match of this segment.
    fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        match &*self.pieces {
            [] => Some(text),
            [Piece::Text(expected)] => text.find(&**expected).map(|at| &text[at + expected.len()..]),
            _ => self.search.as_ref()?.find(text).map(|end| &text[end..]),
        }
    }

    fn ends(&self, text: &str) -> bool {
        match &*self.pieces {
            [] => true,
            [Piece::Text(expected)] => text.ends_with(&**expected),
            _ => {
                let start = text.char_indices().nth_back(self.chars - 1);
                start.is_some_and(|(at, _)| self.strip(&text[at..]).is_some())
            }
        }
    }
}

impl Search {
    fn new(pieces: &[Piece], chars: usize) -> Self {
        // Positions of `_` are open to every class.
        let (mut open, mut at) = ([0; WORDS_MAX], 0);
        for piece in pieces {
            match piece {
                Piece::Text(text) => at += text.chars().count(),
                Piece::Any => {
                    set(&mut open, at);
                    at += 1;
                }
            }
        }
        let mut this = Self {
            ascii: [0; 128],
            others: Vec::new(),
            masks: vec![open],
            chars,
        };
        let mut at = 0;
        for piece in pieces {
            let Piece::Text(text) = piece else {
                at += 1;
                continue;
            };
            for character in text.chars() {
                let class = this.named(character, open);
                set(&mut this.masks[class], at);
                at += 1;
            }
        }
        this
    }

    /// The class of a character that the segment names, new or not. A byte is enough: of at most 256 characters one is `_`.
    fn named(&mut self, character: char, open: [u64; WORDS_MAX]) -> usize {
        let found = self.class(character);
        if found != 0 {
            return found;
        }
        let class = self.masks.len();
        self.masks.push(open);
        let short = u8::try_from(class).unwrap_or(u8::MAX);
        match self.ascii.get_mut(character as usize) {
            Some(known) => *known = short,
            None => {
                let index = self.others.partition_point(|(other, _)| *other < character);
                self.others.insert(index, (character, short));
            }
        }
        class
    }

    fn class(&self, character: char) -> usize {
        let class = self.ascii.get(character as usize).copied().unwrap_or_else(|| {
            let found = self.others.binary_search_by_key(&character, |(other, _)| *other);
            found.map_or(0, |index| self.others[index].1)
        });
        class.into()
    }

    fn words(&self) -> usize {
        self.chars.div_ceil(64)
    }

    /// Where the first part of `text` that fits ends.
    fn find(&self, text: &str) -> Option<usize> {
        match self.words() {
            1 => self.find_within::<1>(text),
            2 => self.find_within::<2>(text),
            3 => self.find_within::<3>(text),
            _ => self.find_within::<WORDS_MAX>(text),
        }
    }

    /// Bit `i` of the state is set while the last `i + 1` characters fit the first `i + 1` of the segment.
    fn find_within<const WORDS: usize>(&self, text: &str) -> Option<usize> {
        let last = self.chars - 1;
        let mut state = [0_u64; WORDS];
        for (at, character) in text.char_indices() {
            let mask = &self.masks[self.class(character)];
            let mut carry = 1;
            for (word, mask) in state.iter_mut().zip(mask) {
                let shifted = (*word << 1) | carry;
                carry = *word >> 63;
                *word = shifted & mask;
            }
            if state[last / 64] >> (last % 64) & 1 == 1 {
                return Some(at + character.len_utf8());
            }
        }
        None
    }
}

fn set(bits: &mut [u64; WORDS_MAX], at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word |= 1 << (at % 64);
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

    /// The meaning of `LIKE` in the shortest form: which prefixes of the text the pattern read so far matches.
    fn naive(text: &str, pattern: &[char]) -> bool {
        let text: Vec<char> = text.chars().collect();
        let mut fits: Vec<bool> = (0..=text.len()).map(|end| end == 0).collect();
        for expected in pattern {
            let mut next = vec![false; fits.len()];
            for end in 0..fits.len() {
                next[end] = match expected {
                    '%' => fits[end] || (end > 0 && next[end - 1]),
                    '_' => end > 0 && fits[end - 1],
                    letter => end > 0 && fits[end - 1] && text[end - 1] == *letter,
                };
            }
            fits = next;
        }
        fits.last() == Some(&true)
    }

    proptest::proptest! {
        #[test]
        fn the_fast_search_finds_what_the_naive_one_finds(
            text in "[ab\u{e9}\u{65e5}]{0,300}",
            pieces in proptest::collection::vec(("[ab\u{e9}_]{0,90}", "[%_]{0,2}"), 0..5),
            cut in 0_usize..300,
        ) {
            let pattern: String = pieces.into_iter().map(|(characters, wildcards)| characters + &wildcards).collect();
            let characters: Vec<char> = pattern.chars().collect();
            proptest::prop_assert_eq!(like(&text, &pattern), naive(&text, &characters));
            // A near match is found, too, and so are the steps from one word to the next.
            let near: String = text.chars().skip(cut / 3).take(cut).collect();
            let near = near.replacen('a', "_", 3);
            let near = format!("%{}%b%", near.chars().take(SEGMENT_CHARS_MAX).collect::<String>());
            let characters: Vec<char> = near.chars().collect();
            proptest::prop_assert_eq!(like(&text, &near), naive(&text, &characters));
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
