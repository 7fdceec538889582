//! A pod that goes without a word, and one that is replaced while events come in.

use std::{fs, time::Duration};

use e2e::{Request, binary::workspace, documents::channel, eventually, tree};
use servers::Kubernetes;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::steps::{SYSTEM, apply, ingress, ready, run_page_in, service, shown, to_service};

/// Deliveries of one subscription under way at once, by default.
const IN_FLIGHT: usize = 64;

/// What the definitions of the next version say of a status.
const NEXT_WORDS: &str = "What the next version observes.";

/// `deploy/` as another version might have it: other definitions, and a StatefulSet whose pod is another one.
fn next_version() -> TempDir {
    let next = TempDir::with_prefix("headgate-next-").expect("a folder for another version");
    let mut replaced = 0;
    for folder in ["deploy/crds", "deploy/kustomize"] {
        fs::create_dir_all(next.path().join(folder)).expect("a folder of it");
        for file in fs::read_dir(workspace().join(folder)).expect("the folder") {
            let file = file.expect("a file of it");
            // A component that an installation may add.
            if file.path().is_dir() {
                continue;
            }
            let text = tree::read(&file.path());
            let changed = text
                .replace("What is observed.", NEXT_WORDS)
                .replace("HEADGATE_GRACE, value: 30s", "HEADGATE_GRACE, value: 25s");
            replaced += usize::from(changed != text);
            fs::write(next.path().join(folder).join(file.file_name()), changed).expect("a file of the other version");
        }
    }
    assert!(replaced > 2, "there is nothing new in it");
    next
}

/// Events for a service that is not there wait on the volume, and a pod that goes without a word takes none with it.
pub(crate) async fn what_was_accepted_outlives_the_pod(cluster: &Kubernetes) {
    let [pod, service] = service("late");
    apply(
        cluster,
        [
            service,
            channel("kept", "embedded"),
            to_service("kept-late", "kept", "late"),
        ],
    )
    .await;
    ready(cluster, &["channel/kept", "subscription/kept-late"]).await;
    let ingress = ingress(cluster).await;
    let ids: Vec<String> = (0..50).map(|index| format!("kept-{index}")).collect();
    for id in &ids {
        Request::event("kept", id).to("/shop/kept").send(ingress).await.is(202);
    }
    cluster
        .kubectl(&[
            "delete",
            "pod",
            "headgate-0",
            "-n",
            SYSTEM,
            "--force",
            "--grace-period=0",
        ])
        .await;
    apply(cluster, [pod]).await;
    ready(cluster, &["pod/late"]).await;
    eventually("all of them are at the service", || async {
        let shown = shown(cluster, "late").await;
        ids.iter().all(|id| shown.contains_key(id)).then_some(())
    })
    .await;
}

/// A sender that sends again what was not accepted, while the gateway's pod is replaced.
pub(crate) async fn an_upgrade_under_traffic_loses_nothing(cluster: &Kubernetes) {
    apply(
        cluster,
        service("steady")
            .into_iter()
            .chain([channel("steady", "embedded"), to_service("steady", "steady", "steady")]),
    )
    .await;
    ready(cluster, &["channel/steady", "subscription/steady", "pod/steady"]).await;
    let (ingress, stop) = (ingress(cluster).await, CancellationToken::new());
    let stopped = stop.clone();
    let sender = tokio::spawn(async move {
        let (mut accepted, mut refused) = (0_usize, 0_usize);
        while !stopped.is_cancelled() {
            let event = Request::event("steady", &format!("steady-{accepted}")).to("/shop/steady");
            // A connection that is accepted by nobody is not waited for.
            let answer = tokio::time::timeout(Duration::from_secs(2), event.try_send(ingress)).await;
            match answer {
                Ok(Ok(answer)) if answer.status == 202 => accepted += 1,
                _ => refused += 1,
            }
        }
        (accepted, refused)
    });
    let pod = [
        "get",
        "pod",
        "headgate-0",
        "-n",
        SYSTEM,
        "-o",
        "jsonpath={.metadata.uid}",
    ];
    let before = cluster.kubectl(&pod).await;
    let next = next_version();
    run_page_in(cluster, "Upgrade", next.path()).await;
    assert_ne!(before, cluster.kubectl(&pod).await, "the pod was not replaced");
    let definition = ["get", "crd", "channels.eventing.knative.dev", "-o", "json"];
    assert!(
        cluster.kubectl(&definition).await.contains(NEXT_WORDS),
        "the definitions were not replaced"
    );
    let sent = eventually("events are accepted again", || async {
        let answer = Request::event("steady", "last")
            .to("/shop/steady")
            .try_send(ingress)
            .await;
        answer.is_ok_and(|answer| answer.status == 202).then_some(())
    });
    sent.await;
    stop.cancel();
    let (accepted, _) = sender.await.expect("the sender");
    assert!(accepted > 100, "{accepted} events are no traffic");
    let shown = eventually("every accepted event is at the service", || async {
        let shown = shown(cluster, "steady").await;
        let all = (0..accepted).all(|index| shown.contains_key(&format!("steady-{index}")));
        (all && shown.contains_key("last")).then_some(shown)
    })
    .await;
    // What was stored, but whose answer did not arrive, was sent again; nothing else comes twice.
    let repeated: usize = shown.values().map(|(times, _)| times - 1).sum();
    assert!(repeated <= IN_FLIGHT, "{repeated} of {accepted} came twice");
}
