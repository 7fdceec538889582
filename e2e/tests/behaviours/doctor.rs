//! `headgate doctor`: about a running gateway, and about documents.

use e2e::{
    Gateway, Response, Sink, cli,
    documents::{channel, subscription},
    eventually,
    gateway::is_ready,
    ports,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The findings of one check, by object.
fn of<'a>(findings: &'a Value, check: &str) -> Vec<&'a Value> {
    let all = findings.as_array().expect("a list of findings").iter();
    all.filter(|finding| finding["check"] == check).collect()
}

#[tokio::test]
async fn a_gateway_in_order_has_no_failed_finding() {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", ["1", "2"]).await;
    sink.wait_for(2).await;
    let findings = gateway.cli(&["doctor", "-o", "json"]).await.exits(0).json();
    for finding in findings.as_array().expect("a list") {
        let members: Vec<&String> = finding.as_object().expect("an object").keys().collect();
        assert_eq!(members, ["check", "fix", "message", "object", "status"]);
        assert_ne!(finding["status"], "failed", "{finding}");
    }
    for check in ["version", "clock", "exposure", "readiness", "disk sync", "disk space"] {
        assert_eq!(of(&findings, check).len(), 1, "{check}: {findings:#}");
    }
    let objects: Vec<&Value> = of(&findings, "conditions")
        .iter()
        .map(|finding| &finding["object"])
        .collect();
    assert!(objects.contains(&&json!("channel default/orders")), "{objects:?}");
    let text = gateway.cli(&["doctor"]).await.exits(0).stdout;
    assert!(text.contains("ok       readiness: gateway: ready"), "{text}");
}

#[tokio::test]
async fn what_keeps_events_back_is_a_finding_with_a_fix() {
    let down = Sink::start().await;
    down.always(Response::status(503));
    let delivery = json!({ "delivery": { "retry": 0 } });
    let mut gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            subscription("audit", "orders", &down.url(), delivery),
            subscription("metadata", "orders", "http://169.254.169.254/", json!({})),
        ])
        .prepare();
    gateway.start_again().await;
    gateway.wait_object("subscription", "audit", is_ready).await;
    gateway.accept("orders", (0..12).map(|id| id.to_string())).await;
    let about = |findings: &Value, check: &str, object: &str| {
        let found = of(findings, check)
            .into_iter()
            .find(|finding| finding["object"] == object);
        found.cloned()
    };
    let findings = eventually("doctor finds that the sink is down", || async {
        let findings = gateway.cli(&["doctor", "-o", "json"]).await.exits(1).json();
        let sink = about(&findings, "conditions", "subscription default/audit")?;
        (sink["status"] == "warning").then_some(findings)
    })
    .await;
    let fix = |check: &str, object: &str, status: &str| {
        let finding = about(&findings, check, object).expect("the object is named");
        assert_eq!(finding["status"], status, "{finding}");
        finding["fix"].to_string()
    };
    let sink = fix("conditions", "subscription default/audit", "warning");
    assert!(sink.contains("docs/reasons/SinkFailing.md"), "{sink}");
    let refused = fix("conditions", "subscription default/metadata", "failed");
    assert!(refused.contains("docs/reasons/EgressRefused.md"), "{refused}");
    let dead = fix("dead letters", "channel default/orders", "warning");
    assert!(dead.contains("headgate dead redrive"), "{dead}");
}

#[tokio::test]
async fn documents_are_checked_with_their_targets_and_the_disk() {
    let (folder, sink) = (
        TempDir::with_prefix("headgate-doctor-").expect("a folder"),
        Sink::start().await,
    );
    let (data, path) = (folder.path().join("data"), folder.path().join("documents"));
    std::fs::create_dir(&path).expect("a folder");
    let write = |documents: &[Value]| {
        for (index, document) in documents.iter().enumerate() {
            std::fs::write(path.join(format!("{index}.json")), document.to_string()).expect("a file");
        }
    };
    let nobody = ports::free();
    write(&[
        channel("orders", "embedded"),
        subscription("here", "orders", &sink.url(), json!({})),
        subscription("away", "orders", &format!("http://{nobody}/"), json!({})),
    ]);
    let run = || async {
        let (path, data) = (path.to_string_lossy(), data.to_string_lossy());
        cli::run(&["doctor", &path, "--data", &data, "-o", "json"]).await
    };
    let findings = run().await.exits(0).json();
    assert_eq!(of(&findings, "documents")[0]["status"], "ok");
    let targets = of(&findings, "target");
    let status = |at: String| {
        let found = targets.iter().find(|finding| finding["object"] == at);
        found.map(|finding| finding["status"].clone())
    };
    assert_eq!(status(sink.address().to_string()), Some(json!("ok")));
    assert_eq!(status(nobody.to_string()), Some(json!("warning")));
    assert_eq!(of(&findings, "disk sync").len(), 1);
    assert!(!data.exists(), "looking makes no folder");
    write(&[
        json!({ "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "Channel", "metadata": { "name": "a" }, "spec": { "provisoner": {} } }),
    ]);
    let findings = run().await.exits(1).json();
    let faults = of(&findings, "documents");
    assert_eq!(faults[0]["status"], "failed");
    assert!(
        faults[0]["message"]
            .as_str()
            .is_some_and(|message| message.contains("provisioner")),
        "{}",
        faults[0]
    );
}
