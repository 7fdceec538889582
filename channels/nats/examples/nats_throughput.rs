//! Appends through the channel against the bare client with the same messages and settings, in the same run on the same server.
//! The ratio of one by one is to the client's one by one, that of batches to the client's batches of that size.
//!
//! `cargo run --profile dist -p channel-nats --example nats_throughput -- [SECONDS]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people measuring")]

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    HeaderMap,
    jetstream::{context::ContextBuilder, message::PublishMessage, stream},
};
use bytes::Bytes;
use channel::Channel;
use channel_nats::{Connection, NatsBroker, Security, Server, Settings};
use event::{Event, nats_form};
use tokio::time::Instant;

const ROUNDS: usize = 3;
const BYTES: usize = 1 << 10;
/// Events of an append, where an append is several.
const BATCH: usize = 64;
/// What a server takes in one batch at most: into one as large the channel puts appends that come at the same time.
const BATCH_MAX: usize = 1000;
/// Events that the bare client waits for at most.
const UNDER_WAY: usize = 4096;

static NUMBER: AtomicU64 = AtomicU64::new(0);

#[tokio::main(worker_threads = 2)]
async fn main() {
    let seconds = std::env::args().nth(1).map_or(3, |seconds| seconds.parse().unwrap());
    let time = Duration::from_secs(seconds);
    let servers = servers::Nats::shared().await.unwrap();
    let connection = Connection {
        servers: servers.to_owned(),
        security: Security::default(),
    };
    let server = Server::connect(connection).await.unwrap();
    println!("{:36} {:>10} {:>8}", "1 KiB", "events/s", "ratio");
    for round in 0..ROUNDS {
        let settings = Settings {
            stream: format!("throughput-{}-{round}", std::process::id()),
            ..Settings::default()
        };
        let channel: Arc<dyn Channel> = Arc::new(NatsBroker::open(server.clone(), &settings).await.unwrap());
        let bare = bare(servers, &format!("{}-bare", settings.stream), time).await;
        line("the client, one by one", bare, bare);
        for tasks in [1, 1024] {
            let rate = through_channel(&channel, tasks, 1, time).await;
            line(&format!("{tasks} tasks, one by one"), rate, bare);
        }
        let bare = bare_batches(servers, &format!("{}-batches", settings.stream), BATCH, time).await;
        let more = bare_batches(servers, &format!("{}-large", settings.stream), BATCH_MAX, time).await;
        line(&format!("the client, atomic batches of {BATCH}"), bare, bare);
        line(&format!("the client, atomic batches of {BATCH_MAX}"), more, bare);
        let rate = through_channel(&channel, 64, BATCH, time).await;
        line(&format!("64 tasks, batches of {BATCH}"), rate, bare);
        channel.close().await;
    }
}

fn line(what: &str, rate: f64, baseline: f64) {
    println!("{what:36} {rate:>10.0} {:>8.2}", rate / baseline);
}

/// Each with an id of its own: the same message twice is stored once.
fn event() -> Event {
    let id = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
    Event::builder(&id, "/bench/throughput", "dev.headgate.bench")
        .data("application/json", Bytes::from(vec![b'x'; BYTES]))
        .finish()
        .unwrap()
}

fn headers(event: &Event) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", event.id());
    for (name, value) in nats_form::headers(event) {
        headers.insert(&*name, &*value);
    }
    headers
}

async fn bare(servers: &str, name: &str, time: Duration) -> f64 {
    let client = async_nats::connect(servers).await.unwrap();
    let context = ContextBuilder::new().max_ack_inflight(UNDER_WAY * 2).build(client);
    let config = stream::Config {
        name: name.to_owned(),
        subjects: vec![name.to_owned()],
        ..stream::Config::default()
    };
    context.create_stream(config).await.unwrap();
    let (mut under_way, mut count) = (VecDeque::new(), 0_u64);
    let started = Instant::now();
    while started.elapsed() < time {
        let event = event();
        let headers = headers(&event);
        let message = PublishMessage::build().headers(headers).payload(event.data().clone());
        under_way.push_back(context.send_publish(name.to_owned(), message).await.unwrap());
        if under_way.len() >= UNDER_WAY {
            under_way.pop_front().unwrap().await.unwrap();
            count += 1;
        }
    }
    for ack in under_way {
        ack.await.unwrap();
        count += 1;
    }
    count as f64 / started.elapsed().as_secs_f64()
}

/// The same in atomic batches.
async fn bare_batches(servers: &str, name: &str, batch: usize, time: Duration) -> f64 {
    let client = async_nats::connect(servers).await.unwrap();
    let context = ContextBuilder::new()
        .max_ack_inflight(UNDER_WAY * 2)
        .build(client.clone());
    let config = stream::Config {
        name: name.to_owned(),
        subjects: vec![name.to_owned()],
        allow_atomic_publish: true,
        ..stream::Config::default()
    };
    context.create_stream(config).await.unwrap();
    let (mut under_way, mut count) = (VecDeque::new(), 0_u64);
    let started = Instant::now();
    while started.elapsed() < time {
        let id = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        for index in 1..=batch {
            let event = event();
            let mut headers = headers(&event);
            headers.insert("Nats-Batch-Id", &*id);
            headers.insert("Nats-Batch-Sequence", index.to_string());
            if index < batch {
                client
                    .publish_with_headers(name.to_owned(), headers, event.data().clone())
                    .await
                    .unwrap();
            } else {
                headers.insert("Nats-Batch-Commit", "1");
                let message = PublishMessage::build().headers(headers).payload(event.data().clone());
                under_way.push_back(context.send_publish(name.to_owned(), message).await.unwrap());
            }
        }
        if under_way.len() >= UNDER_WAY / batch {
            under_way.pop_front().unwrap().await.unwrap();
            count += batch as u64;
        }
    }
    for ack in under_way {
        ack.await.unwrap();
        count += batch as u64;
    }
    count as f64 / started.elapsed().as_secs_f64()
}

async fn through_channel(channel: &Arc<dyn Channel>, tasks: usize, batch: usize, time: Duration) -> f64 {
    let count = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (channel, count) = (channel.clone(), count.clone());
        writers.spawn(async move {
            while started.elapsed() < time {
                let events: Vec<Event> = (0..batch).map(|_| event()).collect();
                let _ = channel.append(&events).await.unwrap();
                count.fetch_add(events.len() as u64, Ordering::Relaxed);
            }
        });
    }
    writers.join_all().await;
    count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}
