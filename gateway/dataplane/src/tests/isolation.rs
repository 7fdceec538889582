//! Channels that cannot be opened delay no other, and a dispatcher that ends is always started again.

use super::*;

fn mute(channels: &[&str]) -> Scripted {
    let backends = Scripted::default();
    *backends.mute.lock() = channels.iter().map(|channel| name(channel)).collect();
    backends
}

fn has_endpoint(world: &World, channel: &str) -> bool {
    let ingress = world.plane.ingress();
    ingress.endpoints().channels.contains_key(&name(channel).to_string())
}

/// Proves: CH-2, OP-3
#[tokio::test(start_paused = true)]
async fn a_channel_that_does_not_open_delays_no_other() {
    let began = Instant::now();
    let subscriptions = || vec![subscription("s", "a", "sink"), subscription("t", "mute", "sink")];
    let world = World::with(mute(&["mute"]), &["a", "mute"], subscriptions()).await;
    let ready_after = began.elapsed();
    assert!(ready_after < Duration::from_secs(3), "ready after {ready_after:?}");
    let degraded = world.plane.readiness().degraded;
    assert!(
        degraded.len() == 1 && degraded[0].contains("default/mute"),
        "{degraded:?}"
    );
    world.send("a", event("1")).await;
    world.settled("a").await;
    assert_eq!(world.ids("sink").await, ["1"]);
    assert!(!has_endpoint(&world, "mute"));
    let refusal = world.plane.ingress().endpoints().refusal("default/mute").to_string();
    assert!(refusal.contains("channel default/mute is being opened"), "{refusal}");

    // An edit that has nothing to do with it is in force at once.
    let edited = Instant::now();
    let mut more = subscriptions();
    more.push(subscription("u", "b", "other"));
    world.publish(2, &["a", "b", "mute"], more);
    world
        .eventually("the new channel is open", async |world| has_endpoint(world, "b"))
        .await;
    assert!(edited.elapsed() < Duration::from_millis(100), "{:?}", edited.elapsed());
    world.send("b", event("2")).await;
    world.settled("b").await;
    assert_eq!(world.ids("other").await, ["2"]);
}

/// Proves: CH-2
#[tokio::test(start_paused = true)]
async fn doors_open_while_more_channels_are_mute_than_are_opened_at_once() {
    let mute_ones: Vec<String> = (0..40).map(|n| format!("mute-{n}")).collect();
    let mut channels: Vec<&str> = mute_ones.iter().map(String::as_str).collect();
    let backends = mute(&channels);
    channels.push("a");
    let mut desired = spec(&channels, vec![]);
    // Another provisioner than that of the mute ones.
    let own = Arc::new(model::Provisioner {
        name: "another".into(),
        config: model::Config::Memory,
        credentials: Ok(BTreeMap::new()),
        require_durability: None,
    });
    let a = desired.channels.get(&name("a")).unwrap();
    let a = model::Channel {
        provisioner: Ok(own),
        ..model::Channel::clone(a)
    };
    desired.channels.insert(name("a"), Arc::new(a));
    desired.generation = 2;
    let world = World::with(backends, &[], vec![]).await;
    let began = Instant::now();
    world.specs.send_replace(Arc::new(desired));
    world
        .eventually("the door is open", async |world| has_endpoint(world, "a"))
        .await;
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    world
        .eventually("the spec counts as applied", async |world| world.plane.applied() == 2)
        .await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let degraded = world.plane.readiness().degraded;
    assert_eq!(degraded.last().unwrap(), "and 20 channels more");
}

/// Proves: CH-2, CH-4
#[tokio::test(start_paused = true)]
async fn a_subscription_leaves_a_mute_channel_without_waiting_for_it() {
    let world = World::with(mute(&["mute"]), &["a", "mute"], vec![subscription("s", "mute", "sink")]).await;
    world.publish(2, &["a", "mute"], vec![subscription("s", "a", "sink")]);
    world
        .eventually("it runs", async |world| {
            world
                .plane
                .0
                .runtime
                .state
                .lock()
                .subscriptions
                .contains_key(&name("s"))
        })
        .await;
    world.send("a", event("1")).await;
    world.settled("a").await;
    assert_eq!(world.ids("sink").await, ["1"]);
}

/// Proves: OP-3, CH-3
#[tokio::test(start_paused = true)]
async fn a_hundred_dispatchers_that_end_at_once_all_deliver_again() {
    const ALL: usize = 100;
    let subscriptions = (0..ALL).map(|n| subscription(&format!("s{n}"), "a", "sink")).collect();
    let world = World::new(&["a"], subscriptions).await;
    world.channel("a").end_reads(ALL);
    // Wakes each of them; the next thing they hear is the end.
    world.send("a", event("1")).await;
    world
        .eventually("all have ended", async |world| {
            let state = world.plane.0.runtime.state.lock();
            state.subscriptions.values().filter(|run| run.has_ended()).count() == ALL
        })
        .await;
    world
        .eventually("all run", async |world| {
            let state = world.plane.0.runtime.state.lock();
            state.subscriptions.len() == ALL && !state.subscriptions.values().any(RunningSubscription::has_ended)
        })
        .await;
    world.send("a", event("2")).await;
    world.settled("a").await;
    let arrived = world.ids("sink").await;
    assert_eq!(arrived.iter().filter(|id| *id == "2").count(), ALL);
    assert!(arrived.iter().filter(|id| *id == "1").count() >= ALL);
}

/// Proves: CH-4, OP-3
#[tokio::test(start_paused = true)]
async fn a_subscription_deleted_while_its_dispatcher_is_down_keeps_no_event() {
    let world = World::new(&["a"], vec![subscription("s", "a", "sink")]).await;
    world.channel("a").end_reads(1);
    world.send("a", event("1")).await;
    world
        .eventually("it has ended", async |world| {
            world.plane.0.runtime.state.lock().live(&name("s")).is_none()
        })
        .await;
    world.publish(2, &["a"], vec![]);
    world
        .eventually("its cursor is deleted", async |world| {
            world.channel("a").depth().cursors.is_empty()
        })
        .await;
}
