//! Reads files and folders once: what `headgate validate` shows, and each round of `files.rs`. Nothing here waits.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    Spec,
    build::{Built, build},
    defaults::Given,
    document::{Contents, read},
    fault::{Fault, File, Warning},
    listing::{Listing, listing},
    secrets::Folder,
    set::{Findings, Set, merge},
    surroundings::Surroundings,
};

/// Where documents are, and what they leave to us.
#[derive(Clone, Debug)]
pub struct FilesSettings {
    /// Files and folders; folders are read whole.
    pub paths: Vec<PathBuf>,
    /// A mounted folder `NAMESPACE/NAME/KEY`.
    pub secrets_dir: Option<PathBuf>,
    /// Of channels that name none; [`DEFAULT_PROVISIONER`] unless someone says otherwise.
    pub default_provisioner: String,
}

/// Durable, and needs nothing else (API.md 1).
pub const DEFAULT_PROVISIONER: &str = "embedded";

impl FilesSettings {
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>, secrets_dir: Option<PathBuf>) -> Self {
        let paths = paths.into_iter().map(Into::into).collect();
        Self {
            paths,
            secrets_dir,
            default_provisioner: DEFAULT_PROVISIONER.to_owned(),
        }
    }
}

/// A path that was named and is not there, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct PathUnreadable {
    pub path: PathBuf,
    #[source]
    pub cause: std::io::Error,
}

/// Everything that one reading found.
#[derive(Debug)]
pub struct Loaded {
    pub spec: Spec,
    /// In the order of files and lines. Those that are `dangling` are conditions for `run`.
    pub faults: Vec<Fault>,
    pub warnings: Vec<Warning>,
}

/// Reads all documents once, without any reading before (API.md 3, `validate`). A path that does not exist is an error.
pub fn load(settings: &FilesSettings) -> Result<Loaded, PathUnreadable> {
    let Listing { files, lost } = listing(settings);
    match lost.into_iter().next() {
        Some(lost) => Err(lost),
        None => Ok(Reader::new(settings.clone()).round(&files, &Spec::default()).loaded),
    }
}

/// Files larger than this are no configuration, and reading them would only cost memory.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads again and again, and remembers what was valid.
pub(crate) struct Reader {
    settings: FilesSettings,
    folder: Folder,
    set: Set,
}

/// One reading, not yet believed.
pub(crate) struct Round {
    set: Set,
    /// The spec has no generation yet.
    pub(crate) loaded: Loaded,
}

impl Reader {
    pub(crate) fn new(settings: FilesSettings) -> Self {
        let folder = Folder(settings.secrets_dir.clone());
        Self {
            settings,
            folder,
            set: Set::default(),
        }
    }

    /// Reads `files` over what was believed before; `before` is the spec published last.
    pub(crate) fn round(&self, files: &[PathBuf], before: &Spec) -> Round {
        let mut contents = Contents::default();
        let mut unread = BTreeSet::new();
        for path in files {
            match file_text(path) {
                Ok(text) => {
                    let read = read(&File::new(path, text));
                    contents.documents.extend(read.documents);
                    contents.faults.extend(read.faults);
                    contents.warnings.extend(read.warnings);
                }
                Err(message) => {
                    contents.faults.push(Fault::of_file(path, message));
                    unread.insert(Arc::from(path.to_string_lossy()));
                }
            }
        }
        let given = Given::new(&self.settings.default_provisioner);
        let (set, Findings { mut faults, warnings }) = merge(&self.set, contents, &unread, &given);
        let Built { spec, dangling } = build(
            &set,
            Surroundings::Files(&self.folder),
            &given,
            before,
            Timestamp::now(),
        );
        faults.extend(dangling);
        dedupe(&mut faults);
        Round {
            set,
            loaded: Loaded { spec, faults, warnings },
        }
    }

    /// Whether a document that is in force would no longer be.
    pub(crate) fn loses(&self, round: &Round) -> bool {
        let there = |key| round.set.valid.contains_key(key) || round.set.invalid.contains_key(key);
        !self.set.valid.keys().all(there)
    }

    pub(crate) fn believe(&mut self, round: Round) -> Loaded {
        self.set = round.set;
        round.loaded
    }

    pub(crate) fn settings(&self) -> &FilesSettings {
        &self.settings
    }
}

/// One dangling `deadLetterSink` of a channel is met by each of its subscriptions, and told once.
pub(crate) fn dedupe(faults: &mut Vec<Fault>) {
    let order = |fault: &Fault| {
        (
            fault.file.clone(),
            fault.line,
            fault.column,
            fault.path.clone(),
            fault.message.clone(),
        )
    };
    faults.sort_by_key(order);
    faults.dedup_by_key(|fault| order(fault));
}

fn file_text(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("the file cannot be read: {error}");
    if std::fs::metadata(path).map_err(cannot)?.len() > FILE_BYTES_MAX {
        return Err(format!(
            "the file is larger than {FILE_BYTES_MAX} bytes: that is no configuration"
        ));
    }
    let bytes = std::fs::read(path).map_err(cannot)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("the file is no UTF-8 text, from byte {at} on")
    })?;
    // Some editors begin a file with a byte order mark, which no position counts.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
