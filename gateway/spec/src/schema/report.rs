//! Collects the faults of one document.

use std::sync::Arc;

use status::Reason;

use crate::{
    fault::{DOUBTFUL, UnlocatedFault, Within},
    tree::{Mark, Node},
};

/// Where the check is, as a path that costs nothing until a fault needs it.
#[derive(Clone, Copy)]
pub(crate) enum Path<'a> {
    Root,
    Key(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl Path<'_> {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Key(Path::Root, name) => (*name).to_owned(),
            Self::Key(above, name) => format!("{}.{name}", above.text()),
            Self::Index(above, index) => format!("{}[{index}]", above.text()),
        }
    }
}

/// Collects what is found in one document.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) found: Vec<UnlocatedFault>,
    /// Adds a warning: valid, and likely not meant.
    pub(crate) warnings: Vec<UnlocatedFault>,
    /// The whole document is secret: no line of it is shown.
    pub(crate) secret: bool,
    /// Inside of what names a secret: no line of it is shown, and no message repeats a text.
    pub(crate) names_secret: bool,
    /// The file that the document stands in, where there is one.
    pub(crate) source: Option<Arc<str>>,
}

impl Report {
    pub(crate) fn add(&mut self, at: Mark, path: &Path<'_>, message: impl Into<String>) {
        self.add_with_reason(at, path, Reason::Invalid, message);
    }

    pub(crate) fn add_with_reason(&mut self, at: Mark, path: &Path<'_>, reason: Reason, message: impl Into<String>) {
        let found = UnlocatedFault {
            secret: self.secret || self.names_secret,
            ..UnlocatedFault::new(at, path.text(), reason, message)
        };
        self.found.push(found);
    }

    /// Returns the text at a mark, where it is known.
    pub(super) fn written(&self, at: Mark) -> Option<&str> {
        let text = self.source.as_ref()?.get(at.start..at.end)?;
        Some(text).filter(|text| !text.is_empty())
    }

    /// At a part of the text that `node` is.
    pub(crate) fn add_within(&mut self, node: &Node, path: &Path<'_>, part: Within, message: impl Into<String>) {
        let found = UnlocatedFault {
            secret: self.secret,
            within: Some(part),
            ..UnlocatedFault::new(node.at, path.text(), Reason::Invalid, message)
        };
        self.found.push(found);
    }

    /// Like `add_within`, for what is no fault.
    pub(crate) fn warn_within(&mut self, node: &Node, path: &Path<'_>, part: Within, message: impl Into<String>) {
        let found = UnlocatedFault {
            secret: self.secret,
            within: Some(part),
            ..UnlocatedFault::new(node.at, path.text(), DOUBTFUL, message)
        };
        self.warnings.push(found);
    }

    /// At a path of `root`, or the nearest part above it that is there.
    pub(crate) fn at(&mut self, root: &Node, path: &str, message: impl Into<String>) {
        let found = UnlocatedFault {
            secret: self.secret,
            ..UnlocatedFault::new(root.mark(path), path, Reason::Invalid, message)
        };
        self.found.push(found);
    }

    pub(super) fn add_secret(&mut self, at: Mark, path: &Path<'_>, message: String) {
        self.found.push(UnlocatedFault {
            secret: true,
            ..UnlocatedFault::new(at, path.text(), Reason::Invalid, message)
        });
    }
}
