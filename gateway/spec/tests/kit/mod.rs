//! Documents as text in, what `validate` says out.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use spec::{FilesSettings, Loaded, load};
use tempfile::TempDir;

/// Reads `text` as one file, `documents.yaml`.
pub(crate) fn loaded(text: &str) -> Loaded {
    loaded_files(&[("documents.yaml", text)])
}

pub(crate) fn loaded_files(files: &[(&str, &str)]) -> Loaded {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    load(&FilesSettings::new(
        [folder.path()],
        Some(folder.path().join("secrets")),
    ))
    .unwrap()
}

/// `LINE:COLUMN PATH: MESSAGE` of each fault.
pub(crate) fn faults(text: &str) -> Vec<String> {
    let line = |fault: &spec::Fault| format!("{}:{} {}", fault.line, fault.column, fault.what());
    loaded(text).faults.iter().map(line).collect()
}

/// A channel named `c`, so that what refers to it is satisfied.
pub(crate) const CHANNEL: &str =
    "\n---\napiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {name: c}\n";
