//! Gateways that come and go: what was settled stays settled, and who goes is gone.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use channel::{Channel, Cursor, CursorName, Delivered, Delivery, Disposition, Start};
use event::Event;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

use super::{Broker, Cluster, KafkaBroker, KafkaChannel, Settings};

const GATEWAYS: usize = 3;
const IN_FLIGHT: usize = 16;
const SENDERS: usize = 8;

/// So that something is in flight at any moment.
const DELIVERY: Duration = Duration::from_millis(10);

const PATIENCE: Duration = Duration::from_secs(180);

/// What was delivered, by all gateways.
#[derive(Default)]
struct Seen {
    /// Whether an acknowledgement of the event counted, by its id.
    settled: Mutex<BTreeMap<String, bool>>,
    /// Events that came again after that.
    again: Mutex<Vec<String>>,
    deliveries: AtomicUsize,
}

impl Seen {
    fn delivered(&self, id: &str) {
        let was_settled = *self.settled.lock().entry(id.to_owned()).or_default();
        if was_settled {
            self.again.lock().push(id.to_owned());
        }
        self.deliveries.fetch_add(1, Ordering::SeqCst);
    }

    fn settled(&self, id: String) {
        self.settled.lock().insert(id, true);
    }

    async fn wait_for(&self, more: usize) {
        let (desired, until) = (self.deliveries.load(Ordering::SeqCst) + more, Instant::now() + PATIENCE);
        while self.deliveries.load(Ordering::SeqCst) < desired {
            assert!(Instant::now() < until, "no {more} deliveries more");
            sleep(DELIVERY).await;
        }
    }
}

/// A gateway with one subscription.
struct Gateway {
    channel: KafkaChannel,
    stop: watch::Sender<bool>,
    work: JoinHandle<()>,
}

impl Gateway {
    async fn start(servers: &str, settings: &Settings, seen: &Arc<Seen>) -> Self {
        let opened = KafkaBroker::open(Broker::on(servers).cluster, settings).await;
        let channel = opened.expect("a channel");
        let name = CursorName::new("default/s");
        let cursor = channel.subscribe(&name, None, Start::Earliest).await;
        let cursor = cursor.expect("a cursor");
        let (stop, stopped) = watch::channel(false);
        let work = tokio::spawn(work(cursor, seen.clone(), stopped));
        Self { channel, stop, work }
    }

    /// As a gateway drains: pulls no more, finishes what is in flight, closes.
    async fn end(self) {
        self.stop.send_replace(true);
        self.work.await.expect("work that ended");
        self.channel.close().await;
    }
}

async fn work(mut cursor: Box<dyn Cursor>, seen: Arc<Seen>, mut stop: watch::Receiver<bool>) {
    let mut in_flight = JoinSet::new();
    loop {
        let room = IN_FLIGHT - in_flight.len();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = in_flight.join_next(), if !in_flight.is_empty() => {}
            page = cursor.next(room), if room > 0 => for delivery in page.expect("deliveries") {
                in_flight.spawn(deliver(delivery, seen.clone()));
            },
        }
    }
    in_flight.join_all().await;
}

async fn deliver(delivery: Delivery, seen: Arc<Seen>) {
    let id = delivery.event().id().to_owned();
    seen.delivered(&id);
    sleep(DELIVERY).await;
    let proof = Delivered::by_status(204).expect("a 2xx");
    if delivery.ack(Disposition::Accepted(proof)).is_ok() {
        seen.settled(id);
    }
}

/// Returns when a subscription's group looks like this.
async fn group(cluster: &Arc<Cluster>, name: &str, desired: (&str, usize)) {
    let until = Instant::now() + PATIENCE;
    loop {
        let (state, members) = cluster.group(name).await.expect("groups");
        if (state.as_str(), members) == desired {
            return;
        }
        assert!(
            Instant::now() < until,
            "the group is {state} with {members} members, not {desired:?}"
        );
    }
}

/// With one partition the second gateway has none. Brokers would wait for one that is gone without a word until its session is over;
/// as long as they do, commits of the others are refused.
///
/// Proves: CH-3, CH-5
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_had_no_partitions_is_gone_from_the_group_when_it_is_closed() {
    let Some(servers) = servers::Kafka::shared().await else {
        return;
    };
    let (cluster, settings) = (Broker::on(servers).cluster, Broker::on(servers).settings);
    let (name, seen) = (format!("{}/default/s", settings.topic), Arc::default());
    let first = Gateway::start(servers, &settings, &seen).await;
    group(&cluster, &name, ("Stable", 1)).await;
    // It may go when it is one of the group, and while it waits to become one.
    for state in ["Stable", "PreparingRebalance"] {
        let second = Gateway::start(servers, &settings, &seen).await;
        group(&cluster, &name, (state, 2)).await;
        second.end().await;
        let (_, members) = cluster.group(&name).await.expect("groups");
        assert_eq!(
            members, 1,
            "members after one left that was there when the group was {state}"
        );
        group(&cluster, &name, ("Stable", 1)).await;
    }
    first.end().await;
    assert_eq!(cluster.group(&name).await.expect("groups").1, 0);
}

/// A gateway that hears of a subscription later than others finds its cursor when it opens the channel, and takes it for one that a
/// deleted subscription left. Made anew, it would begin anew, and no commit of the others would count.
///
/// Proves: CH-1, CH-4, CH-5
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_another_gateway_uses_is_not_forgotten_for_one_that_nobody_has() {
    let Some(servers) = servers::Kafka::shared().await else {
        return;
    };
    let (cluster, settings) = (Broker::on(servers).cluster, Broker::on(servers).settings);
    let (name, cursor) = (format!("{}/default/s", settings.topic), CursorName::new("default/s"));
    let first = Gateway::start(servers, &settings, &Arc::default()).await;
    group(&cluster, &name, ("Stable", 1)).await;
    let late = KafkaBroker::open(Broker::on(servers).cluster, &settings).await;
    let late = late.expect("a channel");
    let knows = || late.depth().cursors.iter().any(|known| known.name == cursor);
    late.delete(&cursor, None).await.expect("an answer");
    assert!(knows(), "another gateway's cursor is gone");
    first.end().await;
    late.delete(&cursor, None).await.expect("an answer");
    assert!(!knows(), "a cursor that nobody has is still there");
    late.close().await;
}

/// A rolling update under load: partitions move with every gateway that goes and comes.
///
/// Proves: CH-1, CH-3, CH-5
#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_does_not_come_again_when_gateways_are_replaced_one_by_one() {
    let Some(servers) = servers::Kafka::shared().await else {
        return;
    };
    let settings = Settings {
        partitions: Some(6),
        ..Broker::on(servers).settings
    };
    let seen = Arc::<Seen>::default();
    let mut gateways = Vec::new();
    for _ in 0..GATEWAYS {
        gateways.push(Gateway::start(servers, &settings, &seen).await);
    }
    let channel = KafkaBroker::open(Broker::on(servers).cluster, &settings).await;
    let channel = Arc::new(channel.expect("a channel"));
    let (stop, stopped) = watch::channel(false);
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (channel, stopped) = (channel.clone(), stopped.clone());
        senders.spawn(async move {
            let mut sent = 0;
            while !*stopped.borrow() {
                let event = Event::builder(&format!("{sender}-{sent}"), "/moves", "t").finish();
                let _ = channel
                    .append(&[event.expect("an event")])
                    .await
                    .expect("a stored event");
                sent += 1;
                sleep(DELIVERY).await;
            }
            sent
        });
    }
    seen.wait_for(200).await;
    for _ in 0..GATEWAYS {
        gateways.remove(0).end().await;
        seen.wait_for(50).await;
        gateways.push(Gateway::start(servers, &settings, &seen).await);
        seen.wait_for(50).await;
    }
    stop.send_replace(true);
    let sent: usize = senders.join_all().await.into_iter().sum();
    let until = Instant::now() + PATIENCE;
    while seen.settled.lock().values().filter(|settled| **settled).count() < sent {
        assert!(Instant::now() < until, "not all of {sent} events were delivered");
        sleep(DELIVERY).await;
    }
    for gateway in gateways {
        gateway.end().await;
    }
    channel.close().await;
    let again = seen.again.lock();
    assert!(
        again.is_empty(),
        "{} of {sent} events came again after they were settled, such as {}",
        again.len(),
        again[0]
    );
}
