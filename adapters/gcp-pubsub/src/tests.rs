//! The source on bad days, by script and with the clock paused (fake.rs), and on good ones with Google's emulator (emulator.rs).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod emulator;
mod fake;
mod subscriptions;
mod wire;

use std::{sync::Arc, time::Duration};

use adapter::{
    Accept, Accepted, Adapter, Outlet, Refused, Source, Truth,
    suite::{self, Scripted},
};
use async_trait::async_trait;
use channel::{Durability, Offset, Stored};
use event::Event;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{Access, Config, PubSubSource, reader::SUBSCRIBED};
use fake::Fake;

const TOPIC: &str = "projects/shop/topics/orders";
const OURS: &str = "projects/shop/subscriptions/headgate-default-test-5f0c7a3e";

pub(super) fn config(host: &str) -> Config {
    Config {
        project: "shop".into(),
        topic: "orders".into(),
        access: Access::Emulator(host.to_owned()),
        subscription: None,
        delete: true,
        ordering: false,
        extensions: [].into(),
    }
}

/// A source that runs until it is told to stop.
pub(super) struct Running {
    pub(super) source: Source,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(super) fn start(config: Config, outlet: Outlet) -> Self {
        Self::again(config, suite::source(outlet))
    }

    /// The same source: what it noted is known.
    pub(super) fn again(config: Config, source: Source) -> Self {
        source.report.withdraw(SUBSCRIBED);
        let stop = CancellationToken::new();
        let (adapter, stopped) = (PubSubSource::new(config, source.clone()), stop.clone());
        let task = tokio::spawn(async move { adapter.run(stopped).await.unwrap() });
        Self { source, stop, task }
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), self.task).await;
        ended
            .expect("a source that is told to stop ends within seconds")
            .unwrap();
    }

    /// The reason of a condition that is not met; empty when it is, `-` when nothing is said.
    pub(super) fn reason(&self, condition: &str) -> String {
        let reported = self.source.report.state();
        let reported = reported.conditions.get(condition);
        match reported {
            Some(reported) if reported.truth == Truth::True => String::new(),
            Some(reported) => reported.reason().to_owned(),
            None => "-".to_owned(),
        }
    }

    pub(super) async fn until_reason(&self, condition: &str, reason: &str) {
        let so = || self.reason(condition) == reason;
        until(&format!("{condition} {reason:?}"), so, || {
            format!("{:?}", self.source.report.state())
        })
        .await;
    }
}

/// Waits until it is so, 20 minutes of the test's clock at most.
pub(super) async fn until(what: &str, so: impl Fn() -> bool, shown: impl Fn() -> String) {
    let waited = tokio::time::timeout(Duration::from_secs(1200), async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(waited.await.is_ok(), "never came: {what}: {}", shown());
}

fn unavailable() -> Refused {
    Refused::Unavailable {
        reason: "scripted".into(),
        retry_after: Duration::from_secs(3),
    }
}

/// The texts of the messages that were stored, in order.
pub(super) fn texts(stored: &[Event]) -> Vec<String> {
    let text = |event: &Event| {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let body: serde_json::Value = serde_json::from_slice(event.data()).unwrap();
        String::from_utf8(BASE64_STANDARD.decode(body["Data"].as_str().unwrap()).unwrap()).unwrap()
    };
    stored.iter().map(text).collect()
}

/// A fake with the topic, and a source of it that is subscribed.
async fn subscribed(change: impl FnOnce(&mut Config), outlet: Outlet) -> (Fake, Running) {
    let fake = Fake::start().await;
    fake.script(|script| script.topics.insert(TOPIC.to_owned()));
    let mut config = config(&fake.host);
    change(&mut config);
    let running = Running::start(config, outlet);
    running.until_reason(SUBSCRIBED, "").await;
    (fake, running)
}

/// Proves: SR-1
#[tokio::test(start_paused = true)]
async fn a_message_is_acknowledged_after_it_is_stored_and_not_before() {
    let outlet = Scripted::held();
    let (fake, running) = subscribed(|_| {}, outlet.clone()).await;
    fake.publish("", &["a", "b"]);
    fake.until("sent", |script| {
        script.messages.iter().all(|sent_message| sent_message.sent == 1)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(fake.script(|script| script.messages.iter().all(|sent_message| !sent_message.acknowledged)));
    outlet.open();
    fake.until("acknowledged", |script| {
        script.messages.iter().any(|sent_message| sent_message.acknowledged)
    })
    .await;
    assert!(!outlet.stored().is_empty());
    running.stop().await;
}

/// Proves: SR-1, SR-5
#[tokio::test(start_paused = true)]
async fn a_channel_that_is_down_for_two_minutes_gets_each_message_once() {
    let outlet = Scripted::refusing(unavailable);
    let (fake, running) = subscribed(|_| {}, outlet.clone()).await;
    fake.publish("", &["a", "b", "c"]);
    running.until_reason(adapter::ACCEPTED, "Unavailable").await;
    fake.publish("", &["d"]);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(fake.script(|script| script.messages.iter().all(|sent_message| !sent_message.acknowledged)));
    assert!(fake.script(|script| script.renewals) > 0, "leases of 60 s are renewed");
    outlet.accept_from_now_on();
    fake.until("acknowledged", |script| {
        script.messages.iter().all(|sent_message| sent_message.acknowledged)
    })
    .await;
    let sent = fake.script(|script| {
        script
            .messages
            .iter()
            .map(|sent_message| sent_message.sent)
            .collect::<Vec<_>>()
    });
    assert_eq!(sent, [1; 4], "no lease ran out");
    let mut stored = texts(&outlet.stored());
    stored.sort();
    assert_eq!(stored, ["a", "b", "c", "d"]);
    assert_eq!(running.reason(adapter::ACCEPTED), "");
    running.stop().await;
}

/// Proves: SR-5
#[tokio::test(start_paused = true)]
async fn what_is_refused_for_very_long_is_given_back_and_asked_for_again() {
    let outlet = Scripted::refusing(unavailable);
    let (fake, running) = subscribed(|_| {}, outlet.clone()).await;
    fake.publish("", &["a"]);
    fake.until("sent again", |script| script.messages[0].sent == 2).await;
    assert!(!fake.script(|script| script.messages[0].acknowledged));
    outlet.accept_from_now_on();
    fake.until("acknowledged", |script| script.messages[0].acknowledged)
        .await;
    assert_eq!(texts(&outlet.stored()), ["a"]);
    running.stop().await;
}

/// Proves: SR-1
#[tokio::test(start_paused = true)]
async fn a_stop_gives_back_what_is_in_hand() {
    let outlet = Scripted::refusing(unavailable);
    let (fake, running) = subscribed(|_| {}, outlet.clone()).await;
    fake.publish("", &["a"]);
    running.until_reason(adapter::ACCEPTED, "Unavailable").await;
    running.stop().await;
    let outlet = Scripted::storing();
    let began = tokio::time::Instant::now();
    let running = Running::start(config(&fake.host), outlet.clone());
    fake.until("acknowledged", |script| script.messages[0].acknowledged)
        .await;
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "a lease that is left alone lasts 60 s"
    );
    running.stop().await;
}

/// Proves: SR-1
#[tokio::test(start_paused = true)]
async fn streams_that_break_off_lose_nothing() {
    let outlet = Scripted::storing();
    let (fake, running) = subscribed(|_| {}, outlet.clone()).await;
    fake.script(|script| script.reset_after = Some(3));
    let texts: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    fake.publish("", &texts.iter().map(String::as_str).collect::<Vec<_>>());
    fake.until("acknowledged", |script| {
        script.messages.iter().all(|sent_message| sent_message.acknowledged)
    })
    .await;
    assert!(fake.script(|script| script.streams) >= 6);
    let mut stored = self::texts(&outlet.stored());
    stored.sort_by_key(|text| text.parse::<u32>().unwrap());
    stored.dedup();
    assert_eq!(stored, texts);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_missing_is_said_and_its_return_noticed() {
    let outlet = Scripted::storing();
    let (fake, running) = subscribed(|_| {}, outlet.clone()).await;
    running.stop().await;
    for (code, reason) in [
        (Code::PermissionDenied, "PermissionDenied"),
        (Code::Unauthenticated, "CredentialsRejected"),
        (Code::FailedPrecondition, "PubSubRefused"),
    ] {
        fake.script(|script| script.stream_fault = Some(code));
        let running = Running::start(config(&fake.host), outlet.clone());
        running.until_reason(SUBSCRIBED, reason).await;
        fake.script(|script| script.stream_fault = None);
        fake.publish("", &[reason]);
        running.until_reason(SUBSCRIBED, "").await;
        fake.until("acknowledged", |script| {
            script.messages.iter().all(|sent_message| sent_message.acknowledged)
        })
        .await;
        running.stop().await;
    }
    assert_eq!(outlet.stored().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_google_that_is_not_there_is_said_and_waited_for() {
    let outlet = Scripted::storing();
    let (fake, running) = subscribed(|_| {}, outlet.clone()).await;
    fake.script(|script| {
        script.admin_fault = Some((503, "UNAVAILABLE"));
        script.stream_fault = Some(Code::Unavailable);
        // The stream that is open ends with its next message.
        script.reset_after = Some(0);
    });
    running.until_reason(SUBSCRIBED, "PubSubUnreachable").await;
    fake.publish("", &["a"]);
    fake.script(|script| (script.admin_fault, script.stream_fault, script.reset_after) = (None, None, None));
    running.until_reason(SUBSCRIBED, "").await;
    fake.until("acknowledged", |script| script.messages[0].acknowledged)
        .await;
    running.stop().await;
}

/// Whether pulls are answered, so that waiting messages are known of, or not.
async fn silent_stream(pulls: bool) {
    let outlet = Scripted::storing();
    let fake = Fake::start().await;
    fake.script(|script| {
        script.topics.insert(TOPIC.to_owned());
        (script.silent_streams, script.pulls) = (1, pulls);
    });
    let running = Running::start(config(&fake.host), outlet.clone());
    running.until_reason(SUBSCRIBED, "").await;
    fake.publish("", &["a", "b"]);
    let all = |script: &fake::Script| script.messages.iter().all(|sent_message| sent_message.acknowledged);
    fake.until("acknowledged", all).await;
    assert_eq!(texts(&outlet.stored()), ["a", "b"]);
    fake.publish("", &["c"]);
    fake.until("acknowledged", all).await;
    assert_eq!(fake.script(|script| script.streams), 2, "the stream that works stays");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_silent_while_messages_wait_is_replaced() {
    silent_stream(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_silent_is_replaced_where_nobody_can_tell_whether_messages_wait() {
    silent_stream(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_on_which_nothing_waits_stays() {
    let (fake, running) = subscribed(|_| {}, Scripted::storing()).await;
    fake.script(|script| script.pulls = true);
    tokio::time::sleep(Duration::from_secs(1200)).await;
    assert_eq!(running.reason(SUBSCRIBED), "");
    assert_eq!(fake.script(|script| script.streams), 1);
    running.stop().await;
}

/// Proves: SR-1, SR-2
#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_is_not_confirmed_is_repeated_and_the_message_not_stored_again() {
    let outlet = Scripted::storing();
    let (fake, running) = subscribed(|_| {}, outlet.clone()).await;
    fake.script(|script| (script.exactly_once, script.unconfirmed) = (true, 2));
    fake.publish("", &["a"]);
    fake.until("acknowledged", |script| script.messages[0].acknowledged)
        .await;
    assert_eq!(fake.script(|script| script.messages[0].sent), 3);
    assert_eq!(texts(&outlet.stored()), ["a"]);
    running.stop().await;
}

/// Stores events up to a size.
struct Limited {
    limit: Mutex<usize>,
    stored: Mutex<Vec<Event>>,
}

#[async_trait]
impl Accept for Limited {
    async fn accept(&self, events: Vec<Event>) -> Result<Accepted, Refused> {
        let limit = *self.limit.lock();
        if let Some(bytes) = events.iter().map(Event::size).find(|bytes| *bytes > limit) {
            return Err(Refused::TooLarge { bytes, limit });
        }
        self.stored.lock().extend(events);
        Ok(Accepted::stored(Stored::at(Durability::Process, Offset(0))))
    }
}

/// Proves: SR-1
#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_holds_up_its_key_alone_and_is_stored_when_it_can_be() {
    let outlet = Arc::new(Limited {
        limit: Mutex::new(1000),
        stored: Mutex::default(),
    });
    let (fake, running) = subscribed(|config| config.ordering = true, outlet.clone()).await;
    let large = "x".repeat(1000);
    fake.publish("k", &["1", &large, "2"]);
    fake.publish("other", &["3"]);
    running.until_reason("Storable", "TooLarge").await;
    fake.publish("k", &["4"]);
    fake.publish("", &["5"]);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(texts(&outlet.stored.lock()), ["1", "3", "5"]);
    assert!(
        fake.script(|script| script.messages[1].sent) > 1,
        "it is given back and tried again"
    );
    *outlet.limit.lock() = 10_000;
    fake.until("acknowledged", |script| {
        script.messages.iter().all(|sent_message| sent_message.acknowledged)
    })
    .await;
    assert_eq!(texts(&outlet.stored.lock())[3..], [&*large, "2", "4"]);
    fake.publish("k", &["6"]);
    running.until_reason("Storable", "").await;
    running.stop().await;
}
