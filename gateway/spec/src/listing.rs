//! Which files are meant: those named, and in folders all documents, at any depth.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::load::{FilesSettings, PathUnreadable};

/// Deeper folders are no configuration.
const DEPTH_MAX: usize = 16;

/// The files that are meant now.
pub(crate) struct Listing {
    /// Each once, in a stable order.
    pub(crate) files: Vec<PathBuf>,
    /// Paths of the settings that are not there.
    pub(crate) lost: Vec<PathUnreadable>,
}

pub(crate) fn listing(settings: &FilesSettings) -> Listing {
    let (mut files, mut lost) = (Vec::new(), Vec::new());
    for path in &settings.paths {
        let found = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => walk(path, is_document, &mut files),
            Ok(_) => {
                files.push(path.clone());
                Ok(())
            }
            Err(cause) => Err(cause),
        };
        if let Err(cause) = found {
            lost.push(PathUnreadable {
                path: path.clone(),
                cause,
            });
        }
    }
    // A file may be named and lie in a named folder as well.
    let mut seen = BTreeSet::new();
    files.retain(|file| seen.insert(std::fs::canonicalize(file).unwrap_or_else(|_| file.clone())));
    Listing { files, lost }
}

/// Files below `folder` that `accepts` takes, by name within each folder.
pub(crate) fn walk(folder: &Path, accepts: fn(&Path) -> bool, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    walk_below(folder, &mut Vec::new(), accepts, files)
}

/// `above` are the folders on the way here, as device and inode: a link that leads back to one of them is not followed.
fn walk_below(
    folder: &Path,
    above: &mut Vec<(u64, u64)>,
    accepts: fn(&Path) -> bool,
    files: &mut Vec<PathBuf>,
) -> std::io::Result<()> {
    let metadata = std::fs::metadata(folder)?;
    let here = (metadata.dev(), metadata.ino());
    if above.len() >= DEPTH_MAX || above.contains(&here) {
        return Ok(());
    }
    above.push(here);
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    entries.sort();
    for entry in entries.into_iter().filter(|entry| !is_hidden(entry)) {
        // Follows links: a mounted ConfigMap is made of them. What vanished meanwhile is not there.
        let Ok(metadata) = std::fs::metadata(&entry) else {
            continue;
        };
        if metadata.is_dir() {
            // A folder inside that cannot be read is none of ours to stop for.
            let _ = walk_below(&entry, above, accepts, files);
        } else if metadata.is_file() && accepts(&entry) {
            files.push(entry);
        }
    }
    above.pop();
    Ok(())
}

/// Hidden files, `..data` of a mounted ConfigMap, and what editors leave beside a file.
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.starts_with(['.', '#']) || name.ends_with('~')
}

pub(crate) fn is_document(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy());
    extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&&*extension))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn folders_are_read_whole_each_file_once_and_links_that_lead_back_end_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("deep/er")).unwrap();
        for name in [
            "b.yaml",
            "a.yml",
            "deep/er/c.json",
            "notes.md",
            ".hidden.yaml",
            "x.yaml~",
            "#x.yaml",
            "deep/.git",
        ] {
            fs::write(at(name), "").unwrap();
        }
        for link in ["loop1", "loop2", "deep/loop3"] {
            symlink(folder.path(), at(link)).unwrap();
        }
        symlink(at("b.yaml"), at("same.yaml")).unwrap();
        let found = listing(&FilesSettings::new([folder.path().to_owned(), at("b.yaml")], None));
        let names: Vec<_> = found
            .files
            .iter()
            .map(|file| file.strip_prefix(folder.path()).unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a.yml", "b.yaml", "deep/er/c.json"].map(PathBuf::from));
        assert!(found.lost.is_empty());
        assert_eq!(
            listing(&FilesSettings::new([at("nowhere")], None)).lost[0].path,
            at("nowhere")
        );
    }
}
