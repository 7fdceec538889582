//! From a file's text to checked documents: header first, then the document of the kind that the header names.
//!
//! Nothing here looks beyond one document; `set.rs` does. A document that cannot be used is kept as far as it could be read,
//! so that its faults are told together and a former version of it can go on.

mod header;
mod secret;

use std::sync::Arc;

use jiff::Timestamp;
use status::Reason;

use crate::{
    Kind, ObjectKey,
    documents::split,
    fault::{Fault, File, UnlocatedFault, Warning},
    model::{Arguments, BackendKind},
    resource::{ClusterChannelProvisioner, Resource, WrittenProvisioner},
    schema::{self, FieldType, Path, Report, Shape, check, kinds::described},
    tree::{self, Mark, Node, Value},
    validate,
};
use header::{Header, header};
use secret::secret;

/// A document whose header could be read.
pub(crate) struct Document {
    pub(crate) key: ObjectKey,
    pub(crate) root: Node,
    pub(crate) file: File,
    /// `None` when there are faults.
    pub(crate) resource: Option<Resource>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<Warning>,
    /// The facts that an API server adds to a document. `None` for documents from files.
    pub(crate) of_object: Option<OfObject>,
}

/// The facts that an API server has about an object beside its document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OfObject {
    pub(crate) uid: String,
    pub(crate) generation: Option<i64>,
    pub(crate) created: Option<Timestamp>,
}

impl OfObject {
    /// From an object's `metadata`.
    pub(crate) fn new(metadata: &serde_json::Value) -> Self {
        let text = |name: &str| metadata.get(name).and_then(serde_json::Value::as_str);
        Self {
            uid: text("uid").unwrap_or_default().to_owned(),
            generation: metadata.get("generation").and_then(serde_json::Value::as_i64),
            created: text("creationTimestamp").and_then(|time| time.parse().ok()),
        }
    }
}

/// The documents of a file and their faults.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) documents: Vec<Arc<Document>>,
    /// Faults of documents that have no readable header.
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<Warning>,
}

impl Document {
    /// `FILE:LINE`, or the object.
    pub(crate) fn origin(&self) -> String {
        match self.root.at.line {
            0 => self.file.path.to_string(),
            line => format!("{}:{line}", self.file.path),
        }
    }

    pub(crate) fn fault(&self, found: UnlocatedFault) -> Fault {
        self.file.fault(found, Some(&self.key))
    }

    /// A fault at a path of this document.
    pub(crate) fn fault_at(&self, path: &str, reason: Reason, message: impl Into<String>) -> Fault {
        let secret = self.key.kind == Kind::Secret;
        self.fault(UnlocatedFault {
            secret,
            ..UnlocatedFault::new(self.root.mark(path), path, reason, message)
        })
    }

    /// Reads a channel's arguments for its backend.
    pub(crate) fn arguments(&self, backend: BackendKind) -> Result<Arguments, Vec<Fault>> {
        let spec = Path::Key(&Path::Root, "spec");
        let path = Path::Key(&spec, "arguments");
        let mut report = Report::default();
        let nothing = Node::empty();
        let written = self.root.get("spec").and_then(|spec| spec.entry("arguments"));
        let node = match written {
            Some((key, node)) => {
                check(Arguments::shape(backend), node, key.at, &path, &mut report);
                node
            }
            None => &nothing,
        };
        if report.found.is_empty() {
            match Arguments::read(backend, node) {
                Ok(arguments) => return Ok(arguments),
                Err(message) => report.at(&self.root, "spec.arguments", message),
            }
        }
        Err(report.found.into_iter().map(|found| self.fault(found)).collect())
    }

    /// A reference that nothing satisfies.
    pub(crate) fn dangling(&self, path: &str, reason: Reason, message: impl Into<String>) -> Fault {
        self.fault(UnlocatedFault {
            dangling: true,
            ..UnlocatedFault::new(self.root.mark(path), path, reason, message)
        })
    }
}

/// Reads one object of an API server, which says itself of which kind and name it is.
pub(crate) fn of_object(key: ObjectKey, root: Node, of_object: OfObject) -> Document {
    let report = Report {
        secret: key.kind == Kind::Secret,
        ..Report::default()
    };
    Document {
        of_object: Some(of_object),
        ..checked(&File::of_object(&key), root, key, report)
    }
}

/// Reads one file.
pub(crate) fn read(file: &File) -> Contents {
    let mut contents = Contents::default();
    let text = file.text.clone();
    for chunk in split(&text) {
        match tree::parse(chunk.text, chunk.start, chunk.line) {
            Ok(Some(root)) => read_document(file, root, &mut contents),
            Ok(None) => {}
            Err(syntax) => {
                // The kind is unknown, so any line may hold a secret.
                let text = chunk.text.to_ascii_lowercase();
                let secret = ["secret", "password", "token", "credential"]
                    .iter()
                    .any(|word| text.contains(word));
                let found = UnlocatedFault {
                    secret,
                    ..UnlocatedFault::new(syntax.at, "", Reason::Unreadable, syntax.message)
                };
                contents.faults.push(file.fault(found, None));
            }
        }
    }
    contents
}

fn read_document(file: &File, root: Node, contents: &mut Contents) {
    let kind = root.get("kind").and_then(Node::text);
    if let (Some("v1"), Some("List"), Some(Value::List(items))) = (
        root.get("apiVersion").and_then(Node::text),
        kind,
        root.get("items").map(|items| &items.value),
    ) {
        return items
            .iter()
            .for_each(|item| read_document(file, item.clone(), contents));
    }
    let mut report = Report {
        secret: kind == Some("Secret"),
        source: Some(file.text.clone()),
        ..Report::default()
    };
    match header(&root, &mut report) {
        Header::Known(key) => {
            let document = checked(file, root, key, report);
            contents.warnings.extend(document.warnings.iter().cloned());
            contents.documents.push(Arc::new(document));
        }
        Header::Foreign(message) => {
            let found = UnlocatedFault::new(root.mark("kind"), "", Reason::Ignored, message);
            contents.warnings.push(file.warning(
                UnlocatedFault {
                    secret: report.secret,
                    ..found
                },
                None,
            ));
        }
        Header::Unusable => contents
            .faults
            .extend(report.found.into_iter().map(|found| file.fault(found, None))),
    }
}

fn checked(file: &File, root: Node, key: ObjectKey, mut report: Report) -> Document {
    let resource = typed(&root, &key, &mut report);
    // Another fault of the same line would show what this one hides.
    let hidden: Vec<usize> = report
        .found
        .iter()
        .filter(|found| found.secret)
        .map(|found| found.at.line)
        .collect();
    for found in report.found.iter_mut().chain(&mut report.warnings) {
        found.secret |= hidden.contains(&found.at.line);
    }
    let faults: Vec<Fault> = report
        .found
        .into_iter()
        .map(|found| file.fault(found, Some(&key)))
        .collect();
    let warnings = report.warnings.into_iter();
    Document {
        warnings: warnings.map(|found| file.warning(found, Some(&key))).collect(),
        key,
        root,
        file: file.clone(),
        resource: resource.filter(|_| faults.is_empty()),
        faults,
        of_object: None,
    }
}

/// The members that every document may have. Kubernetes' own kinds may have others.
fn envelope(kind: Kind) -> Shape {
    let member = |name| schema::field(name, Shape::Any, "");
    Shape::Object(schema::Object {
        fields: ["apiVersion", "kind", "metadata", "spec", "status"]
            .into_iter()
            .map(member)
            .collect(),
        open: !kind.is_ours(),
        ..schema::Object::default()
    })
}

/// Checks everything below the header; `None` when that makes no sense as this kind.
fn typed(root: &Node, key: &ObjectKey, report: &mut Report) -> Option<Resource> {
    if key.kind == Kind::Secret {
        return Some(Resource::Secret(secret(root, report)));
    }
    let described = described(key.kind);
    check(&envelope(key.kind), root, root.at, &Path::Root, report);
    let path = Path::Key(&Path::Root, "spec");
    let nothing = Node::empty();
    let spec = match root.entry("spec") {
        Some((written, spec)) => {
            check(&described.spec, spec, written.at, &path, report);
            spec
        }
        None => {
            if described.spec_required {
                let end = root.at.start;
                report.add(
                    Mark { end, ..root.at },
                    &path,
                    format!("`spec` is required for a {}", key.kind),
                );
            }
            &nothing
        }
    };
    if !report.found.is_empty() {
        return None;
    }
    for rule in &described.rules {
        rule.check(root, root.mark("spec"), &Path::Root, report);
    }
    let resource = match key.kind {
        Kind::Channel => FieldType::read(spec).map(Resource::Channel),
        Kind::Subscription => FieldType::read(spec).map(Box::new).map(Resource::Subscription),
        Kind::ClusterChannelProvisioner => match WrittenProvisioner::read(spec) {
            Ok(written) => {
                let config = validate::config(&written, key, root, report)?;
                Ok(Resource::ClusterChannelProvisioner(ClusterChannelProvisioner {
                    config,
                    require_durability: written.require_durability,
                }))
            }
            Err(message) => Err(message),
        },
        Kind::GitHubSource => FieldType::read(spec).map(Box::new).map(Resource::GitHubSource),
        Kind::KubernetesEventSource => FieldType::read(spec).map(Resource::KubernetesEventSource),
        Kind::GcpPubSubSource => FieldType::read(spec).map(Resource::GcpPubSubSource),
        Kind::ContainerSource => FieldType::read(spec).map(Resource::ContainerSource),
        Kind::Service => FieldType::read(spec).map(Resource::Service),
        Kind::Secret => return None,
    };
    match resource {
        Ok(resource) => {
            validate::rules(&resource, root, report);
            Some(resource)
        }
        // The description takes what the type does not: a bug of ours, told like a fault rather than hidden.
        Err(message) => {
            report.at(root, "spec", format!("cannot be read as a {}: {message}", key.kind));
            None
        }
    }
}
