//! The list of deliveries as the only way in.

use super::*;

async fn polling() -> World {
    let mut world = World::new().await;
    world.config.transport = Transport::Poll {
        marker: "https://headgate.invalid/b1a7c2d4/default/test".into(),
    };
    world
}

/// Proves: SR-1, SR-2, SR-3
#[tokio::test]
async fn deliveries_arrive_once_each_without_anybody_calling() {
    const COUNT: usize = 500;
    let mut world = polling().await;
    let hook = world.registered().await;
    assert_eq!(hook.secret, None, "nobody calls, so nothing is signed");
    assert!(world.endpoint.lock().is_none());
    let mut guids = world.github.happens(REPOSITORY, "push", PUSH).await;
    world.stored(1).await;
    world.stop().await;
    for n in 1..COUNT {
        let body = format!(r#"{{"ref":"refs/heads/{n}"}}"#);
        guids.extend(world.github.happens(REPOSITORY, "push", body.as_bytes()).await);
    }
    world.start().await;
    // Stopped and restarted on the way.
    world.stored(COUNT / 2).await;
    world.stop().await;
    world.start().await;
    let stored = world.stored(COUNT).await;
    assert_eq!(ids(&stored), guids);
    assert!(stored.iter().all(|event| event.text("githubrecovered").is_none()));
    assert_eq!(&stored[0].data()[..], PUSH);
    world.swept().await;
    assert_eq!(world.outlet.stored().len(), COUNT);
}

#[tokio::test]
async fn a_source_that_cannot_ask_is_not_ready() {
    let mut world = polling().await;
    world.config.credentials = None;
    world.start().await;
    let condition = world
        .until("Swept", |condition| condition.reason() == "NotManaged")
        .await;
    assert_eq!(condition.severity, adapter::Severity::Error);
}

#[tokio::test]
async fn a_source_that_changes_to_polling_keeps_its_webhook() {
    let mut world = World::new().await;
    let called = world.registered().await;
    world.config.transport = polling().await.config.transport;
    assert_eq!(world.registered().await.id, called.id);
}
