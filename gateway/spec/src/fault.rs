//! What is wrong with a document: where, what, and what to do; told with the line and a caret under the place.

use std::{fmt, path::Path, sync::Arc};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

use crate::{ObjectKey, scalar::place, tree::Mark};

/// A fault of a document. Display is the caret form, several lines without a trailing line break.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    pub file: Arc<str>,
    /// From 1; 0 where the document is no file's, and then `file` is the object.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// `spec.delivery.retry`; empty when the document as a whole is meant.
    pub path: String,
    /// CamelCase, stable: `Invalid`, `Unreadable`, `Duplicate`, `Immutable`, or why a reference is
    /// not satisfied (`NotFound`, `SecretTokenNotFound` ...).
    pub reason: &'static str,
    pub message: String,
    /// `Subscription default/orders`, once the document's header could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// A reference that nothing satisfies: the document itself is valid, and `run` waits for what is missing.
    pub dangling: bool,
    /// The line it stands on; left out where it may show a secret.
    #[serde(skip)]
    excerpt: Option<Excerpt>,
}

/// Worth knowing, and no reason to refuse a document. Display is the caret form.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Warning(Fault);

#[derive(Clone, Debug, PartialEq)]
struct Excerpt {
    text: String,
    /// Bytes of `text`.
    start: usize,
    end: usize,
}

/// Longer lines are not shown: they are generated, and would bury the message.
const EXCERPT_BYTES_MAX: usize = 400;

/// What was found, before it is known in which file.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) at: Mark,
    pub(crate) path: String,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) dangling: bool,
    /// The line may show a secret.
    pub(crate) secret: bool,
    /// Which part of the text that stands there is meant.
    pub(crate) within: Option<Within>,
}

/// Bytes of a text, as it is after quotes and escapes are gone.
#[derive(Clone, Debug)]
pub(crate) struct Within {
    pub(crate) text: String,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Found {
    pub(crate) fn new(at: Mark, path: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            at,
            path: path.into(),
            reason,
            message: message.into(),
            dangling: false,
            secret: false,
            within: None,
        }
    }
}

/// A file as it was read.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) path: Arc<str>,
    pub(crate) text: Arc<str>,
}

impl File {
    /// Stands for an object of an API server, which has no text to show.
    pub(crate) fn of_object(key: &ObjectKey) -> Self {
        Self {
            path: key.to_string().into(),
            text: "".into(),
        }
    }

    pub(crate) fn new(path: &Path, text: String) -> Self {
        Self {
            path: path.to_string_lossy().into(),
            text: text.into(),
        }
    }

    pub(crate) fn fault(&self, mut found: Found, object: Option<&ObjectKey>) -> Fault {
        if let Some(within) = &found.within {
            found.at = self.inside(found.at, within);
        }
        Fault {
            file: self.path.clone(),
            line: found.at.line,
            column: found.at.column,
            excerpt: if found.secret { None } else { self.excerpt(found.at) },
            path: found.path,
            reason: found.reason,
            message: found.message,
            object: object.map(ToString::to_string),
            dangling: found.dangling,
        }
    }

    pub(crate) fn warning(&self, found: Found, object: Option<&ObjectKey>) -> Warning {
        Warning(self.fault(found, object))
    }

    /// The mark of a part of the text whose mark is `at`.
    fn inside(&self, at: Mark, within: &Within) -> Mark {
        let raw = self.text.get(at.start..at.end).unwrap_or_default();
        let [start, end] = [within.start, within.end].map(|byte| place(raw, &within.text, byte));
        let before = &raw[..start];
        let characters = |text: &str| text.chars().count();
        let (line, column) = match before.rfind('\n') {
            Some(last) => (
                at.line + before.matches('\n').count(),
                1 + characters(&before[last + 1..]),
            ),
            None => (at.line, at.column + characters(before)),
        };
        let (start, end) = (at.start + start, at.start + end);
        Mark {
            line,
            column,
            start,
            end,
        }
    }

    fn excerpt(&self, at: Mark) -> Option<Excerpt> {
        let before = self.text.get(..at.start)?;
        let line_start = before.rfind('\n').map_or(0, |index| index + 1);
        let line_end = self.text[at.start..]
            .find('\n')
            .map_or(self.text.len(), |index| at.start + index);
        let text = self.text[line_start..line_end].trim_end().to_owned();
        if text.is_empty() || text.len() > EXCERPT_BYTES_MAX {
            return None;
        }
        let start = (at.start - line_start).min(text.len());
        // A place of no width, such as the end of a line, still gets its caret.
        let end = at.end.saturating_sub(line_start).clamp(start, text.len());
        let end = if text.is_char_boundary(end) { end } else { text.len() };
        Some(Excerpt { text, start, end })
    }
}

impl Fault {
    /// A fault of a file as a whole: it cannot be opened, or is no text.
    pub(crate) fn of_file(path: &Path, message: impl Into<String>) -> Self {
        let file = File::new(path, String::new());
        file.fault(
            Found::new(
                Mark {
                    line: 1,
                    column: 1,
                    ..Mark::default()
                },
                "",
                "Unreadable",
                message,
            ),
            None,
        )
    }

    /// `FILE:LINE:COLUMN: PATH: MESSAGE`, for logs and lists. Without a file it is told where the object is.
    pub fn one_line(&self) -> String {
        match self.line {
            0 => self.what(),
            _ => format!("{}: {}", self.place(), self.what()),
        }
    }

    /// `FILE:LINE:COLUMN`, or the object.
    pub fn place(&self) -> String {
        let Self { file, line, column, .. } = self;
        match line {
            0 => file.to_string(),
            _ => format!("{file}:{line}:{column}"),
        }
    }

    /// `PATH: MESSAGE`.
    pub fn what(&self) -> String {
        if self.path.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.path, self.message)
        }
    }

    fn render(&self, f: &mut fmt::Formatter<'_>, level: Level<'_>, word: &str) -> fmt::Result {
        let what = self.what();
        match &self.excerpt {
            Some(excerpt) => {
                let snippet = Snippet::source(&excerpt.text)
                    .path(&*self.file)
                    .line_start(self.line)
                    .annotation(AnnotationKind::Primary.span(excerpt.start..excerpt.end));
                let group = level.primary_title(&what).element(snippet);
                f.write_str(Renderer::plain().render(&[group]).trim_end())?;
            }
            None => write!(f, "{word}: {what}\n --> {}:{}:{}", self.file, self.line, self.column)?,
        }
        match &self.object {
            Some(object) => write!(f, "\n  in {object}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.render(f, Level::ERROR, "error")
    }
}

impl Warning {
    /// Place and message; its reason is `Ignored` and the like.
    pub fn fault(&self) -> &Fault {
        &self.0
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.render(f, Level::WARNING, "warning")
    }
}
