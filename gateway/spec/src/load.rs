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
    document::{Contents, read},
    fault::{Fault, File, Found, Warning},
    resource::Resource,
    secrets::Folder,
    set::{Findings, Set, merge},
};

/// Where documents are, and what they leave to us.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Files and folders; folders are read whole.
    pub paths: Vec<PathBuf>,
    /// A mounted folder `NAMESPACE/NAME/KEY`.
    pub secrets_dir: Option<PathBuf>,
    /// Of channels that name none; [`DEFAULT_PROVISIONER`] unless someone says otherwise.
    pub default_provisioner: String,
}

/// Durable, and needs nothing else (API.md 1).
pub const DEFAULT_PROVISIONER: &str = "embedded";

impl Settings {
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let paths = paths.into_iter().map(Into::into).collect();
        Self { paths, secrets_dir: None, default_provisioner: DEFAULT_PROVISIONER.to_owned() }
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
pub fn load(settings: &Settings) -> Result<Loaded, PathUnreadable> {
    let (loaded, _) = Reader::new(settings).round(&listing(settings)?, &Spec::default());
    Ok(loaded)
}

/// Files larger than this are no configuration, and reading them would only cost memory.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Deeper folders are a link that leads back, not a configuration.
const DEPTH_MAX: usize = 16;

/// The files that are meant now, each once, in a stable order.
pub(crate) fn listing(settings: &Settings) -> Result<Vec<PathBuf>, PathUnreadable> {
    let mut files = Vec::new();
    for path in &settings.paths {
        let unreadable = |cause| PathUnreadable { path: path.clone(), cause };
        if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
            walk(path, 0, &mut files).map_err(unreadable)?;
        } else {
            files.push(path.clone());
        }
    }
    // A file may be named and lie in a named folder as well.
    let mut seen = BTreeSet::new();
    files.retain(|file| seen.insert(std::fs::canonicalize(file).unwrap_or_else(|_| file.clone())));
    Ok(files)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)?.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    entries.sort();
    for entry in entries.into_iter().filter(|entry| !is_hidden(entry)) {
        // Follows links: a mounted ConfigMap is made of them. What vanished meanwhile is not there.
        let Ok(metadata) = std::fs::metadata(&entry) else { continue };
        if metadata.is_dir() && depth < DEPTH_MAX {
            // A folder inside that cannot be read is none of ours to stop for.
            let _ = walk(&entry, depth + 1, files);
        } else if metadata.is_file() && is_document(&entry) {
            files.push(entry);
        }
    }
    Ok(())
}

/// Hidden files, `..data` of a mounted ConfigMap, and what editors leave beside a file.
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.starts_with(['.', '#']) || name.ends_with('~')
}

fn is_document(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy());
    extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&&*extension))
}

/// Reads again and again, and remembers what was valid.
pub(crate) struct Reader<'a> {
    settings: &'a Settings,
    folder: Folder,
    set: Set,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(settings: &'a Settings) -> Self {
        Self { settings, folder: Folder(settings.secrets_dir.clone()), set: Set::default() }
    }

    /// One reading of `files`, over the one before. The spec has no generation yet.
    pub(crate) fn round(&mut self, files: &[PathBuf], before: &Spec) -> (Loaded, usize) {
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
        let (set, Findings { mut faults, mut warnings }) =
            merge(&self.set, contents, &unread, &self.settings.default_provisioner);
        self.set = set;
        let Built { spec, dangling } =
            build(&self.set, &self.folder, &self.settings.default_provisioner, before, Timestamp::now());
        warnings.extend(later_releases(&self.set));
        faults.extend(dangling);
        dedupe(&mut faults);
        (Loaded { spec, faults, warnings }, files.len())
    }
}

/// One dangling `deadLetterSink` of a channel is met by each of its subscriptions, and told once.
fn dedupe(faults: &mut Vec<Fault>) {
    let order = |fault: &Fault| (fault.file.clone(), fault.line, fault.column, fault.path.clone(), fault.message.clone());
    faults.sort_by_key(order);
    faults.dedup_by_key(|fault| order(fault));
}

fn file_text(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("the file cannot be read: {error}");
    if std::fs::metadata(path).map_err(cannot)?.len() > FILE_BYTES_MAX {
        return Err(format!("the file is larger than {FILE_BYTES_MAX} bytes: that is no configuration"));
    }
    let bytes = std::fs::read(path).map_err(cannot)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("the file is no UTF-8 text, from byte {at} on")
    })?;
    // Some editors begin a file with a byte order mark, which no position counts.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Valid documents that this release does not run.
fn later_releases(set: &Set) -> Vec<Warning> {
    use crate::{Kind, model::BackendKind};
    let mut warnings = Vec::new();
    for (key, entry) in &set.valid {
        let message = match &entry.document.resource {
            Some(Resource::KubernetesEventSource(_) | Resource::GcpPubSubSource(_) | Resource::ContainerSource(_)) => {
                format!("{} is valid, and not run by this release", key.kind)
            }
            Some(Resource::ClusterChannelProvisioner(_)) => {
                let backend = set.provisioners().find(&key.name.name).map(|found| found.backend);
                match backend {
                    Ok(backend @ (BackendKind::Kafka | BackendKind::Nats)) => {
                        format!("backend {} is valid, and not run by this release", format!("{backend:?}").to_lowercase())
                    }
                    _ => continue,
                }
            }
            _ => continue,
        };
        let path = if key.kind == Kind::ClusterChannelProvisioner { "spec" } else { "kind" };
        let found = Found::new(entry.document.root.mark(path), "", "NotSupportedYet", message);
        warnings.push(entry.document.file.warning(found, Some(key)));
    }
    warnings
}
