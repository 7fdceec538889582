//! Which occurrences become events, and which do not.

use super::*;

/// Proves: SR-2, SR-3
#[tokio::test]
async fn each_writing_of_an_event_object_is_an_event_with_the_servers_bytes() {
    let Some(namespace) = TestNamespace::shared().await else {
        return;
    };
    let (outlet, source) = sink();
    let before = namespace.create("before", "web-0", "Scheduled").await;
    let listed = namespace.get(&namespace.events()).await;
    let running = Running::start(namespace.config(), &source);
    until_watching(&source).await;
    let created = namespace.create("after", "web-0", "BackOff").await;
    until("it has arrived", || outlet.stored().len() == 2).await;
    let as_sent = namespace.get(&format!("{}/after", namespace.events())).await;
    let repeated = namespace.repeat("after", 2).await;
    until_stored(&outlet, &[before, created, repeated]).await;
    let stored = outlet.stored();
    let data = |index: usize| std::str::from_utf8(stored[index].data()).unwrap();
    assert!(listed.contains(data(0)), "{} is not in {listed}", data(0));
    assert_eq!(data(1), as_sent.trim_end());
    assert_eq!(stored[1].text("count"), Some("1"));
    assert_eq!(stored[2].text("count"), Some("2"));
    assert_eq!(stored[2].text("time"), Some("2026-11-24T12:34:56Z"));
    assert_eq!(
        stored[1].source(),
        format!("/apis/v1/namespaces/{}/pods/web-0", namespace.namespace)
    );
    assert_eq!(source.report.state().fields["lastEventTime"], "2026-11-24T12:34:56Z");
    running.stop().await;
}

/// Proves: SR-2
#[tokio::test]
async fn what_is_written_by_the_newer_api_arrives_in_the_same_form() {
    let Some(namespace) = TestNamespace::shared().await else {
        return;
    };
    let (outlet, source) = sink();
    let running = Running::start(namespace.config(), &source);
    until_watching(&source).await;
    let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", namespace.namespace);
    let regarding =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": namespace.namespace, "name": "cart"});
    let event = json!({
        "metadata": {"name": "new", "namespace": namespace.namespace}, "regarding": regarding, "action": "Scaling",
        "reason": "Scaled", "type": "Normal", "note": "a note", "eventTime": "2026-11-24T12:00:00.000001Z",
        "reportingController": "example.dev/scaler", "reportingInstance": "scaler-1",
    });
    let created = namespace.send(Method::POST, &path, &event).await;
    let series = json!({"series": {"count": 5, "lastObservedTime": "2026-11-24T12:05:00.000000Z"}});
    let repeated = namespace.send(Method::PATCH, &format!("{path}/new"), &series).await;
    until_stored(&outlet, &[created, repeated]).await;
    let event = outlet.stored().pop().unwrap();
    let expected = [
        (
            "source",
            format!("/apis/apps/v1/namespaces/{}/deployments/cart", namespace.namespace),
        ),
        ("reason", "Scaled".to_owned()),
        ("eventtype", "Normal".to_owned()),
        ("count", "5".to_owned()),
        ("time", "2026-11-24T12:05:00.000000Z".to_owned()),
    ];
    for (name, value) in expected {
        assert_eq!(event.text(name), Some(&*value), "{name}");
    }
    let data: Value = serde_json::from_slice(event.data()).unwrap();
    assert_eq!(
        (&data["apiVersion"], &data["message"]),
        (&json!("v1"), &json!("a note"))
    );
    running.stop().await;
}

#[tokio::test]
async fn only_what_the_filters_take_arrives_and_only_from_its_namespace() {
    let Some(namespace) = TestNamespace::shared().await else {
        return;
    };
    let Some(other) = TestNamespace::shared().await else {
        return;
    };
    let (outlet, source) = sink();
    let config = Config {
        reasons: vec!["BackOff".to_owned()],
        types: vec!["Warning".to_owned()],
        ..namespace.config()
    };
    let running = Running::start(config, &source);
    until_watching(&source).await;
    namespace.create("unwanted", "web-0", "Pulled").await;
    other.create("elsewhere", "web-0", "BackOff").await;
    let relevant = namespace.create("wanted", "web-0", "BackOff").await;
    until_stored(&outlet, &[relevant]).await;
    running.stop().await;
    // Objects that a filter left out were read: other filters do not bring them back.
    let running = Running::start(namespace.config(), &source);
    until_watching(&source).await;
    let last = namespace.create("last", "web-0", "Pulled").await;
    until("it has arrived", || outlet.stored().len() >= 2).await;
    assert_eq!(ids(&outlet.stored())[1..], [id(&last)]);
    running.stop().await;
}

#[tokio::test]
async fn a_source_of_all_namespaces_hears_from_each() {
    let Some(cluster) = Kubernetes::start(Setup::default()).await else {
        return;
    };
    let namespace = TestNamespace::in_cluster(&cluster).await;
    let other = TestNamespace::in_cluster(&cluster).await;
    let (outlet, source) = sink();
    let config = Config {
        namespace: None,
        // The cluster itself writes some too.
        kinds: vec!["Pod".to_owned()],
        ..namespace.config()
    };
    let first = namespace.create("first", "web-0", "BackOff").await;
    let running = Running::start(config, &source);
    until_watching(&source).await;
    let second = other.create("second", "web-0", "BackOff").await;
    until_stored(&outlet, &[first, second]).await;
    let namespaces: Vec<_> = outlet
        .stored()
        .iter()
        .map(|event| event.text("namespace").map(str::to_owned))
        .collect();
    assert_eq!(
        namespaces,
        [Some(namespace.namespace.clone()), Some(other.namespace.clone())]
    );
    running.stop().await;
}

#[tokio::test]
async fn repeats_within_the_window_are_one_event_that_says_how_many() {
    let Some(namespace) = TestNamespace::shared().await else {
        return;
    };
    let (outlet, source) = sink();
    let config = Config {
        coalesce: Some(Duration::from_secs(3)),
        ..namespace.config()
    };
    let running = Running::start(config, &source);
    until_watching(&source).await;
    let first = namespace.create("storm", "web-0", "BackOff").await;
    let another = namespace.create("another", "web-1", "BackOff").await;
    until("the first of each goes out at once", || outlet.stored().len() == 2).await;
    for count in 2..9 {
        namespace.repeat("storm", count).await;
    }
    let last = namespace.repeat("storm", 9).await;
    until_stored(&outlet, &[first, another, last]).await;
    let bundle = outlet.stored().pop().unwrap();
    assert_eq!(
        (bundle.text("count"), bundle.text("suppressed")),
        (Some("9"), Some("7"))
    );
    running.stop().await;
}

/// Proves: SR-1
#[tokio::test]
async fn a_bundle_that_was_held_when_the_process_died_is_not_lost() {
    let Some(namespace) = TestNamespace::shared().await else {
        return;
    };
    let (outlet, source) = sink();
    let config = Config {
        coalesce: Some(Duration::from_secs(3600)),
        ..namespace.config()
    };
    let running = Running::start(config, &source);
    until_watching(&source).await;
    let first = namespace.create("storm", "web-0", "BackOff").await;
    until("the first goes out at once", || outlet.stored().len() == 1).await;
    let held = namespace.repeat("storm", 2).await;
    let other = namespace.create("other", "web-1", "Pulled").await;
    until("what came after it is stored", || outlet.stored().len() == 2).await;
    // Events that are stored and not yet saved come again after a crash; that is right, and not tested here.
    until_saved(&source, &other).await;
    running.kill().await;
    let running = Running::start(namespace.config(), &source);
    until_stored(&outlet, &[first, other, held]).await;
    running.stop().await;
}

#[tokio::test]
async fn what_a_real_controller_writes_arrives() {
    let setup = Setup {
        controller_manager: true,
        ..Setup::default()
    };
    let Some(cluster) = Kubernetes::start(setup).await else {
        return;
    };
    let namespace = TestNamespace::in_cluster(&cluster).await;
    let (outlet, source) = sink();
    let config = Config {
        kinds: vec!["Deployment".to_owned(), "ReplicaSet".to_owned()],
        ..namespace.config()
    };
    let running = Running::start(config, &source);
    until_watching(&source).await;
    let labels = json!({"app": "cart"});
    let pod =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "cart", "image": "localhost/cart"}]}});
    let deployment = json!({
        "metadata": {"name": "cart"}, "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": pod},
    });
    let path = format!("/apis/apps/v1/namespaces/{}/deployments", namespace.namespace);
    namespace.send(Method::POST, &path, &deployment).await;
    let event_of = |reason: &str| {
        outlet
            .stored()
            .into_iter()
            .find(|event| event.text("reason") == Some(reason))
    };
    until("the deployment is scaled and pods are made", || {
        event_of("ScalingReplicaSet").is_some() && event_of("SuccessfulCreate").is_some()
    })
    .await;
    let scaled = event_of("ScalingReplicaSet").unwrap();
    assert_eq!(
        scaled.source(),
        format!("/apis/apps/v1/namespaces/{}/deployments/cart", namespace.namespace)
    );
    assert!(scaled.text("time").is_some());
    running.stop().await;
}
