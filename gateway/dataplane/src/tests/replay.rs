//! Replays: what is delivered again, to whom, how fast, and what ends them.

use std::time::Duration;

use cesql::Filter;
use channel::{Offset, Start, faulty::Fault};
use futures_util::{Stream, StreamExt};
use spec::model;
use tokio::time::Instant;

use super::{World, event, name, subscription};
use crate::{Progress, Replay, ReplayCounts, ReplayError, Until, inspect::replay::REPLAY};

/// A channel with ten events that were delivered to `sink`; a second subscription, which is paused, keeps them.
async fn delivered(change: impl FnOnce(&mut model::Subscription)) -> World {
    let mut keeping = subscription("keeping", "a", "other");
    keeping.paused = true;
    let mut desired = subscription("s", "a", "sink");
    change(&mut desired);
    let world = World::new(&["a"], vec![desired, keeping]).await;
    world.channel("a").promise_replay();
    for id in 0..10 {
        world.send("a", event(&id.to_string())).await;
        // Stored times are told apart.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world
        .eventually("delivered", async |world| world.arrived("sink").await.len() == 10)
        .await;
    world
}

fn all() -> Replay {
    Replay {
        from: Start::Earliest,
        to: None,
        filter: None,
        rate: None,
        dry_run: false,
    }
}

async fn begin(world: &World, what: Replay) -> impl Stream<Item = Progress> + Unpin {
    Box::pin(world.plane.replay(&name("s"), what).await.unwrap())
}

async fn run(world: &World, what: Replay) -> ReplayCounts {
    let mut progress = begin(world, what).await;
    loop {
        match progress.next().await.unwrap() {
            Progress::Going(_) => {}
            Progress::Done(counted) => {
                assert!(progress.next().await.is_none());
                return counted;
            }
            Progress::Stopped(counted, why) => panic!("{why}: {counted:?}"),
        }
    }
}

/// Those that came after the first ten, as they say of themselves.
async fn replayed(world: &World) -> Vec<String> {
    let arrived = world.arrived("sink").await;
    assert!(arrived[..10].iter().all(|event| event.text(REPLAY).is_none()));
    assert!(arrived[10..].iter().all(|event| event.text(REPLAY).is_some()));
    arrived[10..].iter().map(|event| event.id().to_owned()).collect()
}

/// Proves: CH-7
#[tokio::test(start_paused = true)]
async fn past_events_reach_that_subscription_alone_marked_and_in_stored_order() {
    let world = delivered(|desired| desired.ordering = model::Ordering::Total).await;
    let counted = run(&world, all()).await;
    assert_eq!(
        (counted.read, counted.matched, counted.delivered, counted.left),
        (10, 10, 10, 0)
    );
    let ids: Vec<String> = (0..10).map(|id| id.to_string()).collect();
    assert_eq!(replayed(&world).await, ids);
    assert!(world.arrived("other").await.is_empty());
    assert_eq!(world.arrived("sink").await[10].text("headgatehops"), Some("1"));
}

/// Proves: CH-7
#[tokio::test(start_paused = true)]
async fn from_and_to_are_places_and_a_dry_run_counts_without_delivering() {
    let world = delivered(|_| {}).await;
    let some = Replay {
        from: Start::Offset(Offset(3)),
        to: Some(Until::Offset(Offset(5))),
        dry_run: true,
        ..all()
    };
    let began = Instant::now();
    let counted = run(&world, some.clone()).await;
    assert_eq!((counted.read, counted.matched, counted.delivered), (3, 3, 0));
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "nothing is waited for at the end"
    );
    assert!(replayed(&world).await.is_empty());
    let to_the_highest = Replay {
        to: Some(Until::Offset(Offset(u64::MAX))),
        ..some.clone()
    };
    assert_eq!(run(&world, to_the_highest).await.read, 7);
    let counted = run(&world, Replay { dry_run: false, ..some }).await;
    assert_eq!(counted.delivered, 3);
    let mut ids = replayed(&world).await;
    ids.sort();
    assert_eq!(ids, ["3", "4", "5"]);
}

/// Proves: CH-7
#[tokio::test(start_paused = true)]
async fn from_and_to_are_times_the_second_of_which_is_not_included() {
    let world = delivered(|_| {}).await;
    let records = channel::Channel::read(&*world.channel("a"), Offset(0), 100)
        .await
        .unwrap();
    let (from, to) = (records[2].stored_at, records[4].stored_at);
    let some = Replay {
        from: Start::Time(from),
        to: Some(Until::Time(to)),
        ..all()
    };
    let expected = records
        .iter()
        .filter(|record| from <= record.stored_at && record.stored_at < to)
        .count();
    assert_eq!(run(&world, some).await.delivered, expected as u64);
}

/// Proves: CH-7
#[tokio::test(start_paused = true)]
async fn the_subscriptions_own_filters_and_the_one_asked_for_hold() {
    let world = delivered(|desired| {
        desired.filters = vec![Filter::cesql("type = 'test' AND source = '/test'".parse().unwrap()).unwrap()];
    })
    .await;
    let only = |id: &str| Replay {
        filter: Some(Filter::exact([("id", id)])),
        ..all()
    };
    let counted = run(&world, only("7")).await;
    assert_eq!((counted.read, counted.matched), (10, 1));
    assert_eq!(replayed(&world).await, ["7"]);
    assert_eq!(run(&world, only("absent")).await.matched, 0);
}

/// Proves: CH-7
#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_and_progress_is_said_meanwhile() {
    let world = delivered(|_| {}).await;
    let began = Instant::now();
    let mut progress = begin(
        &world,
        Replay {
            rate: Some(2.0),
            ..all()
        },
    )
    .await;
    let mut reports = 0;
    while let Some(Progress::Going(counted)) = progress.next().await {
        reports += 1;
        assert!(counted.delivered <= 1 + 2 * began.elapsed().as_secs());
    }
    assert!(
        reports >= 4 && began.elapsed() >= Duration::from_secs(4),
        "{reports} {:?}",
        began.elapsed()
    );
    assert_eq!(replayed(&world).await.len(), 10);
}

/// Proves: CH-7, DL-5
#[tokio::test(start_paused = true)]
async fn what_cannot_be_delivered_again_becomes_a_dead_letter_and_is_counted() {
    let world = delivered(|desired| desired.delivery.backoff.retry = 1).await;
    world
        .channel("sink")
        .fail_appends([Some(Fault::Unavailable), Some(Fault::Unavailable)]);
    let one = Replay {
        to: Some(Until::Offset(Offset(0))),
        ..all()
    };
    let counted = run(&world, one).await;
    assert_eq!((counted.delivered, counted.dead_lettered), (0, 1));
    let dead_letters = world.plane.dead_letters(Some(&name("s")), 10).await.unwrap();
    assert!(dead_letters[0].event.text(REPLAY).is_some());
}

/// Proves: CH-7, DL-8
#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_is_probed_and_the_replay_goes_on_when_it_is_back() {
    let world = delivered(|desired| desired.delivery.backoff.retry = 3).await;
    world
        .channel("sink")
        .fail_appends(std::iter::repeat_n(Some(Fault::Unavailable), 60));
    let mut counted = ReplayCounts::default();
    for _ in 0..5 {
        counted = run(&world, all()).await;
        assert_eq!(counted.delivered + counted.dead_lettered, 10);
    }
    assert_eq!(counted.delivered, 10, "the last one found the sink well");
}

/// Proves: CH-7
#[tokio::test(start_paused = true)]
async fn a_replay_ends_when_nobody_listens_and_another_may_begin() {
    let world = delivered(|_| {}).await;
    let slow = Replay {
        rate: Some(1.0),
        ..all()
    };
    let mut first = begin(&world, slow).await;
    first.next().await.unwrap();
    let refused = world.plane.replay(&name("s"), all()).await.err();
    assert!(matches!(refused, Some(ReplayError::Busy(_))), "one at a time");
    drop(first);
    let before = replayed(&world).await.len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(replayed(&world).await.len(), before);
    assert_eq!(run(&world, all()).await.delivered, 10);
}

/// Proves: CH-7, OP-1
#[tokio::test(start_paused = true)]
async fn a_drain_and_a_removal_end_it_with_a_reason() {
    let slow = || Replay {
        rate: Some(1.0),
        ..all()
    };
    for drains in [true, false] {
        let world = delivered(|_| {}).await;
        let mut progress = begin(&world, slow()).await;
        progress.next().await.unwrap();
        if drains {
            world.plane.drain(Instant::now() + Duration::from_secs(5)).await;
        } else {
            let mut without = super::spec(&["a", "sink", "other"], vec![]);
            without.generation = 2;
            world.specs.send_replace(without.into());
        }
        let last = loop {
            match progress.next().await.unwrap() {
                Progress::Going(_) => {}
                last => break last,
            }
        };
        assert!(matches!(last, Progress::Stopped(..)), "{last:?}");
    }
}

/// Proves: CH-7
#[tokio::test(start_paused = true)]
async fn what_cannot_be_replayed_is_refused_and_a_pause_holds_it_up() {
    let world = delivered(|_| {}).await;
    let refused = async |of: &str| world.plane.replay(&name(of), all()).await.err().unwrap();
    assert!(matches!(refused("absent").await, ReplayError::NoSubscription(_)));
    assert!(matches!(refused("keeping").await, ReplayError::Paused(_)));
    let mut progress = begin(
        &world,
        Replay {
            rate: Some(1.0),
            ..all()
        },
    )
    .await;
    progress.next().await.unwrap();
    world.plane.pause(&name("s")).await.unwrap();
    progress.next().await.unwrap();
    let before = replayed(&world).await.len();
    for _ in 0..30 {
        assert!(matches!(progress.next().await, Some(Progress::Going(_))));
    }
    assert_eq!(replayed(&world).await.len(), before);
    world.plane.resume(&name("s")).await.unwrap();
    while let Some(Progress::Going(_)) = progress.next().await {}
    assert_eq!(replayed(&world).await.len(), 10);
    let forgetful = World::new(&["a"], vec![subscription("s", "a", "sink")]).await;
    let refused = forgetful.plane.replay(&name("s"), all()).await.err();
    assert!(matches!(refused, Some(ReplayError::NothingKept(_))));
}
