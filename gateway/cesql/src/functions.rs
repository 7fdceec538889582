//! The built-in functions: names, arities, types (3.5), and what works on text.
//!
//! Characters are Unicode scalar values, as everywhere in this language: a position never falls into the middle of one.

use std::{borrow::Cow, ops::Range};

use crate::Type;

/// The functions of the specification (4.2 to 4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Abs,
    Length,
    Concat,
    ConcatWs,
    Lower,
    Upper,
    Trim,
    Left,
    Right,
    Substring,
    Int,
    Bool,
    String,
    IsInt,
    IsBool,
}

impl Function {
    /// `name` in upper case; `None` when there is no such function with this many arguments.
    pub fn named(name: &str, arguments: usize) -> Option<Self> {
        Some(match (name, arguments) {
            ("ABS", 1) => Self::Abs,
            ("LENGTH", 1) => Self::Length,
            ("CONCAT", _) => Self::Concat,
            ("CONCAT_WS", 1..) => Self::ConcatWs,
            ("LOWER", 1) => Self::Lower,
            ("UPPER", 1) => Self::Upper,
            ("TRIM", 1) => Self::Trim,
            ("LEFT", 2) => Self::Left,
            ("RIGHT", 2) => Self::Right,
            ("SUBSTRING", 2 | 3) => Self::Substring,
            ("INT", 1) => Self::Int,
            ("BOOL", 1) => Self::Bool,
            ("STRING", 1) => Self::String,
            ("IS_INT", 1) => Self::IsInt,
            ("IS_BOOL", 1) => Self::IsBool,
            _ => return None,
        })
    }

    /// How many arguments the function of this name (upper case) takes; `None` when there is no such function.
    pub(crate) fn arguments(name: &str) -> Option<&'static str> {
        let (_, takes) = FUNCTIONS.iter().find(|(known, _)| *known == name)?;
        Some(takes)
    }

    /// The names of all functions.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FUNCTIONS.iter().map(|(name, _)| *name)
    }

    /// Returns the type of the function's value.
    pub fn returns(self) -> Type {
        match self {
            Self::Abs | Self::Length | Self::Int => Type::Integer,
            Self::Bool | Self::IsInt | Self::IsBool => Type::Boolean,
            Self::Concat
            | Self::ConcatWs
            | Self::Lower
            | Self::Upper
            | Self::Trim
            | Self::Left
            | Self::Right
            | Self::Substring
            | Self::String => Type::String,
        }
    }
}

/// Each name, and how many arguments [`Function::named`] takes with it, for messages.
const FUNCTIONS: [(&str, &str); 15] = [
    ("ABS", "1 argument"),
    ("LENGTH", "1 argument"),
    ("CONCAT", "any number of arguments"),
    ("CONCAT_WS", "1 argument or more"),
    ("LOWER", "1 argument"),
    ("UPPER", "1 argument"),
    ("TRIM", "1 argument"),
    ("LEFT", "2 arguments"),
    ("RIGHT", "2 arguments"),
    ("SUBSTRING", "2 or 3 arguments"),
    ("INT", "1 argument"),
    ("BOOL", "1 argument"),
    ("STRING", "1 argument"),
    ("IS_INT", "1 argument"),
    ("IS_BOOL", "1 argument"),
];

/// Part of a text; what is borrowed stays borrowed.
pub(crate) fn part(text: Cow<'_, str>, range: Range<usize>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(range).unwrap_or_default()),
        Cow::Owned(text) => Cow::Owned(text.get(range).unwrap_or_default().to_owned()),
    }
}

/// Where the character with this index begins; the text's end when it has no more than that.
pub(crate) fn byte_index(text: &str, index: usize) -> usize {
    text.char_indices().nth(index).map_or(text.len(), |(at, _)| at)
}

pub(crate) fn trimmed(text: &str) -> Range<usize> {
    let start = text.len() - text.trim_start().len();
    start..start + text.trim().len()
}

/// The bytes that `SUBSTRING` takes; `None` when the position is outside of the text or the length is negative.
pub(crate) fn substring(text: &str, position: i32, length: Option<i32>) -> Option<Range<usize>> {
    let length = match length {
        Some(length) => usize::try_from(length).ok()?,
        None => usize::MAX,
    };
    let characters = text.chars().count();
    let distance = usize::try_from(position.unsigned_abs()).ok()?;
    if distance == 0 {
        return Some(0..0);
    }
    if distance > characters {
        return None;
    }
    let first = if position > 0 {
        distance - 1
    } else {
        characters - distance
    };
    let start = byte_index(text, first);
    Some(start..start + byte_index(&text[start..], length))
}
