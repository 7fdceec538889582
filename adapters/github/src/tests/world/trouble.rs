//! GitHub refuses, limits, is down or slow: a condition with a reason, and it heals by itself.

use adapter::{Severity, Truth};
use servers::github::Fault;

use super::*;

/// Proves: SR-6, OP-3
#[tokio::test]
async fn a_revoked_token_is_a_warning_while_deliveries_come_in_and_heals_when_restored() {
    let mut world = World::new().await;
    world.registered().await;
    world.github.accept_tokens(&[]);
    let condition = world
        .until("Swept", |condition| condition.reason() == "AccessTokenRejected")
        .await;
    assert_eq!((condition.truth, condition.severity), (Truth::False, Severity::Warning));
    assert!(!condition.message().contains(github::TOKEN), "{}", condition.message());
    world.github.happens(REPOSITORY, "push", PUSH).await;
    world.stored(1).await;
    world.github.accept_tokens(&[github::TOKEN]);
    world.until("Swept", |condition| condition.truth == Truth::True).await;
}

/// Proves: OP-3
#[tokio::test]
async fn a_source_that_never_had_a_webhook_is_not_ready_before_it_has() {
    let mut world = World::new().await;
    world.github.accept_tokens(&["another"]);
    world.start().await;
    let condition = world
        .until("WebhookConfigured", |condition| {
            condition.reason() == "AccessTokenRejected"
        })
        .await;
    assert_eq!(condition.severity, Severity::Error);
    // A new token comes with a new configuration.
    world.config.credentials = Some(Credentials::Token(Secret::new(*b"another")));
    world.registered().await;
}

/// Proves: OP-3
#[tokio::test]
async fn a_repository_that_is_gone_is_said_and_found_again() {
    let mut world = World::new().await;
    let hook = world.registered().await;
    world.github.hide(REPOSITORY, true);
    world
        .until("Swept", |condition| condition.reason() == "RepositoryNotFound")
        .await;
    world
        .until("WebhookConfigured", |condition| {
            condition.reason() == "RepositoryNotFound"
        })
        .await;
    world.github.hide(REPOSITORY, false);
    world
        .until("WebhookConfigured", |condition| condition.truth == Truth::True)
        .await;
    world.until("Swept", |condition| condition.truth == Truth::True).await;
    assert_eq!(world.ours().pop().unwrap().id, hook.id);
    assert!(world.outlet.stored().is_empty(), "nothing was lost, so there is no gap");
}

/// Proves: OP-3
#[tokio::test]
async fn a_github_that_is_down_or_slow_is_waited_for() {
    let mut world = World::new().await;
    world.registered().await;
    world.github.down(true);
    world
        .until("Swept", |condition| condition.reason() == "GitHubUnreachable")
        .await;
    world.github.down(false);
    world
        .github
        .fault("GET", "/deliveries", Fault::Slow(Duration::from_millis(300)), 2);
    world.until("Swept", |condition| condition.truth == Truth::True).await;
}

#[tokio::test]
async fn limits_are_waited_out_and_nothing_is_asked_meanwhile() {
    let mut world = World::new().await;
    world.config.sweep_interval = None;
    world.registered().await;
    world.config.sweep_interval = Some(Duration::from_millis(50));
    let secondary = Fault::Answer {
        status: 403,
        headers: vec![("retry-after".into(), "2".into())],
        body: r#"{"message":"You have exceeded a secondary rate limit"}"#.into(),
    };
    world.github.fault("GET", "/deliveries", secondary, 1);
    world.start().await;
    world
        .until("Swept", |condition| condition.reason() == "RateLimited")
        .await;
    let asked = world.github.requests().len();
    let since = Instant::now();
    world.until("Swept", |condition| condition.truth == Truth::True).await;
    assert!(since.elapsed() >= Duration::from_millis(1500), "{:?}", since.elapsed());
    assert!(world.github.requests().len() <= asked + 2);
    // The hour's limit: the answer that spends it says so, and the next request is not sent.
    world.github.allow(1);
    world
        .until("Swept", |condition| condition.reason() == "RateLimited")
        .await;
    let asked = world.github.requests().len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.github.requests().len(), asked);
    assert_eq!(
        world.given.report.state().conditions["Swept"].severity,
        Severity::Warning
    );
}

#[tokio::test]
async fn an_enterprise_server_and_a_renamed_repository_are_found() {
    let mut world = World::new().await;
    world.config.api = format!("{}/api/v3/", world.github.url()).parse().unwrap();
    let location = format!("{}/api/v3/repos/octo/hello/hooks?per_page=100", world.github.url());
    let moved = |location: &str| Fault::Answer {
        status: 301,
        headers: vec![("location".into(), location.into())],
        body: String::new(),
    };
    world
        .github
        .fault("GET", "/repos/octo/hello/hooks", moved(&location), 1);
    world.registered().await;
    world.stop().await;
    // A redirect to another host would take the token there.
    let fault = moved("http://127.0.0.1:1/");
    world.github.fault("GET", "/repos/octo/hello/hooks/", fault, 1);
    world.start().await;
    let condition = world
        .until("WebhookConfigured", |condition| {
            condition.reason() == "GitHubUnreachable"
        })
        .await;
    assert!(condition.message().contains("another host"), "{}", condition.message());
    world
        .until("WebhookConfigured", |condition| condition.truth == Truth::True)
        .await;
}
