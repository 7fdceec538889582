//! The custom resource definitions, on a real API server with real kubectl: what is taken, what is refused and in which words,
//! what may change, what `kubectl get` shows. `headgate validate` is the other judge of each document.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../kit/mod.rs"]
mod kit;

mod immutable;
mod judges;
mod shown;
mod taken;

use kit::loaded;
use servers::Kubernetes;
use spec::{Fault, crds};
use tokio::sync::OnceCell;

/// The server that all tests of this file share, with the definitions in force. `None` when it is to be skipped.
async fn cluster() -> Option<&'static Kubernetes> {
    static DEFINED: OnceCell<()> = OnceCell::const_new();
    let cluster = Kubernetes::shared().await?;
    DEFINED
        .get_or_init(|| async {
            cluster.kubectl_with(&["apply", "-f", "-"], &crds()).await;
            let wait = [
                "wait",
                "--for=condition=Established",
                "--timeout=60s",
                "customresourcedefinitions",
            ];
            cluster.kubectl(&[&wait[..], &["--all"]].concat()).await;
        })
        .await;
    Some(cluster)
}

/// The documents of a file of this folder, which begins with a comment.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n---\n").skip(1)
}

fn faults(text: &str) -> Vec<Fault> {
    // References of a document are judged apart from its fields.
    loaded(text)
        .faults
        .into_iter()
        .filter(|fault| !fault.dangling)
        .collect()
}

/// With what every document has, and the table leaves out.
fn whole(case: &str) -> String {
    let kind = case.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap();
    let group = if kind.ends_with("Source") { "sources." } else { "" };
    let metadata = if case.contains("\nmetadata:") {
        ""
    } else {
        "metadata: { name: refused }\n"
    };
    format!("apiVersion: {group}eventing.knative.dev/v1alpha1\n{metadata}{case}\n")
}
