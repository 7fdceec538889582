//! Errors by the specification's kinds (3.3), and where in the expression they are.

use std::fmt;

use crate::{Node, Value};

/// Bytes of the expression's text. Empty at 0 for a node that was not read from text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

/// The kinds of errors that the specification names (4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    Parse,
    Math,
    Cast,
    MissingAttribute,
    MissingFunction,
    FunctionEvaluation,
    Generic,
}

impl ErrorKind {
    /// The word that the specification's compatibility kit uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Math => "math",
            Self::Cast => "cast",
            Self::MissingAttribute => "missingAttribute",
            Self::MissingFunction => "missingFunction",
            Self::FunctionEvaluation => "functionEvaluation",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that is no expression: its kind is always [`ErrorKind::Parse`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// The word or character that does not belong there; empty at the end of the text when something is missing.
    pub at: Span,
    /// The expected text, and the text that stands there.
    pub message: String,
}

impl ParseError {
    /// The line of `source` with a caret under the place.
    pub fn caret(&self, source: &str) -> String {
        let before = source.get(..self.at.start).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |index| index + 1);
        let line = source[line_start..].lines().next().unwrap_or_default();
        let column = before[line_start..].chars().count();
        let width = source.get(self.at.start..self.at.end);
        let carets = width.map_or(1, |text| text.chars().count().max(1));
        format!("{line}\n{:column$}{}", "", "^".repeat(carets))
    }
}

/// Why an evaluation has no proper value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct EvaluationError<'a> {
    /// The kind of the error.
    pub kind: ErrorKind,
    /// The part of the expression that could not be evaluated.
    pub node: &'a Node,
    /// The mistake, for people.
    pub message: String,
    /// The value that the part yields besides the error, where that is not its type's zero value (`LEFT`, `RIGHT`, `ABS`).
    pub(crate) value: Option<Value<'a>>,
}
