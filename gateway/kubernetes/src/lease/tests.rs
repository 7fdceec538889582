//! When a lease is taken, by paused time; and contenders against a real API server.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinHandle;

use super::*;
use crate::testing::{World, eventually};

fn held(by: &str, epoch: i32, renewed: i64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(by.to_owned()),
        lease_transitions: Some(epoch),
        renew_time: Timestamp::from_second(renewed).ok().map(MicroTime),
        ..LeaseSpec::default()
    }
}

#[test]
fn a_lease_is_taken_only_when_it_did_not_change_for_its_duration_by_our_own_clock() {
    let mut unchanged = None;
    let begun = Instant::now();
    let mut step = |spec: &LeaseSpec, seconds| {
        let at = begun + Duration::from_secs(seconds);
        let (next, step) = decide("one", None, unchanged.take(), spec, at);
        unchanged = next;
        step
    };
    // Renewed in a distant future or past: another's clock does not matter.
    assert_eq!(step(&held("two", 4, 9_000_000_000), 0), Step::Wait);
    assert_eq!(step(&held("two", 4, 9_000_000_000), 14), Step::Wait);
    assert_eq!(step(&held("two", 4, 0), 14), Step::Wait, "it was renewed");
    assert_eq!(step(&held("two", 4, 0), 28), Step::Wait);
    assert_eq!(step(&held("two", 4, 0), 29), Step::Take { epoch: 5 });
    assert_eq!(step(&held("", 4, 0), 29), Step::Take { epoch: 5 }, "released");
}

#[tokio::test(start_paused = true)]
async fn our_lease_is_renewed_while_we_trust_it_and_taken_in_a_new_term_afterwards() {
    let fence = Fence::default();
    let step = |epoch| decide("one", fence.epoch(), None, &held("one", epoch, 0), Instant::now()).1;
    assert_eq!(step(4), Step::Take { epoch: 5 }, "held by our predecessor");
    fence.grant(5, Instant::now());
    assert_eq!(step(5), Step::Renew { epoch: 5 });
    tokio::time::advance(RENEW_DEADLINE).await;
    assert_eq!(step(5), Step::Take { epoch: 6 });
}

#[tokio::test(start_paused = true)]
async fn a_fence_falls_by_itself_counted_from_before_the_request() {
    let fence = Fence::default();
    assert!(!fence.is_mine());
    let asked = Instant::now();
    tokio::time::advance(Duration::from_secs(2)).await;
    fence.grant(3, asked);
    assert_eq!(fence.epoch(), Some(3));
    tokio::time::advance(RENEW_DEADLINE - Duration::from_secs(2)).await;
    assert_eq!(fence.epoch(), None);
    assert!(RENEW_DEADLINE < LEASE_DURATION && 3 * RENEW_EVERY < RENEW_DEADLINE && TRY_MAX <= RENEW_EVERY);
}

#[tokio::test(start_paused = true)]
async fn work_ends_with_the_turn_by_the_clock_and_goes_on_when_the_turn_comes_back() {
    let (fence, stop) = (Fence::default(), CancellationToken::new());
    let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = |end: CancellationToken| {
        let (begun, ended) = (&begun, &ended);
        async move {
            begun.fetch_add(1, Ordering::Relaxed);
            end.cancelled().await;
            ended.fetch_add(1, Ordering::Relaxed)
        }
    };
    let counts = || (begun.load(Ordering::Relaxed), ended.load(Ordering::Relaxed));
    let watching = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(counts(), (0, 0), "no lease was granted");
        fence.grant(1, Instant::now());
        tokio::time::sleep(RENEW_DEADLINE - Duration::from_secs(1)).await;
        fence.grant(1, Instant::now());
        tokio::time::sleep(RENEW_DEADLINE - Duration::from_secs(1)).await;
        assert_eq!(counts(), (1, 0), "it was renewed");
        tokio::time::sleep(LEASE_DURATION - RENEW_DEADLINE).await;
        assert_eq!(counts(), (1, 1), "before another may begin");
        fence.grant(2, Instant::now());
        tokio::time::sleep(2 * RETRY_PERIOD).await;
        assert_eq!(counts(), (2, 1));
        stop.cancel();
    };
    let (done, ()) = tokio::join!(fence.during(&stop, work), watching);
    assert_eq!((done, counts()), (Some(1), (2, 2)));
    assert_eq!(Fence::default().during(&stop, work).await, None);
}

struct Process {
    fence: Fence,
    turns: watch::Receiver<Turn>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Process {
    async fn start(world: &World, name: &str, contends: bool) -> Self {
        let identity = Identity {
            name: name.to_owned(),
            url: Some(format!("http://{name}:8080")),
            key: None,
            contends,
        };
        let (client, cache) = (world.client().await, Cache::default());
        let contender = Contender::new(client, &world.namespace, "headgate-leader", identity, cache);
        let (publish, turns) = watch::channel(Turn::default());
        let (fence, stop) = (contender.fence(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move { contender.run(&publish, stopped).await });
        Self {
            fence,
            turns,
            stop,
            task,
        }
    }

    async fn holds(&self) -> u64 {
        eventually("it holds the lease", || async { self.fence.epoch() }).await
    }
}

#[tokio::test]
async fn one_of_two_holds_the_lease_and_everybody_knows_where_it_is() {
    let Some(world) = World::new().await else { return };
    let one = Process::start(&world, "one", true).await;
    assert_eq!(one.holds().await, 1);
    let two = Process::start(&world, "two", true).await;
    let onlooker = Process::start(&world, "three", false).await;
    for other in [&two, &onlooker] {
        let url = eventually("the holder is known", || async { other.turns.borrow().url.clone() }).await;
        assert_eq!(url, "http://one:8080");
        assert!(!other.fence.is_mine());
    }
    // Given back, it is taken at once, in a turn of its own.
    one.stop.cancel();
    one.task.await.unwrap();
    assert!(!one.fence.is_mine());
    assert_eq!(two.holds().await, 2);
    eventually("the new holder is known", || async {
        (onlooker.turns.borrow().url.as_deref() == Some("http://two:8080")).then_some(())
    })
    .await;
    assert!(!onlooker.fence.is_mine());
}

#[tokio::test]
async fn a_holder_that_is_gone_is_followed_when_its_time_is_over_and_not_sooner() {
    let Some(world) = World::new().await else { return };
    let one = Process::start(&world, "one", true).await;
    one.holds().await;
    let two = Process::start(&world, "two", true).await;
    eventually("the holder is known", || async { two.turns.borrow().url.clone() }).await;
    // As `kill -9` would: nothing is given back.
    one.task.abort();
    let begun = Instant::now();
    assert_eq!(two.holds().await, 2);
    let took = begun.elapsed();
    // The last renewal may be as old as one interval, and one look has to pass.
    assert!(took >= LEASE_DURATION - RENEW_EVERY - RETRY_PERIOD, "{took:?}");
    assert!(!one.fence.is_mine(), "a process that ended holds no lease");
}

#[tokio::test]
async fn a_lease_that_somebody_annotates_stays_with_its_holder() {
    let Some(world) = World::new().await else { return };
    let mut one = Process::start(&world, "one", true).await;
    let epoch = one.holds().await;
    let renewed = |lease: &serde_json::Value| lease["spec"]["renewTime"].as_str().unwrap_or_default().to_owned();
    let before = renewed(&world.get("lease", "headgate-leader").await);
    world
        .kubectl(&["annotate", "lease", "headgate-leader", "note=mine"])
        .await;
    eventually("it is renewed", || async {
        let lease = world.get("lease", "headgate-leader").await;
        (renewed(&lease) != before && lease["metadata"]["annotations"]["note"] == "mine").then_some(())
    })
    .await;
    assert_eq!(one.fence.epoch(), Some(epoch));
    assert_eq!(one.turns.borrow_and_update().epoch(), Some(epoch));
}
