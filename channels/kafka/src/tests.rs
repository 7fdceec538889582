//! The channel suite on a real broker, each case with a topic of its own.

use std::sync::Arc;

use async_trait::async_trait;
use channel::{Channel, suite::Backend};
use uuid::Uuid;

use crate::{Cluster, Connection, KafkaBroker, KafkaChannel, Security, Settings};

struct Broker {
    cluster: Arc<Cluster>,
    settings: Settings,
}

impl Broker {
    fn on(servers: &str) -> Self {
        let connection = Connection {
            bootstrap_servers: servers.to_owned(),
            security: Security::default(),
        };
        Self {
            cluster: Cluster::new(connection).expect("clients"),
            settings: Settings {
                topic: format!("suite.{}", Uuid::now_v7().simple()),
                partitions: None,
                replication: None,
                retention: None,
                max_event_bytes: Some((1 << 20) + (64 << 10)),
                key_as_partition_key: true,
            },
        }
    }
}

#[async_trait]
impl Backend for Broker {
    async fn open(&self) -> Arc<dyn Channel> {
        let opened = KafkaBroker::open(self.cluster.clone(), &self.settings).await;
        Arc::new(opened.expect("a channel"))
    }

    /// Only the broker's disk bounds a topic.
    async fn open_small(&self) -> Option<Arc<dyn Channel>> {
        None
    }

    async fn crash(&self, channel: Arc<dyn Channel>) {
        drop(channel);
    }
}

mod moves;
mod topics;

mod suite {
    use super::Broker;

    macro_rules! on_a_broker {
        () => {{
            let Some(servers) = servers::Kafka::shared().await else {
                return;
            };
            Broker::on(servers)
        }};
    }

    channel::cases!(on_a_broker!());
}

mod shared_work {
    use std::{collections::BTreeMap, time::Duration};

    use channel::{Cursor, CursorName, Delivered, Delivery, Disposition, ReadError, Start};
    use event::Event;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(180);

    fn keyed(number: usize) -> Event {
        let event = Event::builder(&number.to_string(), "/shared", "t").set("partitionkey", &(number % 16).to_string());
        event.finish().expect("a valid event")
    }

    async fn append(channel: &KafkaChannel, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let _ = channel.append(&[keyed(number)]).await.expect("a stored event");
        }
    }

    async fn subscribe(channel: &KafkaChannel) -> Box<dyn Cursor> {
        channel
            .subscribe(&CursorName::new("default/s"), None, Start::Latest)
            .await
            .expect("a cursor")
    }

    /// What comes within a second.
    async fn page(cursor: &mut Box<dyn Cursor>) -> Vec<Delivery> {
        let page = tokio::time::timeout(Duration::from_secs(1), cursor.next(8)).await;
        page.map(|page| page.expect("deliveries")).unwrap_or_default()
    }

    fn count(seen: &mut BTreeMap<usize, u32>, page: &[Delivery]) {
        for delivery in page {
            *seen
                .entry(delivery.event().id().parse().expect("a number"))
                .or_default() += 1;
        }
    }

    fn ack(page: Vec<Delivery>) -> usize {
        let proof = || Delivered::by_status(204).expect("a 2xx");
        page.into_iter()
            .filter_map(|delivery| delivery.ack(Disposition::Accepted(proof())).ok())
            .count()
    }

    async fn gateway(servers: &str, settings: &Settings) -> KafkaChannel {
        let broker = Broker::on(servers);
        KafkaBroker::open(broker.cluster, settings).await.expect("a channel")
    }

    /// Two gateways with one subscription: both get work, and what one had in its hands when it left the other gets.
    ///
    /// Proves: CH-1, CH-3, CH-5
    #[tokio::test(flavor = "multi_thread")]
    async fn gateways_share_a_subscription_and_take_over_from_each_other() {
        let Some(servers) = servers::Kafka::shared().await else {
            return;
        };
        let settings = Settings {
            partitions: Some(4),
            ..Broker::on(servers).settings
        };
        let first = gateway(servers, &settings).await;
        let mut own = subscribe(&first).await;
        append(&first, 0..100).await;
        let (mut seen, deadline) = (BTreeMap::new(), tokio::time::Instant::now() + PATIENCE);
        // One page stays in the first one's hands over the coming of the second.
        let held = page(&mut own).await;
        assert!(!held.is_empty());
        count(&mut seen, &held);
        let second = gateway(servers, &settings).await;
        let mut others = subscribe(&second).await;
        let mut by_second = 0;
        append(&first, 100..200).await;
        while (seen.len() < 200 || by_second == 0) && tokio::time::Instant::now() < deadline {
            for cursor in [&mut own, &mut others] {
                let page = page(cursor).await;
                count(&mut seen, &page);
                by_second += ack(page);
            }
            append(&second, 200..201).await;
        }
        assert!(seen.len() >= 200, "only {} events came", seen.len());
        // The second leaves with events in its hands; its clean end saves what it settled.
        append(&first, 300..340).await;
        let taken = page(&mut others).await;
        second.close().await;
        drop((taken, others, second));
        while (300..340).any(|number| !seen.contains_key(&number)) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the rest did not come: {seen:?}"
            );
            let page = page(&mut own).await;
            count(&mut seen, &page);
            ack(page);
        }
        drop(held);
        first.close().await;
    }

    /// Proves: CH-1, CH-4
    #[tokio::test(flavor = "multi_thread")]
    async fn a_gateway_that_is_behind_takes_no_cursor_away() {
        let Some(servers) = servers::Kafka::shared().await else {
            return;
        };
        let settings = Broker::on(servers).settings;
        let open = async || {
            let opened: Arc<dyn Channel> = Arc::new(gateway(servers, &settings).await);
            opened
        };
        channel::suite::a_gateway_that_is_behind_takes_no_cursor_away(open).await;
    }

    /// Proves: CH-3, CH-9
    #[tokio::test(flavor = "multi_thread")]
    async fn a_topic_that_was_deleted_and_came_back_is_delivered_from_its_beginning() {
        let Some(servers) = servers::Kafka::shared().await else {
            return;
        };
        let broker = Broker::on(servers);
        let channel = KafkaBroker::open(broker.cluster.clone(), &broker.settings)
            .await
            .expect("a channel");
        let mut cursor = subscribe(&channel).await;
        append(&channel, 0..10).await;
        let mut seen = BTreeMap::new();
        while seen.len() < 10 {
            let page = page(&mut cursor).await;
            count(&mut seen, &page);
            ack(page);
        }
        broker.cluster.delete_topic(&broker.settings.topic).await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        // Refused while there is no topic, and taken when there is one again: made anew by the broker or by a person.
        while channel.append(&[keyed(10)]).await.is_err() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "no append succeeded after the topic was deleted"
            );
        }
        while !seen.contains_key(&10) {
            assert!(tokio::time::Instant::now() < deadline, "what was accepted did not come");
            let page = page(&mut cursor).await;
            count(&mut seen, &page);
            ack(page);
        }
        channel.close().await;
    }

    /// Proves: OP-3, CH-3
    #[tokio::test(flavor = "multi_thread")]
    async fn a_cursor_whose_task_panics_ends_and_goes_on_when_it_is_opened_again() {
        let Some(servers) = servers::Kafka::shared().await else {
            return;
        };
        let broker = Broker::on(servers);
        let channel = gateway(servers, &broker.settings).await;
        let mut cursor = subscribe(&channel).await;
        append(&channel, 0..2).await;
        let mut held = Vec::new();
        while held.len() < 2 {
            held.extend(page(&mut cursor).await);
        }
        channel.broker().panic_in_cursor(&CursorName::new("default/s"));
        let ended = tokio::time::timeout(PATIENCE, cursor.next(8)).await;
        let ended = ended.expect("an end in time").map(|page| page.len());
        assert!(matches!(ended, Err(ReadError::Closed)), "{ended:?}");
        let first = held.remove(0);
        let proof = Delivered::by_status(204).expect("a 2xx");
        assert!(first.ack(Disposition::Accepted(proof)).is_err(), "nobody would save it");
        drop((held, cursor));
        let mut again = subscribe(&channel).await;
        let (mut seen, deadline) = (BTreeMap::new(), tokio::time::Instant::now() + PATIENCE);
        while seen.len() < 2 {
            assert!(tokio::time::Instant::now() < deadline, "they did not come again");
            let page = page(&mut again).await;
            count(&mut seen, &page);
            ack(page);
        }
        channel.close().await;
    }

    /// Proves: OP-3
    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_waits_for_ever_for_a_task_of_the_channel_that_panicked() {
        let Some(servers) = servers::Kafka::shared().await else {
            return;
        };
        let broker = Broker::on(servers);
        let channel = gateway(servers, &broker.settings).await;
        channel.broker().panic_in_appends();
        // Those that come at the same time wait for the same task.
        let (one, two, three) = (append(&channel, 0..1), append(&channel, 1..2), append(&channel, 2..3));
        tokio::time::timeout(PATIENCE, async { tokio::join!(one, two, three) })
            .await
            .expect("answers in time");
        tokio::time::timeout(PATIENCE, append(&channel, 3..4))
            .await
            .expect("an answer in time");
        channel.broker().panic_in_tables();
        // A cursor is registered when its record came back.
        let cursor = tokio::time::timeout(PATIENCE, subscribe(&channel)).await;
        drop(cursor.expect("a cursor in time"));
        let name = CursorName::new("default/other");
        let other = channel.subscribe(&name, None, Start::Earliest);
        let mut other = tokio::time::timeout(PATIENCE, other)
            .await
            .expect("a cursor in time")
            .expect("a cursor");
        let (mut seen, deadline) = (BTreeMap::new(), tokio::time::Instant::now() + PATIENCE);
        while seen.len() < 4 {
            assert!(tokio::time::Instant::now() < deadline, "only {seen:?} came");
            count(&mut seen, &page(&mut other).await);
        }
        channel.close().await;
    }
}
