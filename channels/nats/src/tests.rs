//! The channel suite on a real server, each case with a stream of its own.

use std::sync::Arc;

use async_trait::async_trait;
use channel::{Channel, suite::Backend};
use uuid::Uuid;

use crate::{Connection, NatsBroker, NatsChannel, Security, Server, Settings};

/// A stream that is full after a few hundred events.
const SMALL: u64 = 64 << 10;

struct Stream {
    server: Arc<Server>,
    settings: Settings,
}

impl Stream {
    async fn on(servers: &str) -> Self {
        let connection = Connection {
            servers: servers.to_owned(),
            security: Security::default(),
        };
        Self {
            server: Server::connect(connection).await.expect("a connection"),
            settings: Settings {
                stream: format!("suite_{}", Uuid::now_v7().simple()),
                max_event_bytes: Some((1 << 20) + (64 << 10)),
                ..Settings::default()
            },
        }
    }

    async fn channel(&self, settings: &Settings) -> NatsChannel {
        NatsBroker::open(self.server.clone(), settings)
            .await
            .expect("a channel")
    }
}

#[async_trait]
impl Backend for Stream {
    async fn open(&self) -> Arc<dyn Channel> {
        Arc::new(self.channel(&self.settings).await)
    }

    async fn open_small(&self) -> Option<Arc<dyn Channel>> {
        let small = Settings {
            max_bytes: Some(SMALL),
            ..self.settings.clone()
        };
        Some(Arc::new(self.channel(&small).await))
    }

    async fn crash(&self, channel: Arc<dyn Channel>) {
        drop(channel);
    }
}

mod suite {
    use super::Stream;

    macro_rules! on_a_server {
        () => {{
            let Some(servers) = servers::Nats::shared().await else {
                return;
            };
            Stream::on(servers).await
        }};
    }

    channel::cases!(on_a_server!());
}

/// Stands between a client and a server, until it falls silent: connections stay, nothing passes.
struct Proxy {
    address: String,
    silent: tokio::sync::watch::Sender<bool>,
}

impl Proxy {
    async fn to(server: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (silent, is_silent) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (server, mut is_silent) = (server.clone(), is_silent.clone());
                tokio::spawn(async move {
                    let mut server = tokio::net::TcpStream::connect(server).await.expect("a server");
                    tokio::select! {
                        _ = is_silent.wait_for(|silent| *silent) => {}
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                    }
                    std::future::pending::<()>().await;
                    drop((client, server));
                });
            }
        });
        Self { address, silent }
    }

    fn fall_silent(&self) {
        self.silent.send_replace(true);
    }
}

mod shared_work {
    use std::time::Duration;

    use channel::{Cursor, CursorName, Delivered, Delivery, Disposition, Offset, ReadError, Start};
    use event::Event;
    use tokio::time::Instant;

    use super::*;

    /// A dead gateway's consumer is free after 10 s, and what it had comes again as late.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn numbered(number: usize) -> Event {
        let event = Event::builder(&number.to_string(), "/shared", "t");
        event.finish().expect("a valid event")
    }

    /// Tasks that append at once, each its own batch.
    const TASKS: usize = 40;
    const BATCH: usize = 10;

    fn batch(task: usize) -> Vec<Event> {
        (task * BATCH..(task + 1) * BATCH).map(numbered).collect()
    }

    async fn append(channel: &NatsChannel, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let _ = channel.append(&[numbered(number)]).await.expect("a stored event");
        }
    }

    async fn subscribe(channel: &NatsChannel) -> Box<dyn Cursor> {
        let name = CursorName::new("default/s");
        channel.subscribe(&name, None, Start::Latest).await.expect("a cursor")
    }

    async fn take(cursor: &mut Box<dyn Cursor>, count: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let page = tokio::time::timeout(PATIENCE, cursor.next(count - taken.len())).await;
            taken.extend(page.expect("deliveries in time").expect("deliveries"));
        }
        taken
    }

    fn numbers(taken: &[Delivery]) -> Vec<usize> {
        let number = |delivery: &Delivery| delivery.event().id().parse().expect("a number");
        taken.iter().map(number).collect()
    }

    fn ack(taken: Vec<Delivery>) {
        for delivery in taken {
            let proof = Delivered::by_status(204).expect("a 2xx");
            delivery
                .ack(Disposition::Accepted(proof))
                .expect("a cursor that is there");
        }
    }

    async fn nothing(cursor: &mut Box<dyn Cursor>) {
        let page = tokio::time::timeout(Duration::from_millis(300), cursor.next(1)).await;
        assert!(page.is_err(), "something came");
    }

    macro_rules! server {
        () => {{
            let Some(servers) = servers::Nats::shared().await else {
                return;
            };
            Stream::on(servers).await
        }};
    }

    /// Proves: OP-3, CH-3
    #[tokio::test(flavor = "multi_thread")]
    async fn a_cursor_whose_task_panics_ends_and_goes_on_when_it_is_opened_again() {
        let stream = server!();
        let channel = stream.channel(&stream.settings).await;
        let mut cursor = subscribe(&channel).await;
        append(&channel, 0..2).await;
        let held = take(&mut cursor, 2).await;
        channel.broker().panic_in_cursor(&CursorName::new("default/s"));
        let ended = tokio::time::timeout(PATIENCE, cursor.next(8)).await;
        let ended = ended.expect("an end in time").map(|page| page.len());
        assert!(matches!(ended, Err(ReadError::Closed)), "{ended:?}");
        drop((held, cursor));
        let mut again = subscribe(&channel).await;
        let taken = take(&mut again, 2).await;
        assert_eq!(numbers(&taken), [0, 1]);
        ack(taken);
        channel.close().await;
    }

    /// A server that hangs blocks no caller of the channel: not a reload, not a status, not a close.
    ///
    /// Proves: CH-2
    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_falls_silent_answers_within_bounds_for_those_who_wait() {
        let Some(servers) = servers::Nats::shared().await else {
            return;
        };
        let behind = servers.split(',').next().expect("a server");
        let behind = behind.trim_start_matches("nats://").to_owned();
        let silent = Proxy::to(behind).await;
        let stream = Stream::on(&silent.address).await;
        let channel = stream.channel(&stream.settings).await;
        let mut cursor = subscribe(&channel).await;
        append(&channel, 0..1).await;
        assert_eq!(take(&mut cursor, 1).await.len(), 1);
        silent.fall_silent();
        let begun = Instant::now();
        let name = CursorName::new("default/other");
        let other = channel.subscribe(&name, None, Start::Latest);
        assert!(matches!(other.await.map(|_| ()), Err(ReadError::Unavailable(_))));
        let deleted = channel.delete(&CursorName::new("default/none"), None).await;
        assert!(deleted.is_err());
        let asked = Instant::now();
        let depth = channel.depth();
        assert!(asked.elapsed() < Duration::from_secs(1) && depth.cursors.len() == 1);
        drop(cursor);
        channel.close().await;
        // Two questions and an end, of 10 s each.
        assert!(begun.elapsed() < Duration::from_secs(35), "{:?}", begun.elapsed());
    }

    /// One gateway of two has the consumer; when it closes, the other goes on in stored order with what the first had not
    /// settled.
    ///
    /// Proves: CH-1, CH-3, CH-5
    #[tokio::test(flavor = "multi_thread")]
    async fn a_gateway_that_closes_hands_over_what_it_had_in_stored_order() {
        let stream = server!();
        if !crate::consumer::pins(&stream.server) {
            return;
        }
        let first = stream.channel(&stream.settings).await;
        let mut own = subscribe(&first).await;
        append(&first, 0..10).await;
        let mut taken = take(&mut own, 10).await;
        let second = stream.channel(&stream.settings).await;
        let mut others = subscribe(&second).await;
        append(&second, 10..20).await;
        nothing(&mut others).await;
        ack(taken.drain(2..5).collect());
        first.close().await;
        let rest = take(&mut others, 17).await;
        let expected: Vec<usize> = (0..20).filter(|number| !(2..5).contains(number)).collect();
        assert_eq!(numbers(&rest), expected);
        ack(rest);
        second.close().await;
    }

    /// Proves: CH-3, CH-6
    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_dead_gateway_had_comes_before_everything_newer() {
        let stream = server!();
        let first = stream.channel(&stream.settings).await;
        let mut own = subscribe(&first).await;
        append(&first, 0..300).await;
        let mut taken = take(&mut own, 300).await;
        ack(taken.drain(100..200).collect());
        drop((taken, own, first));
        let second = stream.channel(&stream.settings).await;
        append(&second, 300..320).await;
        let mut cursor = subscribe(&second).await;
        let mut rest = Vec::new();
        while rest.last().is_none_or(|last: &Delivery| last.event().id() != "319") {
            rest.extend(take(&mut cursor, 1).await);
        }
        // Acknowledgements of the last moment may have died with it, any number of them.
        let came = numbers(&rest);
        assert!(came.is_sorted_by(|one, next| one < next), "{came:?}");
        let unsettled = (0..100).chain(200..320);
        let missing: Vec<usize> = unsettled.filter(|number| !came.contains(number)).collect();
        assert!(missing.is_empty(), "{missing:?} did not come");
        ack(rest);
        second.close().await;
    }

    /// Proves: CH-1, CH-4
    #[tokio::test(flavor = "multi_thread")]
    async fn a_gateway_that_is_behind_takes_no_cursor_away() {
        let stream = server!();
        channel::suite::a_gateway_that_is_behind_takes_no_cursor_away(async || stream.open().await).await;
    }

    /// Proves: CH-3, CH-4
    #[tokio::test(flavor = "multi_thread")]
    async fn a_consumer_that_somebody_deleted_is_made_again_where_it_was() {
        let stream = server!();
        let channel = stream.channel(&stream.settings).await;
        let mut cursor = subscribe(&channel).await;
        append(&channel, 0..10).await;
        ack(take(&mut cursor, 10).await);
        let consumer = crate::names::consumer("default/s");
        let deleted = stream.server.delete_consumer(&stream.settings.stream, &consumer).await;
        deleted.expect("a deleted consumer");
        append(&channel, 10..20).await;
        let rest = take(&mut cursor, 10).await;
        assert_eq!(numbers(&rest), (10..20).collect::<Vec<_>>());
        channel.close().await;
    }

    /// Proves: CH-3, CH-9
    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_that_was_deleted_is_made_again_and_what_is_lost_is_a_gap() {
        let stream = server!();
        let channel = stream.channel(&stream.settings).await;
        let mut cursor = subscribe(&channel).await;
        append(&channel, 0..10).await;
        ack(take(&mut cursor, 4).await);
        let name = &stream.settings.stream;
        stream
            .server
            .context
            .delete_stream(name)
            .await
            .expect("a deleted stream");
        let deadline = Instant::now() + PATIENCE;
        // Refused while there is no stream.
        while channel.append(&[numbered(10)]).await.is_err() {
            assert!(
                Instant::now() < deadline,
                "no append succeeded after the stream was deleted"
            );
        }
        // Before what is held is taken: an event that is settled is not lost.
        while !channel.depth().gaps.iter().any(|gap| gap.from == Offset(5)) {
            assert!(Instant::now() < deadline, "{:?}", channel.depth().gaps);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(numbers(&take(&mut cursor, 1).await), [10]);
        channel.close().await;
    }

    /// Proves: DL-5
    #[tokio::test(flavor = "multi_thread")]
    async fn a_message_that_is_no_event_becomes_a_letter_and_holds_nothing_up() {
        let stream = server!();
        let channel = stream.channel(&stream.settings).await;
        let mut cursor = subscribe(&channel).await;
        append(&channel, 0..1).await;
        let published = stream
            .server
            .context
            .publish(stream.settings.stream.clone(), "no event".into());
        published.await.expect("published").await.expect("stored");
        append(&channel, 1..2).await;
        let taken = take(&mut cursor, 2).await;
        assert_eq!(numbers(&taken), [0, 1]);
        ack(taken);
        let dead_letters = channel.dead_letters().list(Offset(0), 10).await.expect("letters");
        assert_eq!(dead_letters.len(), 1);
        let facts = channel::DeadLetterFacts::decode(&dead_letters[0].facts).expect("facts");
        assert_eq!((&*facts.reason, &*facts.subscription), ("NotAnEvent", "default/s"));
        assert_eq!(dead_letters[0].event.data(), &b"no event"[..]);
        // A message that another program writes into the stream of dead letters is counted, listed and removed as any letter.
        let dead_letter_stream = format!("{}-dead-letters", stream.settings.stream);
        let published = stream.server.context.publish(dead_letter_stream, "foreign".into());
        published.await.expect("published").await.expect("stored");
        let dead_letters = channel.dead_letters().list(Offset(0), 10).await.expect("letters");
        assert_eq!(dead_letters.len(), 2);
        assert_eq!(
            (&dead_letters[1].facts[..], &dead_letters[1].event.data()[..]),
            (&b""[..], &b"foreign"[..])
        );
        assert_eq!(
            channel
                .dead_letters()
                .remove(&[dead_letters[1].offset])
                .await
                .expect("removed"),
            1
        );
        assert_eq!(channel.depth().unsettled, 0);
        channel.close().await;
    }

    /// Batches that come at once go together; each is whole, and one that was stored before disturbs no other.
    ///
    /// Proves: CH-6, IN-5
    #[tokio::test(flavor = "multi_thread")]
    async fn batches_that_go_together_stay_whole_and_a_repeated_one_is_stored_once() {
        let stream = server!();
        let channel = Arc::new(stream.channel(&stream.settings).await);
        let append = |task: usize| {
            let channel = channel.clone();
            async move { channel.append(&batch(task)).await.expect("a stored batch").last() }
        };
        let first = append(0).await;
        let mut appending = tokio::task::JoinSet::new();
        for task in (0..TASKS).chain([0, 0]) {
            appending.spawn(append(task));
        }
        let offsets: std::collections::BTreeSet<Offset> = appending.join_all().await.into_iter().collect();
        assert_eq!(
            offsets.len(),
            TASKS,
            "each its own, the repeated ones the first one's: {offsets:?}"
        );
        assert!(offsets.contains(&first));
        let page = channel.read(Offset(0), TASKS * BATCH + 1).await.expect("a page");
        let found: Vec<usize> = page
            .iter()
            .map(|record| record.event.id().parse().expect("a number"))
            .collect();
        assert_eq!(found.len(), TASKS * BATCH);
        for batch in found.chunks(BATCH) {
            assert!(
                batch[0].is_multiple_of(BATCH) && batch.is_sorted_by(|one, next| one + 1 == *next),
                "{batch:?}"
            );
        }
        for last in offsets {
            let record = page.iter().find(|record| record.offset == last).expect("its place");
            assert!(record.event.id().ends_with('9'), "{last} is not the last of a batch");
        }
        channel.close().await;
    }

    /// The leader of a group may be dropped in the middle: the others send again, and are stored once.
    ///
    /// Proves: IN-1
    #[tokio::test(flavor = "multi_thread")]
    async fn appends_that_go_together_have_each_its_own_place_also_when_some_are_dropped() {
        let stream = server!();
        let channel: Arc<dyn Channel> = Arc::new(stream.channel(&stream.settings).await);
        let page = channel::suite::append_many_at_once(&channel, 10, 100).await;
        let mut ids: Vec<&str> = page.iter().map(|record| record.event.id()).collect();
        ids.sort_unstable();
        assert!(
            ids.is_sorted_by(|one, next| one < next),
            "one was stored twice: {ids:?}"
        );
        channel.close().await;
    }

    /// Proves: IN-5
    #[tokio::test(flavor = "multi_thread")]
    async fn batches_on_a_stream_that_takes_no_atomic_ones_lie_next_to_each_other() {
        let stream = server!();
        let config = async_nats::jetstream::stream::Config {
            name: stream.settings.stream.clone(),
            subjects: vec![stream.settings.stream.clone()],
            ..async_nats::jetstream::stream::Config::default()
        };
        stream
            .server
            .create_stream(&config)
            .await
            .expect("a stream of somebody else");
        let channel = Arc::new(stream.channel(&stream.settings).await);
        let mut appending = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let channel = channel.clone();
            appending.spawn(async move { (task, channel.append(&batch(task)).await.expect("a stored batch").last()) });
        }
        let offsets = appending.join_all().await;
        let page = channel.read(Offset(0), TASKS * BATCH + 1).await.expect("a page");
        assert_eq!(page.len(), TASKS * BATCH);
        for (task, last) in offsets {
            let end = page.iter().position(|record| record.offset == last).expect("its place");
            let found: Vec<&str> = page[end + 1 - BATCH..=end]
                .iter()
                .map(|record| record.event.id())
                .collect();
            let batch = batch(task);
            assert_eq!(found, batch.iter().map(Event::id).collect::<Vec<_>>());
        }
        channel.close().await;
    }

    /// Its limits apply and are told; nothing of it is changed.
    ///
    /// Proves: CH-8
    #[tokio::test(flavor = "multi_thread")]
    async fn an_adopted_stream_stays_as_it_is_and_its_shortfalls_are_told() {
        let stream = server!();
        let config = async_nats::jetstream::stream::Config {
            name: stream.settings.stream.clone(),
            subjects: vec![format!("{}.*", stream.settings.stream)],
            max_messages: 1000,
            ..async_nats::jetstream::stream::Config::default()
        };
        let made = stream
            .server
            .create_stream(&config)
            .await
            .expect("a stream of somebody else");
        let settings = Settings {
            max_bytes: Some(1 << 30),
            ..stream.settings.clone()
        };
        let channel = stream.channel(&settings).await;
        let findings = channel.findings().join("\n");
        for setting in [
            "discard to new",
            "max_msgs",
            "--max-bytes 1073741824",
            "replicas 3",
            "monitoringURLs",
        ] {
            assert!(findings.contains(setting), "{setting} is not in {findings}");
        }
        assert_eq!(channel.promises().durability, channel::Durability::Process);
        let mut cursor = subscribe(&channel).await;
        append(&channel, 0..3).await;
        assert_eq!(numbers(&take(&mut cursor, 3).await), [0, 1, 2]);
        let now = stream
            .server
            .stream_info(&settings.stream)
            .await
            .expect("an answer")
            .expect("a stream");
        assert_eq!(now.config, made.config);
        channel.close().await;
    }

    /// The server's report about itself decides what is promised.
    ///
    /// Proves: CH-8
    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_syncs_promises_its_disk_where_it_can_be_asked() {
        let setup = servers::nats::Setup {
            synced: true,
            ..servers::nats::Setup::default()
        };
        let Some(nats) = servers::Nats::start(setup).await else {
            return;
        };
        let stream = Stream::on(&nats.urls()).await;
        let unasked = stream.channel(&stream.settings).await;
        assert_eq!(unasked.promises().durability, channel::Durability::Process);
        unasked.close().await;
        let settings = Settings {
            monitoring_urls: nats.monitoring(),
            ..stream.settings.clone()
        };
        let asked = stream.channel(&settings).await;
        assert_eq!(asked.promises().durability, channel::Durability::Disk);
        asked.close().await;
    }
}
