//! Pauses that are shorter than an attempt.

use std::time::Duration;

use spec::model::{self, Ordering};

use super::{World, keyed, subscriber::Subscriber};

/// The attempt that was in flight fails after the resume, when the next event of its key was pulled again: that one still waits.
///
/// Proves: CH-6
#[tokio::test(start_paused = true)]
async fn an_attempt_that_outlasts_a_pause_keeps_its_place_in_the_order() {
    for ordering in [Ordering::Key, Ordering::Total] {
        let subscriber = Subscriber::new();
        let mut ordered = Subscriber::subscription("s");
        (ordered.ordering, ordered.delivery.timeout) = (ordering, Duration::from_secs(1));
        let world = World::new(&["a"], vec![ordered.clone()]).await;
        subscriber.fall_silent(true);
        for id in ["1", "2", "3"] {
            world.send("a", keyed(id, "k")).await;
        }
        for (generation, paused) in [(2, true), (3, false)] {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let edited = model::Subscription {
                paused,
                ..ordered.clone()
            };
            world.publish(generation, &["a"], vec![edited]);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        subscriber.fall_silent(false);
        world.settled("a").await;
        assert_eq!(subscriber.taken(), ["1", "2", "3"], "{ordering:?}");
    }
}
