//! GitHub's side of a source: the webhook is looked after, what was missed is recovered, credentials change.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use e2e::{
    Gateway, Response, Sink,
    documents::{channel, channel_reference, github_source, merge, secret, subscription},
    eventually,
    gateway::{condition, is_ready},
    peers::{self, Peer},
};
use rstest::rstest;
use serde_json::{Value, json};
use servers::{GitHub, github, github::Fault};
use tokio_util::sync::CancellationToken;

const REPOSITORY: &str = "octo/hello";
const PUSH: &[u8] = br#"{ "ref":"refs/heads/main", "big": 12345678901234567890, "x":1.0 }"#;

/// A source of this GitHub's, looked after with a token, with more in its spec.
fn source(github: &GitHub, more: Value) -> Value {
    let mut document = github_source("hello", &["*"], &channel_reference("github"));
    let api = json!({
        "githubAPIURL": github.url(), "sweepInterval": "PT1S",
        "accessToken": { "secretKeyRef": { "name": "github", "key": "accessToken" } },
    });
    merge(&mut document["spec"], api);
    merge(&mut document["spec"], more);
    document
}

fn secrets(token: &str) -> Value {
    secret("github", json!({ "secretToken": token, "accessToken": github::TOKEN }))
}

fn documents(sink: &Sink, source: Value) -> Vec<Value> {
    vec![
        channel("github", "embedded"),
        subscription("all", "github", &sink.url(), json!({})),
        secrets("first"),
        source,
    ]
}

/// A gateway whose source has its webhook on GitHub.
async fn registered(github: &GitHub, more: Value) -> (Gateway, Sink) {
    let sink = Sink::start().await;
    let setup = Gateway::set_up().documents(documents(&sink, source(github, more)));
    let gateway = setup.public().start().await;
    gateway.wait_object("githubsource", "hello", is_ready).await;
    (gateway, sink)
}

fn has(object: &Value, kind: &str, status: &str, reason: &str) -> bool {
    condition(object, kind)
        .is_some_and(|found| found["status"] == status && found["reason"].as_str().unwrap_or("") == reason)
}

/// Proves: SR-1, SR-2
#[tokio::test]
async fn a_source_makes_its_webhook_behind_250_others_and_takes_it_away_when_it_is_deleted() {
    let github = GitHub::start().await;
    github.add_hooks(REPOSITORY, 250);
    let (gateway, sink) = registered(&github, json!({})).await;
    let hooks = github.hooks(REPOSITORY);
    assert_eq!(hooks.len(), 251);
    let url = format!("http://{}/hooks/default/hello", gateway.listen());
    assert_eq!(hooks[250].url, url);
    let object = gateway
        .wait_object("githubsource", "hello", |object| {
            has(object, "WebhookConfigured", "True", "")
        })
        .await;
    assert_eq!(object["status"]["webhookIDKey"], hooks[250].id.to_string());
    assert_eq!(object["status"]["webhookURL"], url);
    let guids = github.happens(REPOSITORY, "push", PUSH).await;
    let event = sink.wait_for_one().await;
    assert_eq!(event.id(), guids[0]);
    assert_eq!(event.attribute("githubrecovered"), None);
    let labels = r#"namespace="default",name="hello""#;
    gateway
        .wait_metric(&format!("headgate_github_api_remaining{{{labels}}} "))
        .await;
    gateway
        .wait_metric(&format!(
            r#"headgate_source_events_total{{kind="GitHubSource",{labels},result="stored"}} 1"#
        ))
        .await;
    gateway.remove(&source(&github, json!({})));
    eventually("the webhook is gone", || async {
        (github.hooks(REPOSITORY).len() == 250).then_some(())
    })
    .await;
}

/// Proves: SR-1, SR-2, SR-3, OP-2
#[rstest]
#[tokio::test]
async fn what_happened_while_the_gateway_was_down_arrives_exactly_once(#[values("webhook", "poll")] mode: &str) {
    const COUNT: usize = 500;
    let github = GitHub::start().await;
    let (mut gateway, sink) = registered(&github, json!({ "mode": mode })).await;
    let mut guids = github.happens(REPOSITORY, "push", PUSH).await;
    sink.wait_for(1).await;
    assert!(gateway.terminate().await.success());
    for n in 1..COUNT {
        let body = format!(r#"{{ "ref": "refs/heads/{n}", "n": {n}.0 }}"#);
        guids.extend(github.happens(REPOSITORY, "push", body.as_bytes()).await);
    }
    gateway.start_again().await;
    let received = sink.wait_for(COUNT).await;
    sink.listens_at(COUNT, Duration::from_millis(2500)).await;
    let by_id: BTreeMap<String, _> = received.iter().map(|event| (event.id(), event)).collect();
    assert_eq!(by_id.len(), COUNT);
    assert!(guids.iter().all(|guid| by_id.contains_key(guid)));
    assert_eq!(&by_id[&guids[7]].body[..], br#"{ "ref": "refs/heads/7", "n": 7.0 }"#);
    let recovered = by_id[&guids[7]].attribute("githubrecovered");
    assert_eq!(recovered.as_deref(), (mode == "webhook").then_some("true"));
    if mode == "webhook" {
        gateway
            .wait_object("githubsource", "hello", |object| {
                object["status"]["recoveredDeliveries"] == COUNT - 1
            })
            .await;
    }
}

/// Killed while it recovers: at most what was stored since its mark was written comes twice.
///
/// Proves: SR-1, SR-2, OP-2
#[tokio::test]
async fn a_kill_during_the_recovery_loses_nothing() {
    const COUNT: usize = 200;
    let github = GitHub::start().await;
    let (mut gateway, sink) = registered(&github, json!({ "mode": "poll" })).await;
    gateway.kill().await;
    let mut guids = Vec::new();
    for _ in 0..COUNT {
        guids.extend(github.happens(REPOSITORY, "push", PUSH).await);
    }
    gateway.start_again().await;
    sink.wait_for(COUNT / 4).await;
    gateway.kill().await;
    gateway.start_again().await;
    eventually("every delivery", || async {
        let seen = sink.ids();
        guids.iter().all(|guid| seen.contains(guid)).then_some(())
    })
    .await;
    // 32 deliveries between two marks, and what was in flight to the sink.
    assert!(sink.count() <= COUNT + 100, "{} deliveries", sink.count());
}

/// Proves: SR-6
#[tokio::test]
async fn a_secret_that_changes_under_load_rejects_no_delivery() {
    let github = Arc::new(GitHub::start().await);
    let (gateway, sink) = registered(&github, json!({})).await;
    let (stop, sending) = (CancellationToken::new(), github.clone());
    let stopped = stop.clone();
    let load = tokio::spawn(async move {
        while !stopped.is_cancelled() {
            let [one, other] = [1, 2].map(|_| sending.happens(REPOSITORY, "push", PUSH));
            tokio::join!(one, other);
        }
    });
    for token in ["second", "third"] {
        gateway.apply(&secrets(token));
        eventually("the new secret on GitHub", || async {
            let hooks = github.hooks(REPOSITORY);
            (hooks[0].secret.as_deref() == Some(token)).then_some(())
        })
        .await;
        let before = github.attempts(REPOSITORY).len();
        eventually("deliveries with it", || async {
            (github.attempts(REPOSITORY).len() > before + 20).then_some(())
        })
        .await;
    }
    stop.cancel();
    load.await.expect("the load ends");
    let attempts = github.attempts(REPOSITORY);
    let refused: Vec<_> = attempts.iter().filter(|attempt| attempt.status_code != 202).collect();
    assert!(refused.is_empty(), "{refused:?}");
    sink.wait_for(attempts.len()).await;
    assert!(!gateway.log().contains("third"));
}

#[tokio::test]
async fn a_lost_answer_to_the_creation_makes_one_webhook() {
    let github = GitHub::start().await;
    github.fault("POST", "/hooks", Fault::AnswerLost, 1);
    let (_gateway, _sink) = registered(&github, json!({})).await;
    assert_eq!(github.hooks(REPOSITORY).len(), 1);
}

/// Proves: SR-6, OP-3
#[tokio::test]
async fn a_revoked_token_and_a_repository_that_is_gone_are_conditions_that_heal() {
    let github = GitHub::start().await;
    let (gateway, sink) = registered(&github, json!({})).await;
    github.accept_tokens(&["another"]);
    let object = gateway
        .wait_object("githubsource", "hello", |object| {
            has(object, "Swept", "False", "AccessTokenRejected")
        })
        .await;
    assert!(is_ready(&object), "deliveries come in all the same: {object}");
    github.happens(REPOSITORY, "push", PUSH).await;
    sink.wait_for(1).await;
    gateway.apply(&secret(
        "github",
        json!({ "secretToken": "first", "accessToken": "another" }),
    ));
    gateway
        .wait_object("githubsource", "hello", |object| has(object, "Swept", "True", ""))
        .await;
    github.hide(REPOSITORY, true);
    gateway
        .wait_object("githubsource", "hello", |object| {
            has(object, "Swept", "False", "RepositoryNotFound")
        })
        .await;
    github.hide(REPOSITORY, false);
    gateway
        .wait_object("githubsource", "hello", |object| has(object, "Swept", "True", ""))
        .await;
    assert!(!gateway.log().contains(github::TOKEN));
    // Deleted while it may not be asked: that stops nobody.
    github.accept_tokens(&[]);
    gateway.remove(&source(&github, json!({})));
    eventually("the source is gone", || async {
        gateway.list("githubsource").await.is_empty().then_some(())
    })
    .await;
}

/// Proves: SR-6
#[tokio::test]
async fn an_app_installation_looks_after_the_webhook_of_an_organisation() {
    let github = GitHub::start().await;
    let sink = Sink::start().await;
    let app = json!({
        "ownerAndRepository": "octo",
        "githubAPIURL": format!("{}/api/v3", github.url()),
        "app": {
            "id": github::APP_ID, "installationId": github::INSTALLATION_ID,
            "privateKey": { "secretKeyRef": { "name": "app", "key": "key.pem" } },
        },
    });
    let mut documents = documents(&sink, source(&github, app));
    documents.push(secret("app", json!({ "key.pem": github::APP_KEY })));
    let gateway = Gateway::set_up().documents(documents).public().start().await;
    gateway.wait_object("githubsource", "hello", is_ready).await;
    github
        .happens("octo", "organization", br#"{"action":"member_added"}"#)
        .await;
    let event = sink.wait_for_one().await;
    assert_eq!(event.attribute("source").as_deref(), Some("https://127.0.0.1/octo"));
    assert_eq!(github.installation_tokens(), 1);
}

/// Proves: SR-1, SR-2, SR-5
#[tokio::test]
async fn an_adapter_alone_polls_for_a_sink_that_refuses_at_first() {
    let github = GitHub::start().await;
    let sink = Sink::start().await;
    sink.always(Response::status(503));
    let documents = [secrets("first"), source(&github, json!({ "mode": "poll" }))];
    let setup = Gateway::set_up()
        .documents(documents)
        .adapter("githubsource", &sink.url());
    let mut adapter = setup.prepare();
    adapter.start_again().await;
    adapter
        .wait_object("githubsource", "hello", |object| has(object, "Swept", "True", ""))
        .await;
    let guids = github.happens(REPOSITORY, "push", PUSH).await;
    adapter
        .wait_object("githubsource", "hello", |object| {
            has(object, "Accepted", "False", "Unavailable")
        })
        .await;
    assert!(adapter.terminate().await.success());
    sink.always(Response::status(202));
    let refused = sink.count();
    adapter.start_again().await;
    sink.wait_for(refused + 1).await;
    sink.listens_at(refused + 1, Duration::from_millis(1500)).await;
    assert!(sink.ids().iter().all(|id| *id == guids[0]));
}

/// Proves: SR-4
#[tokio::test]
async fn a_down_time_beyond_what_github_keeps_is_an_event_and_a_condition() {
    let github = GitHub::start().await;
    let (mut gateway, sink) = registered(&github, json!({})).await;
    gateway
        .wait_object("githubsource", "hello", |object| has(object, "Swept", "True", ""))
        .await;
    github.happens(REPOSITORY, "push", PUSH).await;
    sink.wait_for(1).await;
    eventually("the delivery is written down", || async {
        let noted = fs::read_to_string(gateway.data().join("sources/GitHubSource.default.hello/mark"));
        noted.is_ok_and(|mark| !mark.contains("\"handled\":[]")).then_some(())
    })
    .await;
    gateway.terminate().await;
    github.happens(REPOSITORY, "push", PUSH).await;
    github.pass(Duration::from_secs(4 * 86_400));
    gateway.start_again().await;
    let events = sink.wait_for(2).await;
    assert_eq!(events[1].attribute("type").as_deref(), Some("dev.headgate.gap"));
    assert_eq!(events[1].json()["reason"], "RetentionExceeded");
    gateway
        .wait_object("githubsource", "hello", |object| {
            has(object, "Complete", "False", "EventsMissing")
        })
        .await;
}

/// Every event GitHub documents, missed by the webhook and recovered, or polled: the bytes are those GitHub has.
///
/// Proves: SR-2, SR-3
#[rstest]
#[tokio::test]
async fn every_real_payload_is_recovered_as_it_was(#[values("webhook", "poll")] mode: &str) {
    if peers::skipped(Peer::Node) {
        return;
    }
    let github = GitHub::start().await;
    let (mut gateway, sink) = registered(&github, json!({ "mode": mode })).await;
    gateway.terminate().await;
    let folder = gateway.home().join("payloads");
    fs::create_dir(&folder).expect("a folder");
    let output = peers::run(Peer::Node, "sign-examples.mjs", &["first", &folder.to_string_lossy()]).await;
    let mut expected = BTreeMap::new();
    for line in output.lines() {
        let example: Value = serde_json::from_str(line).expect("a line of JSON");
        let event = example["event"].as_str().expect("text");
        let body = fs::read(example["file"].as_str().expect("text")).expect("a payload");
        let guids = github.happens(REPOSITORY, event, &body).await;
        if event != "ping" {
            expected.insert(guids[0].clone(), (format!("dev.knative.source.github.{event}"), body));
        }
    }
    assert!(expected.len() > 200, "only {} examples", expected.len());
    gateway.start_again().await;
    let received = sink.wait_for(expected.len()).await;
    assert_eq!(received.len(), expected.len());
    for event in received {
        let (kind, body) = &expected[&event.id()];
        assert_eq!(event.attribute("type").as_ref(), Some(kind));
        assert_eq!(&event.body[..], &body[..], "{kind}");
    }
}

/// Proves: SR-1, SR-6
#[tokio::test]
async fn a_webhook_that_the_gateway_registers_is_signed_although_no_secret_is_named() {
    let github = GitHub::start().await;
    let sink = Sink::start().await;
    let mut document = source(&github, json!({}));
    document["spec"].as_object_mut().expect("a spec").remove("secretToken");
    let setup = Gateway::set_up().documents(documents(&sink, document));
    let mut gateway = setup.public().start().await;
    gateway.wait_object("githubsource", "hello", is_ready).await;
    let made = github.hooks(REPOSITORY)[0].clone();
    let secret = made.secret.expect("a secret");
    assert_eq!(secret.len(), 64);
    gateway
        .send(&e2e::github::unsigned("hello", "push", "forged", PUSH))
        .await
        .is(401);
    let guids = github.happens(REPOSITORY, "push", PUSH).await;
    assert_eq!(sink.wait_for_one().await.id(), guids[0]);
    // The secret is the same after a restart, and nowhere on disk.
    assert!(gateway.terminate().await.success());
    gateway.start_again().await;
    gateway.wait_object("githubsource", "hello", is_ready).await;
    assert_eq!(github.hooks(REPOSITORY)[0].secret.as_deref(), Some(secret.as_str()));
    github.happens(REPOSITORY, "push", PUSH).await;
    sink.wait_for(2).await;
    let object = gateway.wait_object("githubsource", "hello", |_| true).await;
    assert!(has(&object, "Authenticated", "True", ""), "{object}");
    assert!(!object.to_string().contains(&secret));
}
