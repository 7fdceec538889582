//! The policy for what the gateway may reach, by kustomize and by the chart.

use std::fs;

use serde_json::json;
use servers::{Kubernetes, helm::Helm};
use tempfile::TempDir;

use super::{cluster, path, served, templated};

/// The output of `kubectl kustomize` for the kustomization of a user who wants the egress policy.
async fn kustomized_with_egress(cluster: &Kubernetes) -> String {
    let folder = TempDir::with_prefix("headgate-kustomization-").expect("a folder");
    let root = fs::canonicalize(folder.path()).expect("it is there");
    // Kustomize takes relative paths alone.
    let up = "../".repeat(root.components().count() - 1);
    let at = |part: &str| format!("{up}{}", path(part).trim_start_matches('/'));
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [at("kustomize")], "components": [at("kustomize/egress")],
    });
    fs::write(root.join("kustomization.yaml"), kustomization.to_string()).expect("a file");
    cluster.kubectl(&["kustomize", &root.display().to_string()]).await
}

/// Proves: EG-1
#[tokio::test]
async fn an_egress_policy_is_there_when_it_is_wanted_and_is_the_same_in_both() {
    let (Some(cluster), Some(helm)) = (cluster().await, Helm::fetched().await) else {
        return;
    };
    const POLICY: &str = "NetworkPolicy headgate-system headgate-egress";
    let kustomized = served(&cluster, &kustomized_with_egress(&cluster).await).await;
    let values = ["--set", "networkPolicy.egress.enabled=true"];
    let by_chart = served(&cluster, &templated(&helm, &values).await).await;
    assert_eq!(kustomized[POLICY], by_chart[POLICY]);
    let refused = by_chart[POLICY]["spec"]["egress"][0]["to"].to_string();
    for network in ["169.254.0.0/16", "100.100.100.200/32", "fe80::/10", "fd00:ec2::254/128"] {
        assert!(refused.contains(network), "{refused}");
    }
    let by_default = served(&cluster, &templated(&helm, &[]).await).await;
    assert!(!by_default.contains_key(POLICY), "off by default");
    let more = "networkPolicy.egress.enabled=true,networkPolicy.egress.except={169.254.0.0/16,10.9.0.0/16}";
    let by_chart = served(&cluster, &templated(&helm, &["--set", more]).await).await;
    assert!(by_chart[POLICY].to_string().contains("10.9.0.0/16"));
}
