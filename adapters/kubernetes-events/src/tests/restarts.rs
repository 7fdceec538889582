//! Stops, crashes, compaction, a server that dies: nothing missed, nothing repeated.

use adapter::suite::REFUSALS;

use super::*;

/// Writes objects while no watch runs: new ones, and one that is written several times.
async fn meanwhile(namespace: &TestNamespace, mark: &str) -> Vec<Value> {
    let mut objects = Vec::new();
    for index in 0..20 {
        objects.push(namespace.create(&format!("{mark}-{index}"), "web-0", "BackOff").await);
    }
    for count in 2..5 {
        objects.push(namespace.repeat(&format!("{mark}-0"), count).await);
    }
    objects
}

/// Proves: SR-1, SR-2
#[tokio::test]
async fn a_restart_repeats_nothing_and_misses_nothing() {
    let Some(namespace) = TestNamespace::shared().await else {
        return;
    };
    let (outlet, source) = sink();
    let mut all = meanwhile(&namespace, "first").await;
    // A list shows the last writing of each object.
    all.drain(0..1);
    all.drain(all.len() - 3..all.len() - 1);
    for (round, crash) in [("second", false), ("third", true)] {
        let running = Running::start(namespace.config(), &source);
        until_stored(&outlet, &all).await;
        until_watching(&source).await;
        if crash {
            // A crash between storing and saving, some milliseconds, repeats what lies between.
            until_saved(&source, all.last().unwrap()).await;
            running.kill().await;
        } else {
            running.stop().await;
        }
        all.extend(meanwhile(&namespace, round).await);
    }
    let running = Running::start(namespace.config(), &source);
    until_stored(&outlet, &all).await;
    assert_eq!(reason(&source, "Complete").as_deref(), Some(""));
    running.stop().await;
}

/// Proves: SR-1, SR-4
#[tokio::test]
async fn when_the_history_is_compacted_the_list_is_compared() {
    let Some(cluster) = Kubernetes::start(Setup::default()).await else {
        return;
    };
    let namespace = TestNamespace::in_cluster(&cluster).await;
    let (outlet, source) = sink();
    let running = Running::start(namespace.config(), &source);
    until_watching(&source).await;
    let mut all = meanwhile(&namespace, "first").await;
    until_stored(&outlet, &all).await;
    running.stop().await;
    let mut missed = meanwhile(&namespace, "second").await;
    cluster.compact().await;
    let running = Running::start(namespace.config(), &source);
    // The list shows the last version of the object that was written several times.
    missed.drain(0..1);
    missed.drain(missed.len() - 3..missed.len() - 1);
    all.extend(missed);
    until_stored(&outlet, &all).await;
    until_watching(&source).await;
    all.push(namespace.create("last", "web-0", "BackOff").await);
    until_stored(&outlet, &all).await;
    assert_eq!(reason(&source, "Complete").as_deref(), Some(""), "nothing was missed");
    running.stop().await;
}

/// Proves: SR-1
#[tokio::test]
async fn an_api_server_that_dies_and_comes_back_costs_nothing() {
    let Some(mut cluster) = Kubernetes::start(Setup::default()).await else {
        return;
    };
    let namespace = TestNamespace::in_cluster(&cluster).await;
    let (outlet, source) = sink();
    let running = Running::start(namespace.config(), &source);
    until_watching(&source).await;
    let mut all = meanwhile(&namespace, "first").await;
    cluster.kill().await;
    until("it is said", || {
        reason(&source, "Watching").as_deref() == Some("ApiServerUnreachable")
    })
    .await;
    let _cluster = cluster.restart().await;
    all.extend(meanwhile(&namespace, "second").await);
    until_stored(&outlet, &all).await;
    until_watching(&source).await;
    assert_eq!(reason(&source, "Complete").as_deref(), Some(""));
    running.stop().await;
}

/// Proves: SR-1, SR-5
#[tokio::test]
async fn a_sink_that_refuses_holds_everything_back_and_then_gets_it_once() {
    let Some(namespace) = TestNamespace::shared().await else {
        return;
    };
    let outlet = Scripted::storing();
    let source = source(outlet.clone());
    let running = Running::start(namespace.config(), &source);
    until_watching(&source).await;
    let mut all = meanwhile(&namespace, "first").await;
    until_stored(&outlet, &all).await;
    let full = REFUSALS[0];
    outlet.refuse_from_now_on(full);
    all.extend(meanwhile(&namespace, "second").await);
    until("the refusal is said", || {
        reason(&source, "Accepted").as_deref() == Some("Full")
    })
    .await;
    let mark = source.checkpoint.mark().await.unwrap();
    assert_eq!(outlet.stored().len(), 23);
    assert_eq!(
        source.checkpoint.mark().await.unwrap(),
        mark,
        "the mark moved without storage"
    );
    // A restart in this state loses nothing either.
    running.stop().await;
    let running = Running::start(namespace.config(), &source);
    outlet.accept_from_now_on();
    until_stored(&outlet, &all).await;
    running.stop().await;
}

/// Proves: SR-4
#[tokio::test]
async fn events_that_expired_unseen_are_told_as_a_gap() {
    let setup = Setup {
        flags: vec!["--event-ttl=4s".to_owned()],
        ..Setup::default()
    };
    let Some(cluster) = Kubernetes::start(setup).await else {
        return;
    };
    let namespace = TestNamespace::in_cluster(&cluster).await;
    let (outlet, source) = sink();
    let running = Running::start(namespace.config(), &source);
    until_watching(&source).await;
    namespace.create("seen", "web-0", "BackOff").await;
    until("it has arrived", || outlet.stored().len() == 1).await;
    running.stop().await;
    namespace.create("unseen", "web-0", "BackOff").await;
    let start = Instant::now();
    while namespace.get(&namespace.events()).await.contains("BackOff") {
        assert!(start.elapsed() < PATIENCE, "the events do not expire");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.compact().await;
    let running = Running::start(namespace.config(), &source);
    until("the gap is told", || outlet.stored().len() == 2).await;
    let gap = outlet.stored().pop().unwrap();
    assert_eq!(
        (gap.kind(), gap.text("reason")),
        ("dev.headgate.gap", Some("EventsVanished"))
    );
    let data: Value = serde_json::from_slice(gap.data()).unwrap();
    assert!(data["from"].as_str() < data["to"].as_str(), "{data}");
    assert_eq!(reason(&source, "Complete").as_deref(), Some("EventsMissing"));
    until_watching(&source).await;
    running.stop().await;
    // It is told once, and shown after a restart too.
    let running = Running::start(namespace.config(), &source);
    until_watching(&source).await;
    namespace.create("later", "web-0", "BackOff").await;
    until("it has arrived", || outlet.stored().len() == 3).await;
    assert_eq!(reason(&source, "Complete").as_deref(), Some("EventsMissing"));
    running.stop().await;
}
