//! The built-in functions: names, arities, types (3.5), and what works on text.
//!
//! Characters are Unicode scalar values, as everywhere in this language: a position never falls into the middle of one.

use std::{borrow::Cow, ops::Range};

use crate::Type;

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

/// Part of a text; what is borrowed stays borrowed.
pub(crate) fn part(text: Cow<'_, str>, range: Range<usize>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(range).unwrap_or_default()),
        Cow::Owned(text) => Cow::Owned(text.get(range).unwrap_or_default().to_owned()),
    }
}

/// Where the character with this index begins; the text's end when it has no more than that.
pub(crate) fn place(text: &str, index: usize) -> usize {
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
    let start = place(text, first);
    Some(start..start + place(&text[start..], length))
}
