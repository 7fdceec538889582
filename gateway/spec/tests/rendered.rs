//! Faults as a person sees them.

mod kit;

use spec::{FilesSettings, load};

#[test]
fn faults_and_warnings_show_the_line_with_a_caret() {
    let text = "apiVersion: eventing.knative.dev/v1alpha1
kind: Subscription
metadata:
  name: bill
spec:
  channel: {name: ordrs}
  subcriber: {uri: \"http://127.0.0.1:9000/\"}
  delivery:
    retry: -1
---
apiVersion: eventing.knative.dev/v1alpha1
kind: Subscription
metadata: {name: büll}
---
broken: [1
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: x}
---
apiVersion: v1
kind: Secret
metadata: {name: t}
data: {a: not-base64!}
";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("documents.yaml");
    std::fs::write(&path, text).expect("it can be written");
    let loaded = load(&FilesSettings::new([&path], None)).expect("the path is there");
    let told: Vec<String> = loaded
        .faults
        .iter()
        .map(ToString::to_string)
        .chain(loaded.warnings.iter().map(ToString::to_string))
        .collect();
    let told = told.join("\n\n").replace(&*folder.path().to_string_lossy(), "FOLDER");
    insta::assert_snapshot!(told);
}

#[test]
fn a_fault_as_json_has_its_place_apart() {
    let found = kit::loaded(
        "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {name: x}\nspec: {provisionr: {}}\n",
    );
    let mut json = serde_json::to_value(&found.faults).expect("faults are plain data");
    json[0]["file"] = "documents.yaml".into();
    insta::assert_json_snapshot!(json);
}
