//! Where an event went, as it is told: each subscription's own answer.

use std::{iter::repeat_n, time::Duration};

use cesql::Filter;
use channel::{Channel, faulty::Fault};
use event::Event;

use super::{World, event, name, subscription};
use crate::{Explain, Explanation, Stage, TryEnd};

fn of(id: &str) -> Explain {
    Explain {
        id: id.into(),
        source: None,
        channel: None,
        last: 100,
    }
}

fn stages(explained: &Explanation, channel: &str) -> Vec<(String, Stage, String)> {
    let found = explained.found.iter().find(|found| found.channel == name(channel));
    let rows = found.map(|found| &found.rows[..]).unwrap_or_default();
    rows.iter()
        .map(|row| (row.subscription.name.clone(), row.stage, row.message.clone()))
        .collect()
}

/// Proves: CH-7, DL-6
#[tokio::test(start_paused = true)]
async fn each_subscription_says_what_it_did_with_an_event_and_why() {
    let mut filtered = subscription("filtered", "a", "sink");
    filtered.filters = vec![Filter::exact([("type", "another")])];
    let mut refused = subscription("refused", "a", "other");
    refused.delivery.backoff.retry = 0;
    let mut paused = subscription("paused", "a", "sink");
    paused.paused = true;
    let world = World::new(
        &["a", "down"],
        vec![
            subscription("taken", "a", "sink"),
            filtered,
            refused,
            paused,
            subscription("retried", "a", "down"),
        ],
    )
    .await;
    world.channel("other").fail_appends([Some(Fault::Closed)]);
    world
        .channel("down")
        .fail_appends(repeat_n(Some(Fault::Unavailable), 2));
    world.send("a", event("1")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let explained = world.plane.explain(&of("1")).await;
    let reported = stages(&explained, "a");
    let all: Vec<(&str, Stage)> = reported.iter().map(|(name, stage, _)| (&**name, *stage)).collect();
    assert_eq!(
        all,
        [
            ("filtered", Stage::LeftOut),
            ("paused", Stage::Waiting),
            ("refused", Stage::DeadLettered),
            ("retried", Stage::Retrying),
            ("taken", Stage::Delivered)
        ]
    );
    // A list of events reports the same, and so do the counts.
    let channel = world.channel("a");
    let records = channel.read(channel::Offset(0), 10).await.unwrap();
    let fates = world.plane.fates(&name("a"), &*channel, &records).await.unwrap();
    let fates: Vec<_> = fates[0]
        .iter()
        .map(|row| (&*row.subscription.name, row.stage))
        .collect();
    assert_eq!((records.len(), fates), (1, all));
    let traffic = world.plane.traffic();
    assert_eq!(traffic.accepted.get(&name("a")), Some(&1));
    let counts = |of: &str| traffic.subscriptions[&name(of)];
    assert_eq!((counts("taken").delivered, counts("filtered").left_out), (1, 1));
    assert_eq!((counts("refused").failed, counts("refused").dead_lettered), (1, 1));
    assert!(counts("retried").failed > 0 && world.plane.backlogs()[&name("retried")].unsettled == 1);
    assert_eq!(world.plane.newest_tries(&name("refused"), 9).len(), 2);
    for ((_, _, why), part) in reported.iter().zip([
        "type = 'another'",
        "paused",
        "headgate dead show default/refused 1",
        "failed tries: 1, no answer; next try at",
        "passed to channel default/sink",
    ]) {
        assert!(why.contains(part), "{why:?} does not say {part:?}");
    }
    let retried = &explained.tries[&name("retried")];
    assert!(
        matches!(&retried[..], [tried] if matches!(&tried.end, TryEnd::Failed(failed) if failed.next.is_some())),
        "{retried:?}"
    );
    // Everything goes its way meanwhile.
    let is_taken = async |world: &World| {
        let retried = &world.plane.explain(&of("1")).await.tries[&name("retried")];
        matches!(&retried[..], [_, _, last] if matches!(last.end, TryEnd::Succeeded { status: None, .. }))
    };
    world.eventually("taken at the third try", is_taken).await;
    let (_, stage, _) = &stages(&world.plane.explain(&of("1")).await, "a")[3];
    assert_eq!(*stage, Stage::Delivered);
}

/// Proves: CH-7, LP
#[tokio::test(start_paused = true)]
async fn an_event_is_found_in_every_channel_that_has_it_and_told_apart_by_its_source() {
    let mut keeping = subscription("keeping", "b", "sink");
    keeping.paused = true;
    let world = World::new(&["a", "b"], vec![subscription("on", "a", "b"), keeping]).await;
    world.send("a", event("1")).await;
    let other = Event::builder("1", "/other", "test").finish().unwrap();
    world.send("b", other).await;
    world
        .eventually("passed on", async |world| world.arrived("b").await.len() == 2)
        .await;
    let any = world.plane.explain(&of("1")).await;
    let here: Vec<_> = any.found.iter().filter(|found| found.channel == name("b")).collect();
    assert_eq!(here.len(), 2);
    assert!(here[0].offset < here[1].offset, "in stored order");
    let exact = Explain {
        source: Some("/test".into()),
        channel: Some(name("b")),
        ..of("1")
    };
    let exact = world.plane.explain(&exact).await;
    let [found] = &exact.found[..] else {
        panic!("{:?}", exact.found);
    };
    assert_eq!(
        (found.event.source(), &found.passed[..]),
        ("/test", &["default/a".to_owned()][..])
    );
    assert_eq!(exact.searched.len(), 1);
    // A memory channel gives up what everybody has: the try is still known.
    assert!(matches!(
        exact.tries[&name("on")][0].end,
        TryEnd::Succeeded { status: None, .. }
    ));
    let unknown = world.plane.explain(&of("2")).await;
    assert!(unknown.found.is_empty() && unknown.tries.is_empty() && unknown.dead_letters.is_empty());
    let bounded = Explain { last: 1, ..of("1") };
    let bounded = world.plane.explain(&bounded).await;
    let here = bounded.found.iter().filter(|found| found.channel == name("b"));
    assert_eq!(here.count(), 1, "no more places than asked for are looked at");
}

/// Proves: CH-7, OP-3
#[tokio::test(start_paused = true)]
async fn a_channel_that_cannot_be_read_is_named_and_the_others_are_told_of() {
    let mut keeping = subscription("keeping", "a", "sink");
    keeping.paused = true;
    let world = World::new(&["a", "closed"], vec![keeping]).await;
    world.send("a", event("1")).await;
    world.channel("closed").close().await;
    let explained = world.plane.explain(&of("1")).await;
    assert_eq!(explained.found.len(), 1);
    let errors = explained.searched.iter().filter(|searched| searched.error.is_some());
    let errors: Vec<_> = errors.map(|searched| &searched.channel).collect();
    assert_eq!(errors, [&name("closed")]);
}
