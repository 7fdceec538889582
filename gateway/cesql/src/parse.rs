//! Text becomes an expression, or the place where it stops being one and what would have fitted there.
//!
//! The words are in `words.rs`, how they are put together in `grammar.rs`. A parser that finds nothing to its liking says
//! only where; the one that demanded it says what was expected; here that is completed with what is in the text.

mod grammar;
mod words;

use std::str::FromStr;

use winnow::{
    LocatingSlice, ModalResult, Parser, Stateful,
    combinator::{cut_err, delimited},
    error::{ErrMode, ParserError},
    stream::Location,
};

use crate::{Expression, ParseError, Span, TooDeep};
use grammar::operation;
use words::blank;

/// Bytes of an expression at most. The longest that anybody would write is a list of thousands of names after `IN`.
pub const SOURCE_BYTES_MAX: usize = 64 * 1024;

/// The text, and how many levels deep the reading is.
type Input<'s> = Stateful<LocatingSlice<&'s str>, usize>;
type Parsed<T> = ModalResult<T, Stopped>;

/// Where reading stopped, and why.
#[derive(Debug)]
struct Stopped {
    at: usize,
    /// Empty: nothing fits here, and who knows what was expected says so.
    message: String,
}

impl ParserError<Input<'_>> for Stopped {
    type Inner = Self;

    fn from_input(input: &Input<'_>) -> Self {
        Self {
            at: input.current_token_start(),
            message: String::new(),
        }
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

impl FromStr for Expression {
    type Err = ParseError;

    fn from_str(source: &str) -> Result<Self, ParseError> {
        let refused = |at: Span, message: String| ParseError { at, message };
        if source.len() > SOURCE_BYTES_MAX {
            let message = format!(
                "the expression has {} bytes, {SOURCE_BYTES_MAX} at most are read",
                source.len()
            );
            return Err(refused(Span::default(), message));
        }
        if source.trim().is_empty() {
            return Err(refused(Span::default(), "the expression is empty".into()));
        }
        let input = Stateful {
            input: LocatingSlice::new(source),
            state: 0,
        };
        let mut whole = delimited(blank, operation, blank);
        let root = whole.parse(input).map_err(|error| {
            let offset = error.offset();
            let Stopped { at, message } = error.into_inner();
            // Text behind a whole expression was not parsed.
            let at = if message.is_empty() { at.max(offset) } else { at };
            let (at, found) = found(source, at);
            if message.is_empty() {
                refused(at, format!("expected an operator or the end, found {found}"))
            } else {
                refused(at, message.replace(FOUND, &found))
            }
        })?;
        Self::new(root).map_err(|TooDeep| refused(Span::default(), TooDeep.to_string()))
    }
}

/// Stands in a message for what is in the text.
const FOUND: &str = "\0";

/// The word or sign at this byte, for people.
fn found(source: &str, at: usize) -> (Span, String) {
    let rest = source.get(at..).unwrap_or_default();
    let gap = rest.len() - rest.trim_start().len();
    let (at, rest) = (at + gap, &rest[gap..]);
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let word = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
    let end = word.max(rest.chars().next().map_or(0, char::len_utf8));
    let found = match &rest[..end] {
        "" => "the end".to_owned(),
        word => format!("`{word}`"),
    };
    (
        Span {
            start: at,
            end: at + end,
        },
        found,
    )
}

fn stop<T>(at: usize, message: impl Into<String>) -> Parsed<T> {
    let message = message.into();
    Err(ErrMode::Cut(Stopped { at, message }))
}

/// Something must come here.
fn demand<'s, T>(
    expected: &'static str,
    parser: impl Parser<Input<'s>, T, ErrMode<Stopped>>,
) -> impl Parser<Input<'s>, T, ErrMode<Stopped>> {
    let mut parser = cut_err(parser);
    move |input: &mut Input<'s>| {
        parser.parse_next(input).map_err(|error| {
            error.map(|stopped| {
                if stopped.message.is_empty() {
                    Stopped {
                        message: format!("expected {expected}, found {FOUND}"),
                        ..stopped
                    }
                } else {
                    stopped
                }
            })
        })
    }
}
