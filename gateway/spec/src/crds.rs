//! The custom resource definitions, made from the same description that checks files (API.md 2).

use serde_json::{Value, json};

use crate::{
    Kind,
    model::BackendKind,
    resource::backends::{Arguments, Config},
    schema::{kinds::described, openapi, rules::Rule, validations},
};

/// All definitions as one YAML stream: what `headgate crds` prints.
pub fn crds() -> String {
    ours().map(yaml).collect::<Vec<_>>().join("---\n")
}

fn ours() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| kind.is_ours())
}

fn yaml(kind: Kind) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    // Writing to memory fails for no value that JSON can hold.
    serde_saphyr::to_string_with_options(&crd(kind), options).expect("a JSON value is YAML")
}

fn crd(kind: Kind) -> Value {
    let (group, version) = kind.api_version().split_once('/').unwrap_or_default();
    let mut names = json!({
        "kind": kind.as_str(),
        "listKind": format!("{kind}List"),
        "plural": kind.plural(),
        "singular": kind.as_str().to_lowercase(),
        "categories": categories(kind),
    });
    if let Some(short) = kind.short() {
        names["shortNames"] = json!([short]);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{}.{group}", kind.plural()) },
        "spec": {
            "group": group,
            "names": names,
            "scope": if kind.is_cluster_scoped() { "Cluster" } else { "Namespaced" },
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": printer_columns(kind),
                "schema": { "openAPIV3Schema": schema(kind) },
            }],
        },
    })
}

fn categories(kind: Kind) -> Vec<&'static str> {
    let mut categories = vec!["all", "knative", "eventing"];
    if kind.is_source() {
        categories.push("sources");
    } else if kind == Kind::ClusterChannelProvisioner {
        categories.push("provisioner");
    }
    categories
}

/// The columns that tell most about a kind, for `kubectl get` and `headgate get`: names, and where in the object the values are.
pub fn columns(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::Channel => &[
            ("Provisioner", ".status.provisioner.name"),
            ("Durability", ".status.durability"),
            ("Address", ".status.address.url"),
        ],
        Kind::Subscription => &[
            ("Channel", ".spec.channel.name"),
            ("Subscriber", ".status.physicalSubscription.subscriberURI"),
        ],
        Kind::ClusterChannelProvisioner => &[("Backend", ".spec.backend"), ("Durability", ".status.durability")],
        Kind::Service => &[("External-Name", ".spec.externalName")],
        Kind::Secret => &[],
        Kind::GitHubSource | Kind::KubernetesEventSource | Kind::GcpPubSubSource | Kind::ContainerSource => {
            &[("Sink", ".status.sinkUri")]
        }
    }
}

fn printer_columns(kind: Kind) -> Value {
    let mut shown = vec![
        ("Ready", ".status.conditions[?(@.type==\"Ready\")].status"),
        ("Reason", ".status.conditions[?(@.type==\"Ready\")].reason"),
    ];
    shown.extend(columns(kind));
    let column = |(name, path): (&str, &str)| json!({ "name": name, "type": "string", "jsonPath": path });
    let mut columns: Vec<Value> = shown.into_iter().map(column).collect();
    columns.push(json!({ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" }));
    columns.into()
}

/// Settings that depend on the backend, which the API server cannot know and takes as they are.
#[derive(Clone, Copy)]
pub(crate) enum Settings {
    /// A channel's `arguments`.
    Arguments,
    /// A provisioner's `config`.
    Config,
}

/// The schema of a backend's settings.
pub(crate) fn settings(backend: BackendKind, which: Settings) -> Value {
    let shape = match which {
        Settings::Arguments => Arguments::shape(backend),
        Settings::Config => Config::shape(backend),
    };
    openapi(shape, "")
}

/// The `openAPIV3Schema` of a kind.
pub(crate) fn schema(kind: Kind) -> Value {
    let described = described(kind);
    let text = json!({ "type": "string" });
    let mut schema = json!({
        "type": "object",
        "description": described.spec.object().map_or("", |object| object.describe),
        "properties": {
            "apiVersion": text,
            "kind": text,
            "metadata": { "type": "object" },
            "spec": openapi(&described.spec, "What is wanted."),
            "status": status(),
        },
    });
    if described.spec_required {
        schema["required"] = json!(["spec"]);
    }
    validations(&mut schema, described.rules.iter().map(Rule::cel).collect());
    schema
}

/// Conditions are described; the rest is each kind's own and written by us alone.
fn status() -> Value {
    let text = json!({ "type": "string" });
    let condition = json!({
        "type": "object",
        "required": ["type", "status"],
        "properties": {
            "type": text,
            "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
            "severity": text,
            "reason": text,
            "message": text,
            "lastTransitionTime": { "type": "string", "format": "date-time" },
        },
    });
    json!({
        "type": "object",
        "description": "What is observed.",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "observedGeneration": { "type": "integer", "format": "int64" },
            "conditions": {
                "type": "array",
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        },
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{fs, path::Path};

    use super::*;
    use crate::tree;

    /// Set to write the files instead of comparing them.
    const BLESS: &str = "HEADGATE_BLESS";

    #[test]
    fn the_files_in_deploy_are_what_the_description_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
        let mut expected: Vec<String> = Vec::new();
        for kind in ours() {
            let name = format!("{}.yaml", kind.plural());
            let made = format!(
                "# Made from gateway/spec/src/schema: run its tests with {BLESS}=1 to write it anew.\n{}",
                yaml(kind)
            );
            if std::env::var_os(BLESS).is_some() {
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(&name), &made).unwrap();
            }
            let there = fs::read_to_string(folder.join(&name)).unwrap_or_default();
            assert!(
                there == made,
                "deploy/crds/{name} is not up to date: run the tests of this package with {BLESS}=1"
            );
            expected.push(name);
        }
        let mut there: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        // The kustomization of the folder is written by hand.
        let kustomization = "kustomization.yaml";
        let resources = fs::read_to_string(folder.join(kustomization)).unwrap();
        let listed: Vec<&str> = resources.lines().filter_map(|line| line.strip_prefix("- ")).collect();
        expected.sort();
        assert_eq!(listed, expected, "{kustomization} lists them all");
        expected.push(kustomization.to_owned());
        expected.sort();
        there.sort();
        assert_eq!(there, expected, "a file per kind");
    }

    #[test]
    fn the_stream_reads_back_as_the_seven_kinds_with_their_names() {
        let text = crds();
        let documents: Vec<Value> = crate::documents::split(&text)
            .into_iter()
            .filter_map(|chunk| {
                tree::parse(chunk.text, chunk.start, chunk.line)
                    .ok()
                    .flatten()
                    .map(|node| node.to_json())
            })
            .collect();
        let made: Vec<Value> = ours().map(crd).collect();
        assert_eq!(documents, made, "YAML says what was meant");
        let names: Vec<_> = made
            .iter()
            .map(|crd| crd["metadata"]["name"].as_str().unwrap())
            .collect();
        assert!(
            names.contains(&"channels.eventing.knative.dev")
                && names.contains(&"githubsources.sources.eventing.knative.dev")
        );
        assert_eq!(names.len(), 7);
        let provisioner = made.iter().find(|crd| crd["spec"]["scope"] == "Cluster").unwrap();
        assert_eq!(provisioner["spec"]["names"]["shortNames"], json!(["ccp"]));
        assert_eq!(
            provisioner["spec"]["names"]["categories"],
            json!(["all", "knative", "eventing", "provisioner"])
        );
    }

    /// Checks that a schema is structural: every part has a type, or says that it takes anything.
    #[test]
    fn the_schemas_are_structural() {
        fn walk(path: &str, schema: &Value) {
            let open = schema
                .get("x-kubernetes-preserve-unknown-fields")
                .or_else(|| schema.get("x-kubernetes-int-or-string"));
            assert!(
                schema.get("type").is_some() || open == Some(&Value::Bool(true)),
                "{path} has no type"
            );
            let below = schema
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            below.for_each(|(name, part)| walk(&format!("{path}.{name}"), part));
            for name in ["items", "additionalProperties"] {
                if let Some(part) = schema.get(name) {
                    walk(&format!("{path}[{name}]"), part);
                }
            }
            assert!(
                !(schema.get("properties").is_some() && schema.get("additionalProperties").is_some()),
                "{path} has both"
            );
        }
        ours().for_each(|kind| walk(kind.as_str(), &schema(kind)));
    }
}
