//! A sink that refuses every event for good: how many become dead letters before a person looks.

use std::time::Duration;

use channel::faulty::Fault;
use futures_util::StreamExt;
use spec::model::{self, Ordering};
use tokio::time::Instant;

use super::{World, event, keyed, name, subscription};
use crate::{Redrive, Replay, journey::breaker::Health};

const EVENTS: usize = 1000;

/// `sink` refuses every event from now on.
fn refuse(world: &World, events: usize) {
    let faults = std::iter::repeat_n(Some(Fault::TooLarge), events);
    world.channel("sink").fail_appends(faults);
}

async fn dead_letters(world: &World) -> usize {
    let dead_letters = world.plane.dead_letters(Some(&name("s")), 10 * EVENTS).await.unwrap();
    dead_letters.len()
}

fn health(world: &World) -> Health {
    let state = world.plane.0.runtime.state.lock();
    let outage = state.subscriptions[&name("s")].context.gate.outage();
    outage.map_or(Health::Healthy, |(health, _)| health)
}

fn in_order(ordering: Ordering, in_flight: usize) -> model::Subscription {
    model::Subscription {
        ordering,
        max_in_flight: in_flight,
        ..subscription("s", "a", "sink")
    }
}

/// Events in flight when the tenth is refused are refused as well; then ten a second.
///
/// Proves: DL-8
#[tokio::test(start_paused = true)]
async fn refused_events_become_ten_letters_a_second() {
    for (ordering, in_flight) in [
        (Ordering::None, 1),
        (Ordering::None, 64),
        (Ordering::Key, 64),
        (Ordering::Total, 64),
    ] {
        let world = World::new(&["a"], vec![in_order(ordering, in_flight)]).await;
        refuse(&world, EVENTS);
        let began = Instant::now();
        for id in 0..EVENTS {
            world
                .send("a", keyed(&id.to_string(), &format!("key {}", id % 100)))
                .await;
        }
        world
            .eventually("it is rejecting", async |world| health(world) == Health::Rejecting)
            .await;
        tokio::time::sleep_until(began + Duration::from_secs(20)).await;
        let seen = dead_letters(&world).await;
        let at_once = in_flight.max(10);
        assert!(
            (200..=at_once + 202).contains(&seen),
            "{ordering:?}, {in_flight} in flight: {seen} letters in 20 s"
        );
        world.settled("a").await;
        assert_eq!(dead_letters(&world).await, EVENTS);
        assert!(began.elapsed() > Duration::from_secs(90), "{:?}", began.elapsed());
    }
}

/// Proves: DL-8
#[tokio::test(start_paused = true)]
async fn one_event_that_is_taken_lets_the_others_go_on() {
    let world = World::new(&["a"], vec![in_order(Ordering::None, 1)]).await;
    refuse(&world, 30);
    for id in 0..EVENTS {
        world.send("a", event(&id.to_string())).await;
    }
    world
        .eventually("it is rejecting", async |world| health(world) == Health::Rejecting)
        .await;
    let began = Instant::now();
    world.settled("a").await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(health(&world), Health::Healthy);
    assert_eq!(
        (dead_letters(&world).await, world.ids("sink").await.len()),
        (30, EVENTS - 30)
    );
}

/// Proves: DL-8
#[tokio::test(start_paused = true)]
async fn one_retryable_failure_among_ten_makes_it_failing() {
    let mut patient = in_order(Ordering::None, 1);
    patient.delivery.backoff.delay = Duration::from_secs(600);
    let world = World::new(&["a"], vec![patient]).await;
    refuse(&world, 9);
    world.channel("sink").fail_appends([Some(Fault::Closed)]);
    refuse(&world, EVENTS);
    for id in 0..10 {
        world.send("a", event(&id.to_string())).await;
    }
    world
        .eventually("ten are not taken", async |world| health(world) != Health::Healthy)
        .await;
    assert_eq!(health(&world), Health::Failing);
    for id in 10..100 {
        world.send("a", event(&id.to_string())).await;
    }
    // Probes that are refused are no quicker; after ten of them the sink is rejecting.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(health(&world), Health::Rejecting);
    assert!(dead_letters(&world).await <= 9 + 21, "{}", dead_letters(&world).await);
}

/// Proves: DL-8, CH-7
#[tokio::test(start_paused = true)]
async fn replays_and_redrives_are_bounded_as_well() {
    let mut keeping = subscription("keeping", "a", "other");
    keeping.paused = true;
    let world = World::new(&["a"], vec![subscription("s", "a", "sink"), keeping]).await;
    world.channel("a").promise_replay();
    for id in 0..EVENTS {
        world.send("a", event(&id.to_string())).await;
    }
    world
        .eventually("delivered", async |world| world.ids("sink").await.len() == EVENTS)
        .await;
    refuse(&world, 100 * EVENTS);
    let replay = Replay {
        from: channel::Start::Earliest,
        to: None,
        filter: None,
        rate: None,
        dry_run: false,
    };
    let mut progress = Box::pin(world.plane.replay(&name("s"), replay).await.unwrap());
    let run = async { while progress.next().await.is_some() {} };
    let _still_running = tokio::time::timeout(Duration::from_secs(20), run).await;
    drop(progress);
    let replayed = dead_letters(&world).await;
    assert!((150..=230).contains(&replayed), "{replayed} letters in 20 s");

    let tried = || {
        world.plane.0.runtime.state.lock().subscriptions[&name("s")]
            .context
            .reports
            .tries
            .failures()
    };
    let before = tried();
    world.plane.redrive(&name("s"), Redrive::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    // Each is one failed try and one letter.
    let redriven = (tried() - before) / 2;
    assert!((50..=130).contains(&redriven), "{redriven} letters redriven in 10 s");
}

/// A person who mended the sink does not wait for a probe that waits for its next try.
///
/// Proves: DL-8
#[tokio::test(start_paused = true)]
async fn a_redrive_finds_out_at_once_that_a_failing_sink_is_back() {
    let mut patient = in_order(Ordering::None, 1);
    patient.delivery.backoff.delay = Duration::from_secs(600);
    let world = World::new(&["a"], vec![patient]).await;
    refuse(&world, 1);
    world.send("a", event("letter")).await;
    world
        .eventually("a letter", async |world| dead_letters(world).await == 1)
        .await;
    world
        .channel("sink")
        // Nine behind the letter are a row of ten, and the probe fails once.
        .fail_appends(std::iter::repeat_n(Some(Fault::Closed), 10));
    for id in 0..20 {
        world.send("a", event(&id.to_string())).await;
    }
    world
        .eventually("it is failing", async |world| health(world) == Health::Failing)
        .await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(world.ids("sink").await.is_empty(), "the probe waits for minutes");
    world.plane.redrive(&name("s"), Redrive::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(health(&world), Health::Healthy);
    assert_eq!(world.ids("sink").await[0], "letter");
}
