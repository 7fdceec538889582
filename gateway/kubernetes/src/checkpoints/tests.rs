//! Against a real API server: what is saved is there, is written seldom, and cannot be moved by who lost the turn.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::testing::{World, eventually};

fn turn(epoch: u64) -> Fence {
    let fence = Fence::default();
    fence.grant(epoch, Instant::now());
    fence
}

async fn versions(world: &World, owner: &Owner) -> String {
    world.get("configmap", &state_name(owner)).await["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Proves: SR-1
#[tokio::test]
async fn a_mark_is_found_by_who_comes_after_and_goes_with_its_source() {
    let Some(world) = World::new().await else { return };
    let owner = world.source("beats").await;
    let one = State::of(world.client().await, &owner, turn(1));
    assert_eq!(one.mark().await.unwrap(), None);
    one.save_mark(vec![0, 159, 1]).await.unwrap();
    one.save_notes(b"hook 7".to_vec()).await.unwrap();
    let two = State::of(world.client().await, &owner, turn(2));
    assert_eq!(two.mark().await.unwrap().unwrap(), [0, 159, 1]);
    assert_eq!(two.notes().await.unwrap().unwrap(), b"hook 7");
    two.save_mark(b"second".to_vec()).await.unwrap();
    assert_eq!(two.notes().await.unwrap().unwrap(), b"hook 7");
    world.kubectl(&["delete", "containersource", "beats"]).await;
    eventually("the state is collected", || async {
        let left = world.list("configmaps").await;
        let is_state = |found: &serde_json::Value| found["metadata"]["name"] == state_name(&owner);
        (!left.iter().any(is_state)).then_some(())
    })
    .await;
}

/// Proves: SR-1
#[tokio::test]
async fn a_holder_of_the_past_cannot_move_a_mark() {
    let Some(world) = World::new().await else { return };
    let owner = world.source("beats").await;
    let past = State::of(world.client().await, &owner, turn(1));
    past.save_mark(b"old".to_vec()).await.unwrap();
    let now = State::of(world.client().await, &owner, turn(2));
    assert_eq!(now.mark().await.unwrap().unwrap(), b"old");
    now.save_mark(b"new".to_vec()).await.unwrap();
    // It still believes in its turn: its clock stood still, say.
    let refused = past.save_notes(b"late".to_vec()).await.unwrap_err();
    assert!(
        matches!(refused, StateError::Superseded { ours: 1, stored: 2 }),
        "{refused}"
    );
    assert_eq!(now.mark().await.unwrap().unwrap(), b"new");
    assert_eq!(now.notes().await.unwrap(), None);
    // And who knows that the turn is over does not even try.
    let fence = turn(3);
    let later = State::of(world.client().await, &owner, fence.clone());
    fence.grant(3, Instant::now() - crate::lease::RENEW_DEADLINE);
    assert!(matches!(later.save_notes(vec![]).await, Err(StateError::NotMine)));
}

#[tokio::test]
async fn a_busy_source_writes_seldom_and_its_last_mark_is_written() {
    let Some(world) = World::new().await else { return };
    let owner = world.source("beats").await;
    let state = State::of(world.client().await, &owner, turn(1));
    state.save_mark(b"0".to_vec()).await.unwrap();
    let first = versions(&world, &owner).await;
    for round in 1..100 {
        state.save_mark(round.to_string().into_bytes()).await.unwrap();
    }
    assert_eq!(versions(&world, &owner).await, first, "they are kept back");
    assert_eq!(state.mark().await.unwrap().unwrap(), b"99");
    eventually("the last one is written by itself", || async {
        (versions(&world, &owner).await != first).then_some(())
    })
    .await;
    let other = State::of(world.client().await, &owner, turn(1));
    assert_eq!(other.mark().await.unwrap().unwrap(), b"99");
    state.save_mark(b"100".to_vec()).await.unwrap();
    state.flush().await.unwrap();
    assert_eq!(other.mark().await.unwrap().unwrap(), b"100");
}

#[tokio::test]
async fn of_two_pods_the_one_that_wrote_last_goes_on() {
    let Some(world) = World::new().await else { return };
    let owner = world.source("beats").await;
    let name = state_name(&owner);
    let one = State::named(world.client().await, &world.namespace, &name);
    assert!(matches!(one.save_notes(vec![]).await, Err(StateError::Absent)));
    world.kubectl(&["create", "configmap", &name]).await;
    one.save_mark(b"one".to_vec()).await.unwrap();
    let two = State::named(world.client().await, &world.namespace, &name);
    assert_eq!(two.mark().await.unwrap().unwrap(), b"one");
    two.save_mark(b"two".to_vec()).await.unwrap();
    let refused = one.save_notes(vec![]).await.unwrap_err();
    assert!(matches!(refused, StateError::Superseded { .. }), "{refused}");
    two.save_notes(b"mine".to_vec()).await.unwrap();
    assert_eq!(two.mark().await.unwrap().unwrap(), b"two");
}

#[tokio::test]
async fn what_a_config_map_does_not_hold_is_said() {
    let Some(world) = World::new().await else { return };
    let owner = world.source("beats").await;
    let state = State::of(world.client().await, &owner, turn(1));
    let refused = state.save_mark(vec![0; MARK_MAX_BYTES + 1]).await;
    assert!(matches!(refused, Err(StateError::TooLarge { .. })));
    let refused = state.save_notes(vec![0; NOTES_MAX_BYTES + 1]).await;
    assert!(matches!(refused, Err(StateError::TooLarge { .. })));
    assert!(
        world
            .list("configmaps")
            .await
            .iter()
            .all(|found| found["metadata"]["name"] != state_name(&owner))
    );
    // The largest of both have room together.
    state.save_notes(vec![1; NOTES_MAX_BYTES]).await.unwrap();
    state.save_mark(vec![0; MARK_MAX_BYTES]).await.unwrap();
    state.flush().await.unwrap();
    let other = State::of(world.client().await, &owner, turn(1));
    assert_eq!(other.mark().await.unwrap().unwrap().len(), MARK_MAX_BYTES);
    assert_eq!(other.notes().await.unwrap().unwrap().len(), NOTES_MAX_BYTES);
}

#[test]
fn a_large_mark_is_written_less_often() {
    for (bytes, seconds) in [(0, 5), (60 * 1024, 5), (160 * 1024, 10), (MARK_MAX_BYTES, 62)] {
        assert_eq!(pause(bytes), Duration::from_secs(seconds), "{bytes}");
    }
}
