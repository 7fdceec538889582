//! The whole journey in one process on paused time: real plane, memory channels that fail by script, sinks that are channels.
//! Behaviour over HTTP is tested end to end, against the built binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod asked;
mod draining;
mod explain;
mod isolation;
mod pausing;
mod redrive;
mod rejecting;
mod replay;
mod subscriber;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use cesql::Filter;
use channel::{
    Channel, Offset,
    faulty::{Fault, FaultyChannel},
};
use channel_memory::MemoryChannel;
use event::Event;
use futures_util::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use spec::{Cause, ObjectName, Spec, model};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Backends, DeadLetter, DeadLetterError, ListedDeadLetter, Plane, Redrive, Settings, SourceParts,
    ingress::{ChannelEndpoint, Origin},
    plane::RunningSubscription,
};

impl Plane {
    /// Newest first, of one subscription or of all, at most `max`, whole.
    pub(crate) async fn dead_letters(
        &self,
        subscription: Option<&ObjectName>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let listed: Vec<ListedDeadLetter> = self
            .list_dead_letters(subscription, |_| Some(String::new()))
            .take(max)
            .try_collect()
            .await?;
        let mut dead_letters = Vec::new();
        for listed in listed {
            dead_letters.extend(listed.read().await?);
        }
        Ok(dead_letters)
    }
}

const MAX_HOPS: u32 = 4;

#[derive(Default)]
struct Scripted {
    channels: Mutex<HashMap<ObjectName, Arc<FaultyChannel>>>,
    /// Subscriptions of the newest documents, which a spec may be behind.
    there: Mutex<BTreeSet<(ObjectName, Option<String>)>>,
    /// Channels that are never opened, as on a broker that takes connections and does not answer.
    mute: Mutex<BTreeSet<ObjectName>>,
}

#[async_trait]
impl Backends for Scripted {
    async fn open(&self, channel: &model::Channel) -> Result<Arc<dyn Channel>, Cause> {
        if self.mute.lock().contains(&channel.name) {
            std::future::pending::<()>().await;
        }
        Ok(self.get(&channel.name))
    }

    fn source(&self, _: &model::Source, _: adapter::Source) -> Result<SourceParts, Cause> {
        Ok(SourceParts::default())
    }

    async fn is_gone(&self, subscription: &ObjectName, uid: Option<&str>) -> bool {
        let asked = (subscription.clone(), uid.map(str::to_owned));
        !self.there.lock().contains(&asked)
    }
}

impl Scripted {
    fn get(&self, name: &ObjectName) -> Arc<FaultyChannel> {
        let new = || {
            Arc::new(FaultyChannel::new(Arc::new(MemoryChannel::new(
                channel_memory::Settings::default(),
            ))))
        };
        self.channels.lock().entry(name.clone()).or_insert_with(new).clone()
    }
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

pub(crate) fn subscription(of: &str, channel: &str, target: &str) -> model::Subscription {
    model::Subscription {
        uid: None,
        name: name(of),
        channel: name(channel),
        subscriber: Some(model::Target::Channel(name(target))),
        reply: None,
        filters: vec![],
        delivery: model::Delivery {
            backoff: backoff::Policy::default(),
            timeout: Duration::from_secs(30),
            format: model::Format::Binary,
            max_reply_bytes: 1 << 20,
            dead_letter_sink: None,
        },
        max_in_flight: 64,
        ordering: model::Ordering::None,
        start_from: model::StartFrom::Latest,
        paused: false,
        implicit: false,
    }
}

fn spec(channels: &[&str], subscriptions: Vec<model::Subscription>) -> Spec {
    let provisioner = Arc::new(model::Provisioner {
        name: "in-memory".into(),
        config: model::Config::Memory,
        credentials: Ok(BTreeMap::new()),
        require_durability: None,
    });
    let channel = |of: &&str| {
        let channel = model::Channel {
            name: name(of),
            provisioner: Ok(provisioner.clone()),
            arguments: model::Arguments::Memory(model::MemoryArguments::default()),
            implicit: false,
            publishing: model::Publishing::default(),
        };
        (name(of), Arc::new(channel))
    };
    let subscriptions: BTreeMap<_, _> = subscriptions
        .into_iter()
        .map(|s| (s.name.clone(), Arc::new(s)))
        .collect();
    Spec {
        generation: 1,
        channels: channels.iter().map(channel).collect(),
        subscriptions,
        ..Spec::default()
    }
}

struct World {
    plane: Plane,
    backends: Arc<Scripted>,
    specs: watch::Sender<Arc<Spec>>,
}

impl World {
    /// `sink` and `other` are channels that end journeys: a cursor keeps what reaches them.
    async fn new(channels: &[&str], subscriptions: Vec<model::Subscription>) -> Self {
        Self::with(Scripted::default(), channels, subscriptions).await
    }

    async fn with(backends: Scripted, channels: &[&str], subscriptions: Vec<model::Subscription>) -> Self {
        let backends = Arc::new(backends);
        let settings = Settings {
            max_body_bytes: 1 << 20,
            max_hops: MAX_HOPS,
            ingress_url: "http://127.0.0.1:8080".into(),
            state_dir: None,
            is_exposed: false,
            remote: None,
        };
        let plane = Plane::new(settings, backends.clone(), &mut Registry::default()).unwrap();
        for end in ["sink", "other"] {
            let keeper = channel::CursorName::new("keeper");
            drop(
                backends
                    .get(&name(end))
                    .subscribe(&keeper, None, channel::Start::Latest)
                    .await
                    .unwrap(),
            );
        }
        let (specs, watched) = watch::channel(Arc::new(spec(&[channels, &["sink", "other"]].concat(), subscriptions)));
        let running = plane.clone();
        tokio::spawn(async move { running.run(watched, CancellationToken::new()).await });
        let world = Self { plane, backends, specs };
        world
            .eventually("ready", async |world| world.plane.readiness().ready)
            .await;
        world
    }

    fn channel(&self, of: &str) -> Arc<FaultyChannel> {
        self.backends.get(&name(of))
    }

    fn endpoint(&self, of: &str) -> Arc<ChannelEndpoint> {
        self.plane
            .ingress()
            .endpoints()
            .channels
            .get(&name(of).to_string())
            .unwrap()
            .clone()
    }

    /// Publishes another spec.
    fn publish(&self, generation: u64, channels: &[&str], subscriptions: Vec<model::Subscription>) {
        let mut spec = spec(&[channels, &["sink", "other"]].concat(), subscriptions);
        spec.generation = generation;
        self.specs.send_replace(Arc::new(spec));
    }

    async fn send(&self, to: &str, event: Event) {
        let _ = self.endpoint(to).store_one(event, &Origin::Outside).await.unwrap();
    }

    async fn arrived(&self, at: &str) -> Vec<Event> {
        self.channel(at)
            .read(Offset(0), 1000)
            .await
            .unwrap()
            .into_iter()
            .map(|record| record.event)
            .collect()
    }

    async fn ids(&self, at: &str) -> Vec<String> {
        self.arrived(at)
            .await
            .iter()
            .map(|event| event.id().to_owned())
            .collect()
    }

    /// Time is paused: waiting an hour for something that does not come takes no time.
    async fn eventually(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(3600);
        while !holds(self).await {
            assert!(Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn settled(&self, channel: &str) {
        self.eventually("everything is settled", async |world| {
            world
                .channel(channel)
                .depth()
                .cursors
                .iter()
                .all(|cursor| cursor.unsettled == 0)
        })
        .await;
    }
}

fn event(id: &str) -> Event {
    Event::builder(id, "/test", "test").finish().unwrap()
}

fn keyed(id: &str, key: &str) -> Event {
    event(id).edit().set("partitionkey", key).finish().unwrap()
}

/// Proves: CH-1, LP
#[tokio::test(start_paused = true)]
async fn an_event_is_forwarded_with_its_hops_counted() {
    let world = World::new(
        &["a"],
        vec![subscription("s", "a", "sink"), subscription("t", "a", "sink")],
    )
    .await;
    world.send("a", event("1")).await;
    world.settled("a").await;
    assert_eq!(
        world.ids("sink").await,
        ["1", "1"],
        "once per subscription, though the targets are equal"
    );
    assert_eq!(world.arrived("sink").await[0].text("headgatehops"), Some("1"));
}

/// Proves: DL-2, DL-3
#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_for_now_is_tried_again_on_schedule() {
    let world = World::new(&["a"], vec![subscription("s", "a", "sink")]).await;
    world
        .channel("sink")
        .fail_appends([Some(Fault::Unavailable), Some(Fault::Full), Some(Fault::DiskFull)]);
    let began = Instant::now();
    world.send("a", event("1")).await;
    world.settled("a").await;
    assert_eq!(world.ids("sink").await, ["1"]);
    // Each refusal asks for a second.
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
}

/// Proves: DL-5, CH-3
#[tokio::test(start_paused = true)]
async fn the_original_is_settled_only_after_its_letter_is_stored() {
    let mut dead = subscription("s", "a", "sink");
    dead.delivery.backoff.retry = 0;
    let world = World::new(&["a"], vec![dead]).await;
    world.channel("sink").fail_appends([Some(Fault::Closed)]);
    world
        .channel("a")
        .fail_dead_letters([Some(Fault::DiskFull), Some(Fault::Unavailable)]);
    world.send("a", event("1")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        world.channel("a").depth().unsettled,
        1,
        "no letter yet, so nothing is settled"
    );
    world.settled("a").await;
    let dead_letters = world.plane.dead_letters(Some(&name("s")), 10).await.unwrap();
    assert_eq!(dead_letters.len(), 1);
    assert_eq!(
        (
            dead_letters[0].event.id(),
            dead_letters[0].attempts,
            dead_letters[0].reason.as_str()
        ),
        ("1", 1, "SinkUnreachable")
    );
    assert_eq!(
        dead_letters[0].event,
        event("1"),
        "the letter keeps the event unchanged"
    );
}

/// Proves: DL-5, DL-6
#[tokio::test(start_paused = true)]
async fn a_dead_letter_sink_gets_the_letter_and_the_log_stays_empty() {
    let mut dead = subscription("s", "a", "sink");
    dead.delivery.backoff.retry = 1;
    dead.delivery.dead_letter_sink = Some(model::Target::Channel(name("other")));
    let world = World::new(&["a"], vec![dead]).await;
    world
        .channel("sink")
        .fail_appends([Some(Fault::Closed), Some(Fault::Closed)]);
    // The letter is tried again by the same policy.
    world.channel("other").fail_appends([Some(Fault::Unavailable)]);
    world.send("a", event("1")).await;
    world.settled("a").await;
    let dead_letter = world.arrived("other").await.remove(0);
    assert_eq!(dead_letter.text("knativeerrordest"), Some("channel default/sink"));
    assert_eq!(dead_letter.text("headgatesubscription"), Some("default/s"));
    assert_eq!(dead_letter.text("headgateattempts"), Some("2"));
    assert_eq!(dead_letter.text("knativeerrorcode"), None);
    assert_eq!(world.plane.dead_letters(None, 10).await.unwrap().len(), 0);
}

/// Proves: LP
#[tokio::test(start_paused = true)]
async fn a_loop_ends_in_a_dead_letter_that_names_the_channels() {
    let world = World::new(
        &["a", "b"],
        vec![subscription("s", "a", "b"), subscription("t", "b", "a")],
    )
    .await;
    world.send("a", event("1")).await;
    world.settled("a").await;
    world.settled("b").await;
    let dead_letters = world.plane.dead_letters(None, 10).await.unwrap();
    assert_eq!(dead_letters.len(), 1);
    assert_eq!(dead_letters[0].reason, "Loop");
    assert_eq!(dead_letters[0].event.text("headgatehops"), Some("5"));
    assert_eq!(
        dead_letters[0].event.text("headgatechain"),
        Some("default/a default/b default/a default/b default/a"),
    );
}

/// Proves: CH-6
#[tokio::test(start_paused = true)]
async fn a_parked_event_blocks_its_own_key_and_no_other() {
    let mut ordered = subscription("s", "a", "sink");
    ordered.ordering = model::Ordering::Key;
    ordered.max_in_flight = 1;
    let world = World::new(&["a"], vec![ordered]).await;
    world.channel("sink").fail_appends([Some(Fault::Unavailable)]);
    for (id, key) in [("1", "x"), ("2", "x"), ("3", "y"), ("4", "x")] {
        world.send("a", keyed(id, key)).await;
    }
    world.settled("a").await;
    assert_eq!(world.ids("sink").await, ["3", "1", "2", "4"]);
}

/// Proves: CH-6
#[tokio::test(start_paused = true)]
async fn total_order_holds_over_a_failure() {
    let mut ordered = subscription("s", "a", "sink");
    ordered.ordering = model::Ordering::Total;
    let world = World::new(&["a"], vec![ordered]).await;
    world
        .channel("sink")
        .fail_appends([None, Some(Fault::Unavailable), Some(Fault::Unavailable)]);
    for id in 0..50 {
        world.send("a", event(&id.to_string())).await;
    }
    world.settled("a").await;
    assert_eq!(
        world.ids("sink").await,
        (0..50).map(|id| id.to_string()).collect::<Vec<_>>()
    );
}

/// Proves: CH-2
#[tokio::test(start_paused = true)]
async fn a_dead_subscription_does_not_disturb_another() {
    let mut nowhere = subscription("dead", "a", "sink");
    nowhere.subscriber = Some(model::Target::Channel(name("absent")));
    let world = World::new(&["a"], vec![nowhere, subscription("alive", "a", "other")]).await;
    for id in 0..500 {
        world.send("a", event(&id.to_string())).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.ids("other").await.len(), 500);
}

/// Proves: DL-8
#[tokio::test(start_paused = true)]
async fn a_dead_sink_is_probed_with_one_event_and_closes_the_breaker_when_it_is_back() {
    let world = World::new(&["a"], vec![subscription("s", "a", "sink")]).await;
    // More failures than all tries of the first 64 events together would use up before the breaker opens.
    world
        .channel("sink")
        .fail_appends(std::iter::repeat_n(Some(Fault::Unavailable), 90));
    for id in 0..200 {
        world.send("a", event(&id.to_string())).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let open = || {
        world.plane.0.runtime.state.lock().subscriptions[&name("s")]
            .context
            .gate
            .outage()
            .is_some()
    };
    assert!(open(), "10 events in a row failed");
    world.settled("a").await;
    assert!(!open());
    assert_eq!(
        world.ids("sink").await.len(),
        200,
        "nothing was dead-lettered meanwhile"
    );
}

#[tokio::test(start_paused = true)]
async fn filters_leave_events_out_and_settle_them() {
    let mut filtered = subscription("s", "a", "sink");
    filtered.filters = vec![Filter::exact([("type", "wanted")])];
    let world = World::new(&["a"], vec![filtered]).await;
    world.send("a", event("1")).await;
    world
        .send("a", Event::builder("2", "/test", "wanted").finish().unwrap())
        .await;
    world.settled("a").await;
    assert_eq!(world.ids("sink").await, ["2"]);
}

/// Proves: DL-7
#[tokio::test(start_paused = true)]
async fn a_filter_that_fails_makes_a_letter_with_the_expression_the_attribute_and_the_value() {
    let mut filtered = subscription("s", "a", "sink");
    let expression = "type = 'wanted' AND INT(amount) > 100".parse().unwrap();
    filtered.filters = vec![Filter::cesql(expression).unwrap()];
    let world = World::new(&["a"], vec![filtered]).await;
    for (id, kind, amount) in [
        ("match", "wanted", "101"),
        ("none", "wanted", "100"),
        ("other", "other", "much"),
        ("broken", "wanted", "much"),
    ] {
        let event = Event::builder(id, "/test", kind).set("amount", amount).finish();
        world.send("a", event.unwrap()).await;
    }
    world.settled("a").await;
    assert_eq!(world.ids("sink").await, ["match"]);
    let dead_letters = world.plane.dead_letters(Some(&name("s")), 10).await.unwrap();
    let [dead_letter] = &dead_letters[..] else {
        panic!("{dead_letters:?}");
    };
    assert_eq!(
        (dead_letter.event.id(), &*dead_letter.reason, dead_letter.attempts),
        ("broken", "FilterError", 0)
    );
    assert_eq!(
        dead_letter.detail.as_deref(),
        Some(
            "filter type = 'wanted' AND INT(amount) > 100 failed at amount: 'much' is no Integer, where amount is 'much'"
        )
    );
    assert_eq!(
        dead_letter.event.text("headgatedetail"),
        None,
        "the event itself is as it was"
    );
}

/// Proves: CH-5
#[tokio::test(start_paused = true)]
async fn a_reload_neither_loses_nor_repeats() {
    let world = World::new(&["a"], vec![subscription("s", "a", "sink")]).await;
    for id in 0..100 {
        world.send("a", event(&id.to_string())).await;
        if id % 10 == 0 {
            let mut edited = subscription("s", "a", "sink");
            edited.max_in_flight = 1 + id;
            let mut desired = spec(&["a", "sink", "other"], vec![edited, subscription("t", "a", "other")]);
            desired.generation = 2 + id as u64;
            world.specs.send_replace(Arc::new(desired));
            tokio::task::yield_now().await;
        }
    }
    world.settled("a").await;
    let mut ids = world.ids("sink").await;
    ids.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(ids, (0..100).map(|id| id.to_string()).collect::<Vec<_>>());
}

/// Proves: CH-4
#[tokio::test(start_paused = true)]
async fn a_deleted_subscription_frees_what_only_it_held() {
    let mut paused = subscription("s", "a", "sink");
    paused.paused = true;
    let world = World::new(&["a"], vec![paused]).await;
    world.send("a", event("1")).await;
    assert_eq!(world.channel("a").depth().unsettled, 1);
    let mut desired = spec(&["a", "sink", "other"], vec![]);
    desired.generation = 2;
    world.specs.send_replace(Arc::new(desired));
    world
        .eventually("freed", async |world| world.channel("a").depth().cursors.is_empty())
        .await;
    assert_eq!(world.channel("a").depth().unsettled, 0);
}

/// Proves: CH-1, CH-4
#[tokio::test(start_paused = true)]
async fn a_cursor_that_the_spec_does_not_name_is_forgotten_once_its_subscription_is_certainly_gone() {
    let world = World::new(&["a"], vec![]).await;
    let late = world.channel("late");
    let made = [
        ("heard-of-elsewhere", Some("1")),
        ("deleted", Some("2")),
        ("made-anew", Some("3")),
        ("nobodys", None),
    ];
    for (subscription, owner) in made {
        let cursor = channel::CursorName::new(name(subscription).to_string());
        let start = channel::Start::Latest;
        drop(late.subscribe(&cursor, owner, start).await.unwrap());
    }
    let there = [("heard-of-elsewhere", "1"), ("made-anew", "4")];
    *world.backends.there.lock() = there
        .map(|(subscription, uid)| (name(subscription), Some(uid.to_owned())))
        .into();
    let mut wider = spec(&["a", "late", "sink", "other"], vec![]);
    wider.generation = 2;
    world.specs.send_replace(Arc::new(wider));
    world
        .eventually("opened", async |world| world.plane.applied() == 2)
        .await;
    let left: Vec<String> = late
        .depth()
        .cursors
        .iter()
        .map(|cursor| cursor.name.to_string())
        .collect();
    assert_eq!(left, ["default/heard-of-elsewhere"]);
}

#[tokio::test(start_paused = true)]
async fn a_paused_subscription_keeps_its_place_and_goes_on_when_resumed() {
    let world = World::new(&["a"], vec![subscription("s", "a", "sink")]).await;
    world.plane.pause(&name("s")).await.unwrap();
    for id in ["1", "2"] {
        world.send("a", event(id)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.arrived("sink").await.is_empty());
    world.plane.resume(&name("s")).await.unwrap();
    world.settled("a").await;
    assert_eq!(world.ids("sink").await, ["1", "2"]);
    assert!(world.plane.pause(&name("absent")).await.is_err());
}

/// Proves: CH-7
#[tokio::test(start_paused = true)]
async fn a_redriven_letter_is_removed_once_it_is_delivered_and_only_then() {
    let mut dead = subscription("s", "a", "sink");
    dead.delivery.backoff.retry = 0;
    let world = World::new(&["a"], vec![dead]).await;
    world
        .channel("sink")
        .fail_appends([Some(Fault::Closed), Some(Fault::Closed), Some(Fault::Closed)]);
    world.send("a", event("1")).await;
    world.send("a", event("2")).await;
    world.settled("a").await;
    let dead_letters = async || world.plane.dead_letters(Some(&name("s")), 10).await.unwrap();
    assert_eq!(dead_letters().await.len(), 2);
    let only = |id: &str| Redrive {
        ids: vec![id.into()],
        ..Redrive::default()
    };
    assert!(world.plane.redrive(&name("s"), only("absent")).await.is_err());
    let dry = Redrive {
        dry_run: true,
        ..Redrive::default()
    };
    assert_eq!(world.plane.redrive(&name("s"), dry).await.unwrap().matched(), 2);
    // The third scripted failure: the event dies again, and its new letter replaces the old one.
    world.plane.redrive(&name("s"), only("1")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(dead_letters().await.len(), 2);
    assert!(world.arrived("sink").await.is_empty());
    world.plane.redrive(&name("s"), Redrive::default()).await.unwrap();
    world
        .eventually("the log is empty", async |world| {
            world.plane.dead_letters(None, 10).await.unwrap().is_empty()
        })
        .await;
    let mut ids = world.ids("sink").await;
    ids.sort();
    assert_eq!(ids, ["1", "2"]);
}

/// Proves: OP-1, CH-3
#[tokio::test(start_paused = true)]
async fn a_drain_finishes_tries_and_gives_waits_back() {
    let world = World::new(&["a"], vec![subscription("s", "a", "sink")]).await;
    world.channel("sink").fail_appends([Some(Fault::Unavailable)]);
    world.send("a", event("parked")).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let began = Instant::now();
    world.plane.drain(Instant::now() + Duration::from_secs(30)).await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "an event in backoff does not hold the drain up"
    );
    assert!(
        world
            .endpoint("a")
            .store_one(event("late"), &Origin::Outside)
            .await
            .is_err()
    );
    assert!(!world.plane.readiness().ready);
}

/// Proves: RP-2
#[tokio::test(start_paused = true)]
async fn without_a_subscriber_the_event_itself_goes_to_the_reply_target() {
    let mut forwarding = subscription("s", "a", "sink");
    forwarding.subscriber = None;
    forwarding.reply = Some(model::Target::Channel(name("other")));
    let world = World::new(&["a"], vec![forwarding]).await;
    world.channel("other").fail_appends([Some(Fault::Unavailable)]);
    world.send("a", event("1")).await;
    world.settled("a").await;
    assert_eq!(world.ids("other").await, ["1"]);
}

/// Proves: OP-3
#[tokio::test(start_paused = true)]
async fn a_channel_that_cannot_be_read_for_a_while_goes_on_by_itself() {
    let world = World::new(&["a"], vec![subscription("s", "a", "sink")]).await;
    world.channel("a").fail_reads(3);
    world.send("a", event("1")).await;
    world.settled("a").await;
    assert_eq!(world.ids("sink").await, ["1"]);
}
