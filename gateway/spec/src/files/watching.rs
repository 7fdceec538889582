//! How a change is noticed: hints of the file system, and what `stat` tells.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::ModifyKind};
use tokio::sync::mpsc;

use crate::{
    listing::{is_document, listing, walk},
    load::FilesSettings,
};

/// The `stat` of every file that matters: enough to notice a change without reading.
pub(super) type Fingerprint = Vec<(PathBuf, Option<SystemTime>, u64, u64)>;

pub(super) fn fingerprint(settings: &FilesSettings) -> Fingerprint {
    let mut files = listing(settings).files;
    if let Some(folder) = &settings.secrets_dir {
        // Not there yet is a state like any other.
        let _ = walk(folder, |_| true, &mut files);
    }
    let stat = |path: PathBuf| match std::fs::metadata(&path) {
        Ok(metadata) => (path, metadata.modified().ok(), metadata.len(), metadata.ino()),
        Err(_) => (path, None, 0, 0),
    };
    files.into_iter().map(stat).collect()
}

/// Reading is no change, and we read. Bytes written matter where documents or secrets are; the data folder may well lie
/// among them, and is written to all the time.
fn matters(event: &notify::Event, secrets: Option<&Path>) -> bool {
    match event.kind {
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Data(_)) => {
            let matters =
                |path: &PathBuf| is_document(path) || secrets.is_some_and(|secrets| path.starts_with(secrets));
            event.paths.iter().any(matters)
        }
        _ => true,
    }
}

/// The file system's hints. Without them (no inotify left, a strange mount) looking is enough.
pub(super) struct Watching {
    watcher: Option<RecommendedWatcher>,
}

impl Watching {
    pub(super) fn start(settings: &FilesSettings, hint: mpsc::Sender<()>) -> Self {
        let secrets = settings.secrets_dir.clone();
        let handler = move |event: notify::Result<notify::Event>| {
            // An error means that something was missed: a reason to look, too.
            if event.map_or(true, |event| matters(&event, secrets.as_deref())) {
                // Full means that a hint is waiting already, which is all that one more would say.
                let _ = hint.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(handler)
            .inspect_err(
                |error| tracing::warn!(%error, "files are looked at every two seconds, for they cannot be watched"),
            )
            .ok();
        let mut this = Self { watcher };
        this.again(settings);
        this
    }

    /// Watches what is there now: a folder that was replaced is another one.
    pub(super) fn again(&mut self, settings: &FilesSettings) {
        let Some(watcher) = &mut self.watcher else { return };
        for path in settings.paths.iter().chain(&settings.secrets_dir) {
            let (path, mode) = if path.is_dir() {
                (path.as_path(), RecursiveMode::Recursive)
            } else {
                // A save that renames replaces the file: its folder sees that.
                (
                    path.parent()
                        .filter(|parent| *parent != Path::new(""))
                        .unwrap_or(Path::new(".")),
                    RecursiveMode::NonRecursive,
                )
            };
            if let Err(error) = watcher.watch(path, mode) {
                tracing::debug!(path = %path.display(), %error, "path is not watched, only looked at");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use notify::event::{AccessKind, CreateKind, DataChange};

    use super::*;

    #[test]
    fn what_is_read_and_what_is_written_elsewhere_is_no_hint() {
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        for (kind, path, hints) in [
            (written, "/d/a.yaml", true),
            (written, "/d/headgate-data/000.log", false),
            (written, "/secrets/default/x/token", true),
            (EventKind::Create(CreateKind::Any), "/d/folder", true),
            (EventKind::Access(AccessKind::Any), "/d/a.yaml", false),
        ] {
            let event = notify::Event::new(kind).add_path(path.into());
            assert_eq!(matters(&event, Some(Path::new("/secrets"))), hints, "{kind:?} {path}");
        }
    }

    /// Polling is all that is left on a mount that gives no hints.
    #[test]
    fn looking_notices_changes_of_documents_and_secrets_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let settings = FilesSettings::new([folder.path().join("d")], Some(folder.path().join("secrets")));
        fs::create_dir_all(folder.path().join("d")).unwrap();
        let mut before = fingerprint(&settings);
        let mut changes = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            let now = fingerprint(&settings);
            std::mem::replace(&mut before, now.clone()) != now
        };
        assert!(changes("d/a.yaml", "a"));
        assert!(changes("d/a.yaml", "ab"));
        assert!(changes("secrets/default/x/token", "t"));
        assert!(!changes("d/notes.txt", "n"));
    }
}
