//! Several replicas: each event finds the replica that has its channel, and what is to be done once is done by one.

use e2e::{
    Gateway, Request, Sink,
    certificates::{Authority, Mounted},
    client::Connection,
    documents::{channel, channel_reference, channel_with, container_source, subscription},
    eventually,
    gateway::{Setup, condition},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use servers::{Kubernetes, Nats};

use super::{SERVICE, apply, object, ready, settings, shared};

/// A replica of the set `headgate`.
pub(super) fn replica(cluster: &Kubernetes, namespace: &str, ordinal: u32) -> Setup {
    as_replica(settings(cluster, namespace), namespace, ordinal)
}

fn as_replica(setup: Setup, namespace: &str, ordinal: u32) -> Setup {
    setup
        .environment("POD_NAME", &format!("headgate-{ordinal}"))
        .environment("POD_NAMESPACE", namespace)
        .environment("POD_UID", &format!("{namespace}-{ordinal}"))
}

async fn started(cluster: &Kubernetes, namespace: &str, ordinal: u32) -> Gateway {
    let mut gateway = replica(cluster, namespace, ordinal).prepare();
    gateway.start_again().await;
    gateway
}

/// Who holds a lease, once it is one of these.
async fn holder(cluster: &Kubernetes, namespace: &str, lease: &str, wanted: &str) {
    object(cluster, namespace, &format!("lease/{lease}"), |lease| {
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        holder.starts_with(wanted)
    })
    .await;
}

/// A channel in every replica, on a NATS of the tests, and a source of it, which is with the lease's holder.
async fn shared_source(cluster: &Kubernetes, namespace: &str, name: &str) -> bool {
    let Some(servers) = Nats::shared().await else {
        return false;
    };
    let provisioner = json!({
        "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "ClusterChannelProvisioner",
        "metadata": { "name": format!("nats-{namespace}") },
        "spec": { "backend": "nats", "config": { "servers": servers, "streamPrefix": format!("{namespace}-") } },
    });
    let documents = [
        provisioner,
        channel_with("stream", &format!("nats-{namespace}"), json!({})),
        container_source(name, "beats:1", &channel_reference("stream")),
    ];
    apply(cluster, namespace, &documents).await;
    true
}

fn is_reported(object: &Value) -> bool {
    condition(object, "Deployed").is_some()
}

/// Proves: IN-2, IN-3
#[tokio::test]
async fn an_event_for_a_channel_on_another_replicas_disk_gets_there() {
    let Some(cluster) = shared().await else { return };
    cluster.kubectl(&["create", "namespace", "forwarded"]).await;
    let sink = Sink::start().await;
    let (first, second) = (
        started(cluster, "forwarded", 0).await,
        started(cluster, "forwarded", 1).await,
    );
    let documents = [
        channel("orders", "embedded"),
        subscription("all", "orders", &sink.url(), json!({})),
    ];
    apply(cluster, "forwarded", &documents).await;
    ready(cluster, "forwarded", &["channel/orders", "subscription/all"]).await;
    let send = async |id: &str| second.send(&Request::event("forwarded/orders", id)).await;
    let answer = eventually("the second replica knows where the first is", || async {
        let answer = send("1").await;
        assert_ne!(answer.status, 404, "{answer}");
        (answer.status == 202).then_some(answer)
    })
    .await;
    assert_eq!(answer.header("headgate-durability"), Some("disk"));
    assert_eq!(sink.wait_for_one().await.id(), "1");
    // Under the name of its Service, too.
    let by_host = Request::event("forwarded/orders", "by-host")
        .to("/")
        .header("host", "orders-channel.forwarded.svc");
    second.send(&by_host).await.is(202);
    sink.wait_for(2).await;
    // What the owner says comes back as it said it.
    let invalid = Request::event("forwarded/orders", "").header("ce-type", "");
    assert_eq!(second.send(&invalid).await.status, 400);
    // Nobody passes on what was passed on already.
    let again = Request::event("forwarded/orders", "2").header("headgate-forwarded", "1");
    let refused = second.send(&again).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    // An owner that is away is waited for.
    drop(first);
    let refused = eventually("the second replica says so", || async {
        let answer = send("3").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert!(refused.header("retry-after").is_some() && refused.text().contains("another replica"));
}

/// The second replica has other files than the first: it trusts the certificate of the first by its authority, and once they are the same
/// by the certificate.
///
/// Proves: TL-1, IN-2
#[tokio::test]
async fn replicas_forward_events_to_each_other_over_tls() {
    let Some(cluster) = shared().await else { return };
    cluster.kubectl(&["create", "namespace", "encrypted"]).await;
    let folder = tempfile::TempDir::with_prefix("headgate-tls-").expect("a temporary folder");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (first_files, second_files) = (old.issue(&["127.0.0.1"]), new.issue(&["127.0.0.1"]));
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, new.pem()).expect("a file");
    let certified = |ordinal: u32, mounted: &Mounted| {
        replica(cluster, "encrypted", ordinal)
            .environment("HEADGATE_TLS_CERT", &mounted.certificate())
            .environment("HEADGATE_TLS_KEY", &mounted.key())
            .environment("HEADGATE_GATEWAY_CA", &ca.display().to_string())
            .prepare()
    };
    let mut mounted = Mounted::new(folder.path().join("first"), &first_files);
    let mut first = certified(0, &mounted);
    let mut second = certified(1, &Mounted::new(folder.path().join("second"), &second_files));
    first.start_again().await;
    second.start_again().await;
    apply(cluster, "encrypted", &[channel("orders", "embedded")]).await;
    let made = object(cluster, "encrypted", "channel/orders", |channel| {
        condition(channel, "Ready").is_some_and(|ready| ready["status"] == "True")
    })
    .await;
    let address = format!("https://{SERVICE}/encrypted/orders");
    assert_eq!(made["status"]["address"]["url"], json!(address));
    let send = async |id: &str| {
        let mut connection = Connection::open_tls(second.listen(), new.pem()).await.expect("TLS");
        let sent = connection.exchange(&Request::event("encrypted/orders", id)).await;
        sent.expect("an answer")
    };
    let refused = eventually("an unknown certificate is refused", || async {
        let answer = send("1").await;
        (answer.status == 503 && answer.text().contains("certificate")).then_some(answer)
    })
    .await;
    assert!(refused.header("retry-after").is_some(), "{refused}");
    let next = new.issue(&["127.0.0.1"]);
    mounted.swap(&next.certificate, &next.key);
    eventually("one of the authority is trusted", || async {
        (send("2").await.status == 202).then_some(())
    })
    .await;
}

/// Proves: IN-2, IN-3
#[tokio::test]
async fn what_is_ready_is_open_at_a_replica_that_has_not_heard_of_it() {
    let Some(cluster) = shared().await else { return };
    cluster.kubectl(&["create", "namespace", "unheard"]).await;
    // The one that leads is not the one that has the disk.
    let _leader = started(cluster, "unheard", 2).await;
    holder(cluster, "unheard", "headgate-leader", "headgate-2").await;
    let first = started(cluster, "unheard", 0).await;
    // It takes part in their leases and looks elsewhere, so that it never hears.
    let mut late = as_replica(settings(cluster, "unheard-elsewhere"), "unheard", 1).prepare();
    late.start_again().await;
    let send = async |path: &str, id: &str| late.send(&Request::event(path, id)).await;
    eventually("it knows whom to ask", || async {
        let answer = send("unheard/orders", "0").await;
        assert!([404, 503].contains(&answer.status), "{answer}");
        (answer.status == 404).then_some(())
    })
    .await;
    let sink = Sink::start().await;
    let documents = [
        channel("orders", "embedded"),
        subscription("all", "orders", &sink.url(), json!({})),
    ];
    apply(cluster, "unheard", &documents).await;
    ready(cluster, "unheard", &["channel/orders", "subscription/all"]).await;
    send("unheard/orders", "1").await.is(202);
    assert_eq!(sink.wait_for_one().await.id(), "1");
    if shared_source(cluster, "unheard", "beats").await {
        ready(cluster, "unheard", &["channel/stream"]).await;
        send("unheard/stream", "2").await.is(202);
    }
    send("unheard/nobody", "3").await.is(404);
    // Somebody who may know does not answer.
    drop(first);
    let answer = send("unheard/nobody", "4").await.is(503);
    assert!(answer.header("retry-after").is_some() && answer.text().contains("nothing is known of /unheard/nobody"));
}

#[tokio::test]
async fn a_replica_that_was_killed_is_followed_by_another() {
    let Some(cluster) = shared().await else { return };
    cluster.kubectl(&["create", "namespace", "followed"]).await;
    let one = started(cluster, "followed", 1).await;
    holder(cluster, "followed", "headgate-leader", "headgate-1").await;
    let _two = started(cluster, "followed", 2).await;
    if !shared_source(cluster, "followed", "beats").await {
        return;
    }
    object(cluster, "followed", "containersource/beats", is_reported).await;
    // `kill -9`: the lease is not given back.
    one.signal(Signal::KILL);
    cluster
        .kubectl(&["delete", "-n", "followed", "deployment", "--all"])
        .await;
    holder(cluster, "followed", "headgate-leader", "headgate-2").await;
    let made = eventually("the Deployment is made by the other", || async {
        let list = cluster
            .kubectl(&["get", "-n", "followed", "deployments", "-o", "json"])
            .await;
        let list: Value = serde_json::from_str(&list).expect("kubectl prints JSON");
        list["items"].as_array().filter(|items| !items.is_empty()).cloned()
    });
    assert_eq!(made.await.len(), 1);
}

#[tokio::test]
async fn a_replica_that_was_frozen_writes_nothing_when_it_wakes() {
    let Some(cluster) = shared().await else { return };
    cluster.kubectl(&["create", "namespace", "frozen"]).await;
    let one = started(cluster, "frozen", 1).await;
    holder(cluster, "frozen", "headgate-leader", "headgate-1").await;
    if !shared_source(cluster, "frozen", "beats").await {
        return;
    }
    object(cluster, "frozen", "containersource/beats", is_reported).await;
    let two = started(cluster, "frozen", 2).await;
    one.signal(Signal::STOP);
    holder(cluster, "frozen", "headgate-leader", "headgate-2").await;
    let before = one.log().matches("deployment of a source is applied").count();
    one.signal(Signal::CONT);
    // Woken, it sees a Deployment that is gone, and leaves it to the other.
    cluster
        .kubectl(&["delete", "-n", "frozen", "deployment", "--all"])
        .await;
    eventually("the other has made it again", || async {
        two.log().contains("deployment of a source is applied").then_some(())
    })
    .await;
    eventually("it has understood", || async {
        one.log().contains("work that needs it stops").then_some(())
    })
    .await;
    assert_eq!(one.log().matches("deployment of a source is applied").count(), before);
    holder(cluster, "frozen", "headgate-leader", "headgate-2").await;
    let lease = object(cluster, "frozen", "lease/headgate-leader", |_| true).await;
    assert_eq!(lease["spec"]["leaseTransitions"], 2);
}

#[tokio::test]
async fn a_replica_that_ends_gives_its_turn_back_at_once() {
    let Some(cluster) = shared().await else { return };
    cluster.kubectl(&["create", "namespace", "given-back"]).await;
    let mut one = started(cluster, "given-back", 1).await;
    holder(cluster, "given-back", "headgate-leader", "headgate-1").await;
    let _two = started(cluster, "given-back", 2).await;
    one.terminate().await;
    holder(cluster, "given-back", "headgate-leader", "headgate-2").await;
    assert!(one.log().contains("the lease is released"));
    let documents = [
        channel("orders", "memory"),
        subscription("all", "orders", "http://127.0.0.1:1/", json!({})),
    ];
    apply(cluster, "given-back", &documents).await;
    // Their place is the pod of ordinal 0, which is not there: nobody claims that they are ready.
    let channel = object(cluster, "given-back", "channel/orders", |object| !object.is_null()).await;
    assert!(channel["status"].is_null(), "{channel}");
}
