//! Faults in documents: all of them at once, with their place, before anything runs.

use std::fs;

use e2e::{cli, documents};
use rstest::rstest;
use serde_json::{Value, json};

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        Self(folder)
    }

    async fn validate(&self) -> cli::Finished {
        cli::headgate_in(self.0.path(), &["validate", "."], b"").await
    }
}

const CHANNEL: &str = "apiVersion: eventing.knative.dev/v1alpha1
kind: Channel
metadata:
  name: orders
spec:
  provisioner: { name: embedded }
";

const FAULTY: &str = "apiVersion: eventing.knative.dev/v1alpha1
kind: Subscription
metadata:
  name: audit
spec:
  channel: { apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: orders }
  subscriber:
    uri: \"http://127.0.0.1:9000/\"
  delivery:
    retri: 3
    backoffPolicy: sometimes
---
apiVersion: eventing.knative.dev/v1alpha1
kind: Subscription
metadata:
  name: nobody
spec:
  channel: { kind: Channel, name: orders }
";

/// Proves: OP-3
#[tokio::test]
async fn every_fault_of_a_folder_is_reported_at_once_with_its_place() {
    let folder = Folder::with(&[
        ("channel.yaml", CHANNEL),
        ("faulty.yaml", FAULTY),
        ("broken.yaml", "kind: Channel\nmetadata: [ {\n"),
        (
            "unknown.yaml",
            "apiVersion: eventing.knative.dev/v1alpha1\nkind: Chanel\nmetadata: { name: x }\n",
        ),
    ]);
    let found = folder.validate().await.exits(1);
    let text = format!("{}{}", found.stdout, found.stderr);
    for expected in [
        "faulty.yaml:10:5",
        "retri",
        "faulty.yaml:11:",
        "sometimes",
        "broken.yaml:",
        "unknown.yaml:2:",
        "Chanel",
        "^",
    ] {
        assert!(text.contains(expected), "{expected} is missing from:\n{text}");
    }
    assert!(text.contains("retry"), "the nearest known key is named:\n{text}");
    assert!(
        text.contains("nobody") || text.contains("faulty.yaml:17"),
        "neither subscriber nor reply:\n{text}"
    );
    assert!(!text.contains("channel.yaml:"), "a valid file is not blamed:\n{text}");
}

/// Proves: OP-3
#[tokio::test]
async fn a_valid_folder_is_0_and_works_offline() {
    Folder::with(&[("channel.yaml", CHANNEL)]).validate().await.exits(0);
}

/// Proves: OP-3
#[rstest]
#[case::an_unknown_channel(documents::subscription("s", "missing", "http://127.0.0.1:1/", json!({})), "missing")]
#[case::an_unknown_provisioner(documents::channel("orders", "kafkaa"), "kafkaa")]
#[case::a_relative_uri(documents::subscription("s", "orders", "/only/a/path", json!({})), "uri")]
#[case::another_scheme(documents::subscription("s", "orders", "ftp://127.0.0.1/", json!({})), "ftp")]
#[case::two_kinds_of_target(
    documents::subscription("s", "orders", "http://127.0.0.1:1/", json!({ "subscriber": { "dnsName": "x" } })),
    "dnsName"
)]
#[case::a_negative_retry(documents::subscription("s", "orders", "http://127.0.0.1:1/", json!({ "delivery": { "retry": -1 } })), "retry")]
#[case::a_duration_that_is_none(
    documents::subscription("s", "orders", "http://127.0.0.1:1/", json!({ "delivery": { "timeout": "soon" } })),
    "timeout"
)]
#[case::cesql(documents::subscription("s", "orders", "http://127.0.0.1:1/", json!({ "filters": [{ "cesql": "type =" }] })), "found the end")]
#[case::a_function_that_is_none(documents::subscription("s", "orders", "http://127.0.0.1:1/", json!({ "filters": [{ "cesql": "LENGHT(type) > 3" }] })), "did you mean `LENGTH`?")]
#[case::a_function_of_other_languages(documents::subscription("s", "orders", "http://127.0.0.1:1/", json!({ "filters": [{ "any": [{ "sql": "STARTS_WITH(type, 'order.')" }] }] })), "there is no function STARTS_WITH: write attribute LIKE 'text%'")]
#[case::too_few_arguments(documents::subscription("s", "orders", "http://127.0.0.1:1/", json!({ "filters": [{ "cesql": "LEFT(type) = 'a'" }] })), "LEFT takes 2 arguments, found 1")]
#[case::a_number(documents::subscription("s", "orders", "http://127.0.0.1:1/", json!({ "filters": [{ "not": { "sql": "1 + 1" } }] })), "yields a number")]
#[case::an_unknown_filter(documents::subscription("s", "orders", "http://127.0.0.1:1/", json!({ "filters": [{ "regex": {} }] })), "regex")]
#[case::a_secret_that_is_missing(
    documents::github_source("hello", &["push"], &documents::channel_reference("orders")),
    "github"
)]
#[tokio::test]
async fn a_fault_names_what_is_wrong(#[case] document: Value, #[case] named: &str) {
    let text = serde_json::to_string_pretty(&document).expect("JSON");
    let mut files = vec![("document.yaml", text.as_str())];
    if document["kind"] != "Channel" {
        files.push(("channel.yaml", CHANNEL));
    }
    let found = Folder::with(&files).validate().await.exits(1);
    let said = format!("{}{}", found.stdout, found.stderr);
    assert!(said.contains("document.yaml") && said.contains(named), "{said}");
}

/// Proves: OP-3
#[tokio::test]
async fn the_samples_of_the_project_are_valid() {
    let samples = e2e::binary::workspace().join("deploy/samples");
    cli::run(&["validate", &samples.to_string_lossy()]).await.exits(0);
}

/// Proves: OP-3
#[tokio::test]
async fn what_is_likely_not_meant_is_a_warning_and_with_strict_a_failure() {
    let bare = documents::subscription(
        "s",
        "orders",
        "http://127.0.0.1:1/",
        json!({ "filters": [{ "cesql": "urgent" }] }),
    );
    let folder = Folder::with(&[
        ("channel.yaml", CHANNEL),
        ("bare.yaml", &serde_json::to_string_pretty(&bare).expect("JSON")),
    ]);
    let found = folder.validate().await.exits(0);
    assert!(
        found.stdout.contains("an attribute alone is a filter only when"),
        "{found:?}"
    );
    assert!(
        found.stdout.ends_with("2 documents, 0 faults, 1 warning\n"),
        "{found:?}"
    );
    assert!(!found.stdout.contains('\u{1b}'), "no colors outside of a terminal");
    cli::headgate_in(folder.0.path(), &["validate", "--strict", "."], b"")
        .await
        .exits(1);
}

/// Proves: OP-3
#[tokio::test]
async fn paths_without_documents_are_warned_about() {
    let folder = Folder::with(&[("empty.yaml", "# nothing\n")]);
    fs::create_dir(folder.0.path().join("sub")).expect("a folder");
    for path in [".", "empty.yaml", "sub"] {
        let found = cli::headgate_in(folder.0.path(), &["validate", path], b"")
            .await
            .exits(0);
        assert!(found.stdout.contains("has no documents"), "{path}: {found:?}");
        cli::headgate_in(folder.0.path(), &["validate", "--strict", path], b"")
            .await
            .exits(1);
    }
}

/// Proves: OP-3
#[tokio::test]
async fn documents_are_read_as_other_tools_write_them() {
    let item = |name: &str| {
        json!({ "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "Channel", "metadata": { "name": name },
                "spec": { "provisioner": { "name": "embedded" }, "arguments": { "retention": { "age": "PT1H" } } } })
    };
    let joined = format!("{}\n{}", item("a"), item("b"));
    let items: Vec<Value> = (0..10_000).map(|n| item(&format!("c{n}"))).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    let marked = format!("{CHANNEL}\u{feff}---\n{}", item("marked"));
    let folder = Folder::with(&[("joined.json", &joined), ("list.json", &list), ("marked.yaml", &marked)]);
    let utf16: Vec<u8> = [0xfeff]
        .into_iter()
        .chain(item("wide").to_string().encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    fs::write(folder.0.path().join("wide.json"), utf16).expect("a file");
    let found = folder.validate().await.exits(0);
    assert!(
        found.stdout.ends_with("10005 documents, 0 faults, 0 warnings\n"),
        "{found:?}"
    );
}

/// Proves: SR-6
#[tokio::test]
async fn a_password_in_the_wrong_place_is_not_printed() {
    let folder = Folder::with(&[(
        "kafka.yaml",
        "apiVersion: eventing.knative.dev/v1alpha1\nkind: ClusterChannelProvisioner\nmetadata: { name: kafka }\nspec:\n  \
         config:\n    bootstrapServers: 'h:1'\n    security:\n      secretRef: hunter2-hunter2\n",
    )]);
    let found = folder.validate().await.exits(1);
    let said = format!("{}{}", found.stdout, found.stderr);
    assert!(said.contains("name a secret here, never write one down"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}
