//! Letters listed and delivered again, many of them.

use futures_util::{StreamExt, TryStreamExt};

use super::*;
use crate::{FailureGroup, RedriveCounts};

/// More than a page, and than what is read ahead.
const DEAD_LETTERS: usize = 300;

async fn world_of_dead_letters() -> World {
    let mut dead = subscription("s", "a", "sink");
    dead.delivery.backoff.retry = 0;
    let world = World::new(&["a"], vec![dead]).await;
    world
        .channel("sink")
        .fail_appends(std::iter::repeat_n(Some(Fault::Closed), DEAD_LETTERS));
    for id in 0..DEAD_LETTERS {
        world.send("a", event(&id.to_string())).await;
    }
    world.settled("a").await;
    assert_eq!(world.plane.count_dead_letters(None), DEAD_LETTERS as u64);
    world
}

async fn ids(world: &World, max: usize) -> Vec<String> {
    let listed = world
        .plane
        .list_dead_letters(Some(&name("s")), |dead_letter| Some(dead_letter.event.id().to_owned()));
    listed
        .take(max)
        .map_ok(|listed| listed.shown)
        .try_collect()
        .await
        .unwrap()
}

/// Proves: CH-7
#[tokio::test(start_paused = true)]
async fn letters_are_listed_newest_first_each_once() {
    let world = world_of_dead_letters().await;
    let mut all = ids(&world, usize::MAX).await;
    assert_eq!(all.len(), DEAD_LETTERS);
    assert_eq!(ids(&world, 3).await, all[..3]);
    let stored = world
        .channel("a")
        .dead_letters()
        .list(Offset(0), DEAD_LETTERS)
        .await
        .unwrap();
    let newest_first: Vec<&str> = stored.iter().rev().map(|dead_letter| dead_letter.event.id()).collect();
    assert_eq!(all, newest_first);
    // Holes do not end it: only the oldest and the newest are left.
    let inner: Vec<_> = stored[1..DEAD_LETTERS - 1]
        .iter()
        .map(|dead_letter| dead_letter.offset)
        .collect();
    world.channel("a").dead_letters().remove(&inner).await.unwrap();
    all.drain(1..DEAD_LETTERS - 1);
    assert_eq!(ids(&world, usize::MAX).await, all);
    let other = world
        .plane
        .list_dead_letters(Some(&name("other")), |_| Some(String::new()));
    assert_eq!(other.count().await, 0);
    // Letters that are too large to be kept together are read again.
    let large = world.plane.list_dead_letters(None, |_| Some("x".repeat(3 << 20)));
    assert_eq!(large.count().await, 2);
}

/// Proves: CH-7, DL-5
#[tokio::test(start_paused = true)]
async fn a_redrive_tells_how_far_it_is_and_what_it_came_to() {
    let world = world_of_dead_letters().await;
    let what = Redrive {
        rate: Some(100.0),
        ..Redrive::default()
    };
    let redriving = world.plane.redrive(&name("s"), what).await.unwrap();
    assert_eq!(redriving.matched(), DEAD_LETTERS as u64);
    let reported: Vec<(RedriveCounts, bool)> = redriving.follow().collect().await;
    let delivered: Vec<u64> = reported.iter().map(|(counted, _)| counted.delivered).collect();
    assert!(delivered.len() > 3 && delivered.is_sorted(), "{delivered:?}");
    let (last, is_last) = reported.last().unwrap();
    let all = DEAD_LETTERS as u64;
    assert!(*is_last && last.stopped.is_none(), "{last:?}");
    assert_eq!((last.matched, last.delivered, last.left, last.gone), (all, all, 0, 0));
    assert_eq!(world.plane.count_dead_letters(None), 0);
    assert_eq!(world.ids("sink").await.len(), DEAD_LETTERS, "each once");
    assert!(world.plane.0.redrives_of(&name("s")).is_none());
}

/// Proves: CH-7, DL-5
#[tokio::test(start_paused = true)]
async fn a_redrive_that_nobody_follows_any_more_ends_and_loses_nothing() {
    let world = world_of_dead_letters().await;
    let what = Redrive {
        rate: Some(10.0),
        ..Redrive::default()
    };
    let redriving = world.plane.redrive(&name("s"), what).await.unwrap();
    {
        let mut reported = std::pin::pin!(redriving.follow());
        assert!(reported.next().await.is_some());
        assert!(
            world
                .plane
                .0
                .redrives_of(&name("s"))
                .is_some_and(|so_far| so_far.left > 0)
        );
    }
    world
        .eventually("it ended", async |world| {
            world.plane.0.redrives_of(&name("s")).is_none()
        })
        .await;
    let (sent, left) = (world.ids("sink").await.len(), world.plane.count_dead_letters(None));
    assert!(left > 0 && sent as u64 + left == DEAD_LETTERS as u64, "{sent} {left}");
    // Another redrive can deliver the rest.
    let rest = world.plane.redrive(&name("s"), Redrive::default()).await.unwrap();
    let (last, _) = rest.follow().collect::<Vec<_>>().await.pop().unwrap();
    assert_eq!((last.delivered, last.left), (left, 0));
    assert_eq!(world.ids("sink").await.len(), DEAD_LETTERS, "each once");
}

/// Proves: OP-1
#[tokio::test(start_paused = true)]
async fn a_drain_ends_a_redrive_and_what_it_did_is_kept() {
    let world = world_of_dead_letters().await;
    let what = Redrive {
        rate: Some(10.0),
        ..Redrive::default()
    };
    let redriving = world.plane.redrive(&name("s"), what).await.unwrap();
    let reported = tokio::spawn(redriving.follow().collect::<Vec<_>>());
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.plane.drain(Instant::now() + Duration::from_secs(30)).await;
    let (last, is_last) = reported.await.unwrap().pop().unwrap();
    assert!(is_last && last.stopped.is_some(), "{last:?}");
    assert!(last.delivered > 0 && last.left > 0, "{last:?}");
    assert_eq!(last.delivered + last.left, DEAD_LETTERS as u64);
}

/// Proves: CH-7, DL-5
#[tokio::test(start_paused = true)]
async fn dead_letters_of_one_group_are_dealt_with_alone() {
    let world = world_of_dead_letters().await;
    let listed = world.plane.list_dead_letters(None, |_| Some(String::new())).take(1);
    let listed: Vec<_> = listed.try_collect().await.unwrap();
    let group = FailureGroup::of(&listed[0].read().await.unwrap().unwrap());
    let other = FailureGroup {
        code: Some(418),
        ..group.clone()
    };
    for (of, count) in [(&other, 0), (&group, DEAD_LETTERS as u64)] {
        let what = Redrive {
            group: Some(of.clone()),
            dry_run: true,
            ..Redrive::default()
        };
        assert_eq!(world.plane.redrive(&name("s"), what).await.unwrap().matched(), count);
    }
    let subscription = name("s");
    let dropped = async |of: &FailureGroup| world.plane.drop_dead_letters(&subscription, &[], Some(of)).await;
    assert_eq!(dropped(&other).await.unwrap(), 0);
    assert_eq!(dropped(&group).await.unwrap(), DEAD_LETTERS);
}
