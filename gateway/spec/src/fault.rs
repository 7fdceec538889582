//! Faults of documents: where, what, and what to do; shown with the line and a caret below it.

use std::{fmt, path::Path, sync::Arc};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;
use status::Reason;

use crate::{
    ObjectKey,
    scalar::raw_offset,
    tree::Mark,
    userinfo::{blanked, without_userinfo},
};

/// A fault of a document. Display is the caret form, several lines without a trailing line break.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// From 1; 0 where the document is no file's, and then `file` is the object.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// `spec.delivery.retry`; empty when the document as a whole is meant.
    pub path: String,
    /// CamelCase, stable: `Invalid`, `Unreadable`, `Duplicate`, `Immutable`, or why a reference is
    /// not satisfied (`NotFound`, `SecretTokenNotFound` ...).
    pub reason: Reason,
    /// The mistake, and the words to write instead.
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

/// `reason` of a warning: something is valid and likely not what is meant.
pub(crate) const DOUBTFUL: Reason = Reason::Doubtful;

/// Longer lines are not shown: they are generated, and would bury the message.
const EXCERPT_BYTES_MAX: usize = 400;

/// A fault before its file is known.
#[derive(Clone, Debug)]
pub(crate) struct UnlocatedFault {
    pub(crate) at: Mark,
    pub(crate) path: String,
    pub(crate) reason: Reason,
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

impl UnlocatedFault {
    pub(crate) fn new(at: Mark, path: impl Into<String>, reason: Reason, message: impl Into<String>) -> Self {
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

    pub(crate) fn fault(&self, mut found: UnlocatedFault, object: Option<&ObjectKey>) -> Fault {
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
            message: without_userinfo(&found.message).into_owned(),
            object: object.map(ToString::to_string),
            dangling: found.dangling,
        }
    }

    pub(crate) fn warning(&self, found: UnlocatedFault, object: Option<&ObjectKey>) -> Warning {
        Warning(self.fault(found, object))
    }

    /// The mark of a part of the text whose mark is `at`.
    fn inside(&self, at: Mark, within: &Within) -> Mark {
        let raw = self.text.get(at.start..at.end).unwrap_or_default();
        let [start, end] = [within.start, within.end].map(|byte| raw_offset(raw, &within.text, byte));
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
        let text = blanked(self.text[line_start..line_end].trim_end()).into_owned();
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
            UnlocatedFault::new(
                Mark {
                    line: 1,
                    column: 1,
                    ..Mark::default()
                },
                "",
                Reason::Unreadable,
                message,
            ),
            None,
        )
    }

    /// `FILE:LINE:COLUMN: PATH: MESSAGE`, for logs and lists. Without a file it is told where the object is.
    pub fn one_line(&self) -> String {
        match self.line {
            0 => self.what(),
            _ => format!("{}: {}", self.location(), self.what()),
        }
    }

    /// `FILE:LINE:COLUMN`, or the object.
    pub fn location(&self) -> String {
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

    /// With colors, for a terminal. Of the document's text nothing is left that a terminal would act on.
    pub fn styled(&self) -> String {
        self.inert().rendered(&Renderer::styled(), Level::ERROR, "error")
    }

    fn inert(&self) -> Self {
        let excerpt = self.excerpt.clone().map(|excerpt| Excerpt {
            text: inert(&excerpt.text),
            ..excerpt
        });
        Self {
            file: inert(&self.file).into(),
            path: inert(&self.path),
            message: inert(&self.message),
            object: self.object.as_deref().map(inert),
            excerpt,
            ..self.clone()
        }
    }

    fn rendered(&self, renderer: &Renderer, level: Level<'_>, word: &str) -> String {
        let what = self.what();
        let shown = match &self.excerpt {
            Some(excerpt) => {
                let snippet = Snippet::source(&excerpt.text)
                    .path(&*self.file)
                    .line_start(self.line)
                    .annotation(AnnotationKind::Primary.span(excerpt.start..excerpt.end));
                let group = level.primary_title(&what).element(snippet);
                renderer.render(&[group]).trim_end().to_owned()
            }
            None => format!("{word}: {what}\n --> {}:{}:{}", self.file, self.line, self.column),
        };
        match &self.object {
            Some(object) => format!("{shown}\n  in {object}"),
            None => shown,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered(&Renderer::plain(), Level::ERROR, "error"))
    }
}

/// Without control characters, and those that turn the direction of text around; of the same length, for marks count bytes.
fn inert(text: &str) -> String {
    let acts = |character: char| {
        (character.is_control() && !matches!(character, '\n' | '\t'))
            || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let shown = |character: char| {
        if acts(character) {
            "?".repeat(character.len_utf8())
        } else {
            character.to_string()
        }
    };
    text.chars().map(shown).collect()
}

impl Warning {
    /// Place and message; its reason is `Ignored` and the like.
    pub fn fault(&self) -> &Fault {
        &self.0
    }

    /// With colors, for a terminal.
    pub fn styled(&self) -> String {
        self.0.inert().rendered(&Renderer::styled(), Level::WARNING, "warning")
    }

    /// A warning about a file or folder as a whole.
    pub(crate) fn of_path(path: &Path, message: impl Into<String>) -> Self {
        Self(Fault {
            reason: DOUBTFUL,
            ..Fault::of_file(path, message)
        })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.rendered(&Renderer::plain(), Level::WARNING, "warning"))
    }
}
