//! The end of a process while a subscriber does not answer: nothing runs when a drain returns, and every channel is closed.

use std::{sync::Arc, time::Duration};

use channel::{AppendError, Channel};
use spec::model;
use tokio::time::Instant;

use super::{World, event, name, spec, subscriber::Subscriber, subscription};
use crate::Redrive;

const GRACE: Duration = Duration::from_secs(1);

async fn some_time() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// A world in which an event is in flight to a subscriber that does not answer.
async fn in_flight() -> World {
    let subscriber = Subscriber::new();
    subscriber.fall_silent(true);
    let world = World::new(&["a"], vec![Subscriber::subscription("s")]).await;
    world.send("a", event("1")).await;
    some_time().await;
    world
}

async fn drain(world: &World) {
    world.plane.drain(Instant::now() + GRACE).await;
    assert!(world.plane.0.runtime.tasks.is_empty(), "something still runs");
    let appended = world.channel("a").append(&[event("late")]).await;
    assert!(matches!(appended, Err(AppendError::Closed)), "the channel is open");
}

/// Proves: OP-1
#[tokio::test(start_paused = true)]
async fn an_attempt_in_flight_ends_with_the_drain() {
    drain(&in_flight().await).await;
}

/// Proves: OP-1
#[tokio::test(start_paused = true)]
async fn an_attempt_of_a_subscription_that_is_being_removed_ends_with_the_drain() {
    let world = in_flight().await;
    world.publish(2, &["a"], vec![]);
    some_time().await;
    drain(&world).await;
}

/// Proves: OP-1
#[tokio::test(start_paused = true)]
async fn a_subscription_that_starts_during_a_drain_ends_with_it() {
    let world = in_flight().await;
    let edit = async {
        some_time().await;
        let late = subscription("late", "a", "sink");
        world.publish(2, &["a"], vec![Subscriber::subscription("s"), late]);
    };
    tokio::join!(drain(&world), edit);
}

/// Proves: OP-1, CH-5
#[tokio::test(start_paused = true)]
async fn a_channel_that_is_being_reopened_is_closed_by_the_drain() {
    let world = in_flight().await;
    let mut edited = spec(&["a", "sink", "other"], vec![Subscriber::subscription("s")]);
    edited.generation = 2;
    let mut channel = (*edited.channels[&name("a")]).clone();
    let mut provisioner = (*channel.provisioner.unwrap()).clone();
    let token = ("token".to_owned(), model::SecretText::new(*b"edited"));
    provisioner.credentials = Ok([token].into());
    channel.provisioner = Ok(Arc::new(provisioner));
    edited.channels.insert(name("a"), Arc::new(channel));
    world.specs.send_replace(Arc::new(edited));
    some_time().await;
    drain(&world).await;
}

/// Proves: OP-1
#[tokio::test(start_paused = true)]
async fn a_redrive_in_flight_ends_with_the_drain() {
    let subscriber = Subscriber::new();
    let mut dead = subscription("s", "a", "sink");
    dead.delivery.backoff.retry = 0;
    let world = World::new(&["a"], vec![dead]).await;
    world
        .channel("sink")
        .fail_appends([Some(channel::faulty::Fault::Closed)]);
    world.send("a", event("1")).await;
    world.settled("a").await;
    subscriber.fall_silent(true);
    world.publish(2, &["a"], vec![Subscriber::subscription("s")]);
    some_time().await;
    world.plane.redrive(&name("s"), Redrive::default()).await.unwrap();
    some_time().await;
    drain(&world).await;
    assert!(subscriber.taken().is_empty());
}
