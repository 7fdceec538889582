//! `headgate schema` and deploy/schema.json in the eyes of a validator of another make: documents that `headgate validate` takes
//! are valid, broken ones are not.

use std::{collections::BTreeSet, env, fs, path::Path};

use e2e::{
    binary::workspace,
    cli,
    peers::{self, Peer},
    tree::{self, Source},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Documents in files and in fenced blocks of pages: a block that has no `apiVersion` at the start of a line is a part of one.
fn documents() -> Vec<Value> {
    let mut documents = Vec::new();
    for Source { path, text } in tree::text_files() {
        let is_document = |text: &&str| text.lines().any(|line| line.starts_with("apiVersion:"));
        if path.starts_with("deploy/samples/") {
            documents.push(json!({ "name": path, "text": text }));
        } else if path.ends_with(".md") {
            let blocks = text
                .split("\n```yaml\n")
                .skip(1)
                .filter_map(|rest| rest.split("\n```").next());
            let blocks = blocks.filter(is_document);
            documents.extend(blocks.map(|block| json!({ "name": path, "text": block })));
        }
    }
    documents
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a file");
    path.display().to_string()
}

fn lines(output: &str) -> Vec<Value> {
    let lines = output
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"));
    lines.collect()
}

async fn schema() -> String {
    cli::run(&["schema"]).await.exits(0).stdout
}

#[tokio::test]
async fn deploy_schema_json_is_what_the_command_prints() {
    let path = workspace().join("deploy/schema.json");
    let printed = schema().await;
    if env::var_os("HEADGATE_BLESS").is_some() {
        fs::write(&path, &printed).expect("deploy/schema.json is written");
    }
    assert!(
        tree::read(&path) == printed,
        "deploy/schema.json differs from `headgate schema`; write it again with: HEADGATE_BLESS=1 cargo test -p e2e --test schema"
    );
}

#[test]
fn every_sample_names_the_schema_for_editors() {
    let line = "# yaml-language-server: $schema=../schema.json\n";
    let without: Vec<String> = tree::text_files()
        .into_iter()
        .filter(|file| file.path.starts_with("deploy/samples/") && !file.text.starts_with(line))
        .map(|file| file.path)
        .collect();
    assert!(without.is_empty(), "these do not begin with {line:?}: {without:?}");
}

#[tokio::test]
async fn every_document_of_the_samples_and_pages_is_valid() {
    if peers::skipped(Peer::Node) {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let schema = write(&folder, "schema.json", &schema().await);
    let documents = documents();
    let input = write(&folder, "documents.json", &json!(documents).to_string());
    let checked = lines(&peers::run(Peer::Node, "validate-documents.mjs", &[&schema, &input]).await);
    let kinds: BTreeSet<&str> = checked
        .iter()
        .filter_map(|document| document["kind"].as_str())
        .collect();
    assert!(
        [
            "Channel",
            "Subscription",
            "ClusterChannelProvisioner",
            "GitHubSource",
            "Secret"
        ]
        .iter()
        .all(|kind| kinds.contains(kind)),
        "{kinds:?}"
    );
    // Pages about moving from Knative show its kinds, which are not ours.
    let schema: Value = serde_json::from_str(&tree::read(Path::new(&schema))).expect("JSON");
    let ours = |document: &&Value| {
        document["kind"]
            .as_str()
            .is_some_and(|kind| schema["definitions"].get(kind).is_some())
    };
    let invalid: Vec<&Value> = checked
        .iter()
        .filter(ours)
        .filter(|document| document["valid"] != true)
        .collect();
    assert!(invalid.is_empty(), "{invalid:#?}");
}

/// The files in which `headgate validate` finds a fault of the document itself, and those in which it finds any fault.
async fn faulty(folder: &Path) -> [BTreeSet<String>; 2] {
    let path = folder.display().to_string();
    let faults = cli::run(&["validate", &path, "-o", "json"]).await.exits(1).json();
    let faults = faults["faults"].as_array().cloned().expect("faults");
    assert!(!faults.is_empty());
    let file = |fault: &Value| {
        let file = fault["file"].as_str().expect("a file");
        file.rsplit('/').next().expect("a name").to_owned()
    };
    let alone = faults.iter().filter(|fault| fault["reason"] == "Invalid");
    [alone.map(file).collect(), faults.iter().map(file).collect()]
}

#[tokio::test]
async fn a_document_that_validate_refuses_is_invalid() {
    if peers::skipped(Peer::Node) {
        return;
    }
    let (folder, broken) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let samples: Vec<Value> = documents()
        .into_iter()
        .filter(|document| {
            document["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("deploy/samples/"))
        })
        .collect();
    let input = write(&folder, "documents.json", &json!(samples).to_string());
    let into = broken.path().display().to_string();
    let made = lines(&peers::run(Peer::Node, "break-documents.mjs", &[&input, &into]).await);
    let texts: Vec<Value> = made
        .iter()
        .map(|made| {
            let file = made["file"].as_str().expect("a file");
            json!({ "name": file, "text": tree::read(&broken.path().join(file)) })
        })
        .collect();
    let input = write(&folder, "broken.json", &json!(texts).to_string());
    let schema = write(&folder, "schema.json", &schema().await);
    let checked = lines(&peers::run(Peer::Node, "validate-documents.mjs", &[&schema, &input]).await);
    let [faulty, any_faulty] = faulty(broken.path()).await;
    assert!(faulty.len() > 500, "{} of {} are faulty", faulty.len(), made.len());
    let (mut passed, mut refused) = (Vec::new(), Vec::new());
    for (document, made) in checked.iter().zip(&made) {
        let name = document["name"].as_str().expect("a name");
        match document["valid"] == true {
            true if faulty.contains(name) => passed.push(&made["change"]),
            // Where a provisioner or a secret is not found, `validate` says that and looks no further.
            false if !any_faulty.contains(name) => refused.push(document),
            _ => {}
        }
    }
    assert!(
        passed.is_empty(),
        "the schema takes what `validate` refuses: {passed:#?}"
    );
    assert!(
        refused.is_empty(),
        "the schema refuses what `validate` takes: {refused:#?}"
    );
}

/// A document with a fault in line 9, a question about `retry` and one about what may stand beside it.
const EDITED: &str = "\
# yaml-language-server: $schema=./schema.json
apiVersion: eventing.knative.dev/v1alpha1
kind: Subscription
metadata: { name: audit }
spec:
  channel: { name: orders }
  subscriber: { uri: \"http://127.0.0.1:9000/\" }
  delivery:
    retry: many
    timeout: PT5S #hover
    back #complete
";

#[tokio::test]
async fn an_editor_shows_faults_explains_fields_and_completes_them() {
    if peers::skipped(Peer::Node) {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    write(&folder, "schema.json", &schema().await);
    let edited = write(&folder, "edited.yaml", EDITED);
    let samples = tree::text_files();
    let samples = samples.iter().filter(|file| file.path.starts_with("deploy/samples/"));
    let mut files: Vec<String> = samples
        .map(|file| workspace().join(&file.path).display().to_string())
        .collect();
    files.insert(0, edited);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let shown = lines(&peers::run(Peer::Node, "edit-documents.mjs", &files).await);
    let (edited, samples) = shown.split_first().expect("an answer a file");
    let problems = edited["problems"].to_string();
    assert!(problems.contains("9: Incorrect type"), "{edited:#}");
    let hover = edited["hover"].as_str().unwrap_or_default();
    assert!(hover.contains("PT30S"), "{edited:#}");
    let completions = edited["completions"].as_array().cloned().unwrap_or_default();
    assert!(
        ["backoffDelay", "backoffMax", "backoffPolicy"]
            .iter()
            .all(|field| completions.contains(&json!(field))),
        "{edited:#}"
    );
    let faulty: Vec<&Value> = samples.iter().filter(|shown| shown["problems"] != json!([])).collect();
    assert!(faulty.is_empty() && samples.len() > 10, "{faulty:#?}");
}
