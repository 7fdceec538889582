//! From a file's text to checked documents: header first, then the document of the kind that the header names.
//!
//! Nothing here looks beyond one document; `set.rs` does. A document that cannot be used is kept as far as it could be read,
//! so that its faults are told together and a former version of it can go on.

mod header;
mod secret;

use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::{
    Kind, ObjectKey,
    documents::{Chunk, split},
    fault::{Fault, File, Found, Warning},
    resource::Resource,
    schema::{self, Path, Report, Shape, check, kinds::described},
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
    /// What an API server knows of it beyond what was written.
    pub(crate) of_object: Option<OfObject>,
}

/// Of an object of an API server.
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

/// What a file holds.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) documents: Vec<Arc<Document>>,
    /// Of documents that have no readable header.
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

    pub(crate) fn fault(&self, found: Found) -> Fault {
        self.file.fault(found, Some(&self.key))
    }

    /// A fault at a path of this document.
    pub(crate) fn fault_at(&self, path: &str, reason: &'static str, message: impl Into<String>) -> Fault {
        let secret = self.key.kind == Kind::Secret;
        self.fault(Found {
            secret,
            ..Found::new(self.root.mark(path), path, reason, message)
        })
    }

    /// A reference that nothing satisfies.
    pub(crate) fn dangling(&self, path: &str, reason: &'static str, message: impl Into<String>) -> Fault {
        self.fault(Found {
            dangling: true,
            ..Found::new(self.root.mark(path), path, reason, message)
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
    let whole = file.path.ends_with(".json");
    let chunks = if whole {
        vec![Chunk {
            text: &text,
            start: 0,
            line: 1,
        }]
    } else {
        split(&text)
    };
    for chunk in chunks {
        match tree::parse(chunk.text, chunk.start, chunk.line) {
            Ok(Some(root)) => read_document(file, root, &mut contents),
            Ok(None) => {}
            Err(syntax) => {
                // Nobody knows what it was going to be: its lines may hold a secret.
                let secret = chunk.text.contains("Secret");
                let found = Found {
                    secret,
                    ..Found::new(syntax.at, "", "Unreadable", syntax.message)
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
        ..Report::default()
    };
    match header(&root, &mut report) {
        Header::Known(key) => contents.documents.push(Arc::new(checked(file, root, key, report))),
        Header::Foreign(message) => {
            let found = Found::new(root.mark("kind"), "", "Ignored", message);
            contents.warnings.push(file.warning(
                Found {
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
    for found in &mut report.found {
        found.secret |= hidden.contains(&found.at.line);
    }
    let faults: Vec<Fault> = report
        .found
        .into_iter()
        .map(|found| file.fault(found, Some(&key)))
        .collect();
    Document {
        key,
        root,
        file: file.clone(),
        resource: resource.filter(|_| faults.is_empty()),
        faults,
        of_object: None,
    }
}

/// Checks everything below the header; `None` when that makes no sense as this kind.
fn typed(root: &Node, key: &ObjectKey, report: &mut Report) -> Option<Resource> {
    if key.kind == Kind::Secret {
        return Some(Resource::Secret(secret(root, report)));
    }
    let described = described(key.kind);
    let envelope = |name| schema::field(name, Shape::Any, "");
    let envelope = schema::Object {
        fields: ["apiVersion", "kind", "metadata", "spec", "status"]
            .into_iter()
            .map(envelope)
            .collect(),
        open: !key.kind.is_ours(),
        ..schema::Object::default()
    };
    check(&Shape::Object(envelope), root, root.at, &Path::Root, report);
    let path = Path::Key(&Path::Root, "spec");
    let spec = match root.entry("spec") {
        Some((written, spec)) => {
            check(&described.spec, spec, written.at, &path, report);
            spec.to_json_without_nulls()
        }
        None => {
            if described.spec_required {
                let at = Mark {
                    end: root.at.start,
                    ..root.at
                };
                report.add(at, &path, format!("`spec` is required for a {}", key.kind));
            }
            serde_json::json!({})
        }
    };
    if !report.found.is_empty() {
        return None;
    }
    for rule in &described.rules {
        rule.check(root, root.mark("spec"), &Path::Root, report);
    }
    let resource = match key.kind {
        Kind::Channel => into(spec).map(Resource::Channel),
        Kind::Subscription => into(spec).map(Box::new).map(Resource::Subscription),
        Kind::ClusterChannelProvisioner => into(spec).map(Resource::ClusterChannelProvisioner),
        Kind::GitHubSource => into(spec).map(Box::new).map(Resource::GitHubSource),
        Kind::KubernetesEventSource => into(spec).map(Resource::KubernetesEventSource),
        Kind::GcpPubSubSource => into(spec).map(Resource::GcpPubSubSource),
        Kind::ContainerSource => into(spec).map(Resource::ContainerSource),
        Kind::Service => into(spec).map(Resource::Service),
        Kind::Secret => return None,
    };
    match resource {
        Ok(resource) => {
            validate::rules(&resource, key, root, report);
            Some(resource)
        }
        // The description takes what the type does not: a bug of ours, told like a fault rather than hidden.
        Err(message) => {
            report.at(root, "spec", format!("cannot be read as a {}: {message}", key.kind));
            None
        }
    }
}

fn into<T: DeserializeOwned>(spec: serde_json::Value) -> Result<T, String> {
    serde_json::from_value(spec).map_err(|error| error.to_string())
}
