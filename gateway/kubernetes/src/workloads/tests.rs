//! Against a real API server and its controllers: Deployments come, are put right, tell how they are, and go.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use serde_json::json;
use spec::Cause;
use tokio::task::JoinHandle;

use super::*;
use crate::testing::{World, eventually};

/// A gateway, as far as it keeps workloads.
struct Gateway {
    reported: Arc<Mutex<Option<Cause>>>,
    writes: Arc<AtomicU64>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Keeps one source's workload.
    async fn start(world: &World, desired: DesiredWorkload) -> Self {
        Self::comparing(world, desired, COMPANIONS_EVERY).await
    }

    async fn comparing(world: &World, desired: DesiredWorkload, every: Duration) -> Self {
        let mut workloads = Workloads::new(world.client().await, "https://api", None);
        workloads.companions_every = every;
        let (reported, writes, stop) = (Arc::default(), Arc::default(), CancellationToken::new());
        let (watching, stopped) = (workloads.clone(), stop.clone());
        let watch = tokio::spawn(async move { watching.run(stopped).await });
        let (told, counted, stopped): (Arc<Mutex<Option<Cause>>>, Arc<AtomicU64>, _) =
            (Arc::clone(&reported), Arc::clone(&writes), stop.clone());
        let reconcile = tokio::spawn(async move {
            let may_write = || {
                counted.fetch_add(1, Ordering::Relaxed);
                true
            };
            let report = |deployed: &Result<(), Cause>, _| *told.lock() = deployed.clone().err();
            workloads.reconcile(&desired, may_write, report, stopped).await;
        });
        Self {
            reported,
            writes,
            stop,
            tasks: vec![watch, reconcile],
        }
    }

    async fn says(&self, reason: &str) -> Cause {
        eventually(&format!("the source says {reason:?}"), || async {
            self.reported
                .lock()
                .clone()
                .filter(|reported| reported.reason == reason)
        })
        .await
    }

    async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

fn desired(owner: &Owner, image: &str) -> DesiredWorkload {
    let workload = Workload {
        owner: owner.clone(),
        image: image.into(),
        args: vec!["--sink=http://gateway/sources/a/b".into()],
        env: vec![json!({"name": "LEVEL", "value": "debug"})],
        fixed_env: vec![("K_SINK".into(), "http://gateway/sources/a/b".into())],
        // Reads otherwise than it is written.
        template: Some(
            json!({"spec": {"containers": [{"name": "source", "resources": {"requests": {"cpu": "0.5"}}}]}}),
        ),
        service_account: None,
    };
    DesiredWorkload {
        owner: owner.clone(),
        deployment: deployment(&workload),
        companions: Vec::new(),
    }
}

/// The source's pod, once the controllers have made it.
async fn pod(world: &World) -> String {
    let pods = eventually("a pod is made", || async {
        Some(world.list("pods").await).filter(|pods| !pods.is_empty())
    });
    pods.await[0]["metadata"]["name"].as_str().unwrap().to_owned()
}

/// The status that a kubelet would write.
async fn patch_status(world: &World, pod: &str, status: &Value) {
    let patch = json!({ "status": status }).to_string();
    world
        .kubectl(&[
            "patch",
            "pod",
            pod,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ])
        .await;
}

fn image(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]["image"]
}

#[tokio::test]
async fn a_deployment_comes_changes_and_goes_with_its_source() {
    let Some(world) = World::new().await else { return };
    let owner = world.source("beats").await;
    let gateway = Gateway::start(&world, desired(&owner, "beats:1")).await;
    gateway.says("Deploying").await;
    let pod = pod(&world).await;
    assert!(pod.starts_with(&owner.child()), "{pod}");
    gateway.stop().await;
    let gateway = Gateway::start(&world, desired(&owner, "beats:2")).await;
    eventually("the Deployment has the new image", || async {
        let found = world.get("deployment", &owner.child()).await;
        (*image(&found) == "beats:2").then_some(())
    })
    .await;
    gateway.stop().await;
    // No gateway runs any more.
    world.kubectl(&["delete", "containersource", "beats"]).await;
    eventually("Deployment and pods are collected", || async {
        let left = world.list("deployments").await.len() + world.list("pods").await.len();
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_is_written_where_nothing_has_changed() {
    let Some(world) = World::new().await else { return };
    let owner = world.source("beats").await;
    let gateway = Gateway::start(&world, desired(&owner, "beats:1")).await;
    pod(&world).await;
    gateway.says("Deploying").await;
    assert_eq!(gateway.writes.load(Ordering::Relaxed), 1);
    gateway.stop().await;
    // Another process finds what the one before left. Half a CPU reads `500m`, so it makes sure once, which changes nothing.
    let gateway = Gateway::start(&world, desired(&owner, "beats:1")).await;
    gateway.says("Deploying").await;
    for round in 0..3 {
        world
            .kubectl(&[
                "annotate",
                "deployment",
                &owner.child(),
                &format!("round={round}"),
                "--overwrite",
            ])
            .await;
    }
    eventually("the last change was seen", || async {
        let found = world.get("deployment", &owner.child()).await;
        (found["metadata"]["annotations"]["round"] == "2").then_some(())
    })
    .await;
    assert!(gateway.writes.load(Ordering::Relaxed) <= 1);
    gateway.stop().await;
}

#[tokio::test]
async fn what_somebody_else_changed_is_put_right() {
    let Some(world) = World::new().await else { return };
    let owner = world.source("beats").await;
    let gateway = Gateway::start(&world, desired(&owner, "beats:1")).await;
    pod(&world).await;
    let name = owner.child();
    world.kubectl(&["scale", "deployment", &name, "--replicas=3"]).await;
    world
        .kubectl(&["set", "image", &format!("deployment/{name}"), "source=other:1"])
        .await;
    eventually("replicas and image are the source's", || async {
        let found = world.get("deployment", &name).await;
        (found["spec"]["replicas"] == 1 && *image(&found) == "beats:1").then_some(())
    })
    .await;
    world.kubectl(&["delete", "deployment", &name]).await;
    eventually("it is there again", || async {
        (!world.list("deployments").await.is_empty()).then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_a_pod_waits_for_is_the_sources_condition() {
    let Some(world) = World::new().await else { return };
    let owner = world.source("beats").await;
    let gateway = Gateway::start(&world, desired(&owner, "beats:1")).await;
    let pod = pod(&world).await;
    let container = |state: Value, before: Value| {
        json!({"containerStatuses": [{
            "name": "source", "image": "beats:1", "imageID": "", "ready": false, "restartCount": 4, "state": state, "lastState": before,
        }]})
    };
    let waits = json!({"waiting": {"reason": "ImagePullBackOff", "message": "manifest unknown"}});
    patch_status(&world, &pod, &container(waits, json!({}))).await;
    assert!(
        gateway
            .says("ImagePullFailed")
            .await
            .message
            .contains("manifest unknown")
    );
    let waits = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}});
    let ended = json!({"terminated": {"exitCode": 2, "reason": "Error", "message": "no such host: sink"}});
    patch_status(&world, &pod, &container(waits, ended)).await;
    let crashed = gateway.says("CrashLoop").await;
    for part in ["exit code 2", "no such host: sink", &pod] {
        assert!(crashed.message.contains(part), "{part}: {}", crashed.message);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_pod_that_is_not_admitted_is_told_with_the_servers_words() {
    let Some(world) = World::new().await else { return };
    let label = "pod-security.kubernetes.io/enforce=restricted";
    world
        .cluster
        .kubectl(&["label", "namespace", &world.namespace, label])
        .await;
    let owner = world.source("beats").await;
    let mut rude = desired(&owner, "beats:1");
    rude.deployment["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    let gateway = Gateway::start(&world, rude).await;
    let refused = gateway.says("PodRefused").await;
    assert!(refused.message.contains("hostNetwork"), "{}", refused.message);
    gateway.stop().await;
    // The defaults of a source are admitted.
    let gateway = Gateway::start(&world, desired(&owner, "beats:1")).await;
    pod(&world).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_the_server_does_not_take_is_told() {
    let Some(world) = World::new().await else { return };
    let owner = world.source("beats").await;
    let mut wrong = desired(&owner, "beats:1");
    wrong.deployment["spec"]["template"]["spec"]["restartPolicy"] = json!("Sometimes");
    let gateway = Gateway::start(&world, wrong).await;
    let refused = gateway.says("WorkloadInvalid").await;
    assert!(refused.message.contains("restartPolicy"), "{}", refused.message);
    gateway.stop().await;
}

#[tokio::test]
async fn a_deployment_that_is_not_wanted_any_more_goes_before_its_adapter_runs_elsewhere() {
    let Some(world) = World::new().await else { return };
    let owner = world.source("beats").await;
    let gateway = Gateway::start(&world, desired(&owner, "beats:1")).await;
    pod(&world).await;
    gateway.stop().await;
    let workloads = Workloads::new(world.client().await, "https://api", Some(&world.namespace));
    let stop = CancellationToken::new();
    let (watching, stopped) = (workloads.clone(), stop.clone());
    let watch = tokio::spawn(async move { watching.run(stopped).await });
    eventually("it is gone with its pods", || async {
        workloads.remove(&owner).await.ok()
    })
    .await;
    assert!(world.list("deployments").await.is_empty() && world.list("pods").await.is_empty());
    stop.cancel();
    watch.await.unwrap();
}

/// The objects beside an adapter's Deployment, by kind and name, with their resourceVersion.
async fn companions(world: &World, desired: &DesiredWorkload) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    for companion in &desired.companions {
        let kind = companion["kind"].as_str().unwrap();
        let name = companion["metadata"]["name"].as_str().unwrap();
        let object = world.get(kind, name).await;
        let version = object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        found.push((format!("{kind}/{name}"), version));
    }
    found
}

#[tokio::test]
async fn what_stands_beside_a_deployment_comes_back_and_is_not_written_for_nothing() {
    let Some(world) = World::new().await else { return };
    let owner = world.source("beats").await;
    let desired = adapter_objects(&AdapterWorkload {
        owner: owner.clone(),
        image: "headgate:1".into(),
        service_account: "reader".into(),
        document: json!({"apiVersion": owner.api_version, "kind": owner.kind, "metadata": {"name": "beats"}, "spec": {}}),
        secrets: Vec::new(),
        sink: "http://gateway/sources/a/b".into(),
        public_url: None,
        egress: Vec::new(),
        is_called: true,
    });
    let gateway = Gateway::comparing(&world, desired.clone(), Duration::from_millis(500)).await;
    eventually("all of them are made", || async {
        let found = companions(&world, &desired).await;
        found.iter().all(|(_, version)| version.is_some()).then_some(())
    })
    .await;
    // The fields of others stay: the gateway does not compare them.
    let state = format!("{}-state", owner.child());
    let mark = r#"{"binaryData":{"mark":"bWFyaw=="}}"#;
    world
        .kubectl(&["patch", "configmap", &state, "--type=merge", "-p", mark])
        .await;
    let before = companions(&world, &desired).await;
    let asked = gateway.writes.load(Ordering::Relaxed);
    eventually("they are compared, and compared again", || async {
        (gateway.writes.load(Ordering::Relaxed) > asked + 2).then_some(())
    })
    .await;
    assert_eq!(companions(&world, &desired).await, before, "nothing has changed");
    // Deleted by hand, one after the other, and edited.
    for (place, version) in &before {
        world.kubectl(&["delete", place]).await;
        eventually(&format!("{place} is made again"), || async {
            let found = companions(&world, &desired).await;
            found
                .into_iter()
                .find(|(name, now)| name == place && now.is_some() && now != version)
        })
        .await;
    }
    let child = owner.child();
    // A user added a port with the name of ours: the two conflict.
    let edits = [
        ("role", r#"{"rules":[]}"#, "/rules/0/verbs/0"),
        ("configmap", r#"{"data":{"source.yaml":"{}"}}"#, "/data/source.yaml"),
        (
            "service",
            r#"{"spec":{"ports":[{"name":"http","port":1}]}}"#,
            "/spec/ports/0/port",
        ),
    ];
    for (kind, edit, path) in edits {
        let is_as_desired = world.get(kind, &child).await.pointer(path).cloned().unwrap();
        world
            .kubectl(&["patch", kind, &child, "--type=merge", "-p", edit])
            .await;
        eventually(&format!("{kind} is put right"), || async {
            (world.get(kind, &child).await.pointer(path) == Some(&is_as_desired)).then_some(())
        })
        .await;
    }
    gateway.stop().await;
}
