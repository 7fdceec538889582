//! Sources in the real plane, with adapters that do what a test says, on paused time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use adapter::Adapter;
use async_trait::async_trait;
use channel::Channel;
use channel_memory::MemoryChannel;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use spec::{Cause, Condition, Kind, ObjectKey, ObjectName, Reason, Spec, model};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Backends, Plane, Settings, SourceParts};

/// The behaviour of one run of an adapter.
#[derive(Clone, Copy)]
enum Act {
    Run,
    Fail,
    Panic,
    End,
}

/// The runs so far, in order, and the behaviour of the next runs; a run after the last one of the script keeps running.
#[derive(Default)]
struct Script {
    acts: Mutex<Vec<Act>>,
    happened: Mutex<Vec<String>>,
    /// Held by a test that wants an adapter to take its time to end.
    ending: tokio::sync::Mutex<()>,
}

impl Script {
    fn note(&self, what: impl Into<String>) {
        self.happened.lock().push(what.into());
    }
}

struct Scripted {
    script: Arc<Script>,
    topic: String,
    given: adapter::Source,
}

#[async_trait]
impl Adapter for Scripted {
    async fn run(&self, stop: CancellationToken) -> Result<(), Cause> {
        self.script.note(format!("run {}", self.topic));
        let act = {
            let mut acts = self.script.acts.lock();
            if acts.is_empty() { Act::Run } else { acts.remove(0) }
        };
        match act {
            Act::Run => {
                self.given.report.met("Subscribed");
                stop.cancelled().await;
                drop(self.script.ending.lock().await);
                self.script.note(format!("end {}", self.topic));
                Ok(())
            }
            Act::Fail => Err(Cause {
                reason: Reason::TopicNotFound,
                message: "there is none".into(),
            }),
            Act::Panic => panic!("scripted"),
            Act::End => Ok(()),
        }
    }

    async fn delete(&self) -> Result<(), Cause> {
        self.script.note(format!("delete {}", self.topic));
        Ok(())
    }
}

struct Backing(Arc<Script>);

#[async_trait]
impl Backends for Backing {
    async fn open(&self, _: &model::Channel) -> Result<Arc<dyn Channel>, Cause> {
        Ok(Arc::new(MemoryChannel::new(channel_memory::Settings::default())))
    }

    fn source(&self, source: &model::Source, given: adapter::Source) -> Result<SourceParts, Cause> {
        let model::SourceConfig::GcpPubSub(config) = &source.config else {
            return Ok(SourceParts::default());
        };
        Ok(SourceParts {
            adapter: Some(Arc::new(Scripted {
                script: self.0.clone(),
                topic: config.topic.clone(),
                given,
            })),
            ..SourceParts::default()
        })
    }
}

fn key() -> ObjectKey {
    ObjectKey::new(Kind::GcpPubSubSource, ObjectName::new("default", "orders"))
}

fn source(topic: &str) -> model::Source {
    model::Source {
        key: key(),
        sink: Ok(ObjectName::new("default", "c")),
        sink_uri: None,
        service_account: None,
        uid: None,
        extensions: BTreeMap::new(),
        config: model::SourceConfig::GcpPubSub(model::GcpPubSubSource {
            project: "p".into(),
            topic: topic.into(),
            credentials: None,
            subscription: None,
            emulator_host: None,
            deletion: model::DeletionPolicy::Delete,
            ordering: false,
        }),
    }
}

struct World {
    plane: Plane,
    specs: watch::Sender<Arc<Spec>>,
    script: Arc<Script>,
    generation: u64,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(acts: &[Act]) -> Self {
        let script = Arc::new(Script::default());
        *script.acts.lock() = acts.to_vec();
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            max_body_bytes: 1 << 20,
            max_hops: 4,
            ingress_url: "http://127.0.0.1:8080".into(),
            state_dir: Some(folder.path().to_owned()),
            is_exposed: false,
            remote: None,
        };
        let backends = Arc::new(Backing(script.clone()));
        let plane = Plane::new(settings, backends, &mut Registry::default()).unwrap();
        let (specs, desired) = watch::channel(Arc::new(Spec::default()));
        let running = plane.clone();
        tokio::spawn(async move { running.run(desired, CancellationToken::new()).await });
        Self {
            plane,
            specs,
            script,
            generation: 0,
            _folder: folder,
        }
    }

    fn want(&mut self, sources: &[model::Source], incomplete: bool) {
        self.generation += 1;
        let named = |source: &model::Source| (source.key.clone(), Arc::new(source.clone()));
        let object = |source: &model::Source| {
            let object = model::Object {
                key: source.key.clone(),
                api_version: "sources.eventing.knative.dev/v1alpha1".into(),
                document: serde_json::Value::Null,
                origin: "sources.yaml:1".into(),
                generation: None,
                created: jiff::Timestamp::now(),
                faults: Vec::new(),
            };
            (source.key.clone(), Arc::new(object))
        };
        self.specs.send_replace(Arc::new(Spec {
            generation: self.generation,
            incomplete,
            sources: sources.iter().map(named).collect(),
            objects: sources.iter().map(object).collect(),
            ..Spec::default()
        }));
    }

    /// Waits until exactly this has happened.
    async fn happened(&self, expected: &[&str]) {
        let waiting = async {
            while *self.script.happened.lock() != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(120), waiting).await.is_err() {
            panic!("expected {expected:?}, found {:?}", self.script.happened.lock());
        }
    }

    fn condition(&self, kind: &str) -> Option<Condition> {
        self.plane.observe().objects.get(&key())?.conditions.get(kind).cloned()
    }
}

/// Proves: OP-3
#[tokio::test(start_paused = true)]
async fn an_adapter_that_fails_panics_or_ends_is_a_condition_and_is_run_again() {
    let mut world = World::new(&[Act::Fail, Act::Panic, Act::End]);
    world.want(&[source("a")], false);
    world.happened(&["run a"]).await;
    let deployed = world.condition("Deployed").unwrap();
    assert_eq!(deployed.reason(), "TopicNotFound");
    world.happened(&["run a"; 2]).await;
    assert_eq!(world.condition("Deployed").unwrap().reason(), "AdapterEnded");
    world.happened(&["run a"; 4]).await;
    assert_ne!(world.condition("Deployed").unwrap().reason(), "AdapterEnded");
    assert_eq!(world.condition("Subscribed").unwrap().reason(), "");
}

#[tokio::test(start_paused = true)]
async fn an_edited_source_starts_when_the_one_before_has_ended_and_takes_nothing_away() {
    let mut world = World::new(&[]);
    world.want(&[source("a")], false);
    world.happened(&["run a"]).await;
    let script = world.script.clone();
    let ending = script.ending.lock().await;
    world.want(&[source("b")], false);
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.happened(&["run a"]).await;
    drop(ending);
    world.happened(&["run a", "end a", "run b"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_source_takes_away_what_it_made_and_one_made_again_waits_for_that() {
    let mut world = World::new(&[]);
    world.want(&[source("a")], false);
    world.happened(&["run a"]).await;
    world.want(&[], true);
    world.happened(&["run a", "end a"]).await;
    world.want(&[source("a")], false);
    world.happened(&["run a", "end a", "run a"]).await;
    let script = world.script.clone();
    let ending = script.ending.lock().await;
    world.want(&[], false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.want(&[source("b")], false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(ending);
    world
        .happened(&["run a", "end a", "run a", "end a", "delete a", "run b"])
        .await;
}

/// Proves: OP-1
#[tokio::test(start_paused = true)]
async fn a_drain_ends_adapters_and_deletes_nothing() {
    let mut world = World::new(&[]);
    world.want(&[source("a")], false);
    world.happened(&["run a"]).await;
    world
        .plane
        .drain(tokio::time::Instant::now() + Duration::from_secs(10))
        .await;
    world.happened(&["run a", "end a"]).await;
}
