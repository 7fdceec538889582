//! Changes that people and other programs make to a channel's topic, while it is open and while it is not.

use std::{collections::BTreeSet, time::Duration};

use channel::{Channel as _, Cursor, CursorName, Delivered, Disposition, Start};
use event::Event;
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, Producer as _, ThreadedProducer},
};
use tokio::time::Instant;

use super::Broker;
use crate::{KafkaBroker, KafkaChannel, Settings, reader::Ends};

const PATIENCE: Duration = Duration::from_secs(120);

fn numbered(number: usize) -> Event {
    let event = Event::builder(&number.to_string(), "/topics", "t");
    event.finish().expect("a valid event")
}

async fn append(channel: &KafkaChannel, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let _ = channel.append(&[numbered(number)]).await.expect("a stored event");
    }
}

async fn open(servers: &str, settings: &Settings) -> KafkaChannel {
    let broker = Broker::on(servers);
    KafkaBroker::open(broker.cluster, settings).await.expect("a channel")
}

async fn subscribe(channel: &KafkaChannel) -> Box<dyn Cursor> {
    let name = CursorName::new("default/s");
    channel.subscribe(&name, None, Start::Latest).await.expect("a cursor")
}

/// Takes and settles events until all of these came; what came, in order.
async fn settle(cursor: &mut Box<dyn Cursor>, desired: &[&str]) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while desired.iter().any(|id| !seen.iter().any(|seen| seen == id)) {
        let page = tokio::time::timeout_at(deadline, cursor.next(64)).await;
        let page = page.unwrap_or_else(|_| panic!("only {seen:?} came, not all of {desired:?}"));
        for delivery in page.expect("deliveries") {
            seen.push(delivery.event().id().to_owned());
            let proof = Delivered::by_status(204).expect("a 2xx");
            // It comes again when its partition has gone.
            let _ = delivery.ack(Disposition::Accepted(proof));
        }
    }
    seen
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A program that writes in transactions.
struct Foreign(ThreadedProducer<rdkafka::producer::DefaultProducerContext>);

impl Foreign {
    async fn on(servers: &str) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", servers)
            .set("transactional.id", uuid::Uuid::now_v7().to_string());
        let producer: ThreadedProducer<_> = config.create().expect("a producer");
        let own = producer.clone();
        let begun = tokio::task::spawn_blocking(move || own.init_transactions(PATIENCE)).await;
        begun.expect("an answer").expect("a producer of transactions");
        Self(producer)
    }

    /// Begins a transaction with one event.
    async fn write(&self, topic: &str, id: &str) {
        let (producer, topic, id) = (self.0.clone(), topic.to_owned(), id.to_owned());
        let written = tokio::task::spawn_blocking(move || {
            producer.begin_transaction().expect("a transaction");
            let event = Event::builder(&id, "/foreign", "t").finish().expect("an event");
            let mut headers = rdkafka::message::OwnedHeaders::new();
            for (name, value) in event::kafka_form::headers(&event) {
                headers = headers.insert(rdkafka::message::Header {
                    key: &name,
                    value: Some(value.as_bytes()),
                });
            }
            let record = BaseRecord::<(), [u8]>::to(&topic).headers(headers).payload(b"");
            producer.send(record).map_err(|(error, _)| error).expect("a record");
            producer.flush(PATIENCE).expect("it is written");
        });
        written.await.expect("a record");
    }

    async fn commit(&self) {
        let producer = self.0.clone();
        let committed = tokio::task::spawn_blocking(move || producer.commit_transaction(PATIENCE)).await;
        committed.expect("an answer").expect("a committed transaction");
    }
}

macro_rules! servers {
    () => {{
        let Some(servers) = servers::Kafka::shared().await else {
            return;
        };
        servers
    }};
}

/// The marker of a transaction takes an offset and is nothing to deliver.
///
/// Proves: CH-5
#[tokio::test(flavor = "multi_thread")]
async fn a_transactions_marker_is_not_unsettled_before_or_after_a_restart() {
    let servers = servers!();
    let settings = Broker::on(servers).settings;
    let channel = open(servers, &settings).await;
    let mut cursor = subscribe(&channel).await;
    append(&channel, 0..2).await;
    let foreign = Foreign::on(servers).await;
    foreign.write(&settings.topic, "foreign").await;
    foreign.commit().await;
    settle(&mut cursor, &["0", "1", "foreign"]).await;
    let all = |channel: &KafkaChannel| {
        let depth = channel.depth();
        depth.next.0 == 4 && depth.unsettled == 0
    };
    until("nothing unsettled while it runs", || all(&channel)).await;
    drop(cursor);
    channel.close().await;
    let again = open(servers, &settings).await;
    let mut cursor = subscribe(&again).await;
    until("nothing unsettled after a restart", || all(&again)).await;
    // Pages over the marker end at once.
    let begun = Instant::now();
    let read = again.read(channel::Offset(3), 10).await.expect("a page");
    assert!(
        read.is_empty() && begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    append(&again, 7..8).await;
    assert_eq!(settle(&mut cursor, &["7"]).await, ["7"], "nothing came twice");
    again.close().await;
}

/// An open transaction is noticed: subscriptions read up to it, and the topic reaches further.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_holds_back_what_was_written_after_it() {
    let servers = servers!();
    let broker = Broker::on(servers);
    let settings = broker.settings.clone();
    let channel = KafkaBroker::open(broker.cluster.clone(), &settings)
        .await
        .expect("a channel");
    append(&channel, 0..1).await;
    let foreign = Foreign::on(servers).await;
    foreign.write(&settings.topic, "foreign").await;
    append(&channel, 1..2).await;
    let ends = || async {
        let (topic, cluster) = (settings.topic.clone(), broker.cluster.clone());
        let asked = broker.cluster.reader.run(move |reader| {
            (
                reader.all_ends(&topic, 1).expect("ends"),
                cluster.follower.highs(&topic, 1).expect("ends"),
            )
        });
        asked.await.expect("an answer")
    };
    assert_eq!(ends().await, (vec![Ends { low: 0, high: 1 }], vec![3]));
    foreign.commit().await;
    // The coordinator answers before its marker is on the topic.
    let deadline = Instant::now() + PATIENCE;
    let ended = (vec![Ends { low: 0, high: 4 }], vec![4]);
    loop {
        let now = ends().await;
        if now == ended {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the transaction's marker does not come: {now:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    channel.close().await;
}

/// Proves: CH-1
#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_are_read_within_seconds() {
    let servers = servers!();
    let broker = Broker::on(servers);
    let settings = broker.settings.clone();
    let channel = KafkaBroker::open(broker.cluster.clone(), &settings)
        .await
        .expect("a channel");
    let mut cursor = subscribe(&channel).await;
    append(&channel, 0..1).await;
    settle(&mut cursor, &["0"]).await;
    broker.cluster.add_partitions(&settings.topic, 3).await;
    // Every broker hears of it in its own time.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let topic = settings.topic.clone();
        let asked = broker.cluster.reader.run(move |reader| reader.layout(&topic)).await;
        let layout = asked.expect("an answer").expect("a layout").expect("a topic");
        if layout.replicas.len() == 3 && layout.replicas.iter().all(|replicas| *replicas > 0) {
            break;
        }
        assert!(Instant::now() < deadline, "no partitions come");
    }
    let added = Instant::now();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    let producer: ThreadedProducer<_> = config.create().expect("a producer");
    for partition in 0..3 {
        let event = numbered(100 + usize::try_from(partition).expect("a number"));
        let mut headers = rdkafka::message::OwnedHeaders::new();
        for (name, value) in event::kafka_form::headers(&event) {
            headers = headers.insert(rdkafka::message::Header {
                key: &name,
                value: Some(value.as_bytes()),
            });
        }
        let record = BaseRecord::<(), [u8]>::to(&settings.topic);
        let record = record.partition(partition).headers(headers).payload(b"");
        producer.send(record).map_err(|(error, _)| error).expect("a record");
    }
    let flushed = tokio::task::spawn_blocking(move || producer.flush(PATIENCE)).await;
    flushed.expect("an answer").expect("they are written");
    let topic = settings.topic.clone();
    let ends = broker
        .cluster
        .reader
        .run(move |reader| reader.all_ends(&topic, 3))
        .await;
    let ends = ends.expect("an answer").expect("ends");
    assert_eq!(ends.iter().map(|ends| ends.high).collect::<Vec<_>>(), [2, 1, 1]);
    settle(&mut cursor, &["100", "101", "102"]).await;
    // Five minutes without being asked to look sooner.
    assert!(added.elapsed() < Duration::from_secs(60), "{:?}", added.elapsed());
    until("all partitions are counted", || {
        let depth = channel.depth();
        crate::offset::split(depth.next) == (2, 1) && depth.unsettled == 0
    })
    .await;
    let all = channel.read(channel::Offset(0), 10).await.expect("a page");
    assert_eq!(all.len(), 4, "all partitions are read");
    channel.close().await;
}

async fn recreated(broker: &Broker, settings: &Settings, count: usize) -> KafkaChannel {
    broker.cluster.delete_topic(&settings.topic).await;
    let deadline = Instant::now() + PATIENCE;
    let channel = loop {
        // Deleting takes the broker a moment.
        if let Ok(channel) = KafkaBroker::open(broker.cluster.clone(), settings).await
            && channel.append(&[numbered(100)]).await.is_ok()
        {
            break channel;
        }
        assert!(Instant::now() < deadline, "the topic is not made anew");
    };
    append(&channel, 101..100 + count).await;
    channel
}

/// The cursor began at 5, and brokers forget a group's commits with its topic.
///
/// Proves: CH-1, CH-9
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_while_nobody_looked_is_delivered_from_its_beginning() {
    let servers = servers!();
    let broker = Broker::on(servers);
    let settings = broker.settings.clone();
    let channel = open(servers, &settings).await;
    append(&channel, 0..5).await;
    let mut cursor = subscribe(&channel).await;
    append(&channel, 5..8).await;
    assert_eq!(settle(&mut cursor, &["5", "6", "7"]).await, ["5", "6", "7"]);
    drop(cursor);
    channel.close().await;
    drop(channel);
    recreated(&broker, &settings, 15).await.close().await;
    let again = open(servers, &settings).await;
    let mut cursor = subscribe(&again).await;
    let desired: Vec<String> = (100..115).map(|number| number.to_string()).collect();
    let desired: Vec<&str> = desired.iter().map(String::as_str).collect();
    let seen = settle(&mut cursor, &desired).await;
    assert_eq!(seen.len(), 15, "{seen:?}");
    assert_eq!(again.depth().gaps, [], "nobody missed anything that is known of");
    again.close().await;
}

/// A group may lose its commits in other ways; then the cursor goes on where it began.
///
/// Proves: CH-4
#[tokio::test(flavor = "multi_thread")]
async fn without_commits_a_cursor_of_the_same_topic_goes_on_where_it_began() {
    let servers = servers!();
    let broker = Broker::on(servers);
    let settings = broker.settings.clone();
    let channel = open(servers, &settings).await;
    append(&channel, 0..5).await;
    let mut cursor = subscribe(&channel).await;
    append(&channel, 5..8).await;
    settle(&mut cursor, &["5", "6", "7"]).await;
    drop(cursor);
    channel.close().await;
    broker
        .cluster
        .delete_group(&crate::group::group_id(&settings.topic, "default/s"))
        .await;
    let again = open(servers, &settings).await;
    let mut cursor = subscribe(&again).await;
    assert_eq!(settle(&mut cursor, &["5", "6", "7"]).await, ["5", "6", "7"]);
    again.close().await;
}

/// Events of the former topic that were settled do not count as missing.
///
/// Proves: CH-9
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_while_it_is_read_misses_only_what_was_not_settled() {
    let servers = servers!();
    let broker = Broker::on(servers);
    let settings = broker.settings.clone();
    let channel = KafkaBroker::open(broker.cluster.clone(), &settings)
        .await
        .expect("a channel");
    let mut cursor = subscribe(&channel).await;
    append(&channel, 0..10).await;
    let all: BTreeSet<String> = (0..10).map(|number| number.to_string()).collect();
    let desired: Vec<&str> = all.iter().map(String::as_str).collect();
    settle(&mut cursor, &desired).await;
    broker.cluster.delete_topic(&settings.topic).await;
    let deadline = Instant::now() + PATIENCE;
    while channel.append(&[numbered(10)]).await.is_err() {
        assert!(
            Instant::now() < deadline,
            "no append succeeded after the topic was deleted"
        );
    }
    settle(&mut cursor, &["10"]).await;
    let missing: u64 = channel.depth().gaps.iter().map(|gap| gap.to.0 - gap.from.0).sum();
    assert_eq!(missing, 0, "{:?}", channel.depth().gaps);
    until("nothing unsettled", || channel.depth().unsettled == 0).await;
    channel.close().await;
}
