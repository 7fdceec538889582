//! From a file's text to checked documents: header first, then the document of the kind that the header names.
//!
//! Nothing here looks beyond one document; `set.rs` does. A document that cannot be used is kept as far as it could be read,
//! so that its faults are told together and a former version of it can go on.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::de::DeserializeOwned;

use crate::{
    Kind, ObjectKey, ObjectName,
    documents::{Chunk, split},
    fault::{Fault, File, Found, Warning},
    model::SecretText,
    nearest::{nearest, suggestion},
    resource::{Resource, Secret},
    schema::{self, Form, Path, Report, Shape, check, kinds::described},
    tree::{self, Mark, Node, Value},
    validate,
};

/// A document whose header could be read.
pub(crate) struct Document {
    pub(crate) key: ObjectKey,
    pub(crate) root: Node,
    pub(crate) file: File,
    /// `None` when there are faults.
    pub(crate) resource: Option<Resource>,
    pub(crate) faults: Vec<Fault>,
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
    pub(crate) fn line(&self) -> usize {
        self.root.at.line
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

enum Header {
    Known(ObjectKey),
    /// Someone else's document: left alone, and why.
    Foreign(String),
    Unusable,
}

fn header(root: &Node, report: &mut Report) -> Header {
    let start = Mark {
        end: root.at.start,
        ..root.at
    };
    let Value::Map(_) = &root.value else {
        report.add(
            start,
            &Path::Root,
            format!(
                "expected a document with apiVersion, kind and metadata, found {}",
                root.kind()
            ),
        );
        return Header::Unusable;
    };
    let mut texts = ["apiVersion", "kind"].map(|name| {
        let path = Path::Key(&Path::Root, name);
        match root.get(name) {
            Some(node) => check(&Shape::Text(Form::Filled), node, node.at, &path, report),
            None => report.add(start, &path, format!("`{name}` is required")),
        }
        root.get(name).and_then(Node::text).unwrap_or_default()
    });
    if !report.found.is_empty() {
        return Header::Unusable;
    }
    let [api_version, kind] = &mut texts;
    let kind = match known_kind(api_version, kind) {
        Ok(kind) => kind,
        Err(Unknown::Foreign(message)) => return Header::Foreign(message),
        Err(Unknown::Fault(path, message)) => {
            report.at(root, path, message);
            return Header::Unusable;
        }
    };
    let metadata = schema::Object {
        fields: vec![
            schema::required("name", Shape::Text(Form::Name), "every document has a name"),
            schema::field("namespace", Shape::Text(Form::Label), "default when absent"),
        ],
        open: true,
        ..schema::Object::default()
    };
    let path = Path::Key(&Path::Root, "metadata");
    match root.entry("metadata") {
        Some((key, node)) => check(&Shape::Object(metadata), node, key.at, &path, report),
        None => report.add(start, &path, "`metadata` is required, and in it `name`"),
    }
    let text = |name| {
        root.get("metadata")
            .and_then(|metadata| metadata.get(name))
            .and_then(Node::text)
    };
    match text("name") {
        Some(name) if report.found.is_empty() => {
            let namespace = if kind.is_cluster_scoped() {
                ""
            } else {
                text("namespace").unwrap_or("default")
            };
            Header::Known(ObjectKey::new(kind, ObjectName::new(namespace, name)))
        }
        _ => Header::Unusable,
    }
}

enum Unknown {
    Foreign(String),
    /// Path and message.
    Fault(&'static str, String),
}

fn known_kind(api_version: &str, kind: &str) -> Result<Kind, Unknown> {
    let found = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
    if let Some(found) = found.filter(|found| found.api_version() == api_version) {
        return Ok(found);
    }
    let ours = [schema::parts::EVENTING, schema::parts::SOURCES];
    let group = |text: &str| text.split('/').next().unwrap_or_default().to_owned();
    let is_ours = ours.iter().any(|known| group(known) == group(api_version));
    match found {
        // `eventing.knative.dev/v1`, or the other of our two groups, or a slip of the pen.
        Some(found) if found.is_ours() && (is_ours || nearest(api_version, ours).is_some()) => Err(Unknown::Fault(
            "apiVersion",
            format!("`{api_version}` has no {kind}, did you mean `{}`?", found.api_version()),
        )),
        None if is_ours => {
            let meant = suggestion(
                kind,
                Kind::ALL.into_iter().filter(|kind| kind.is_ours()).map(Kind::as_str),
            );
            let known = Kind::ALL
                .into_iter()
                .filter(|known| known.api_version() == api_version)
                .map(Kind::as_str);
            let meant = if meant.is_empty() {
                format!("; known: {}", known.collect::<Vec<_>>().join(", "))
            } else {
                meant
            };
            Err(Unknown::Fault(
                "kind",
                format!("unknown kind `{kind}` in {api_version}{meant}"),
            ))
        }
        Some(found) if found.is_ours() => {
            let meant = found.api_version();
            Err(Unknown::Foreign(format!(
                "{api_version} {kind} is not ours and is ignored; ours is {meant} {kind}"
            )))
        }
        _ => Err(Unknown::Foreign(format!(
            "{api_version} {kind} is not ours and is ignored"
        ))),
    }
}

fn checked(file: &File, root: Node, key: ObjectKey, mut report: Report) -> Document {
    let resource = typed(&root, &key, &mut report);
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

/// Messages and excerpts never show a value.
fn secret(root: &Node, report: &mut Report) -> Secret {
    let mut secret = Secret::default();
    for (name, encoded) in [("data", true), ("stringData", false)] {
        let Some((written, node)) = root.entry(name) else {
            continue;
        };
        let path = Path::Key(&Path::Root, name);
        let Value::Map(entries) = &node.value else {
            report.add(
                written.at,
                &path,
                format!("expected a map of key to text, found {}", node.kind()),
            );
            continue;
        };
        schema::twice(node, &path, report);
        for (key, value) in entries {
            let here = Path::Key(&path, &key.name);
            if let Err(message) = Form::SecretKey.check(&key.name) {
                report.add(key.at, &here, message);
            }
            let Value::Text(text) = &value.value else {
                if !value.is_null() {
                    report.add(
                        key.at,
                        &here,
                        format!("expected text, found {}: put it in quotes", value.kind()),
                    );
                }
                continue;
            };
            let bytes = if encoded {
                // Long values are folded over lines in many manifests.
                let joined: String = text.split_ascii_whitespace().collect();
                STANDARD
                    .decode(joined)
                    .map_err(|_| "is no base64: write plain text under stringData")
            } else {
                Ok(text.as_bytes().to_vec())
            };
            match bytes {
                // stringData comes second and wins, as in Kubernetes.
                Ok(bytes) => drop(secret.values.insert(key.name.clone(), SecretText::new(bytes))),
                Err(message) => report.add(key.at, &here, message),
            }
        }
    }
    secret
}
