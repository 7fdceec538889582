//! The webhook: made once, found again, kept as it is to be, taken away.

use adapter::{Severity, Truth};
use servers::github::Fault;

use super::*;
use crate::tests::config;

/// Proves: SR-1
#[tokio::test]
async fn a_webhook_is_made_and_delivers() {
    let mut world = World::new().await;
    let hook = world.registered().await;
    assert_eq!(hook.events, ["issues", "push"]);
    assert_eq!((hook.content_type.as_str(), hook.insecure_ssl.as_str()), ("json", "0"));
    assert_eq!(hook.secret.as_deref(), Some("now"));
    let reported = world.given.report.state();
    assert_eq!(reported.fields["webhookIDKey"], hook.id.to_string());
    let guids = world.github.happens(REPOSITORY, "push", PUSH).await;
    let stored = world.stored(1).await;
    assert_eq!(ids(&stored), guids);
    assert_eq!(stored[0].text("githubrecovered"), None);
    assert!(world.given.report.state().fields.contains_key("lastDeliveryTime"));
}

#[tokio::test]
async fn one_of_ours_behind_250_others_is_adopted_and_not_made_twice() {
    let mut world = World::new().await;
    world.github.add_hooks(REPOSITORY, 250);
    let hook = world.registered().await;
    world.stop().await;
    // Another data folder: nothing is known of the webhook but its URL.
    world.given = suite::source(world.outlet.clone());
    assert_eq!(world.registered().await.id, hook.id);
    assert_eq!(world.github.hooks(REPOSITORY).len(), 251);
    assert_eq!(world.asked("POST"), 1);
}

#[tokio::test]
async fn a_webhook_that_is_as_it_should_be_is_left_alone_and_one_that_is_not_is_corrected() {
    let mut world = World::new().await;
    let hook = world.registered().await;
    world.stop().await;
    assert_eq!(world.registered().await.updates, 0);
    world.stop().await;
    world.github.edit_hook(REPOSITORY, hook.id, |hook| {
        hook.active = false;
        hook.content_type = "form".into();
        hook.events = vec!["star".into()];
    });
    let corrected = world.registered().await;
    assert_eq!((corrected.id, corrected.updates), (hook.id, 1));
    assert!(corrected.active && corrected.content_type == "json" && corrected.events == ["issues", "push"]);
    assert_eq!(
        corrected.secret.as_deref(),
        Some("now"),
        "a change must not take the secret away"
    );
}

#[tokio::test]
async fn a_lost_answer_to_the_creation_makes_no_second_webhook() {
    let mut world = World::new().await;
    world.github.fault("POST", "/hooks", Fault::AnswerLost, 1);
    let hook = world.registered().await;
    assert_eq!(world.github.hooks(REPOSITORY).len(), 1);
    assert_eq!(world.asked("POST"), 1);
    assert_eq!(hook.secret.as_deref(), Some("now"));
}

#[tokio::test]
async fn a_moved_gateway_takes_its_webhook_along() {
    let mut world = World::new().await;
    let hook = world.registered().await;
    world.config.transport = Transport::Webhook {
        address: format!("{}x", hook.url),
        is_public: true,
    };
    let moved = world.registered().await;
    assert_eq!(moved.id, hook.id);
    assert_eq!(world.github.hooks(REPOSITORY).len(), 1);
}

#[tokio::test]
async fn another_repository_is_another_webhook_and_the_one_before_is_removed() {
    let mut world = World::new().await;
    world.registered().await;
    world.config.repository = "octo".into();
    world.start().await;
    eventually(
        "a webhook of the organisation",
        || world.github.hooks("octo").pop(),
        String::new,
    )
    .await;
    assert!(world.github.hooks(REPOSITORY).is_empty());
}

#[tokio::test]
async fn the_21st_webhook_is_a_condition_that_heals() {
    let mut world = World::new().await;
    world.config.event_types = vec!["event_0".into()];
    world.github.add_hooks(REPOSITORY, 20);
    world.start().await;
    let condition = world
        .until("WebhookConfigured", |condition| condition.reason() == "HookLimit")
        .await;
    assert_eq!((condition.truth, condition.severity), (Truth::False, Severity::Error));
    let one = world.github.hooks(REPOSITORY)[0].id;
    world.github.remove_hook(REPOSITORY, one);
    world
        .until("WebhookConfigured", |condition| condition.reason().is_empty())
        .await;
}

/// Proves: SR-4
#[tokio::test]
async fn a_webhook_that_somebody_removed_is_made_anew_and_the_time_between_is_a_gap() {
    let mut world = World::new().await;
    let hook = world.registered().await;
    world.stop().await;
    world.github.remove_hook(REPOSITORY, hook.id);
    assert_ne!(world.registered().await.id, hook.id);
    let stored = world.stored(1).await;
    assert_eq!(stored[0].kind(), "dev.headgate.gap");
    assert_eq!(stored[0].text("reason"), Some("WebhookRemoved"));
    assert_eq!(world.until("Complete", |_| true).await.reason(), "EventsMissing");
    world.stop().await;
    world.registered().await;
    world.swept().await;
    assert_eq!(world.outlet.stored().len(), 1, "a gap is said once");
    assert_eq!(world.until("Complete", |_| true).await.reason(), "EventsMissing");
}

#[tokio::test]
async fn a_deleted_source_takes_its_webhook_along_and_a_lost_token_stops_nothing() {
    let mut world = World::new().await;
    world.github.add_hooks(REPOSITORY, 3);
    world.registered().await;
    world.end().await;
    let (_, adapter) = world.sources.source(world.config.clone(), world.given.clone());
    world.github.accept_tokens(&[]);
    let error = adapter.delete().await.unwrap_err();
    assert_eq!(error.reason, "AccessTokenRejected");
    assert!(!error.message.contains(github::TOKEN));
    world.github.accept_tokens(&[github::TOKEN]);
    adapter.delete().await.unwrap();
    assert_eq!(world.github.hooks(REPOSITORY).len(), 3);
    adapter.delete().await.unwrap();
}

#[tokio::test]
async fn without_credentials_or_a_public_address_github_is_not_asked() {
    let mut world = World::new().await;
    world.config.transport = Transport::Webhook {
        address: "http://127.0.0.1:8080/hooks/default/test".into(),
        is_public: false,
    };
    world.start().await;
    world
        .until("WebhookConfigured", |condition| condition.reason() == "NoPublicURL")
        .await;
    world.config = config(&[], &["*"]);
    world.start().await;
    world
        .until("WebhookConfigured", |condition| condition.reason() == "NotManaged")
        .await;
    world
        .until("Authenticated", |condition| condition.reason() == "Unauthenticated")
        .await;
    world.end().await;
    assert!(world.github.requests().is_empty());
}
