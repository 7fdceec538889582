//! The adapter against a real Docker engine, its containers' events taken by the real hook.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod registry;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ::adapter::{
    Adapter, Condition, Hook, HookRequest, Source, Truth,
    suite::{self, Scripted},
};
use adapter_sink_binding::{ContainerHook, HookConfig};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use serde_json::Value as Json;
use servers::Docker;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    Config, ContainerAdapter, EngineAddress, HOST, Metrics, Reach, Restart, Value, Variable, remove_orphans,
    tests::registry::Registry,
};

/// For a busy machine; a test that passes waits for none of it.
const PATIENCE: Duration = Duration::from_secs(90);

/// Posts an event for each number up to $COUNT, `id` what it was told to be called, and goes on running.
const BEATS: &str = r#"for argument; do case $argument in --sink=*) sink=${argument#--sink=} ;; esac; done
[ "$sink" = "$K_SINK" ] && [ "$sink" = "$SINK" ] || { echo "no sink in $*"; exit 9; }
trap 'echo told to end; exit 0' TERM
n=0
while [ $n -lt $COUNT ]; do n=$((n + 1))
  wget -q -O - --header 'ce-specversion: 1.0' --header "ce-id: $NAME-$n" --header 'ce-source: /beats' --header 'ce-type: beat' \
    --header "ce-overrides: $(echo "$K_CE_OVERRIDES" | head -c 5)" --post-data "beat $n" "$sink" || exit 8
done
echo "beating as $NAME"
while :; do sleep 1; done"#;

/// Fails after a few words, one of them the secret it was given.
const CRASH: &str = r#"echo "cannot log in with $PASSWORD" >&2; exit 3"#;

struct Unneeded;

#[async_trait]
impl Reach for Unneeded {
    async fn reach(&self, _: IpAddr) -> Result<(), String> {
        Ok(())
    }
}

/// Remembers where it was asked to listen; cannot the first time.
#[derive(Default)]
struct Asked(Mutex<Vec<IpAddr>>);

#[async_trait]
impl Reach for Asked {
    async fn reach(&self, address: IpAddr) -> Result<(), String> {
        let mut asked = self.0.lock();
        asked.push(address);
        match asked.len() {
            1 => Err("address already in use".to_owned()),
            _ => Ok(()),
        }
    }
}

/// A source with its sink: a server on the engine's bridge that does what the ingress does.
struct World {
    source: Source,
    outlet: Arc<Scripted>,
    engine: EngineAddress,
    sink: SocketAddr,
    _server: AbortOnDropHandle<()>,
}

impl World {
    async fn new(docker: &Docker, name: &str) -> Self {
        let outlet = Scripted::storing();
        let mut source = suite::source(outlet.clone());
        source.name = format!("default/{name}");
        source.report = ::adapter::Report::new(&source.name);
        // Tests share an engine.
        source.gateway = format!("gateway-of-{name}");
        let config = HookConfig {
            extensions: [("team".to_owned(), "blue".to_owned())].into(),
            max_body_bytes: 1 << 20,
        };
        let hook = Arc::new(ContainerHook::new(config, source.clone()));
        let listener = TcpListener::bind((docker.address(), 0)).await.unwrap();
        let sink = listener.local_addr().unwrap();
        Self {
            source,
            outlet,
            engine: EngineAddress::new(Some(docker.host())),
            sink,
            _server: AbortOnDropHandle::new(tokio::spawn(serve(listener, hook))),
        }
    }

    fn config(&self, image: &str) -> Config {
        Config {
            image: image.to_owned(),
            args: vec![],
            env: vec![variable("COUNT", "3"), variable("NAME", "a")],
            restart: Restart::Always,
            sink: format!("http://{HOST}:{}/sources/{}", self.sink.port(), self.source.name),
            extensions: [("team".to_owned(), "blue".to_owned())].into(),
        }
    }

    fn adapter(&self, config: Config) -> Arc<ContainerAdapter> {
        let (source, engine) = (self.source.clone(), self.engine.clone());
        let adapter = ContainerAdapter::new(config, source, engine, Arc::new(Unneeded), &Metrics::default());
        Arc::new(adapter)
    }

    fn run(&self, adapter: &Arc<ContainerAdapter>) -> Running {
        let (adapter, stop) = (adapter.clone(), CancellationToken::new());
        let stopped = stop.clone();
        Running {
            stop,
            task: tokio::spawn(async move { adapter.run(stopped).await.unwrap() }),
        }
    }

    async fn stored(&self, ids: &[&str]) {
        let what = format!("events {ids:?} are stored");
        let waiting = until(&what, || {
            let stored = self.outlet.stored();
            let mut found: Vec<&str> = stored.iter().map(event::Event::id).collect();
            found.sort_unstable();
            (found == ids).then_some(())
        });
        tokio::select! {
            () = waiting => {}
            () = tokio::time::sleep(PATIENCE - Duration::from_secs(1)) => {
                panic!("{:?} stored, {:?}", self.outlet.stored(), self.source.report.state())
            }
        }
    }

    async fn deployed(&self, desired: impl Fn(&Condition) -> bool) -> Condition {
        let waiting = until("the condition Deployed is as it should be", || {
            let condition = self.source.report.state().conditions.remove("Deployed")?;
            desired(&condition).then_some(condition)
        });
        tokio::select! {
            found = waiting => found,
            () = tokio::time::sleep(PATIENCE - Duration::from_secs(1)) => panic!("{:?}", self.source.report.state()),
        }
    }

    fn container(&self) -> Json {
        self.source
            .report
            .state()
            .fields
            .remove("container")
            .unwrap_or_default()
    }

    /// Ids of this gateway's containers, running or not.
    async fn containers(&self, docker: &Docker) -> Vec<String> {
        let filter = format!(
            "%7B%22label%22%3A%5B%22headgate.gateway%3D{}%22%5D%7D",
            self.source.gateway
        );
        let list = docker.get(&format!("/containers/json?all=1&filters={filter}")).await;
        let list: Vec<Json> = serde_json::from_str(&list).unwrap();
        list.iter()
            .map(|container| container["Id"].as_str().unwrap().to_owned())
            .collect()
    }
}

struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn serve(listener: TcpListener, hook: Arc<ContainerHook>) {
    while let Ok((stream, _)) = listener.accept().await {
        let hook = hook.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let hook = hook.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let headers = head.headers;
                let answer = hook.call(HookRequest { headers, body }).await;
                let mut response = Response::new(Full::new(Bytes::from(answer.message)));
                *response.status_mut() = answer.status;
                Ok::<_, hyper::Error>(response)
            }
        });
        tokio::spawn(async move {
            let connection = auto::Builder::new(TokioExecutor::new());
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = probe() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(found) => found,
        Err(_) => panic!("waited in vain until {what}"),
    }
}

fn variable(name: &str, value: &str) -> Variable {
    Variable {
        name: name.to_owned(),
        value: Value::Text(value.to_owned()),
    }
}

/// Proves: SR-1, SR-3
#[tokio::test]
async fn a_container_posts_is_adopted_replaced_when_edited_and_gone_when_deleted() {
    let Some(docker) = Docker::shared().await else { return };
    docker.image("beats:1", BEATS).await;
    let world = World::new(docker, "beats").await;
    let first = world.adapter(world.config("beats:1"));
    let running = world.run(&first);
    world.stored(&["a-1", "a-2", "a-3"]).await;
    let event = &world.outlet.stored()[0];
    assert_eq!((&event.data()[..], event.text("team")), (&b"beat 1"[..], Some("blue")));
    assert_eq!(event.text("overrides"), Some("{\"ext"));
    world.deployed(|condition| condition.truth == Truth::True).await;
    until("what it prints is in status", || {
        let output = world.container()["output"].as_str()?.to_owned();
        output.contains("beating as a").then_some(())
    })
    .await;
    let made = world.containers(docker).await;
    assert_eq!(made.len(), 1);

    // The gateway ends, and another one of the same data folder starts.
    running.end().await;
    assert_eq!(
        world.containers(docker).await,
        made,
        "a gateway that ends leaves its containers"
    );
    let again = world.run(&world.adapter(world.config("beats:1")));
    world.deployed(|condition| condition.truth == Truth::True).await;
    assert_eq!(world.containers(docker).await, made, "adopted, not started twice");
    again.end().await;

    let mut edited = world.config("beats:1");
    edited.env = vec![variable("COUNT", "1"), variable("NAME", "b")];
    let edited = world.adapter(edited);
    let running = world.run(&edited);
    world.stored(&["a-1", "a-2", "a-3", "b-1"]).await;
    let replaced = world.containers(docker).await;
    assert!(replaced.len() == 1 && replaced != made, "{replaced:?}");
    running.end().await;
    edited.delete().await.unwrap();
    assert!(world.containers(docker).await.is_empty());
    edited.delete().await.unwrap();
}

/// Proves: SR-6
#[tokio::test]
async fn a_crash_loop_says_its_exit_code_and_its_last_words_without_secrets() {
    let Some(docker) = Docker::shared().await else { return };
    docker.image("crash:1", CRASH).await;
    let world = World::new(docker, "crash").await;
    let config = Config {
        env: vec![Variable {
            name: "PASSWORD".into(),
            value: Value::Secret("correct horse".into()),
        }],
        ..world.config("crash:1")
    };
    let adapter = world.adapter(config.clone());
    let running = world.run(&adapter);
    let condition = world
        .deployed(|condition| condition.message().contains("again in 2 s"))
        .await;
    assert_eq!(condition.reason(), "CrashLoop");
    assert!(condition.message().contains("exit code 3"), "{}", condition.message());
    assert!(
        condition.message().contains("cannot log in with <redacted>"),
        "{}",
        condition.message()
    );
    let container = world.container();
    assert_eq!((&container["exitCode"], &container["restarts"]), (&3.into(), &2.into()));
    assert_eq!(container["output"], "cannot log in with <redacted>\n");
    running.end().await;

    let never = world.adapter(Config {
        restart: Restart::Never,
        ..config
    });
    let running = world.run(&never);
    world
        .deployed(|condition| condition.reason() == "ContainerFailed")
        .await;
    running.end().await;
    never.delete().await.unwrap();
    assert!(world.containers(docker).await.is_empty());
}

/// Proves: SR-1
#[tokio::test]
async fn an_engine_that_stops_is_a_condition_and_its_containers_run_again_when_it_is_back() {
    let Some(mut docker) = Docker::start().await else {
        return;
    };
    docker.image("beats:1", BEATS).await;
    let world = World::new(&docker, "engine").await;
    let adapter = world.adapter(world.config("beats:1"));
    let running = world.run(&adapter);
    world.deployed(|condition| condition.truth == Truth::True).await;
    world.stored(&["a-1", "a-2", "a-3"]).await;
    docker.stop().await;
    let condition = world
        .deployed(|condition| condition.reason() == "NoContainerEngine")
        .await;
    assert!(condition.message().contains("docker.sock"), "{}", condition.message());
    let gone = adapter.delete().await.unwrap_err();
    assert_eq!(gone.reason, "NoContainerEngine");
    docker.restart().await;
    world.stored(&["a-1", "a-1", "a-2", "a-2", "a-3", "a-3"]).await;
    world.deployed(|condition| condition.truth == Truth::True).await;
    assert_eq!(world.containers(&docker).await.len(), 1);
    running.end().await;
}

#[tokio::test]
async fn an_image_is_pulled_as_soon_as_its_registry_has_it() {
    let Some(docker) = Docker::shared().await else { return };
    let world = World::new(docker, "late").await;
    let registry = Registry::start(docker.root(), BEATS).await;
    let adapter = world.adapter(world.config(&registry.image()));
    let running = world.run(&adapter);
    let condition = world.deployed(|condition| condition.reason() == "ImageNotFound").await;
    assert!(
        condition.message().contains(&registry.image()),
        "{}",
        condition.message()
    );
    registry.push();
    world.stored(&["a-1", "a-2", "a-3"]).await;
    running.end().await;
    adapter.delete().await.unwrap();
}

#[tokio::test]
async fn a_registry_that_is_down_is_a_condition_of_its_own() {
    let Some(docker) = Docker::shared().await else { return };
    let world = World::new(docker, "down").await;
    // No server listens at port 1.
    let adapter = world.adapter(world.config("127.0.0.1:1/beats:1"));
    let running = world.run(&adapter);
    world
        .deployed(|condition| condition.reason() == "ImagePullFailed")
        .await;
    running.end().await;
}

#[tokio::test]
async fn containers_of_sources_that_nobody_wants_are_removed_when_that_is_known() {
    let Some(docker) = Docker::shared().await else { return };
    docker.image("beats:1", BEATS).await;
    let world = World::new(docker, "orphan").await;
    let adapter = world.adapter(world.config("beats:1"));
    let running = world.run(&adapter);
    world.deployed(|condition| condition.truth == Truth::True).await;
    running.end().await;
    let left = world.containers(docker).await;
    let gateway = &world.source.gateway;
    for desired in [None, Some([world.source.name.clone()].into())] {
        let removed = remove_orphans(&world.engine, gateway, || desired).await.unwrap();
        assert!(removed.is_empty(), "{removed:?}");
    }
    let other = remove_orphans(&world.engine, "another gateway", || Some([].into()))
        .await
        .unwrap();
    assert!(other.is_empty(), "{other:?}");
    assert_eq!(world.containers(docker).await, left);
    let removed = remove_orphans(&world.engine, gateway, || Some([].into()))
        .await
        .unwrap();
    assert_eq!(removed, [&*world.source.name]);
    assert!(world.containers(docker).await.is_empty());
}

#[tokio::test]
async fn the_ingress_is_asked_to_listen_where_containers_reach_it() {
    let Some(docker) = Docker::shared().await else { return };
    docker.image("beats:1", BEATS).await;
    let world = World::new(docker, "reach").await;
    let asked = Arc::new(Asked::default());
    let (config, source, engine) = (world.config("beats:1"), world.source.clone(), world.engine.clone());
    let adapter = ContainerAdapter::new(config, source, engine, asked.clone(), &Metrics::default());
    let adapter = Arc::new(adapter);
    let running = world.run(&adapter);
    let condition = world
        .deployed(|condition| condition.reason() == "IngressUnreachable")
        .await;
    assert!(
        condition.message().contains("already in use"),
        "{}",
        condition.message()
    );
    world.deployed(|condition| condition.truth == Truth::True).await;
    let expected: IpAddr = docker.address().parse().unwrap();
    assert!(asked.0.lock().iter().all(|address| *address == expected));
    running.end().await;
    adapter.delete().await.unwrap();
}

/// Proves: OP-3
#[tokio::test(start_paused = true)]
async fn without_an_engine_there_is_a_condition_and_the_adapter_goes_on_trying() {
    let outlet = Scripted::storing();
    let source = suite::source(outlet);
    let engine = EngineAddress::new(Some("unix:///nowhere/docker.sock".into()));
    let config = Config {
        image: "beats:1".into(),
        args: vec![],
        env: vec![],
        restart: Restart::Always,
        sink: "http://host.docker.internal:8080/sources/default/test".into(),
        extensions: [].into(),
    };
    let adapter = Arc::new(ContainerAdapter::new(
        config,
        source.clone(),
        engine,
        Arc::new(Unneeded),
        &Metrics::default(),
    ));
    let stop = CancellationToken::new();
    let (running, stopped) = (adapter.clone(), stop.clone());
    let task = tokio::spawn(async move { running.run(stopped).await });
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!task.is_finished());
    assert_eq!(
        source.report.state().conditions["Deployed"].reason(),
        "NoContainerEngine"
    );
    assert!(adapter.delete().await.is_err());
    stop.cancel();
    task.await.unwrap().unwrap();
}
