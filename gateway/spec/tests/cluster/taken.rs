//! The definitions themselves, v0.2's documents and our samples are taken as they are.

use std::{fs, path::Path};

use super::{cluster, documents, faults};

const V0_2: &str = include_str!("v0.2.yaml");

#[tokio::test]
async fn the_seven_definitions_are_established_and_structural() {
    let Some(cluster) = cluster().await else { return };
    let shown = cluster
        .kubectl(&[
            "get",
            "customresourcedefinitions",
            "-o",
            r#"jsonpath={range .items[*]}{.metadata.name}{range .status.conditions[?(@.status=="True")]} {.type}{end}{"\n"}{end}"#,
        ])
        .await;
    let mut lines: Vec<&str> = shown.lines().collect();
    lines.sort_unstable();
    let expected = [
        "channels.eventing.knative.dev",
        "clusterchannelprovisioners.eventing.knative.dev",
        "containersources.sources.eventing.knative.dev",
        "gcppubsubsources.sources.eventing.knative.dev",
        "githubsources.sources.eventing.knative.dev",
        "kuberneteseventsources.sources.eventing.knative.dev",
        "subscriptions.eventing.knative.dev",
    ];
    assert_eq!(lines, expected.map(|name| format!("{name} NamesAccepted Established")));
}

#[tokio::test]
async fn documents_of_v0_2_apply_and_are_replaced_without_what_a_controller_had_added() {
    let Some(cluster) = cluster().await else { return };
    cluster.kubectl(&["create", "namespace", "v0-2"]).await;
    for document in documents(V0_2) {
        assert!(faults(document).is_empty(), "{document}\n{:?}", faults(document));
        let document = document.replace("namespace: default\nspec", "namespace: v0-2\nspec");
        cluster
            .kubectl_with(&["apply", "-n", "v0-2", "-f", "-"], &document)
            .await;
        let without = document
            .replace("  generation: 1\n", "")
            .replace("  generation: 2\n", "");
        let with = document.replace("\nspec:\n", "\nspec:\n  generation: 7\n");
        for again in [without, with] {
            let again = again.replace("generation: 7\n  generation: 1\n", "generation: 7\n");
            let again = again.replace("generation: 7\n  generation: 2\n", "generation: 7\n");
            cluster
                .kubectl_with(&["replace", "-n", "v0-2", "-f", "-"], &again)
                .await;
        }
        let owned = ["apply", "--server-side", "--force-conflicts", "-n", "v0-2", "-f", "-"];
        cluster.kubectl_with(&owned, &document).await;
    }
    let path = r#"jsonpath={.spec.env[1].value} {.spec.serviceAccountname}"#;
    let kept = cluster
        .kubectl(&["get", "-n", "v0-2", "containersource", "env-as-a-list", "-o", path])
        .await;
    assert_eq!(kept, "event-test heartbeats", "nothing is pruned");
    let path = r#"jsonpath={.spec.env.POD_NAMESPACE}"#;
    let kept = cluster
        .kubectl(&["get", "-n", "v0-2", "containersource", "env-as-a-map", "-o", path])
        .await;
    assert_eq!(kept, "event-test");
}

#[tokio::test]
async fn every_sample_is_taken_by_the_api_server() {
    let Some(cluster) = cluster().await else { return };
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples");
    let count = fs::read_dir(&samples).unwrap().count();
    let samples = samples.display().to_string();
    let answer = cluster.kubectl(&["apply", "--dry-run=server", "-f", &samples]).await;
    assert!(answer.lines().count() >= count, "{answer}");
}
