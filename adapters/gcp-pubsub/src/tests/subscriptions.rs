//! Subscriptions at Google: created, adopted, replaced and deleted.

use adapter::{Adapter, suite::Scripted};
use serde_json::json;

use super::{OURS, Running, TOPIC, config, fake::Fake, subscribed};
use crate::{Config, PubSubSource, reader::SUBSCRIBED};

async fn delete(config: Config, running: Running) {
    let source = running.source.clone();
    running.stop().await;
    PubSubSource::new(config, source).delete().await.unwrap();
}

fn has(fake: &Fake, name: &str) -> bool {
    fake.script(|script| script.subscriptions.contains_key(name))
}

/// Another owner's subscription.
fn theirs(fake: &Fake, name: &str, topic: &str) {
    let subscription = json!({"name": name, "topic": topic, "ackDeadlineSeconds": 10});
    fake.script(|script| {
        script.topics.insert(TOPIC.to_owned());
        script.subscriptions.insert(name.to_owned(), subscription)
    });
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_missing_is_said_and_its_creation_noticed() {
    let fake = Fake::start().await;
    let running = Running::start(config(&fake.host), Scripted::storing());
    running.until_reason(SUBSCRIBED, "TopicNotFound").await;
    assert!(!has(&fake, OURS));
    fake.script(|script| script.topics.insert(TOPIC.to_owned()));
    running.until_reason(SUBSCRIBED, "").await;
    assert!(has(&fake, OURS));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn our_own_subscription_is_made_as_it_should_be() {
    let (fake, running) = subscribed(|config| config.ordering = true, Scripted::storing()).await;
    let made = fake.script(|script| script.subscriptions[OURS].clone());
    assert_eq!(made["topic"], TOPIC);
    assert_eq!(made["ackDeadlineSeconds"], 60);
    assert_eq!(made["expirationPolicy"], json!({}), "no time to live: it never expires");
    assert_eq!(made["enableMessageOrdering"], true);
    assert_eq!(
        made["retryPolicy"],
        json!({"minimumBackoff": "1s", "maximumBackoff": "60s"})
    );
    let labels = json!({
        "headgate-source-uid": running.source.uid,
        "headgate-gateway": running.source.gateway,
        "headgate-namespace": "default",
        "headgate-name": "test",
    });
    assert_eq!(made["labels"], labels);
    assert_eq!(running.source.report.state().fields["subscription"], OURS);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn our_own_subscription_is_adopted_by_the_next_run() {
    let (fake, running) = subscribed(|_| {}, Scripted::storing()).await;
    let made = fake.script(|script| script.subscriptions.clone());
    running.stop().await;
    fake.script(|script| script.topics.clear());
    let running = Running::start(config(&fake.host), Scripted::storing());
    running.until_reason(SUBSCRIBED, "").await;
    assert_eq!(fake.script(|script| script.subscriptions.clone()), made);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn our_own_subscription_is_deleted_with_its_source_unless_it_is_to_stay() {
    for retained in [false, true] {
        let (fake, running) = subscribed(|config| config.delete = !retained, Scripted::storing()).await;
        let mut config = config(&fake.host);
        config.delete = !retained;
        delete(config, running).await;
        assert_eq!(has(&fake, OURS), retained);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_is_neither_used_nor_deleted() {
    let fake = Fake::start().await;
    theirs(&fake, OURS, TOPIC);
    let running = Running::start(config(&fake.host), Scripted::storing());
    running.until_reason(SUBSCRIBED, "SubscriptionNotOurs").await;
    delete(config(&fake.host), running).await;
    assert!(has(&fake, OURS));
}

#[tokio::test(start_paused = true)]
async fn an_existing_subscription_is_used_and_stays() {
    let fake = Fake::start().await;
    let mut desired = config(&fake.host);
    desired.subscription = Some("billing".into());
    let outlet = Scripted::storing();
    let running = Running::start(desired.clone(), outlet.clone());
    running.until_reason(SUBSCRIBED, "SubscriptionNotFound").await;
    let billing = "projects/shop/subscriptions/billing";
    theirs(&fake, billing, "projects/shop/topics/others");
    running.until_reason(SUBSCRIBED, "SubscriptionMismatch").await;
    theirs(&fake, billing, TOPIC);
    running.until_reason(SUBSCRIBED, "").await;
    fake.publish("", &["a"]);
    fake.until("acknowledged", |script| script.messages[0].acknowledged)
        .await;
    assert_eq!(outlet.stored().len(), 1);
    delete(desired, running).await;
    assert!(has(&fake, billing) && !has(&fake, OURS));
}

#[tokio::test(start_paused = true)]
async fn an_existing_subscription_is_read_by_an_account_that_may_only_read() {
    let fake = Fake::start().await;
    fake.script(|script| script.admin_fault = Some((403, "PERMISSION_DENIED")));
    let mut desired = config(&fake.host);
    desired.subscription = Some("billing".into());
    let running = Running::start(desired, Scripted::storing());
    running.until_reason(SUBSCRIBED, "").await;
    fake.publish("", &["a"]);
    fake.until("acknowledged", |script| script.messages[0].acknowledged)
        .await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ordering_that_a_subscription_does_not_have_is_said() {
    let fake = Fake::start().await;
    let billing = "projects/shop/subscriptions/billing";
    theirs(&fake, billing, TOPIC);
    let mut desired = config(&fake.host);
    (desired.subscription, desired.ordering) = (Some(billing.into()), true);
    let running = Running::start(desired, Scripted::storing());
    running.until_reason("Ordered", "OrderingOff").await;
    assert_eq!(running.reason(SUBSCRIBED), "", "messages come all the same");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_moves_takes_its_subscription_along() {
    let (fake, running) = subscribed(|_| {}, Scripted::storing()).await;
    let source = running.source.clone();
    running.stop().await;
    // To another topic: the same name, another subscription.
    let others = "projects/shop/topics/others";
    fake.script(|script| script.topics.insert(others.to_owned()));
    let mut desired = config(&fake.host);
    desired.topic = "others".into();
    let running = Running::again(desired.clone(), source.clone());
    running.until_reason(SUBSCRIBED, "").await;
    assert_eq!(
        fake.script(|script| script.subscriptions[OURS]["topic"].clone()),
        others
    );
    running.stop().await;
    // To a subscription that is there: our own goes.
    theirs(&fake, "projects/shop/subscriptions/billing", others);
    desired.subscription = Some("billing".into());
    let running = Running::again(desired, source);
    running.until_reason(SUBSCRIBED, "").await;
    assert!(!has(&fake, OURS));
    running.stop().await;
}

/// Proves: SR-1
#[tokio::test(start_paused = true)]
async fn a_topic_that_was_deleted_and_made_again_is_subscribed_to_again_after_the_rest_is_read() {
    let outlet = Scripted::storing();
    let (fake, running) = subscribed(|_| {}, outlet.clone()).await;
    running.stop().await;
    fake.publish("", &["left"]);
    fake.script(|script| script.pulls = true);
    fake.script(|script| script.subscriptions.get_mut(OURS).unwrap()["topic"] = "_deleted-topic_".into());
    fake.script(|script| script.topics.clear());
    let running = Running::start(config(&fake.host), outlet.clone());
    running.until_reason(SUBSCRIBED, "TopicNotFound").await;
    fake.until("read", |script| script.messages[0].acknowledged).await;
    fake.until("deleted", |script| script.subscriptions.is_empty()).await;
    fake.script(|script| script.topics.insert(TOPIC.to_owned()));
    running.until_reason(SUBSCRIBED, "").await;
    assert_eq!(fake.script(|script| script.subscriptions[OURS]["topic"].clone()), TOPIC);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_deleted_under_us_is_made_again() {
    let (fake, running) = subscribed(|_| {}, Scripted::storing()).await;
    fake.script(|script| script.subscriptions.clear());
    fake.until("made again", |script| script.subscriptions.contains_key(OURS))
        .await;
    running.until_reason(SUBSCRIBED, "").await;
    running.stop().await;
}
