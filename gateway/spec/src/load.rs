//! Reads files and folders once: what `headgate validate` shows, and each round of `files.rs`. Nothing here waits.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use status::Reason;

use crate::{
    Spec,
    build::{BuiltSpec, build},
    defaults::AssignedProvisioners,
    document::{Contents, Document, read},
    fault::{Fault, File, UnlocatedFault, Warning},
    listing::{Listing, listing},
    resolver::Resolver,
    resource::{Channel, Resource},
    secrets::Folder,
    set::{Findings, Set, merge},
    unsupported::Unsupported,
};

/// Where documents are, and what they leave to us.
#[derive(Clone, Debug)]
pub struct FilesSettings {
    /// Files and folders; folders are read whole.
    pub paths: Vec<PathBuf>,
    /// A mounted folder `NAMESPACE/NAME/KEY`.
    pub secrets_dir: Option<PathBuf>,
    /// The provisioner of channels that name none; by default [`DEFAULT_PROVISIONER`].
    pub default_provisioner: String,
    /// The documents that this build cannot run; none by default.
    pub unsupported: Unsupported,
    /// An address of the gateway that other machines reach, for warnings about channels that are open to them.
    pub open_at: Option<SocketAddr>,
}

/// Durable, and needs nothing else (API.md 1).
pub const DEFAULT_PROVISIONER: &str = "embedded";

impl FilesSettings {
    /// Reads these files and folders, and the folder of secrets.
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>, secrets_dir: Option<PathBuf>) -> Self {
        let paths = paths.into_iter().map(Into::into).collect();
        Self {
            paths,
            secrets_dir,
            default_provisioner: DEFAULT_PROVISIONER.to_owned(),
            unsupported: Unsupported::default(),
            open_at: None,
        }
    }
}

/// A path that was named and is not there, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct PathUnreadable {
    /// The path that was named.
    pub path: PathBuf,
    /// Why it cannot be read.
    #[source]
    pub cause: std::io::Error,
}

/// Everything that one reading found.
#[derive(Debug)]
pub struct Loaded {
    /// The desired state that the valid documents describe.
    pub spec: Spec,
    /// In the order of files and lines. Those that are `dangling` are conditions for `run`.
    pub faults: Vec<Fault>,
    /// Findings that are valid and probably not meant.
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
        let folder = Folder::new(settings.secrets_dir.clone());
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
        let mut used = Vec::new();
        for path in files {
            match file_text(path) {
                Ok(text) => {
                    let read = read(&File::new(path, text));
                    if !(read.documents.is_empty() && read.faults.is_empty() && read.warnings.is_empty()) {
                        used.push(real(path));
                    }
                    contents.documents.extend(read.documents);
                    contents.faults.extend(read.faults);
                    contents.warnings.extend(read.warnings);
                }
                Err(message) => {
                    used.push(real(path));
                    contents.faults.push(Fault::of_file(path, message));
                    unread.insert(Arc::from(path.to_string_lossy()));
                }
            }
        }
        let assigned = AssignedProvisioners::new(&self.settings.default_provisioner);
        let (
            set,
            Findings {
                mut faults,
                mut warnings,
            },
        ) = merge(&self.set, contents, &unread, &assigned);
        let valid = set.valid.values();
        warnings.extend(valid.flat_map(|entry| {
            let unsupported = self.settings.unsupported.warning(&entry.document);
            unsupported.into_iter().chain(self.open_channel(&entry.document))
        }));
        let BuiltSpec { spec, dangling } =
            build(&set, Resolver::Files(&self.folder), &assigned, before, Timestamp::now());
        faults.extend(dangling);
        dedupe(&mut faults);
        let empty = self.settings.paths.iter().filter(|path| {
            let path = real(path);
            !used.iter().any(|used| used.starts_with(&path))
        });
        warnings.extend(empty.map(|path| Warning::of_path(path, no_documents(path))));
        let doubts = self.folder.doubts().into_iter();
        warnings.extend(doubts.map(|(path, why)| Warning::of_path(&path, why)));
        Round {
            set,
            loaded: Loaded { spec, faults, warnings },
        }
    }

    /// Warns of a channel that every client may publish to.
    fn open_channel(&self, document: &Document) -> Option<Warning> {
        let address = self.settings.open_at?;
        let Some(Resource::Channel(Channel { publishers, .. })) = &document.resource else {
            return None;
        };
        if !publishers.is_empty() {
            return None;
        }
        let message = format!(
            "names no publishers, so every client that reaches {address} may publish here: name those who may in \
             spec.publishers, or listen on loopback"
        );
        let found = UnlocatedFault::new(
            document.root.mark("metadata.name"),
            "spec",
            Reason::NoPublishers,
            message,
        );
        Some(document.file.warning(found, Some(&document.key)))
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

/// Without links: a file may be named and lie in a named folder as well.
fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn no_documents(path: &Path) -> &'static str {
    match path.is_dir() {
        true => "this folder has no documents: files are read when their names end in .yaml, .yml or .json",
        false => "this file has no documents",
    }
}

fn file_text(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("the file cannot be read: {error}");
    if std::fs::metadata(path).map_err(cannot)?.len() > FILE_BYTES_MAX {
        return Err(format!(
            "the file is too large: {FILE_BYTES_MAX} bytes at most; split it"
        ));
    }
    let bytes = std::fs::read(path).map_err(cannot)?;
    let text = match bytes.as_slice() {
        // As Windows PowerShell writes files.
        [0xff, 0xfe, text @ ..] => utf16(text, u16::from_le_bytes)?,
        [0xfe, 0xff, text @ ..] => utf16(text, u16::from_be_bytes)?,
        _ => String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            format!("the file is no UTF-8 text, from byte {at} on: save it as UTF-8")
        })?,
    };
    if text.contains('\0') {
        return Err("the file is no UTF-8 text, it has zero bytes: save it as UTF-8".to_owned());
    }
    // Some editors begin a file with a byte order mark, which no position counts. Files that were joined have more of them.
    let text = text.strip_prefix(BYTE_ORDER_MARK).map(str::to_owned).unwrap_or(text);
    Ok(text.replace("\n\u{feff}", "\n"))
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Text after a byte order mark of UTF-16.
fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let (units, rest) = bytes.as_chunks::<2>();
    let units = units.iter().map(|pair| unit(*pair));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    match text {
        Ok(text) if rest.is_empty() => Ok(text),
        _ => Err("the file begins like UTF-16 text and is none: save it as UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn read(bytes: &[u8]) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file_text(file.path())
    }

    #[test]
    fn a_file_is_read_in_the_encodings_that_editors_write() {
        let text = "kind: Channel # é\n";
        let units = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        assert_eq!(read(text.as_bytes()).unwrap(), text);
        assert_eq!(read(&[b"\xef\xbb\xbf", text.as_bytes()].concat()).unwrap(), text);
        assert_eq!(
            read(&[&b"\xff\xfe"[..], &units(u16::to_le_bytes)].concat()).unwrap(),
            text
        );
        assert_eq!(
            read(&[&b"\xfe\xff"[..], &units(u16::to_be_bytes)].concat()).unwrap(),
            text
        );
        assert_eq!(
            read("a: 1\n\u{feff}---\nb: 2\n".as_bytes()).unwrap(),
            "a: 1\n---\nb: 2\n"
        );
        for bytes in [
            &b"\xff\xfea"[..],
            b"\xff\xfe\x00\xd8",
            &units(u16::to_le_bytes),
            b"a: \xe9\n",
        ] {
            assert!(read(bytes).unwrap_err().contains("save it as UTF-8"), "{bytes:?}");
        }
    }
}
