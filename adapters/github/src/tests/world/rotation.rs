//! Secrets and tokens change while deliveries come in.

use super::*;

/// Proves: SR-6
#[tokio::test]
async fn a_secret_changes_under_load_and_no_delivery_is_rejected() {
    let mut world = World::new().await;
    let hook = world.registered().await;
    let github = Arc::new(world.github);
    let (stop, sending) = (CancellationToken::new(), github.clone());
    let stopped = stop.clone();
    let load = tokio::spawn(async move {
        let mut sent = 0;
        while !stopped.is_cancelled() {
            let two = [1, 2].map(|_| sending.happens(REPOSITORY, "push", PUSH));
            let [one, other] = two;
            tokio::join!(one, other);
            sent += 2;
        }
        sent
    });
    for secret in ["second", "third"] {
        world.config.secrets = vec![Secret::new(secret.as_bytes())];
        let (built, adapter) = world.sources.source(world.config.clone(), world.given.clone());
        *world.endpoint.lock() = built.map(Arc::new);
        let (end, task) = world.running.take().unwrap();
        end.cancel();
        task.await.unwrap();
        let run = CancellationToken::new();
        let running = run.clone();
        world.running = Some((run, tokio::spawn(async move { adapter.run(running).await.unwrap() })));
        let has = || {
            let hooks = github.hooks(REPOSITORY);
            hooks.into_iter().find(|hook| hook.secret.as_deref() == Some(secret))
        };
        let found = eventually("the new secret on GitHub", has, String::new).await;
        assert_eq!(found.id, hook.id);
        let before = github.attempts(REPOSITORY).len();
        let more = || (github.attempts(REPOSITORY).len() > before + 10).then_some(());
        eventually("deliveries with it", more, String::new).await;
    }
    stop.cancel();
    let sent = load.await.unwrap();
    let attempts = github.attempts(REPOSITORY);
    assert_eq!(attempts.len(), sent);
    let refused: Vec<_> = attempts.iter().filter(|attempt| attempt.status_code != 202).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// Proves: SR-6
#[tokio::test]
async fn no_secret_is_written_down() {
    let mut world = World::new().await;
    world.config.secrets = vec![Secret::new(*b"hunter2")];
    world.registered().await;
    world.github.happens(REPOSITORY, "push", PUSH).await;
    world.stored(1).await;
    world.stop().await;
    for saved in [
        world.given.checkpoint.mark().await,
        world.given.checkpoint.notes().await,
    ] {
        let saved = String::from_utf8(saved.unwrap().unwrap()).unwrap();
        assert!(!saved.contains("hunter2") && !saved.contains(github::TOKEN), "{saved}");
    }
}

#[tokio::test]
async fn an_app_fetches_a_token_keeps_it_and_fetches_another_when_it_is_revoked() {
    let mut world = World::new().await;
    world.config.credentials = Some(Credentials::App {
        id: github::APP_ID,
        installation_id: github::INSTALLATION_ID,
        private_key: Secret::new(github::APP_KEY.as_bytes()),
    });
    world.registered().await;
    world.swept().await;
    assert_eq!(world.github.installation_tokens(), 1);
    world.github.revoke_installations();
    world.swept().await;
    assert_eq!(world.github.installation_tokens(), 2);
}
