//! Rights and credentials: what is missing is named, and what is given is used.

use super::*;

const READER: &str = "reader";

async fn cluster() -> Option<Kubernetes> {
    let setup = Setup {
        users: vec![READER.to_owned()],
        ..Setup::default()
    };
    Kubernetes::start(setup).await
}

fn as_reader(cluster: &Kubernetes, namespace: &TestNamespace) -> Config {
    Config {
        identity: identity(cluster, READER),
        ..namespace.config()
    }
}

async fn allow(cluster: &Kubernetes, namespace: &str, verbs: &str) {
    let role = ["create", "role", READER, "--resource=events", verbs, "-n", namespace];
    cluster.kubectl(&role).await;
    let binding = [
        "create",
        "rolebinding",
        READER,
        "--role=reader",
        "--user=reader",
        "-n",
        namespace,
    ];
    cluster.kubectl(&binding).await;
}

async fn forbid(cluster: &Kubernetes, namespace: &str) {
    cluster
        .kubectl(&["delete", "role,rolebinding", READER, "-n", namespace])
        .await;
}

fn message(source: &Source) -> String {
    source.report.state().conditions["Watching"].message().to_owned()
}

async fn until_reason(source: &Source, expected: &str) {
    until(expected, || reason(source, "Watching").as_deref() == Some(expected)).await;
}

#[tokio::test]
async fn a_missing_right_is_named_and_used_as_soon_as_it_is_given() {
    let Some(mut cluster) = cluster().await else { return };
    let namespace = TestNamespace::in_cluster(&cluster).await;
    let (outlet, source) = sink();
    let running = Running::start(as_reader(&cluster, &namespace), &source);
    let mut all = vec![namespace.create("first", "web-0", "BackOff").await];
    until_reason(&source, "Forbidden").await;
    for part in ["list", "events", &namespace.namespace, "reader"] {
        assert!(message(&source).contains(part), "{}", message(&source));
    }
    allow(&cluster, &namespace.namespace, "--verb=list").await;
    until("the other verb is named", || message(&source).contains("may not watch")).await;
    forbid(&cluster, &namespace.namespace).await;
    allow(&cluster, &namespace.namespace, "--verb=list,watch").await;
    until_stored(&outlet, &all).await;
    until_watching(&source).await;
    // Rights are checked when a watch begins: a server that starts again ends the one there is.
    forbid(&cluster, &namespace.namespace).await;
    cluster = cluster.restart().await;
    until_reason(&source, "Forbidden").await;
    all.push(namespace.create("meanwhile", "web-0", "BackOff").await);
    allow(&cluster, &namespace.namespace, "--verb=list,watch").await;
    until_stored(&outlet, &all).await;
    until_watching(&source).await;
    running.stop().await;
}

/// Proves: SR-6
#[tokio::test]
async fn credentials_that_were_rotated_are_read_again() {
    let Some(mut cluster) = cluster().await else { return };
    let namespace = TestNamespace::in_cluster(&cluster).await;
    let (outlet, source) = sink();
    allow(&cluster, &namespace.namespace, "--verb=list,watch").await;
    let running = Running::start(as_reader(&cluster, &namespace), &source);
    until_watching(&source).await;
    cluster.change_token(READER, "another-token");
    cluster = cluster.restart().await;
    until_reason(&source, "CredentialsRejected").await;
    assert!(
        !message(&source).contains(&cluster.token(READER)),
        "{}",
        message(&source)
    );
    let meanwhile = namespace.create("meanwhile", "web-0", "BackOff").await;
    cluster.write_kubeconfig(READER, "another-token");
    until_stored(&outlet, &[meanwhile]).await;
    until_watching(&source).await;
    running.stop().await;
}

#[tokio::test]
async fn without_a_cluster_to_talk_to_the_condition_says_what_to_give() {
    let (_, source) = sink();
    let identity = |context: Option<&str>| Identity {
        kubeconfig: Some("no/such/kubeconfig".into()),
        context: context.map(str::to_owned),
        observer: RequestObserver::default(),
    };
    let config = Config {
        identity: identity(None),
        ..Config::default()
    };
    let running = Running::start(config, &source);
    until_reason(&source, "NoClusterAccess").await;
    assert!(message(&source).contains("no/such/kubeconfig"), "{}", message(&source));
    running.stop().await;
    let Some(cluster) = Kubernetes::shared().await else {
        return;
    };
    let config = Config {
        identity: Identity {
            kubeconfig: Some(cluster.kubeconfig()),
            ..identity(Some("nobody"))
        },
        ..Config::default()
    };
    let running = Running::start(config, &source);
    until("the context is named", || message(&source).contains("nobody")).await;
    assert!(message(&source).contains("--kube-context"), "{}", message(&source));
    running.stop().await;
}
