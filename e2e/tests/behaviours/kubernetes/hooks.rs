//! Deliveries to a GitHubSource that runs in a pod of its own: passed on to it by its Service, and its events come back.
//!
//! There are no pods here: the adapter's process stands where the pod would, started with what the Deployment says, at an
//! address that the gateway's own `/etc/hosts` has for the Service.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
};

use e2e::{
    Gateway, Request, Sink, cli,
    documents::{channel, channel_reference, github_source, merge, secret, subscription},
    eventually,
    github::delivery,
    hosts::Hosts,
};
use serde_json::{Value, json};
use servers::{Kubernetes, kubernetes::ADMIN};
use tempfile::TempDir;
use tokio::process::Child;

use super::{apply, object, ready, shared};

const NAMESPACE: &str = "called";
const SECRET: &str = "s3cret";
const PUSH: &[u8] = br#"{ "ref":"refs/heads/main" }"#;

/// A loopback address that no other process of these tests has: a Service's port is always the same.
fn address() -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 81, high, low.clamp(1, 254))
}

/// The adapter as its pod would run it: the Deployment's arguments, with folders of the test's own.
struct Pod {
    folder: TempDir,
    address: Ipv4Addr,
    _process: Child,
}

impl Pod {
    async fn start(cluster: &Kubernetes, deployment: &Value, address: Ipv4Addr) -> Self {
        let folder = TempDir::with_prefix("headgate-pod-").expect("a folder");
        let name = deployment["metadata"]["name"].as_str().expect("a name");
        let document = object(cluster, NAMESPACE, &format!("configmap/{name}"), |found| {
            !found.is_null()
        })
        .await;
        let document = document["data"]["source.yaml"].as_str().expect("a document").to_owned();
        let documents = folder.path().join("documents");
        let secrets = folder.path().join("secrets").join(NAMESPACE).join("github");
        for made in [&documents, &secrets] {
            fs::create_dir_all(made).expect("a folder");
        }
        fs::write(documents.join("source.yaml"), document).expect("a document");
        fs::write(secrets.join("secretToken"), SECRET).expect("a secret");
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().expect("arguments");
        let arguments = arguments.iter().map(|argument| {
            let argument = argument.as_str().expect("a text");
            let at = |path: &str| folder.path().join(path).to_string_lossy().into_owned();
            match argument.split_once('=') {
                Some(("--listen" | "--admin", _)) => argument.replace("0.0.0.0", &address.to_string()),
                Some(("--data", _)) => format!("--data={}", at("data")),
                Some(("--secrets", _)) => format!("--secrets={}", at("secrets")),
                None if argument.starts_with('/') => at("documents"),
                _ => argument.to_owned(),
            }
        });
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let process = cli::command()
            .args(arguments)
            .env("KUBECONFIG", cluster.kubeconfig())
            .stdout(Stdio::from(log.try_clone().expect("a second handle")))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        Self {
            folder,
            address,
            _process: process,
        }
    }

    async fn is_ready(&self) {
        let admin = SocketAddr::from((self.address, 8091));
        eventually("the pod is ready", || async {
            let answer = Request::new("GET", "/readyz").try_send(admin).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

impl Drop for Pod {
    #[expect(clippy::print_stderr, reason = "the test harness shows it with the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- log of the pod ---\n{log}--- end of log ---");
        }
    }
}

/// Proves: SR-1, SR-2, SR-3
#[tokio::test]
async fn a_delivery_to_a_source_in_a_pod_of_its_own_gets_there_and_comes_back_as_an_event() {
    let Some(cluster) = shared().await else { return };
    cluster.kubectl(&["create", "namespace", NAMESPACE]).await;
    let folder = TempDir::new().expect("a folder");
    let (hosts, sink) = (Hosts::new(folder.path()), Sink::start().await);
    let wrapper = hosts.wrapper();
    let mut gateway = Gateway::set_up()
        .in_cluster(cluster, ADMIN)
        .arguments(&["--namespace", NAMESPACE])
        .environment("HEADGATE_IMAGE", "headgate:test")
        .wrapped_by(&wrapper.iter().map(String::as_str).collect::<Vec<_>>())
        .prepare();
    gateway.start_again().await;
    let mut source = github_source("hello", &["push"], &channel_reference("github"));
    merge(&mut source["spec"], json!({ "serviceAccountName": "caller" }));
    let documents = [
        secret("github", json!({ "secretToken": SECRET })),
        channel("github", "embedded"),
        subscription("all", "github", &sink.url(), json!({})),
        source,
    ];
    apply(cluster, NAMESPACE, &documents).await;
    ready(cluster, NAMESPACE, &["channel/github", "subscription/all"]).await;
    let deployment = eventually("the source's Deployment", || async {
        let list = cluster
            .kubectl(&["get", "-n", NAMESPACE, "deployments", "-o", "json"])
            .await;
        let list: Value = serde_json::from_str(&list).expect("kubectl prints JSON");
        Some(list["items"][0].clone()).filter(|found| !found.is_null())
    })
    .await;
    let push = |guid: &str, secret: &str| delivery("hello", "push", guid, PUSH, secret).to("/hooks/called/hello");
    // Nobody is there yet: GitHub records a failed delivery.
    let refused = gateway.send(&push("1", SECRET)).await.is(503);
    assert!(refused.header("retry-after").is_some(), "{refused}");
    let name = deployment["metadata"]["name"].as_str().expect("a name");
    // The Service is what makes this name one that a cluster resolves.
    object(cluster, NAMESPACE, &format!("service/{name}"), |service| {
        service["spec"]["ports"][0]["port"] == 8090
    })
    .await;
    hosts.add(&format!("{name}.{NAMESPACE}.svc"), address());
    let pod = Pod::start(cluster, &deployment, address()).await;
    pod.is_ready().await;
    eventually("GitHub's next try is taken", || async {
        (gateway.send(&push("1", SECRET)).await.status == 202).then_some(())
    })
    .await;
    let event = sink.wait_for_one().await;
    assert_eq!((event.id(), &event.body[..]), ("1".to_owned(), PUSH));
    assert_eq!(
        event.attribute("type").as_deref(),
        Some("dev.knative.source.github.push")
    );
    // The signature is the pod's to check, and its answer is what the sender gets.
    gateway.send(&push("2", "a guess")).await.is(401);
    assert_eq!(sink.count(), 1);
}
