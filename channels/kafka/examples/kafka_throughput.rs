//! Appends through the channel against the bare client with the same records and settings, in the same run on the same broker.
//!
//! `cargo run --profile dist -p channel-kafka --example kafka_throughput -- [SECONDS]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people measuring")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use channel::Channel;
use channel_kafka::{Cluster, Connection, KafkaBroker, Security, Settings};
use event::{Event, kafka_form};
use rdkafka::{
    ClientConfig, ClientContext,
    config::FromClientConfigAndContext,
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use tokio::time::Instant;

const ROUNDS: usize = 3;
const BYTES: usize = 1 << 10;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let seconds = std::env::args().nth(1).map_or(3, |seconds| seconds.parse().unwrap());
    let time = Duration::from_secs(seconds);
    let servers = servers::Kafka::shared().await.unwrap();
    let connection = Connection {
        bootstrap_servers: servers.to_owned(),
        security: Security::default(),
    };
    let cluster = Cluster::new(connection).unwrap();
    println!("{:36} {:>10} {:>8}", "1 KiB", "events/s", "ratio");
    for round in 0..ROUNDS {
        let settings = Settings {
            topic: format!("throughput.{}.{round}", std::process::id()),
            partitions: None,
            replication: None,
            retention: None,
            max_event_bytes: None,
            key_as_partition_key: true,
        };
        let channel: Arc<dyn Channel> = Arc::new(KafkaBroker::open(cluster.clone(), &settings).await.unwrap());
        let topic = settings.topic.clone();
        let servers = servers.to_owned();
        let bare = tokio::task::spawn_blocking(move || bare(&servers, &topic, time))
            .await
            .unwrap();
        println!("{:36} {bare:>10.0} {:>8.2}", "the client, pipelined", 1.0);
        for (tasks, batch) in [(1, 1), (1024, 1), (64, 64)] {
            let rate = through_channel(&channel, tasks, batch, time).await;
            println!(
                "{:36} {rate:>10.0} {:>8.2}",
                format!("{tasks} tasks, batches of {batch}"),
                rate / bare
            );
        }
        channel.close().await;
    }
}

fn event() -> Event {
    Event::builder(
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "/bench/throughput",
        "dev.headgate.bench",
    )
    .data("application/json", Bytes::from(vec![b'x'; BYTES]))
    .finish()
    .unwrap()
}

#[derive(Clone, Default)]
struct Count(Arc<AtomicU64>);

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        result.as_ref().unwrap();
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// As many records under way as the client's queue takes.
fn bare(servers: &str, topic: &str, time: Duration) -> f64 {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("batch.size", (256 << 10).to_string())
        .set("queue.buffering.max.ms", "0")
        .set("queue.buffering.max.messages", "65536");
    let count = Count::default();
    let producer = ThreadedProducer::from_config_and_context(&config, count.clone()).unwrap();
    let event = event();
    let started = Instant::now();
    while started.elapsed() < time {
        let mut headers = OwnedHeaders::new_with_capacity(12);
        for (name, value) in kafka_form::headers(&event) {
            headers = headers.insert(Header {
                key: &name,
                value: Some(value.as_bytes()),
            });
        }
        let record = BaseRecord::<'_, [u8], [u8]>::to(topic)
            .payload(event.data())
            .headers(headers);
        if producer.send(record).is_err() {
            // Its queue is full.
            producer.poll(Duration::from_millis(1));
        }
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    count.0.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

async fn through_channel(channel: &Arc<dyn Channel>, tasks: usize, batch: usize, time: Duration) -> f64 {
    let count = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (channel, count, events) = (channel.clone(), count.clone(), vec![event(); batch]);
        writers.spawn(async move {
            while started.elapsed() < time {
                let _ = channel.append(&events).await.unwrap();
                count.fetch_add(events.len() as u64, Ordering::Relaxed);
            }
        });
    }
    writers.join_all().await;
    count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}
