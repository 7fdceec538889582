//! Deliveries that GitHub could not deliver are fetched from its list, once.

use adapter::Refused;

use super::*;

/// Proves: SR-1, SR-2, SR-3
#[tokio::test]
async fn deliveries_of_a_down_time_arrive_once_each_in_their_order() {
    const COUNT: usize = 500;
    let mut world = World::new().await;
    world.registered().await;
    let mut guids = world.github.happens(REPOSITORY, "push", PUSH).await;
    world.stop().await;
    for n in 1..COUNT {
        let body = format!(r#"{{ "ref":"refs/heads/{n}", "n": {n}.0 }}"#);
        guids.extend(world.github.happens(REPOSITORY, "push", body.as_bytes()).await);
    }
    world.start().await;
    let stored = world.stored(COUNT).await;
    assert_eq!(ids(&stored), guids);
    assert_eq!(&stored[7].data()[..], br#"{ "ref":"refs/heads/7", "n": 7.0 }"#);
    assert_eq!(stored[7].text("githubrecovered"), Some("true"));
    assert_eq!(stored[7].text("subject"), Some("refs/heads/7"));
    assert_eq!(stored[0].text("githubrecovered"), None);
    world.swept().await;
    assert_eq!(world.given.report.state().fields["recoveredDeliveries"], COUNT - 1);
    // Neither the next sweep nor the next life repeats any.
    world.stop().await;
    world.start().await;
    world.swept().await;
    assert_eq!(world.outlet.stored().len(), COUNT);
}

/// Proves: SR-1, SR-2
#[tokio::test]
async fn a_restart_at_any_point_loses_and_repeats_nothing() {
    const COUNT: usize = 12;
    let mut world = World::new().await;
    world.registered().await;
    world.stop().await;
    let mut guids = Vec::new();
    for _ in 0..COUNT {
        guids.extend(world.github.happens(REPOSITORY, "push", PUSH).await);
    }
    for point in 1..=COUNT {
        world.start().await;
        world.stored(point).await;
        world.stop().await;
    }
    world.start().await;
    world.swept().await;
    assert_eq!(ids(&world.outlet.stored()), guids);
}

/// A crash writes nothing down.
///
/// Proves: SR-1, SR-2, OP-2
#[tokio::test]
async fn after_a_crash_nothing_is_missing_and_repeats_have_their_ids() {
    const COUNT: usize = 100;
    let mut world = World::new().await;
    world.registered().await;
    world.stop().await;
    let mut guids = Vec::new();
    for _ in 0..COUNT {
        guids.extend(world.github.happens(REPOSITORY, "push", PUSH).await);
    }
    world.start().await;
    world.stored(COUNT / 2).await;
    let (_, task) = world.running.take().unwrap();
    task.abort();
    let _ = task.await;
    world.sources = Sources::default();
    world.start().await;
    world.stored(COUNT).await;
    world.swept().await;
    let stored = ids(&world.outlet.stored());
    assert!(stored.len() < COUNT + 32, "{} events", stored.len());
    assert!(guids.iter().all(|guid| stored.contains(guid)));
}

/// Proves: SR-1
#[tokio::test]
async fn only_what_is_wanted_is_fetched() {
    let mut world = World::new().await;
    let hook = world.registered().await;
    world.stop().await;
    world
        .github
        .edit_hook(REPOSITORY, hook.id, |hook| hook.events = vec!["*".into()]);
    for event in ["star", "ping", "push"] {
        world.github.happens(REPOSITORY, event, PUSH).await;
    }
    world.start().await;
    world.stored(1).await;
    world.swept().await;
    let fetched = world.github.requests();
    let fetched = fetched
        .iter()
        .filter(|request| request.contains("/deliveries/"))
        .count();
    assert_eq!(fetched, 1);
    assert_eq!(world.outlet.stored()[0].kind(), "dev.knative.source.github.push");
}

/// Proves: SR-1
#[tokio::test]
async fn what_a_person_sent_again_is_not_recovered() {
    let mut world = World::new().await;
    world.config.sweep_interval = None;
    world.registered().await;
    world.outlet.refuse_from_now_on(suite::REFUSALS[0]);
    let guids = world.github.happens(REPOSITORY, "push", PUSH).await;
    assert_eq!(world.github.attempts(REPOSITORY)[0].status_code, 503);
    world.outlet.accept_from_now_on();
    world.github.redeliver(REPOSITORY, &guids[0]).await;
    world.stop().await;
    world.config.sweep_interval = Some(Duration::from_millis(50));
    world.start().await;
    world.swept().await;
    assert_eq!(ids(&world.outlet.stored()), guids);
}

/// GitHub hears nothing of a delivery that was stored: it lists it as failed.
///
/// Proves: SR-1, SR-2
#[tokio::test]
async fn what_is_stored_already_is_not_recovered_also_after_a_restart() {
    let mut world = World::new().await;
    world.config.sweep_interval = None;
    let hook = world.registered().await;
    let guids = world.github.happens(REPOSITORY, "push", PUSH).await;
    world.stored(1).await;
    // The same attempt again, as GitHub would list it had the answer been lost.
    world.stop().await;
    world.github.redeliver(REPOSITORY, &guids[0]).await;
    world.github.lose_answers(REPOSITORY, hook.id);
    world.config.sweep_interval = Some(Duration::from_millis(50));
    world.start().await;
    world.swept().await;
    assert_eq!(world.outlet.stored().len(), 1);
}

/// Proves: SR-1, SR-5
#[tokio::test]
async fn while_the_channel_refuses_nothing_is_done_with() {
    for refusal in [suite::REFUSALS[0], || Refused::NoChannel] {
        let mut world = World::new().await;
        world.registered().await;
        world.stop().await;
        let mut guids = Vec::new();
        for _ in 0..3 {
            guids.extend(world.github.happens(REPOSITORY, "push", PUSH).await);
        }
        world.outlet.refuse_from_now_on(refusal);
        world.start().await;
        world
            .until(adapter::ACCEPTED, |condition| {
                condition.reason() == refusal().reason().as_str()
            })
            .await;
        world.stop().await;
        world.outlet.accept_from_now_on();
        world.start().await;
        assert_eq!(ids(&world.stored(3).await), guids);
    }
}

/// Proves: SR-1
#[tokio::test]
async fn what_can_never_fit_is_said_and_holds_up_nothing() {
    let mut world = World::new().await;
    world.registered().await;
    world.stop().await;
    world.github.happens(REPOSITORY, "push", PUSH).await;
    world
        .outlet
        .refuse_from_now_on(|| Refused::TooLarge { bytes: 2, limit: 1 });
    world.start().await;
    world
        .until("DeliveriesFit", |condition| condition.reason() == "TooLarge")
        .await;
    world.swept().await;
    let tries = world.github.requests();
    let tries = tries.iter().filter(|request| request.contains("/deliveries/")).count();
    assert_eq!(tries, 1);
}

/// Proves: SR-2, SR-4
#[tokio::test]
async fn a_down_time_beyond_what_github_keeps_is_a_gap() {
    let mut world = World::new().await;
    world.registered().await;
    world.swept().await;
    world.github.happens(REPOSITORY, "push", PUSH).await;
    world.stored(1).await;
    world.stop().await;
    world.github.happens(REPOSITORY, "push", PUSH).await;
    world.github.pass(Duration::from_secs(4 * 86_400));
    let remaining = world.github.happens(REPOSITORY, "push", PUSH).await;
    world.start().await;
    let stored = world.stored(3).await;
    assert_eq!(stored[1].kind(), "dev.headgate.gap");
    assert_eq!(stored[1].text("reason"), Some("RetentionExceeded"));
    let data: serde_json::Value = serde_json::from_slice(stored[1].data()).unwrap();
    let time = |name: &str| data[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time("from") < time("to"));
    assert_eq!(stored[2].id(), remaining[0]);
    world
        .until("Complete", |condition| condition.reason() == "EventsMissing")
        .await;
    world.stop().await;
    world.start().await;
    world.swept().await;
    assert_eq!(world.outlet.stored().len(), 3);
}
