//! The source tree as data: every Rust file, and what its text says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::binary::workspace;

/// A Rust file of the workspace.
#[derive(Clone, Debug)]
pub struct Source {
    /// From the workspace's root, with `/`.
    pub path: String,
    pub text: String,
}

impl Source {
    /// Everything before the first `#[cfg(test)]` module, without comments and doc comments: what ships.
    pub fn shipped(&self) -> String {
        let code = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        code.lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Whether all of it is tests, examples or benchmarks.
    pub fn is_test(&self) -> bool {
        let folders = ["/tests/", "/examples/", "/benches/", "/fuzz/"];
        self.path.starts_with("e2e/")
            || self.path.ends_with("/tests.rs")
            || folders.iter().any(|folder| self.path.contains(folder))
    }
}

/// Every Rust file of the workspace, sorted by path, build output left out.
///
/// # Panics
/// When the tree cannot be read.
pub fn rust_files() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(workspace(), &mut |path| {
        if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path.to_owned());
        }
    });
    paths.sort();
    paths
        .into_iter()
        .map(|path| Source {
            text: read(&path),
            path: relative(&path),
        })
        .collect()
}

/// Every text file that is the project's own, sorted by path.
///
/// # Panics
/// When the tree cannot be read.
pub fn text_files() -> Vec<Source> {
    let mut files = Vec::new();
    walk(workspace(), &mut |path| {
        if let Ok(text) = fs::read_to_string(path) {
            files.push(Source {
                path: relative(path),
                text,
            });
        }
    });
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// # Panics
/// When it cannot be read.
pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(workspace())
        .unwrap_or(path)
        .to_string_lossy()
        .replace('\\', "/")
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path: PathBuf = entry.expect("an entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            let foreign = ["target", ".git", "node_modules", "corpus", "artifacts", "headgate-data"];
            if !foreign.contains(&name.as_str()) {
                walk(&path, visit);
            }
        } else {
            visit(&path);
        }
    }
}
